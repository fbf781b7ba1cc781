"""Runs over a thousand tasks of classes that return.

Masking, momentum, rate and schedule are arguments of one compiled program, and
so is the stream.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import sequences
from experiments.papers.images import Images
from lrcl import losses, methods, protocols, schedules, streams, training

FEATURES, BATCH, CLASSES = (64, 64), 32, 10
_DRAWS = 1000  # sets the seeds of the draws apart from those of the weights


class Scale(NamedTuple):
  """How much is done.

  Attributes:
    tasks: of the stream.
    task_steps: steps of a task.
    rates: to choose from.
    tuning_seeds: seeds on which to choose.
    seeds: seeds to report.
  """

  tasks: int
  task_steps: int
  rates: Sequence[float]
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]

  @property
  def steps(self) -> int:
    """Of the whole stream."""
    return self.tasks * self.task_steps

  @property
  def every_seed(self) -> list[int]:
    """Those for tuning first."""
    return [*self.tuning_seeds, *self.seeds]


class Contender(NamedTuple):
  """A way to run SGD.

  Attributes:
    schedule: its name among `make_schedules`.
    masked: whether only the classes of a batch compete.
    momentum: kept across tasks. Rates are those of the grid times
      `1 - momentum`, which leaves the sum of a gradient's steps as it is.
  """

  schedule: str = 'constant'
  masked: bool = False
  momentum: float = 0.0


CONTENDERS = {
  'plain SGD': Contender(),
  'masked': Contender(masked=True),
  'momentum': Contender(momentum=0.9),
  'masked, momentum': Contender(masked=True, momentum=0.9),
  'infinite': Contender('infinite'),
  'WSD-S': Contender('WSD-S'),
  'cosine cycles': Contender('cosine cycles'),
  'inverse sqrt': Contender('inverse sqrt'),
}


def make_schedules(steps: int) -> dict[str, optax.Schedule]:
  """Schedules for a stream of `steps` steps, with the peak 1.

  WSD-S and the cosine have ten cycles. The infinite one stays at 0.3 of the
  peak and anneals over the last tenth. All but the constant one warm up for a
  hundredth of the stream.
  """
  tenth, warmup = steps // 10, steps // 100
  ends = [tenth * (cycle + 1) for cycle in range(10)]
  return {
    'constant': optax.constant_schedule(1.0),
    'infinite': schedules.infinite_schedule(
      1.0,
      0.3,
      warmup,
      2 * tenth,
      anneal_start=steps - tenth,
      anneal_steps=tenth,
      end_value=0.01,
    ),
    'WSD-S': schedules.wsd_s_schedule(1.0, warmup, ends),
    'cosine cycles': schedules.repeated_cosine_schedule(1.0, tenth, warmup),
    'inverse sqrt': schedules.inverse_sqrt_schedule(1.0, warmup),
  }


MakeStream = Callable[[int], streams.Stream]
"""`make_stream(seed)`, single."""


def make_streams(images: Images, scale: Scale) -> dict[str, MakeStream]:
  """Endless streams of two classes a task, cut after `scale.tasks`.

  Uniform and unbalanced ones draw their classes; the rarest one of the latter
  is eleven times rarer than the most frequent one. The cyclic one has an order
  that returns. Where classes are removed, the uniform one goes on without the
  classes `removed_classes(seed)` after one half.
  """
  make = lambda seed, **options: streams.scole(
    images.train,
    batch_size=BATCH,
    steps_per_task=scale.task_steps,
    num_tasks=scale.tasks,
    seed=seed,
    draw_seed=_DRAWS + seed,
    test=images.test,
    **options,
  )
  weights = lambda seed: streams.unbalanced_weights(
    CLASSES, exponent=4.0, seed=_DRAWS + seed
  )
  return {
    'uniform': make,
    'unbalanced': lambda seed: make(seed, class_weights=weights(seed)),
    'cyclic': lambda seed: make(seed, cycle=_shuffled(seed)),
    'removed': lambda seed: make(
      seed, removed=removed_classes(seed), removed_from=scale.tasks // 2
    ),
  }


def removed_classes(seed: int) -> np.ndarray:
  """The half of the classes that a seed takes away."""
  return _shuffled(seed)[: CLASSES // 2]


def _shuffled(seed: int) -> np.ndarray:
  return np.random.default_rng(_DRAWS + seed).permutation(CLASSES)


class Run(NamedTuple):
  """What a contender gave at its tuned rate.

  Attributes:
    setting: the rate, in words.
    accuracy: after every task, on each class, `[seeds, tasks, classes]`.
  """

  setting: str
  accuracy: Any

  @property
  def curve(self) -> Any:
    """Accuracy on all classes after every task `[seeds, tasks]`."""
    return self.accuracy.mean(-1)


def measure(
  images: Images, scale: Scale, *, other_streams: bool = True
) -> tuple[dict[str, Run], dict[str, Run]]:
  """Tunes every contender on the uniform stream.

  Args:
    images: the data.
    scale: how much is done.
    other_streams: whether to run the other streams, too.

  Returns:
    The contenders, and plain SGD on the other streams at the rate that it has
    on the uniform one.
  """
  made = make_streams(images, scale)
  stack = lambda name: streams.replicate(
    [made[name](seed) for seed in scale.every_seed]
  )
  trials = make_trials(stack('uniform'), scale)
  runs, settings = {}, {}
  for name, contender in CONTENDERS.items():
    tuned, found = trials.tune(
      _axes(contender, scale),
      tuning_seeds=scale.tuning_seeds,
      seeds=scale.seeds,
    )
    settings[name] = tuned.setting
    runs[name] = Run(_words(tuned), found.accuracy[:, :, -1])
  others = {}
  alone = protocols.grid({n: [x] for n, x in settings['plain SGD'].items()})
  for name in [n for n in made if n != 'uniform' and other_streams]:
    found = trials.on(stack(name)).sweep(alone, scale.seeds).pick(0)
    others[name] = Run('as uniform', found.accuracy[:, :, -1])
  return runs, others


def make_trials(stream: streams.Stream, scale: Scale) -> protocols.Trials:
  """The program of all contenders, with an evaluation after each task."""
  init_fn, apply_fn = sequences.make_mlp(stream, FEATURES)
  steps = jnp.arange(scale.steps)
  made = make_schedules(scale.steps).values()
  # Values are data of the program: schedules cost no compilation.
  table = jnp.stack(
    [jnp.broadcast_to(jax.vmap(s)(steps), steps.shape) for s in made]
  )

  def make_learner(setting: protocols.Setting) -> training.Learner:
    rate = lambda count: (
      setting['rate'] * table[jnp.int32(setting['schedule']), count]
    )
    chain = optax.chain(
      optax.trace(setting['momentum']), methods.scale_by_schedule_value(rate)
    )
    loss_fn = functools.partial(_loss, setting['masked'])
    return training.Learner(chain, apply_fn, loss_fn=loss_fn)

  return protocols.Trials(stream, scale.every_seed, init_fn, make_learner)


def _loss(masked: Any, logits: jax.Array, batch: Any) -> jax.Array:
  """The cross-entropy among all classes, or among those of the batch."""
  return jnp.where(
    masked > 0,
    losses.local_cross_entropy(logits, batch),
    losses.cross_entropy(logits, batch),
  )


def _axes(contender: Contender, scale: Scale) -> dict[str, Sequence[float]]:
  less = 1 - contender.momentum
  which = list(make_schedules(scale.steps)).index(contender.schedule)
  return {
    'rate': [rate * less for rate in scale.rates],
    'schedule': [which],
    'masked': [float(contender.masked)],
    'momentum': [contender.momentum],
  }


def _words(tuned: protocols.Tuned) -> str:
  """The rate in a line."""
  shown = {'rate': tuned.setting['rate']}
  return protocols.format_setting(tuned._replace(setting=shown))
