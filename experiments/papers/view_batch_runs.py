"""Replay on shifted views, each row once or several times in a batch."""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.papers import sequences
from experiments.papers.images import Images
from lrcl import base, losses, methods, metrics, protocols, streams, training

TASKS, BATCH, CAPACITY = 5, 32, 100
FEATURES = (100, 100)


class Contender(NamedTuple):
  """How many views of a row there are in a batch, and how they are told apart.

  Attributes:
    repeats: views of a row in a batch.
    weight: of the consistency between them.
  """

  repeats: int
  weight: float


BASE = 'R = 1'
CONTENDERS = {
  BASE: Contender(1, 0.0),
  'R = 2': Contender(2, 0.0),
  'R = 4': Contender(4, 0.0),
  'R = 2, consistent': Contender(2, 1.0),
  'R = 4, consistent': Contender(4, 1.0),
}


class Scale(NamedTuple):
  """How much to measure.

  Attributes:
    passes: over the rows of a task, all views counted; 4 divides it.
    rates: to choose from.
    tuning_seeds: to choose on.
    seeds: to report.
  """

  passes: int
  rates: Sequence[float]
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]


class Data(NamedTuple):
  """Images, and by how many pixels a view is shifted at most."""

  images: Images
  reach: int


class Runs(NamedTuple):
  """What a contender gave on the reported seeds.

  Attributes:
    tuned: its rate.
    accuracy: final accuracies `[seeds]`.
    forgetting: likewise.
    learned: accuracy on each task right after it, their mean, likewise.
  """

  tuned: protocols.Tuned
  accuracy: Any
  forgetting: Any
  learned: Any


def shift_images(key: jax.Array, inputs: jax.Array, reach: int) -> jax.Array:
  """Shifts each image by up to `reach` pixels either way, zeros moving in.

  Args:
    key: draws the shifts.
    inputs: `[batch, rows * rows]`, square images.
    reach: how far at most.
  """
  side = round(inputs.shape[1] ** 0.5)
  around = [(0, 0), (reach, reach), (reach, reach)]
  padded = jnp.pad(inputs.reshape(-1, side, side), around)
  begin = jax.random.randint(key, (len(inputs), 2), 0, 2 * reach + 1)
  cut = lambda image, at: jax.lax.dynamic_slice(image, at, (side, side))
  return jax.vmap(cut)(padded, begin).reshape(inputs.shape)


def with_shifts(apply_fn: base.ApplyFn, reach: int) -> base.ApplyFn:
  """The model, which sees a new view of each row at every step of training."""

  def apply(
    params: Any,
    inputs: jax.Array,
    *,
    rng: jax.Array | None,
    model_state: Any,
    train: bool,
  ) -> tuple[jax.Array, Any]:
    if train:
      assert rng is not None
      rng, key = jax.random.split(rng)
      inputs = shift_images(key, inputs, reach)
    return apply_fn(
      params, inputs, rng=rng, model_state=model_state, train=train
    )

  return apply


def make_model(stream: streams.Stream, reach: int) -> tuple[Any, Any]:
  """`(init_fn, apply_fn)` of a perceptron on shifted images."""
  init_fn, apply_fn = sequences.make_mlp(stream, FEATURES)
  return init_fn, with_shifts(apply_fn, reach)


def steps_per_task(data: Data, scale: Scale) -> int:
  """Steps of a task, the same for all contenders."""
  rows = len(data.images.train['labels']) / TASKS
  return round(scale.passes * rows / BATCH)


def make_stream(
  data: Data, scale: Scale, repeats: int, seeds: Sequence[int]
) -> streams.Stream:
  """Two classes a task, every row `repeats` times in its batch."""
  return sequences.split_stream(
    data.images,
    seeds,
    steps_per_task=steps_per_task(data, scale),
    num_tasks=TASKS,
    batch_size=BATCH,
    change=lambda stream: streams.repeat_views(stream, repeats),
  )


def measure(data: Data, scale: Scale) -> dict[str, Runs]:
  """Tunes and runs every contender, all by one compiled program."""
  every = [*scale.tuning_seeds, *scale.seeds]
  make = functools.partial(make_stream, data, scale, seeds=every)
  first = make(repeats=1)
  init_fn, apply_fn = make_model(first, data.reach)
  make_learner = _make_learner(apply_fn, first)
  trials = protocols.Trials(first, every, init_fn, make_learner)
  found = {}
  for name, contender in CONTENDERS.items():
    tuned, one = trials.on(make(repeats=contender.repeats)).tune(
      {'rate': scale.rates, 'weight': [contender.weight]},
      tuning_seeds=scale.tuning_seeds,
      seeds=scale.seeds,
    )
    found[name] = Runs(
      tuned,
      one.final,
      metrics.forgetting(one.matrix),
      metrics.learning_accuracy(one.matrix),
    )
  return found


def _make_learner(
  apply_fn: base.ApplyFn, stream: streams.Stream
) -> Callable[[protocols.Setting], training.Learner]:
  def make(setting: protocols.Setting) -> training.Learner:
    chain = optax.chain(
      methods.add_memory_gradient(),
      methods.scale_by_schedule_value(setting['rate']),
    )
    return training.Learner(
      methods.with_memory(chain, CAPACITY, stream.batch_spec, BATCH),
      apply_fn,
      losses.view_consistency(weight=setting['weight']),
    )

  return make
