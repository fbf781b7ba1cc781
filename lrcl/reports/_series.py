"""Arrays out of records: evaluations and matrices along a lineage."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrcl.reports import _records
from lrcl.reports._records import WHOLE, Record


class Series(NamedTuple):
  """The evaluations along a branch and its ancestors.

  Attributes:
    steps: `[n]`, steps done at each evaluation.
    accuracy: `[seeds, n, T]`.
    ends: rows at which a task ended, in order; `tasks` names the tasks.
    tasks: the task that ended at each of `ends`.
  """

  steps: np.ndarray
  accuracy: np.ndarray
  ends: tuple[int, ...]
  tasks: tuple[int, ...]


def lineage(
  records: Sequence[Record], row: str, branch: str
) -> list[tuple[str, int | None]]:
  """The path from the root to `branch`, with the step at which each is left.

  Example: `[('main', 400), ('decay-400', None)]`. An ancestor without records
  ends the path.

  Raises:
    ValueError: if a branch descends from itself.
  """
  path, until = [], None
  known = set(_records.branch_names(records, row))
  while branch in known:
    known.remove(branch)
    path.append((branch, until))
    parent = _records.parent_of(records, row, branch)
    if parent is None:
      break
    branch, until = parent
    if branch in (name for name, _ in path):
      raise ValueError(f'lineage: branch {branch!r} of {row!r} has a circle.')
  return path[::-1]


def _along(
  records: Sequence[Record], row: str, branch: str, joined: bool
) -> list[Record]:
  """Records of a branch, after those of its ancestors up to the forks."""
  path = lineage(records, row, branch)
  found: list[Record] = []
  for name, until in path if joined else path[-1:]:
    since = found[-1]['step'] if found else -1
    for record in _records.select(records, row, name):
      if record['step'] > since and (until is None or record['step'] <= until):
        found.append(record)
  return found


def continual_series(
  records: Sequence[Record],
  row: str,
  branch: str = 'main',
  *,
  joined: bool = True,
) -> Series:
  """Every evaluation of a branch, for the metrics of continual evaluation.

  Args:
    records: from `read_records`.
    row: the contender.
    branch: its branch.
    joined: whether the ancestors' evaluations up to the forks come first.

  Returns:
    A `Series`. Where one task ends twice in a row (a branch that stays in its
    task), the later end counts.

  Raises:
    KeyError: if the branch has no records.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> series = continual_series(records, 'ER')
    >>> series.steps.tolist(), series.accuracy.tolist(), series.ends
    ([2, 4], [[[0.9, 0.0], [0.5, 0.8]]], (0, 1))
  """
  _records.select(records, row, branch)
  found = _along(records, row, branch, joined)
  ends: list[tuple[int, int]] = []
  for n, record in enumerate(found):
    if record['task_end']:
      ends = ends[:-1] if ends and ends[-1][1] == record['task'] else ends
      ends.append((n, record['task']))
  return Series(
    np.array([record['step'] for record in found]),
    np.stack([_records.accuracies(record) for record in found], 1),
    tuple(n for n, _ in ends),
    tuple(task for _, task in ends),
  )


def met_accuracy(
  records: Sequence[Record],
  row: str,
  branch: str = 'main',
  *,
  joined: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
  """Mean accuracy over the tasks met so far, along a branch.

  Args:
    records: from `read_records`.
    row: the contender. Of a reference row that meets all tasks at once, all
      tasks count from the start; so do test sets that are not one per task.
    branch: its branch.
    joined: whether the ancestors' evaluations up to the forks come first.

  Returns:
    `(steps[n], accuracy[seeds, n])`.
  """
  found = _along(records, row, branch, True)
  met: set[int] = set()
  sets = _records.num_test_sets(found[0])
  apart = sets != found[0]['num_tasks']  # the sets are not those of the tasks
  if row in WHOLE or apart:
    met = set(range(sets))
  means = []
  for record in found:
    met |= set() if apart else {record['task']}
    means.append(_records.accuracies(record)[:, sorted(met)].mean(-1))
  own = [joined or record['branch'] == branch for record in found]
  steps = np.array([record['step'] for record in found])
  return steps[own], np.stack(means, -1)[:, own]


def accuracy_matrix(
  records: Sequence[Record], row: str, branch: str = 'main'
) -> np.ndarray:
  """The accuracy matrix `[seeds, T, T]` of a branch and its ancestors.

  Row i is the evaluation at the end of task i; NaN where that task has not
  ended yet.

  Raises:
    KeyError: if the branch has no records.
    ValueError: if tasks end in another order than 0, 1, 2, ...: with tasks
      that recur, 'after task i' means nothing.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> accuracy_matrix(records, 'ER').tolist()
    [[[0.9, 0.0], [0.5, 0.8]]]
  """
  return _matrix('accuracy_matrix', records, row, branch, 'accuracy')


def loss_matrix(
  records: Sequence[Record], row: str, branch: str = 'main'
) -> np.ndarray:
  """The losses on every test set, `[seeds, T, T]`, as `accuracy_matrix`.

  Of a language model they are nats per token, and `exp` of them perplexities.

  Raises:
    KeyError: if the branch has no records.
    ValueError: as `accuracy_matrix`, or if a loss is not one number per test
      set and seed.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'loss': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> loss_matrix(records, 'ER').tolist()
    [[[0.9, 0.0], [0.5, 0.8]]]
  """
  return _matrix('loss_matrix', records, row, branch, 'loss')


def _matrix(
  where: str, records: Sequence[Record], row: str, branch: str, metric: str
) -> np.ndarray:
  series = continual_series(records, row, branch)
  if series.tasks != tuple(range(len(series.tasks))):
    raise ValueError(
      f'{where}: tasks of {row!r} end in the order '
      f'{list(series.tasks)}; a matrix needs 0, 1, 2, ..., each once.'
    )
  found = _along(records, row, branch, True)
  seeds, _, tasks = series.accuracy.shape
  matrix = np.full((seeds, tasks, tasks), np.nan)
  for task, end in enumerate(series.ends):
    matrix[:, task] = _records.measured(found[end], metric)
  return matrix


def decay_branches(records: Sequence[Record], row: str) -> dict[int, str]:
  """The branch that forks from main at each task's end, by task.

  Where several do, the one of the length that occurs at the most task ends is
  taken, the first by name among equals.
  """
  main = continual_series(records, row)
  ends = dict(zip(main.steps[list(main.ends)], main.tasks, strict=True))
  found: list[tuple[int, int, str]] = []  # task, length, name
  for name in _records.branch_names(records, row):
    parent = _records.parent_of(records, row, name)
    if parent is not None and parent[0] == 'main' and parent[1] in ends:
      last = _records.select(records, row, name)[-1]['step']
      found.append((ends[parent[1]], last - parent[1], name))
  pairs = {(task, length) for task, length, _ in found}
  common = collections.Counter(length for _, length in pairs)
  best = sorted(found, key=lambda f: (f[0], -common[f[1]], f[2]))
  chosen: dict[int, str] = {}
  for task, _, name in best:
    chosen.setdefault(task, name)
  return chosen


def decayed_matrix(records: Sequence[Record], row: str) -> np.ndarray:
  """The accuracy matrix after the decays, `[seeds, T, T]`.

  Row i is the last evaluation of the branch that forked from main at the end
  of task i (`decay_branches`); NaN where there is none.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> records.append(records[-1] | {
    ...   'branch': 'decay-4', 'parent': ('main', 4), 'step': 6,
    ...   'metrics': {'accuracy': [[0.7, 0.9]]}})
    >>> decayed_matrix(records, 'ER').tolist()
    [[[nan, nan], [0.7, 0.9]]]
  """
  matrix = np.full_like(accuracy_matrix(records, row), np.nan)
  for task, name in decay_branches(records, row).items():
    last = _records.select(records, row, name)[-1]
    matrix[:, task] = _records.accuracies(last)
  return matrix
