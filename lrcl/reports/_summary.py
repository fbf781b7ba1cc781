"""From records to one summary per row, before and after the decay."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lrcl import metrics
from lrcl.reports import _records, _series
from lrcl.reports._records import REFERENCES, WHOLE, Record


class Estimate(NamedTuple):
  """A mean over seeds.

  Attributes:
    mean: the mean.
    half: half width of its 95% Student t interval; NaN for one seed.
    values: the value of each seed.
  """

  mean: float
  half: float
  values: tuple[float, ...]


def summarize(records: Sequence[Record]) -> list[dict[str, Any]]:
  """One dict per row: what the table, the findings and the page show.

  'Before' is the main branch as it stands at the end of the stream. 'After' is
  the decay branch that forked from it: the accuracy matrix after the decays
  has in row i the last evaluation of the branch that forked from main at the
  end of task i (`decayed_matrix`). Worst-case accuracy after the decay is
  WC-ACC along the path to the final model, that is, main's evaluations and
  then those of the last decay branch, with t at that branch's last evaluation:
  the newest task counts as decayed, the minima of the others are main's unless
  the decay itself goes lower.

  Args:
    records: from `read_records`.

  Returns:
    Dicts with `row`, `reference` (whether it is a reference row), `trained`,
    `seeds` (a tuple, or None), `num_seeds`, `num_tasks`, `tasks_done`,
    `finished`, `plan` and the measures, each an `Estimate` or None where it
    does not apply: `average_accuracy`, `forgetting`, `worst_case_accuracy`,
    the same three with `_decayed` appended, `average_incremental_accuracy`,
    `backward_transfer`, `forward_transfer` (if main was evaluated at step 0),
    `learning_accuracy`, `min_accuracy`, `old_task_accuracy`, `gap_depth`,
    `recovery_steps` (means over the switches), and the costs that
    `lrcl.training.step_cost` gives. Contenders come first, each group best
    first.

  Raises:
    KeyError: if a row has no branch `main`.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> [row] = summarize(records)
    >>> row['row'], row['average_accuracy'].mean, row['finished']
    ('ER', 0.65, True)
  """
  rows = [_summary(records, name) for name in _records.row_names(records)]
  return sorted(rows, key=lambda row: (row['reference'], -level(row)))


def final_accuracy(row: dict[str, Any]) -> Estimate | None:
  """Average accuracy after the decay where there is one, else before it."""
  return row['average_accuracy_decayed'] or row['average_accuracy']


def level(row: dict[str, Any]) -> float:
  """What rows are sorted by: the mean final accuracy."""
  final = final_accuracy(row)
  return -np.inf if final is None else final.mean


def _summary(records: Sequence[Record], name: str) -> dict[str, Any]:
  main = _records.select(records, name)
  last, seeds = main[-1], _records.seeds_of(records, name)
  trained = len(main) > 1 or last.get('learning_rate') is not None
  series = _series.continual_series(records, name)
  row = {
    'row': name,
    'reference': name in REFERENCES or not trained,
    'trained': trained,
    'seeds': seeds,
    'num_seeds': 1 if seeds is None else len(seeds),
    'num_tasks': last['num_tasks'],
    'plan': last.get('plan'),
    **{cost: _scalar(last, cost) for cost in COSTS},
  }
  if name in WHOLE or not trained:
    return row | _whole(records, name, last)
  done = len(set(series.tasks))
  finished = done == last['num_tasks'] and bool(last['task_end'])
  row |= {'tasks_done': done, 'finished': finished}
  return row | _stream(records, name, series, finished)


def _whole(
  records: Sequence[Record], name: str, last: Record
) -> dict[str, Any]:
  """Measures of a row without a stream of tasks: its last accuracy."""
  measures: dict[str, Any] = dict.fromkeys(MEASURES)
  if last['task_end']:
    final = _records.accuracies(last).mean(-1)
    measures['average_accuracy'] = _estimate(final)
    branches = _series.decay_branches(records, name)
    if branches:
      tail = _records.select(records, name, [*branches.values()][-1])[-1]
      after = _estimate(_records.accuracies(tail).mean(-1))
      measures['average_accuracy_decayed'] = after
  done = last['num_tasks'] if last['task_end'] else 0
  return measures | {'tasks_done': done, 'finished': bool(last['task_end'])}


def _stream(
  records: Sequence[Record], name: str, series: _series.Series, finished: bool
) -> dict[str, Any]:
  """Measures of a row that met the tasks one after another."""
  measures: dict[str, Any] = dict.fromkeys(MEASURES)
  if not finished:
    return measures
  final = _estimate(series.accuracy[:, -1].mean(-1))
  measures['average_accuracy'] = final
  if series.tasks != tuple(range(series.accuracy.shape[-1])):
    return measures  # tasks recur: no matrix, and no 'since it ended'
  matrix = _series.accuracy_matrix(records, name)
  decayed = _series.decayed_matrix(records, name)
  measures |= _matrix_measures(matrix, series)
  measures |= _continual_measures(series)
  after = {
    'average_accuracy_decayed': metrics.average_accuracy(decayed),
    'forgetting_decayed': metrics.forgetting(decayed),
    'worst_case_accuracy_decayed': _worst_decayed(records, name, series),
  }
  return measures | {key: _estimate(value) for key, value in after.items()}


def _matrix_measures(
  matrix: np.ndarray, series: _series.Series
) -> dict[str, Any]:
  values = {
    'average_accuracy': metrics.average_accuracy(matrix),
    'forgetting': metrics.forgetting(matrix),
    'backward_transfer': metrics.backward_transfer(matrix),
    'learning_accuracy': metrics.learning_accuracy(matrix),
    'average_incremental_accuracy': metrics.average_incremental_accuracy(
      matrix
    ),
  }
  if matrix.shape[-1] > 1:
    values['old_task_accuracy'] = matrix[:, -1, :-1].mean(-1)
  if series.steps[0] == 0:
    start = series.accuracy[:, 0]
    values['forward_transfer'] = metrics.forward_transfer(matrix, start)
  return {key: _estimate(value) for key, value in values.items()}


def _continual_measures(series: _series.Series) -> dict[str, Any]:
  a, ends = series.accuracy, series.ends
  values = {
    'worst_case_accuracy': metrics.worst_case_accuracy(a, ends),
    'min_accuracy': metrics.min_accuracy(a, ends),
  }
  if len(ends) > 1:
    gap = metrics.stability_gap(a, ends, steps=series.steps)
    values['gap_depth'] = gap.depth.mean(-1)
    values['recovery_steps'] = gap.recovery_steps.mean(-1)
  return {key: _estimate(value) for key, value in values.items()}


def _worst_decayed(
  records: Sequence[Record], name: str, main: _series.Series
) -> Any:
  """WC-ACC on the path through main into the decay of the last task."""
  branch = _series.decay_branches(records, name).get(main.tasks[-1])
  if branch is None:
    return np.nan
  path = _series.continual_series(records, name, branch)
  ends = (*main.ends[:-1], len(path.steps) - 1)
  return metrics.worst_case_accuracy(path.accuracy, ends)


def _scalar(record: Record, name: str) -> Estimate | None:
  value = record['metrics'].get(name)
  return None if value is None else _estimate(np.asarray(value, np.float64))


def _estimate(values: Any) -> Estimate | None:
  """Mean and interval of one value per seed; None where one is undefined."""
  values = np.atleast_1d(np.asarray(values, np.float64))
  if values.ndim > 1 or not np.isfinite(values).all():
    return None
  mean, half = metrics.mean_interval(values)
  return Estimate(float(mean), float(half), tuple(values.tolist()))


MEASURES = (
  'average_accuracy',
  'average_accuracy_decayed',
  'forgetting',
  'forgetting_decayed',
  'worst_case_accuracy',
  'worst_case_accuracy_decayed',
  'average_incremental_accuracy',
  'backward_transfer',
  'forward_transfer',
  'learning_accuracy',
  'min_accuracy',
  'old_task_accuracy',
  'gap_depth',
  'recovery_steps',
)
"""Every measure of a summary, whether or not it applies to a row."""

COSTS = (
  'parameters',
  'forward_passes',
  'backward_passes',
  'gradient_evaluations',
  'state_bytes',
  'memory_bytes',
  'stored_bytes',
)
"""What a step and its state cost, where a record says so."""
