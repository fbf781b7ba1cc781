"""Learners on a stochastic blurry stream: trained, masked and computed."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np
import optax

from experiments.papers import feature_sets, si_blurry_masks
from experiments.papers.images import Images
from lrcl import (
  losses,
  methods,
  metrics,
  models,
  protocols,
  schedules,
  streams,
  training,
)

BATCH, TASKS, CLASSES = 16, 5, 10
_SPLITS = 2190  # from here on, no task of the seeds in use is without rows


class Cell(NamedTuple):
  """Rows and how they are learned.

  Attributes:
    label: for the table.
    images: to train on and to report.
    choice: rows to choose on, as `test`.
    widths: of the trained network's hidden layers.
    memory: rows that replay keeps.
    evaluate_every: steps between evaluations.
  """

  label: str
  images: Images
  choice: Images
  widths: tuple[int, ...]
  memory: int
  evaluate_every: int


def make_cells(sets: feature_sets.FeatureSet, name: str) -> list[Cell]:
  """A perceptron on pixels, and a linear head on features."""
  steps = len(sets.pixels.train['labels']) // BATCH
  every = max(n for n in range(1, steps // 10 + 1) if steps % n == 0)
  memory = 50 if name == 'digits' else 200
  kind = 'random features' if name == 'digits' else 'pretrained features'
  pixels = (sets.pixels, sets.choice)
  features = (sets.features, sets.features_choice)
  return [
    Cell(f'{name}, pixels', *pixels, (100, 100), memory, every),
    Cell(f'{name}, {kind}', *features, (), memory, every),
  ]


def make_stream(
  cell: Cell, seeds: Sequence[int], *, joint: bool = False
) -> streams.Stream:
  """The stream of each seed, without a sign of its tasks.

  There are twice as many test sets as classes: those to choose on come first.
  """

  def make(seed: int) -> streams.Stream:
    stream = streams.blurry(
      cell.images.train,
      num_tasks=TASKS,
      batch_size=1,
      disjoint=0.5,
      blurred=0.1,
      seed=seed,
      split_seed=_SPLITS + seed,
    )
    stream = streams.hide_tasks(stream, batch_size=BATCH)
    sets = _test_sets([cell.choice.test, cell.images.test], stream.prepare)
    stream = dataclasses.replace(stream, evaluation=sets)
    return streams.joint(stream, seed=seed) if joint else stream

  return streams.replicate([make(seed) for seed in seeds])


def _test_sets(parts: Sequence[Any], prepare: Any) -> streams.EvalSet:
  """A set for each part and class; all have equally many rows."""
  source = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
  ends = np.cumsum([0, *(len(part['labels']) for part in parts)])
  rows = [
    start + np.flatnonzero(part['labels'] == label)
    for start, part in zip(ends, parts, strict=False)
    for label in range(CLASSES)
  ]
  indices = np.stack(rows).astype(np.int32)
  return streams.EvalSet(source, indices, np.ones(indices.shape), {}, prepare)


def find_seen(cell: Cell, stream: streams.Stream) -> np.ndarray:
  """Which classes have come by each evaluation, `[seeds, times, classes]`."""
  chunk = stream.chunk(0, stream.num_steps)
  rows = stream.rows(chunk.indices)['labels']
  came = (rows[..., None] == np.arange(CLASSES)) & (
    chunk.weights[..., None] > 0
  )
  seen = np.maximum.accumulate(came.any(2), axis=0)
  return np.moveaxis(seen[cell.evaluate_every - 1 :: cell.evaluate_every], 1, 0)


class Scores(NamedTuple):
  """The metrics of runs, each `[seeds]`.

  Attributes:
    area: `A_AUC`, mean over evaluations of the accuracy on classes seen.
    last: `A_last`, on all classes at the end.
    forgetting: `F_last`, by classes, over all evaluations.
    setting: what was chosen, in words.
    rate: the last rate over the first, where there is one.
  """

  area: Any
  last: Any
  forgetting: Any
  setting: str = ''
  rate: Any = None


def score(accuracy: np.ndarray, seen: np.ndarray) -> Scores:
  """Metrics of accuracies `[..., seeds, times, classes]`."""
  accuracy = np.asarray(accuracy, np.float64)
  now = (accuracy * seen).sum(-1) / seen.sum(-1)
  return Scores(
    np.asarray(metrics.area_under_accuracy(now)),
    accuracy[..., -1, :].mean(-1),
    np.asarray(metrics.class_forgetting(accuracy)),
  )


class Contender(NamedTuple):
  """A learner that is trained.

  Attributes:
    replays: whether it has a memory.
    masks: whether its logits are masked.
    rate: how its rate goes.
    joint: whether all rows are mixed.
  """

  replays: bool = False
  masks: bool = False
  rate: str = 'constant'
  joint: bool = False


CONTENDERS: Mapping[str, Contender] = {
  'naive': Contender(),
  'naive, masked': Contender(masks=True),
  'ER': Contender(replays=True),
  'ER, masked': Contender(replays=True, masks=True),
  'ER, adaptive rate': Contender(replays=True, rate='adaptive'),
  'ER, infinite schedule': Contender(replays=True, rate='infinite'),
  'joint': Contender(joint=True),
}


def infinite(peak: Any, steps: int) -> optax.Schedule:
  """Warm-up in a twentieth of the steps, down to a third in a fifth of them."""
  return schedules.infinite_schedule(peak, peak / 3, steps // 20, steps // 5)


def _make_tx(contender: Contender, cell: Cell, spec: Any, steps: int) -> Any:
  """Makes the chain of a traced rate."""

  def make(rate):
    if contender.rate == 'adaptive':
      # Turns and records are short, for so is the stream.
      options: dict[str, Any] = {'period': 2, 'records': 5, 'warmup_steps': 10}
      link = methods.scale_by_replay_rate(rate, spec, BATCH, **options)
    elif contender.rate == 'infinite':
      link = methods.scale_by_schedule_value(infinite(rate, steps))
    else:
      link = methods.scale_by_schedule_value(rate)
    if not contender.replays:
      return link
    chain = optax.chain(methods.add_memory_gradient(), link)
    return methods.with_memory(chain, cell.memory, spec, BATCH)

  return make


def train(
  contender: Contender,
  cell: Cell,
  rates: Sequence[float],
  *,
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
) -> Scores:
  """Chooses a rate by `A_AUC` on other rows and seeds, and trains with it."""
  every = [*tuning_seeds, *seeds]
  stream = make_stream(cell, every, joint=contender.joint)
  seen, steps = find_seen(cell, stream), stream.num_steps
  inputs = stream.batch_spec['inputs']
  loss: Any
  predict: Any
  loss: Any
  predict: Any
  if contender.masks:
    module = si_blurry_masks.MaskedPerceptron(cell.widths, CLASSES, TASKS)
    loss, predict = si_blurry_masks.masked_loss, si_blurry_masks.predict
  else:
    module = models.MLP(cell.widths, CLASSES)
    loss, predict = losses.cross_entropy, losses.argmax
  init_fn, apply_fn = models.from_module(module, inputs)
  make_tx = _make_tx(contender, cell, stream.batch_spec, steps)
  make_learner = lambda setting: training.Learner(
    make_tx(setting['rate']), apply_fn, loss, predict=predict
  )
  trials = protocols.Trials(
    stream,
    every,
    init_fn,
    make_learner,
    evaluate_every=cell.evaluate_every,
    read=lambda state: methods.applied_rate(state.opt_state)[0],
  )
  axes, count = {'rate': rates}, len(tuning_seeds)
  tried = trials.sweep(protocols.grid(axes), tuning_seeds)
  chosen = score(tried.series[..., :CLASSES], seen[:count]).area
  lost = ~np.isfinite(tried.loss).all((-2, -1))
  errors = np.where(lost, np.nan, 1 - chosen)
  setting, edges = protocols.choose(axes, errors)
  alone = protocols.grid({name: [x] for name, x in setting.items()})
  found = trials.sweep(alone, seeds).pick(0)
  scores = score(found.series[..., CLASSES:], seen[count:])
  words = protocols.format_setting(protocols.Tuned(setting, edges, errors))
  return scores._replace(
    setting=words, rate=found.read[:, -1, -1] / setting['rate']
  )
