"""Which order of tasks is best: an estimate from one run, against retraining.

  python -m experiments.papers.order_effects --data_dir=DIR

takes about 2 minutes of CPU time.
"""

from collections.abc import Mapping, Sequence
import itertools
from typing import NamedTuple

import numpy as np

from experiments.papers import claims, images
from experiments.papers import order_effects_runs as runs
from lrcl import protocols

CLAIM = claims.Claim(
  name='order_effects',
  title='Orders of training, estimated without retraining',
  paper='Yang et al., 2025, Estimating the Effects of Sample Training Orders '
  'for Large Language Models without Retraining, '
  'https://arxiv.org/abs/2505.22042',
  says='From one run, a Taylor expansion tells what other orders of the same '
  'batches would have led to, close to retraining (summary of the paper, which '
  'trains a language model of 0.6 billion weights; here the gradient is '
  'expanded and not the whole update, and the optimizer is exact). That it '
  'depends on the schedule is a question of LRCL.',
)

TUNING_SEEDS = (100, 101)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FAITHFUL = 0.8
"""A rank correlation above this counts as close to retraining."""

DISTANCES = (0.03, 0.1, 0.3)


class Cell(NamedTuple):
  """A set of images, its resolution, and what stands in another order."""

  name: images.Name
  factor: int
  kind: runs.Kind

  @property
  def label(self) -> str:
    """The cell in words."""
    return f'{self.name}, {self.kind}'


CELLS = (
  Cell('digits', 1, 'tasks'),
  Cell('digits', 1, 'batches'),
  Cell('fashion_mnist', 2, 'tasks'),
  Cell('fashion_mnist', 2, 'batches'),
)


class _Scale(NamedTuple):
  cells: Sequence[Cell]
  seeds: Sequence[int]
  rates: Sequence[float]
  orders: int


_SCALES = {
  'smoke': _Scale(CELLS[:1], range(3), RATES[:2], 4),
  'default': _Scale(CELLS, range(5), RATES, 24),
  'full': _Scale(CELLS, range(10), RATES, 100),
}


class Found(NamedTuple):
  """Scores of a cell `[schedules, rates, seeds, 2]`: of order 0 and order 1.

  Attributes:
    rank: rank correlation of estimated and true losses.
    regret: loss of the order that is estimated to be best above that of the
      best, over what the mean order has: 0 is the best, 1 a random one.
    missed: error of the parameters, see `order_effects_runs.Measured`.
    error: root mean squared error of the losses over their deviation.
    distance: how far the estimate was taken, as it tells itself.
    best: `[schedules]`, the index of the rate that trains best.
  """

  rank: np.ndarray
  regret: np.ndarray
  missed: np.ndarray
  error: np.ndarray
  distance: np.ndarray
  best: Sequence[int]


def score(measured: runs.Measured, tuning: int) -> Found:
  """Scores of all seeds but the first ones, which choose the rates."""
  losses = np.nan_to_num(measured.true[:, :, :tuning], nan=np.inf)
  best = losses.mean((2, 3)).argmin(1).tolist()
  kept = runs.Measured(*(x[:, :, tuning:] for x in measured))
  true = kept.true[..., None, :]
  estimated = kept.estimated
  picked = estimated.argmin(-1)[..., None]
  low, mean = true.min(-1), true.mean(-1)
  taken = np.take_along_axis(
    np.broadcast_to(true, estimated.shape), picked, -1
  )[..., 0]
  deviation = np.sqrt(np.mean((estimated - true) ** 2, -1)) / true.std(-1)
  return Found(
    rank=_ranks(estimated, true),
    regret=(taken - low) / (mean - low),
    missed=kept.missed,
    error=deviation,
    distance=kept.distance,
    best=best,
  )


def judge(found: Mapping[str, Found]) -> dict[str, bool]:
  """Whether the order-1 estimate is faithful, by more than chance.

  In every cell and under every schedule, at the least rate and at the one that
  trains best.
  """
  parts = {}
  for label, one in found.items():
    holds = lambda rates, one=one: all(
      _faithful(one.rank[s, r, :, 1]) for s, r in enumerate(rates)
    )
    parts[f'{label}: at the least rate'] = holds([0] * len(one.best))
    parts[f'{label}: at the best rate'] = holds(one.best)
  return parts


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Measures every cell."""
  scale = _SCALES[size]
  found = {}
  for cell in scale.cells:
    every = [*TUNING_SEEDS, *scale.seeds]
    measured = runs.measure(
      load(cell, data_dir), cell.kind, scale.rates, every, scale.orders
    )
    found[cell.label] = score(measured, len(TUNING_SEEDS))
  parts = judge(found)
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'Rank correlation with retraining above {FAITHFUL:g} under all '
    f'schedules: {claims.format_parts(parts)}. {_limits(found, scale.rates)} '
    f'{_trust(found)}',
    table=[
      row for label, one in found.items() for row in _rows(label, one, scale)
    ],
    setting=_describe(scale),
  )


def load(cell: Cell, data_dir: str | None) -> images.Images:
  """The images of a cell."""
  if cell.name == 'digits':
    return images.load_images(cell.name)
  found = images.load_images(
    cell.name, data_dir, train_rows=10_000, test_rows=1000
  )
  return images.shrink(found, cell.factor)


def _ranks(estimated: np.ndarray, true: np.ndarray) -> np.ndarray:
  """Rank correlations over the last axis; 0 where the estimate is no number."""
  true = np.broadcast_to(true, estimated.shape)
  found = np.zeros(estimated.shape[:-1])
  for place in np.ndindex(found.shape):
    if np.isfinite(estimated[place]).all():
      found[place] = protocols.rank_correlation(estimated[place], true[place])
  return found


def _faithful(rank: np.ndarray) -> bool:
  return claims.is_below([FAITHFUL] * len(rank), rank.tolist())


def _limits(found: Mapping[str, Found], rates: Sequence[float]) -> str:
  """Up to which rate every smaller one is faithful, too."""
  parts = []
  for label, one in found.items():
    limits = []
    for s, name in enumerate(runs.SCHEDULES):
      good = [_faithful(one.rank[s, r, :, 1]) for r in range(len(rates))]
      count = good.index(False) if False in good else len(good)
      limit = f'{rates[count - 1]:g}' if count else 'none'
      limits.append(f'{name} {limit} ({rates[one.best[s]]:g} trains best)')
    parts.append(f'{label}: {", ".join(limits)}')
  return f'It holds up to the rate of: {"; ".join(parts)}.'


def _trust(found: Mapping[str, Found]) -> str:
  """What the distance that the estimate tells is worth."""
  distance, rank = (
    np.concatenate([x[..., 1].ravel() for x in column])
    for column in (
      [one.distance for one in found.values()],
      [one.rank for one in found.values()],
    )
  )
  edges = (0.0, *DISTANCES, np.inf)
  words = []
  for low, high in itertools.pairwise(edges):
    inside = (distance > low) & (distance <= high)
    if inside.any():
      share = np.mean(rank[inside] > FAITHFUL)
      upper = f'to {high:g}' if np.isfinite(high) else 'on'
      words.append(f'from {low:g} {upper} {share:.0%} of {inside.sum()}')
  return (
    f'Single runs with more than {FAITHFUL:g}, by the distance that the '
    f'estimate itself tells: {", ".join(words)}.'
  )


def _rows(label: str, found: Found, scale: _Scale) -> list[dict[str, str]]:
  """Three rows for each schedule, a column for each rate."""
  rows = []
  for s, name in enumerate(runs.SCHEDULES):
    mean = lambda x, r, n, s=s: float(x[s, r, :, n].mean())
    both = lambda x, r, s=s, mean=mean: (
      f'{claims.format_interval(x[s, r, :, 1].tolist(), 2)} '
      f'({mean(x, r, 0):.2f})'
    )
    cells = {
      'rank correlation': lambda r, both=both: both(found.rank, r),
      'regret': lambda r, both=both: both(found.regret, r),
      'parameters; losses': lambda r, mean=mean: (
        f'{mean(found.missed, r, 1):.2f}; {mean(found.error, r, 1):.2f}'
      ),
    }
    for measure, cell in cells.items():
      columns = {f'rate {q:g}': cell(r) for r, q in enumerate(scale.rates)}
      best = _mark(found.best[s], scale.rates)
      rows.append(
        {'images, order of': label, 'schedule': name, 'of': measure}
        | columns
        | {'trains best': best}
      )
  return rows


def _mark(best: int, rates: Sequence[float]) -> str:
  edge = ' (edge)' if best in (0, len(rates) - 1) else ''
  return f'{rates[best]:g}{edge}'


def _describe(scale: _Scale) -> str:
  return (
    f'{runs.STEPS} steps of Adam, batches of {runs.BATCH}, a perceptron of '
    f'{runs.HIDDEN} tanh units, digits and 10,000 of Fashion-MNIST at 14 x 14. '
    f'Tasks: {runs.TASKS} of two classes, {runs.PER_TASK} batches each, one '
    'head for all classes, in another order; batches: of all classes, '
    f'shuffled. {scale.orders} orders and the one of the run, which alone is '
    'trained for the estimate; losses on test images at the end. Peaks of the '
    'rate as in the columns; the cosine falls to 0, WSD rises over '
    f'{runs.WARMUP} steps and falls over the last {runs.DECAY}. Rank '
    "correlation: Kendall's tau. Regret: what the order that is estimated to "
    'be best loses against the best one, over what a random one loses. Both '
    'of order 1, in brackets of order 0. Errors of order 1, of parameters over '
    'the distance between the end of the run and those of the others, of '
    'losses over their deviation: 1 is no better than to say that the order '
    'has no effect. The rate that trains best has the least loss, mean over '
    f'the orders, on seeds {TUNING_SEEDS[0]} and {TUNING_SEEDS[-1]}; reported '
    f'on seeds {scale.seeds[0]} to {scale.seeds[-1]}. No accuracies are '
    'compared, hence no rows of reference.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
