"""Contenders side by side: means, intervals, paired tests and ranks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lrcl import metrics


class Comparison(NamedTuple):
  """One contender against another, seed by seed.

  Attributes:
    difference: mean of the first minus the second.
    half_width: of its 95% interval.
    p_value: of a paired t-test, two-sided; NaN for one seed, 1 where all
      differences are 0.
  """

  difference: float
  half_width: float
  p_value: float

  @property
  def decided(self) -> bool:
    """Whether the interval leaves 0 out."""
    return bool(abs(self.difference) > self.half_width)


def compare(first: npt.ArrayLike, second: npt.ArrayLike) -> Comparison:
  """Compares two contenders that ran on the same seeds.

  Args:
    first: `[seeds]`.
    second: `[seeds]`, in the same order.

  Raises:
    ValueError: if they are not two rows of equally many numbers.

  Example:
    >>> found = compare([0.9, 0.8, 0.85], [0.7, 0.65, 0.6])
    >>> round(found.difference, 3), found.decided
    (0.2, True)

  References:
    `scipy.stats.ttest_rel`
  """
  from scipy import stats

  a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
  if a.ndim != 1 or a.shape != b.shape or not a.size:
    raise ValueError(
      f'compare: first has shape {a.shape} and second {b.shape}; both must be '
      '[seeds], for the same seeds.'
    )
  mean, half = metrics.mean_interval(a - b)
  if a.size == 1:
    return Comparison(float(mean), float('inf'), float('nan'))
  same = np.ptp(a - b) == 0
  p_value = float(mean == 0) if same else float(stats.ttest_rel(a, b).pvalue)
  return Comparison(float(mean), float(half), p_value)


class Ranking(NamedTuple):
  """Contenders from the best to the worst.

  Attributes:
    names: in that order.
    ranks: `[contenders]`, their mean ranks, 1 the best; ties share theirs.
    half_widths: of the 95% intervals of the ranks over seeds.
    scores: `[contenders]`, mean scores.
    p_value: of a Friedman test that all are alike; NaN for fewer than three
      contenders or two cases.
  """

  names: tuple[str, ...]
  ranks: np.ndarray
  half_widths: np.ndarray
  scores: np.ndarray
  p_value: float


def rank_contenders(
  scores: Mapping[str, npt.ArrayLike], *, larger_is_better: bool = True
) -> Ranking:
  """Ranks contenders by their mean rank over cases.

  Args:
    scores: for each contender `[seeds]` or `[cases, seeds]`, numbers of the
      same cases (scenarios, budgets) and seeds. Ranks are taken within each
      case and seed; a mean over cases comes before the interval over seeds.
    larger_is_better: of the scores.

  Raises:
    ValueError: if there is no contender or their shapes differ.

  Example:
    >>> found = rank_contenders({'naive': [0.2, 0.3], 'replay': [0.8, 0.9]})
    >>> found.names, found.ranks.tolist()
    (('replay', 'naive'), [1.0, 2.0])

  References:
    Demsar, `Statistical Comparisons of Classifiers over Multiple Data Sets
    <https://jmlr.org/papers/v7/demsar06a.html>`_, 2006
  """
  from scipy import stats

  arrays = {name: np.asarray(x, np.float64) for name, x in scores.items()}
  shapes = {array.shape for array in arrays.values()}
  if len(shapes) != 1 or len(next(iter(shapes))) not in (1, 2):
    raise ValueError(
      f'rank_contenders: the scores have shapes {sorted(shapes)}; all must '
      'have the same, [seeds] or [cases, seeds].'
    )
  table = np.stack([np.atleast_2d(array) for array in arrays.values()])
  signed = -table if larger_is_better else table
  ranks = stats.rankdata(np.where(np.isnan(signed), np.inf, signed), axis=0)
  by_seed = ranks.mean(1)
  halves = [metrics.mean_interval(row)[1] for row in by_seed]
  order = np.argsort(by_seed.mean(1), kind='stable')
  names = tuple(arrays)
  return Ranking(
    tuple(names[i] for i in order),
    by_seed.mean(1)[order],
    np.array(halves, np.float64)[order],
    table.mean((1, 2))[order],
    _friedman(table.reshape(len(table), -1)),
  )


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
  """Kendall's tau between two lists of scores of the same contenders.

  Args:
    first: `[contenders]`, such as mean scores on the tuning half.
    second: `[contenders]`, such as those on the reporting half.

  Returns:
    From -1 (reversed) to 1 (the same order); NaN where one of them is
    constant.

  Raises:
    ValueError: if they are not two rows of equally many numbers, at least two.

  Example:
    >>> round(rank_correlation([0.1, 0.2, 0.3], [0.5, 0.4, 0.9]), 3)
    0.333

  References:
    `scipy.stats.kendalltau`
  """
  from scipy import stats

  a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
  if a.ndim != 1 or a.shape != b.shape or a.size < 2:
    raise ValueError(
      f'rank_correlation: first has shape {a.shape} and second {b.shape}; '
      'both must be [contenders], at least two.'
    )
  found: Any = stats.kendalltau(a, b)
  return float(found.statistic)


def format_ranking(ranking: Ranking, extra: Mapping[str, Any] = {}) -> str:
  """The ranking as a table for a terminal, the best first.

  Args:
    ranking: from `rank_contenders`.
    extra: further columns by title, each a mapping from contender to what
      stands there, such as gradient evaluations.

  Example:
    >>> found = rank_contenders({'naive': [0.2, 0.3], 'replay': [0.8, 0.9]})
    >>> print(format_ranking(found, {'gradients': {'naive': 1, 'replay': 2}}))
    rank           score  gradients
    1.00 +- 0.00   0.850  2          replay
    2.00 +- 0.00   0.250  1          naive
  """
  titles = ['rank', 'score', *extra]
  rows: list[Sequence[str]] = []
  for i, name in enumerate(ranking.names):
    rank = f'{ranking.ranks[i]:.2f} +- {ranking.half_widths[i]:.2f}'
    cells = [str(column.get(name, '')) for column in extra.values()]
    rows.append([rank, f'{ranking.scores[i]:.3f}', *cells, name])
  lines = [[*titles, ''], *rows]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  pad = lambda line: '  '.join(
    cell.ljust(width) for cell, width in zip(line, widths, strict=True)
  )
  return '\n'.join(pad(line).rstrip() for line in lines)


def _friedman(table: np.ndarray) -> float:
  """The p-value of `[contenders, cases]`, NaN where it is not defined."""
  from scipy import stats

  if len(table) < 3 or table.shape[1] < 2 or not np.isfinite(table).all():
    return float('nan')
  if not np.ptp(table, axis=0).any():
    return 1.0
  return float(stats.friedmanchisquare(*table).pvalue)
