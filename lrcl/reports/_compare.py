"""Two rows against each other: a difference and what is known of it.

Two rows are compared seed by seed where they have the same seeds (a paired
Student t interval of the difference), and by Welch's interval where not; a row
that is not trained and has one value is a constant. A difference counts as
known only if its 95% interval leaves out zero. Nothing is corrected for the
number of comparisons.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lrcl import metrics
from lrcl.reports._summary import Estimate, final_accuracy, level

Row = dict[str, Any]


class Difference(NamedTuple):
  """`a - b`: its mean, its 95% half width, and which is higher.

  `sign` is 1 or -1 where the interval leaves out zero, else 0.
  """

  mean: float
  half: float
  sign: int


def compare(a: Row, b: Row, key: str) -> Difference:
  """The difference of two rows in one measure, with what is known of it."""
  x, y = a[key], b[key]
  return difference_of(x, y, _paired(a, b), not a['trained'], not b['trained'])


def _paired(a: Row, b: Row) -> bool:
  return a['seeds'] == b['seeds'] and a['num_seeds'] > 1


def difference_of(
  x: Estimate, y: Estimate, paired: bool, fixed_x: bool, fixed_y: bool
) -> Difference:
  mean = x.mean - y.mean
  if paired:
    half = float(metrics.mean_interval(np.subtract(x.values, y.values))[1])
  else:
    half = _welch(x, y, fixed_x, fixed_y)
  sure = abs(mean) > half and abs(mean) > 1e-9  # False where half is NaN
  return Difference(mean, half, int(np.sign(mean)) if sure else 0)


def _welch(x: Estimate, y: Estimate, fixed_x: bool, fixed_y: bool) -> float:
  """Half width for unpaired rows; one constant value adds no variance."""
  from scipy import stats

  parts = []
  for estimate, fixed in ((x, fixed_x), (y, fixed_y)):
    seeds = len(estimate.values)
    if seeds > 1:
      variance = np.var(estimate.values, ddof=1) / seeds
      parts.append((variance, seeds - 1))
    elif not fixed:
      return np.nan
  total = sum(variance for variance, _ in parts)
  if total == 0:
    return 0.0
  freedom = total**2 / sum(v**2 / n for v, n in parts)
  return float(stats.t.ppf(0.975, freedom) * np.sqrt(total))


def _key(*rows: Row) -> str:
  """Which accuracy is fair for all: decayed only if all that train have it."""
  decayed = all(
    row['average_accuracy_decayed'] or not row['trained'] for row in rows
  )
  some = any(row['average_accuracy_decayed'] for row in rows)
  return 'decayed' if decayed and some else 'main'


def seen(row: Row, kind: str) -> Row:
  """`row` with `value`: its accuracy before or after the decay."""
  after = row['average_accuracy_decayed'] if kind == 'decayed' else None
  return row | {'value': after or row['average_accuracy'], 'kind': kind}


def match(a: Row, b: Row) -> tuple[Row, Row, Difference]:
  kind = _key(a, b)
  a, b = seen(a, kind), seen(b, kind)
  return a, b, compare(a, b, 'value')


def named(row: Row) -> str:
  """`replay (0.882)`."""
  return f'{display_name(row["row"])} ({row["value"].mean:.3f})'


def display_name(row: str) -> str:
  """How a row is called in a sentence."""
  return {'nearest_mean': 'nearest class mean'}.get(row, row)


def margin(difference: Difference, *, signed: bool = False) -> str:
  """`0.031 ± 0.004`, or the size alone where there is no interval."""
  value = round(difference.mean, 3) + 0.0  # no negative zero
  size = f'{value:+.3f}' if signed else f'{abs(value):.3f}'
  if np.isnan(difference.half):
    return f'{size}, no interval'
  return f'{size} ± {difference.half:.3f}'


def row_of(rows: Sequence[Row], name: str) -> Row | None:
  found = [r for r in rows if r['row'] == name and final_accuracy(r)]
  return found[0] if found else None


def contenders(rows: Sequence[Row]) -> list[Row]:
  """Contenders that finished, best first."""
  found = [r for r in rows if not r['reference'] and final_accuracy(r)]
  return sorted(found, key=level, reverse=True)


def stage(row: Row, other: Row) -> str:
  """Says so where a decay was left aside to be fair to the other row."""
  some = row['average_accuracy_decayed'] or other['average_accuracy_decayed']
  return ' before the decay' if some and row['kind'] == 'main' else ''


def listed(names: Sequence[str]) -> str:
  """`a`, `a and b`, `a, b and c`."""
  if len(names) < 2:
    return ''.join(names)
  return f'{", ".join(names[:-1])} and {names[-1]}'
