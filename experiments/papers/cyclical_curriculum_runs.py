"""Epochs that grow and shrink, and rates that do so with them or against."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import sequences
from experiments.papers.images import Images
from lrcl import (
  losses,
  methods,
  models,
  protocols,
  schedules,
  streams,
  training,
)

BATCH, CHANNELS, HIDDEN = 32, (4, 4), 16


class Contender(NamedTuple):
  """What is drawn, and how the rate goes with it.

  Attributes:
    data: `'all'` rows in every epoch, or a share of them that goes up and down,
      drawn by `'scores'` or `'evenly'`.
    power: of the share that the rate is proportional to.
    times: how many times the examples of the others.
  """

  data: str
  power: float = 0.0
  times: int = 1


VANILLA, CYCLICAL, LONG = 'vanilla', 'cyclical', 'vanilla, twice as long'
CONTENDERS = {
  VANILLA: Contender('all'),
  CYCLICAL: Contender('scores'),
  'cyclical, no scores': Contender('evenly'),
  LONG: Contender('all', times=2),
  'cyclical, rate in phase': Contender('scores', 1.0),
  'cyclical, rate in anti-phase': Contender('scores', -1.0),
  'vanilla, the rate in phase': Contender('all', 1.0),
  'vanilla, the rate in anti-phase': Contender('all', -1.0),
}


class Scale(NamedTuple):
  """How much to measure.

  Attributes:
    epochs: what the sizes of epochs add up to, at least.
    rates: to choose from.
    tuning_seeds: to choose on.
    seeds: to report.
  """

  epochs: float
  rates: Sequence[float]
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]

  @property
  def sizes(self) -> tuple[float, ...]:
    """Of the epochs, as shares of the rows."""
    return streams.cyclical_sizes(self.epochs)

  @property
  def every(self) -> list[int]:
    """All seeds."""
    return [*self.tuning_seeds, *self.seeds]


class Runs(NamedTuple):
  """What a contender gave, accuracies `[seeds]`.

  Attributes:
    tuned: its rate.
    best: the highest of all evaluations, four in the time of an epoch.
    own: the highest of those at ends of its own epochs.
    last: at the end.
  """

  tuned: protocols.Tuned
  best: Any
  own: Any
  last: Any


def square(images: Images, rows: int) -> Images:
  """The first rows to train on, all of them as images with two axes."""
  side = round(images.num_pixels**0.5)
  shape = lambda x: {**x, 'inputs': x['inputs'].reshape(-1, side, side)}
  train = {name: column[:rows] for name, column in images.train.items()}
  return Images(shape(train), shape(images.test))


def spoil(images: Images, share: float, seed: int = 0) -> Images:
  """Gives a share of the rows to train on a wrong label."""
  rng = np.random.default_rng(seed)
  labels = images.train['labels'].copy()
  wrong = rng.permutation(len(labels))[: round(share * len(labels))]
  labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
  return images._replace(train={**images.train, 'labels': labels})


def epoch_steps(images: Images) -> int:
  """Steps of a pass over all rows.

  Raises:
    ValueError: if a quarter of the rows does not divide into batches.
  """
  rows = len(images.train['labels'])
  if rows % (4 * BATCH):
    raise ValueError(
      f'epoch_steps: there are {rows} rows; {4 * BATCH} must divide them.'
    )
  return rows // BATCH


def make_stream(
  images: Images,
  scale: Scale,
  contender: Contender,
  scores: Mapping[int, np.ndarray],
) -> streams.Stream:
  """The epochs of a contender, a stream for each seed.

  Args:
    images: the data.
    scale: the sizes of the epochs, and the seeds.
    contender: which of them.
    scores: of the rows, by seed.
  """
  even = np.ones(len(images.train['labels']))
  sizes = (1.0,) if contender.data == 'all' else scale.sizes
  by_scores = contender.data == 'scores'

  def change(stream: streams.Stream) -> streams.Stream:
    plan: Any = stream.plan
    chosen = scores[plan.seed] if by_scores else even
    return streams.cyclical_curriculum(stream, chosen, sizes=sizes)

  steps = contender.times * sum(scale.sizes) * epoch_steps(images)
  return sequences.split_stream(
    images,
    scale.every,
    steps_per_task=round(steps),
    num_tasks=1,
    batch_size=BATCH,
    change=change,
  )


def make_model(stream: streams.Stream) -> tuple[Any, Any]:
  """`(init_fn, apply_fn)` of a network that is too small for its data."""
  module = models.CNN(CHANNELS, HIDDEN, stream.num_classes)
  return models.from_module(module, stream.batch_spec['inputs'])


def make_rate(setting: protocols.Setting, steps: int) -> optax.Schedule:
  """A rate that goes as a power of the share of the data, with a fixed mean.

  Args:
    setting: `rate`, the mean over an up and down, and `power`.
    steps: of a pass over all rows.
  """
  fraction = schedules.cyclical_fraction_schedule(steps)
  power = setting['power']
  round_trip = round((0.25 + 0.5 + 1 + 0.5) * steps)
  mean = jnp.mean(fraction(jnp.arange(round_trip)) ** power)
  return lambda step: setting['rate'] * fraction(step) ** power / mean


def make_trials(
  images: Images, stream: streams.Stream, scale: Scale, **options: Any
) -> protocols.Trials:
  """The runs on a stream."""
  init_fn, apply_fn = make_model(stream)
  steps = epoch_steps(images)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    rate = make_rate(setting, steps)
    return training.Learner(methods.scale_by_schedule_value(rate), apply_fn)

  return protocols.Trials(stream, scale.every, init_fn, make_learner, **options)


def score_rows(images: Images, scale: Scale) -> dict[int, np.ndarray]:
  """One over the loss of each row under the tuned vanilla network, by seed."""
  stream = make_stream(images, scale, CONTENDERS[VANILLA], {})
  apply_fn = make_model(stream)[1]
  rows = {name: jnp.asarray(x) for name, x in images.train.items()}

  def read(state: training.TrainState) -> Any:
    logits, _ = apply_fn(
      state.params, rows['inputs'], rng=None, model_state={}, train=False
    )
    return losses.cross_entropy(logits, rows)

  trials = make_trials(images, stream, scale, read=read)
  axes = {'rate': scale.rates, 'power': [0.0]}
  best = trials.search(axes, scale.tuning_seeds).setting
  alone = protocols.grid({name: [value] for name, value in best.items()})
  found = trials.sweep(alone, scale.every).read[0, :, -1, -1]
  scores = 1 / np.maximum(found.astype(np.float64), 1e-6)
  return dict(zip(scale.every, scores, strict=True))


def measure(images: Images, scale: Scale) -> dict[str, Runs]:
  """Tunes and runs every contender, those of one length by one program."""
  make = functools.partial(
    make_stream, images, scale, scores=score_rows(images, scale)
  )
  programs: dict[int, protocols.Trials] = {}
  found = {}
  for name, contender in CONTENDERS.items():
    stream, times = make(contender=contender), contender.times
    if times not in programs:
      every = epoch_steps(images) // 4
      programs[times] = make_trials(images, stream, scale, evaluate_every=every)
    tuned, one = (
      programs[times]
      .on(stream)
      .tune(
        {'rate': scale.rates, 'power': [contender.power]},
        tuning_seeds=scale.tuning_seeds,
        seeds=scale.seeds,
      )
    )
    found[name] = _read(tuned, one, own_ends(contender, scale))
  return found


def own_ends(contender: Contender, scale: Scale) -> list[int]:
  """The evaluations, four in the time of an epoch, at ends of own epochs."""
  quarters = round(4 * contender.times * sum(scale.sizes))
  if contender.data == 'all':
    return list(range(3, quarters, 4))
  return [round(4 * x) - 1 for x in np.cumsum(scale.sizes)]


def _read(
  tuned: protocols.Tuned, found: protocols.Found, ends: list[int]
) -> Runs:
  series = found.series[..., 0]
  best = lambda values: values.max(-1)
  return Runs(tuned, best(series), best(series[:, ends]), series[:, -1])
