"""Findings in words: each sentence is derived from the numbers."""

from collections.abc import Callable, Sequence

from lrcl.reports._compare import (
  Difference,
  Row,
  contenders,
  difference_of,
  listed,
  margin,
  match,
  named,
  row_of,
  seen,
  stage,
)
from lrcl.reports._records import REFERENCES
from lrcl.reports._summary import Estimate

GAP = 0.01
"""A minimum is below the end by construction: a gap must exceed this."""


def findings(rows: Sequence[Row]) -> list[str]:
  """Sentences about a comparison, most important first.

  Args:
    rows: from `summarize`.

  Returns:
    Sentences. What the intervals do not support is said not to be
    established, and what is missing is named.

  Example:
    >>> findings([])
    ['There are no rows to compare.']
  """
  if not rows:
    return ['There are no rows to compare.']
  parts = (_best, _trivial, _naive, _joint, _chance, _decay, _gap, _cost)
  return [s for part in (*parts, _reservations) for s in part(rows) if s]


def _best(rows: Sequence[Row]) -> list[str]:
  ranked = contenders(rows)
  if len(ranked) < 2:
    return []
  a, b, difference = match(ranked[0], ranked[1])
  if difference.sign > 0:
    return [
      f'{named(a)} is the best contender{stage(a, b)}, ahead of {named(b)} '
      f'by {margin(difference)}.'
    ]
  return [
    f'The two best contenders, {named(a)} and {named(b)}, are not separated'
    f'{stage(a, b)}: the difference is {margin(difference)}.'
  ]


def _trivial(rows: Sequence[Row]) -> list[str]:
  mean, ranked = row_of(rows, 'nearest_mean'), contenders(rows)
  if mean is None or not ranked:
    return []
  a, b, difference = match(ranked[0], mean)
  others = _below(ranked[1:], mean)
  tail = f'by {margin(difference)}{stage(a, b)}'
  if difference.sign < 0:
    return [
      f'Nearest class mean on raw inputs ({b["value"].mean:.3f}), which trains '
      f'nothing, beats the best contender here, {named(a)}, {tail}.',
      *others,
    ]
  if difference.sign > 0:
    return [
      f'{named(a)} beats nearest class mean on raw inputs '
      f'({b["value"].mean:.3f}), which trains nothing, {tail}.',
      *others,
    ]
  return [
    f'It is not established that {named(a)} beats nearest class mean on raw '
    f'inputs ({b["value"].mean:.3f}), which trains nothing: the difference is '
    f'{margin(difference)}{stage(a, b)}.',
    *others,
  ]


def _below(ranked: Sequence[Row], mean: Row) -> list[str]:
  """Which other contenders have a lower average than nearest class mean."""
  found = [match(row, mean) for row in ranked]
  below = [(a, b, d) for a, b, d in found if a['value'].mean < b['value'].mean]
  if not below:
    return []
  each = [f'{named(a)} (difference {margin(d)})' for a, _, d in below]
  return [
    'On average nearest class mean on raw inputs '
    f'({below[0][1]["value"].mean:.3f}) also stands above {listed(each)}.'
  ]


def _against(
  rows: Sequence[Row], other: Row
) -> dict[int, list[tuple[Row, Row, Difference]]]:
  """Contenders by how they compare with one other row."""
  groups: dict[int, list] = {1: [], 0: [], -1: []}
  for row in contenders(rows):
    found = match(row, other)
    groups[found[2].sign].append(found)
  return groups


def _naive(rows: Sequence[Row]) -> list[str]:
  naive = row_of(rows, 'naive')
  if naive is None:
    return []
  groups = _against(rows, naive)
  sentences = []
  if groups[1]:
    names = listed([named(a) for a, _, _ in groups[1]])
    base = named(groups[1][0][1])
    sentences.append(f'Better than {base}: {names}.')
  for a, b, difference in groups[0]:
    sentences.append(
      f'{a["row"]} does not measurably help here: {a["value"].mean:.3f} '
      f'against naive {b["value"].mean:.3f}, within the interval (difference '
      f'{margin(difference)}){stage(a, b)}.'
    )
  for a, b, difference in groups[-1]:
    sentences.append(
      f'{named(a)} is worse than {named(b)} by {margin(difference)}'
      f'{stage(a, b)}.'
    )
  return sentences


def _joint(rows: Sequence[Row]) -> list[str]:
  joint, ranked = row_of(rows, 'joint'), contenders(rows)
  if joint is None or not ranked:
    return []
  a, b, difference = match(ranked[0], joint)
  level = f'joint training ({b["value"].mean:.3f})'
  if difference.sign < 0:
    return [
      f'{named(a)} stays {margin(difference)} below {level}{stage(a, b)}.'
    ]
  if difference.sign > 0:
    return [
      f'{named(a)} is {margin(difference)} above {level}{stage(a, b)}: '
      'check that joint training was given as much.'
    ]
  return [
    f'{named(a)} and {level} are not separated{stage(a, b)}: the difference '
    f'is {margin(difference)}.'
  ]


def _chance(rows: Sequence[Row]) -> list[str]:
  chance = row_of(rows, 'chance')
  if chance is None or not contenders(rows):
    return []
  groups = _against(rows, chance)
  level = f'{seen(chance, "main")["value"].mean:.3f}'
  low = [named(a) for a, _, _ in groups[0] + groups[-1]]
  if low:
    return [f'Not shown to be above chance ({level}): {listed(low)}.']
  return [f'Every contender is above chance ({level}).']


def _decay(rows: Sequence[Row]) -> list[str]:
  groups: dict[int, list[str]] = {1: [], 0: [], -1: []}
  for row in rows:
    after, before = row['average_accuracy_decayed'], row['average_accuracy']
    if after is None or before is None:
      continue
    change = difference_of(after, before, row['num_seeds'] > 1, False, False)
    text = f'{row["row"]} ({margin(change, signed=True)})'
    groups[change.sign].append(text)
  heads = {
    1: 'The decay branches raise the average accuracy of',
    -1: 'The decay branches lower the average accuracy of',
    0: 'No effect of the decay branches is established for',
  }
  return [
    f'{heads[s]} {listed(names)}.' for s, names in groups.items() if names
  ]


def _gap(rows: Sequence[Row]) -> list[str]:
  ranked = [row for row in contenders(rows) if row['min_accuracy']]
  if not ranked:
    return []
  row = ranked[0]
  low, end = row['min_accuracy'], row['old_task_accuracy']
  fall = difference_of(end, low, row['num_seeds'] > 1, False, False)
  if fall.mean - fall.half > GAP:
    return [
      f'The earlier tasks of {row["row"]} end at {end.mean:.3f} but fall to '
      f'{low.mean:.3f} in between (min-ACC; difference {margin(fall)}): what '
      'is measured at the ends of tasks hides this.'
    ]
  return [
    f'The earlier tasks of {row["row"]} are not shown to fall below their '
    f'final accuracy in between: {end.mean:.3f} at the end, {low.mean:.3f} at '
    f'the lowest (min-ACC; difference {margin(fall)}).'
  ]


def _cost(rows: Sequence[Row]) -> list[str]:
  naive, ranked = row_of(rows, 'naive'), contenders(rows)
  cost: Callable[[Row], Estimate | None] = lambda r: r['gradient_evaluations']
  if naive is None or not ranked or not cost(naive) or not cost(ranked[0]):
    return []
  ratio = cost(ranked[0]).mean / cost(naive).mean  # type: ignore
  if 0.99 < ratio < 1.01:
    return [f'{ranked[0]["row"]} costs as many gradient evaluations as naive.']
  return [
    f'{ranked[0]["row"]} costs {ratio:.1f} times the gradient evaluations of '
    'naive.'
  ]


def _reservations(rows: Sequence[Row]) -> list[str]:
  """What this comparison lacks."""
  sentences = []
  missing = [n for n in REFERENCES if n not in {row['row'] for row in rows}]
  if missing:
    sentences.append(
      f'Reference rows are missing: {listed(missing)}; without them the '
      'numbers have no scale.'
    )
  for row in rows:
    if not row['finished']:
      sentences.append(
        f'{row["row"]} has finished {row["tasks_done"]} of {row["num_tasks"]} '
        'tasks and is left out of the comparison.'
      )
  few = [r['row'] for r in rows if r['trained'] and r['num_seeds'] < 3]
  if few:
    sentences.append(f'Fewer than three seeds: {listed(few)}.')
  plans = {r['plan'] for r in rows if r['trained'] and r['row'] != 'joint'}
  if len(plans) > 1:
    sentences.append(
      'The rows did not see the same stream (their plan digests differ): '
      'differences between them may come from it.'
    )
  return sentences
