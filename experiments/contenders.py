"""Scenarios, methods and schedules of a grid, by name.

A contender is a method under a schedule. All schedules of a method are runs of
one compiled program: their values at every step are data of it.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import sequences, stability_gap_methods
from experiments.papers import stability_gap_runs as runs
from lrcl import losses, methods, protocols, streams, training

_ORDERS = 1000  # sets the seeds of classes apart from those of the weights
_MEMORY = stability_gap_methods.MEMORY

Method = stability_gap_methods.Method


def _naive(stream: streams.Stream, features: Sequence[int], rates: Any):
  init_fn, apply_fn = sequences.make_mlp(stream, features)
  make = lambda setting: training.Learner(
    methods.scale_by_schedule_value(rates(setting)), apply_fn
  )
  return init_fn, make


def _synaptic(stream: streams.Stream, features: Sequence[int], rates: Any):
  init_fn, apply_fn = sequences.make_mlp(stream, features)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    sgd = methods.scale_by_schedule_value(rates(setting))
    tx = methods.synaptic_intelligence(
      sgd, setting['strength'], form='implicit'
    )
    return training.Learner(tx, apply_fn)

  return init_fn, make_learner


def _dark(stream: streams.Stream, features: Sequence[int], rates: Any):
  """DER++: stored logits and stored labels, each by half."""
  init_fn, apply_fn = sequences.make_mlp(stream, features)
  spec, rows = stream.batch_spec, stream.batch_size
  logits = np.zeros((rows, stream.num_classes), np.float32)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    chain = optax.chain(
      methods.add_distillation_on_memory(apply_fn, setting['strength']),
      methods.add_memory_gradient(0.5),
      methods.scale_by_schedule_value(rates(setting)),
    )
    tx = methods.with_memory(
      chain, _MEMORY, {**spec, 'logits': logits}, rows, store=('logits',)
    )
    return training.Learner(tx, apply_fn, loss_fn=losses.cross_entropy)

  return init_fn, make_learner


METHODS: dict[str, Method] = {
  'naive': Method(_naive, (0.0,)),
  **stability_gap_methods.METHODS,
  'DER++': Method(_dark, (0.1, 0.5, 1.0)),
  'SI': Method(_synaptic, (0.1, 1.0, 10.0, 100.0)),
}
"""By name; the strengths are what is searched besides the rate."""

SCHEDULES = tuple(runs.make_schedules(10))
"""Names, the first of which is `constant`."""


class Size(NamedTuple):
  """How large a scenario is.

  Attributes:
    num_tasks: of a scenario whose number of tasks is free.
    batch_size: rows in a batch.
  """

  num_tasks: int = 5
  batch_size: int = 16


def _split(half, seed, steps, size):
  return streams.split(
    half.train,
    num_tasks=len(half.classes),  # halves of ten classes have five
    batch_size=size.batch_size,
    steps_per_task=steps,
    seed=seed,
    order_seed=_ORDERS + seed,
    test=half.test,
  )


def _permuted(half, seed, steps, size):
  return streams.permuted(
    half.train,
    num_tasks=size.num_tasks,
    batch_size=size.batch_size,
    steps_per_task=steps,
    seed=seed,
    permutation_seed=_ORDERS + seed,
    test=half.test,
  )


def _rotated(half, seed, steps, size):
  side = int(np.sqrt(half.train['inputs'].shape[1]))
  return streams.rotated(
    half.train,
    num_tasks=size.num_tasks,
    batch_size=size.batch_size,
    steps_per_task=steps,
    image_shape=(side, side),
    seed=seed,
    test=half.test,
  )


def _scole(half, seed, steps, size):
  """Ten draws of two classes where others have one task."""
  return streams.scole(
    half.train,
    batch_size=size.batch_size,
    steps_per_task=max(1, steps // 10),
    num_tasks=10 * size.num_tasks,
    seed=seed,
    draw_seed=_ORDERS + seed,
    test=half.test,
  )


def _blurry(half, seed, steps, size):
  """A third of each class's rows in other tasks, and no sign of a task.

  The rows come again where there are too few of them for so many steps.
  """
  rng = np.random.default_rng(_ORDERS + seed)
  order = rng.permutation(len(half.train['labels'])).astype(np.int32)
  order = np.resize(order, steps * size.num_tasks * size.batch_size)
  stream = streams.blurry(
    {name: column[order] for name, column in half.train.items()},
    num_tasks=len(half.classes),
    batch_size=1,
    disjoint=0.0,
    blurred=1 / 3,
    stochastic=False,
    seed=seed,
    split_seed=_ORDERS + seed,
    test=half.test,
  )
  hidden = streams.hide_tasks(stream, batch_size=size.batch_size)
  # All seeds read one copy of the rows.
  plan: Any = hidden.plan
  plan = dataclasses.replace(plan, pools=(order[plan.pools[0]],))
  source = _split(half, seed, steps, size).source
  return dataclasses.replace(hidden, plan=plan, source=source)


def _reoccurring(half, seed, steps, size, law):
  return streams.reoccurring(_permuted(half, seed, steps, size), law=law)


SCENARIOS: dict[str, Callable[..., streams.Stream]] = {
  'class': _split,
  'permuted': _permuted,
  'rotated': _rotated,
  'power_law': functools.partial(_reoccurring, law='power'),
  'exponential': functools.partial(_reoccurring, law='exponential'),
  'scole': _scole,
  'blurry': _blurry,
}
"""`make(half, seed, steps_per_task, size) -> stream` by name."""


def make_scenario(
  name: str, steps_per_task: int, size: Size
) -> protocols.Scenario:
  """A scenario of the table, for `lrcl.protocols`."""
  make = functools.partial(SCENARIOS[name], size=size)
  return protocols.Scenario(make, steps_per_task)


def make_contenders(
  names: Sequence[str],
  schedules: Sequence[str],
  rates: Sequence[float],
  *,
  features: Sequence[int] = (64,),
) -> dict[str, protocols.Contender]:
  """Every method under every schedule, and the two rows of reference.

  Args:
    names: of `METHODS`; `naive` is added.
    schedules: of `SCHEDULES`; `constant` is added for the rows of reference.
    rates: the first axis of every grid.
    features: widths of the perceptron's hidden layers.

  Returns:
    Contenders by name, such as 'ER, WSD', among them 'naive, constant' and
    'joint, constant'.
  """
  found: dict[str, protocols.Contender] = {}
  for name in dict.fromkeys(('naive', *names)):
    method = METHODS[name]
    make = functools.partial(build, method, tuple(features))
    for schedule in schedules if name in names else ('constant',):
      axes = _axes(rates, method.strengths, schedule)
      found[f'{name}, {schedule}'] = protocols.Contender(make, axes)
    if name == 'naive':
      axes = _axes(rates, method.strengths, 'constant')
      found.setdefault('naive, constant', protocols.Contender(make, axes))
      joint = protocols.Contender(make, axes, joint=True)
      found['joint, constant'] = joint
  return found


def _axes(
  rates: Sequence[float], strengths: Sequence[float], schedule: str
) -> Mapping[str, Sequence[float]]:
  number = float(SCHEDULES.index(schedule))
  return {'rate': rates, 'strength': strengths, 'schedule': [number]}


def build(
  method: Method, features: Sequence[int], stream: streams.Stream
) -> Any:
  """Model and learner, whose rate is a row of the schedules' values."""
  table = jnp.asarray(_values(*_task_ids(stream)))
  rates = lambda setting: (
    lambda count: setting['rate'] * table[jnp.int32(setting['schedule']), count]
  )
  return method.build(stream, features, rates)


def _task_ids(stream: streams.Stream) -> tuple[tuple[int, ...], int]:
  """The task of each step, and how long a task is."""
  first = stream.plan.next_boundary(0)
  task_steps = first if first < stream.num_steps else first // 5
  ids = np.asarray(stream.chunk(0, stream.num_steps).task_ids)
  ids = ids.reshape(stream.num_steps, -1)[:, 0]
  return tuple(ids.tolist()), max(task_steps, 5)


@functools.lru_cache(32)
def _values(task_ids: tuple[int, ...], task_steps: int) -> np.ndarray:
  """The values of every schedule at every step, `[schedules, steps]`."""
  made = runs.make_schedules(task_steps).values()
  return np.stack([runs.values_of(s, np.asarray(task_ids)) for s in made])
