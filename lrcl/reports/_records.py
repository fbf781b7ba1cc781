"""Reading records: the only thing that a report knows of a run."""

from collections.abc import Iterable, Mapping, Sequence
import json
from typing import Any

from etils import epath
import numpy as np

Record = Mapping[str, Any]
"""One evaluation, as one JSON line holds it."""

REQUIRED = ('step', 'task', 'task_end', 'num_tasks', 'row', 'branch', 'metrics')

REFERENCES = ('naive', 'joint', 'nearest_mean', 'chance')
"""The rows that stand in every comparison."""

WHOLE = ('joint', 'nearest_mean', 'chance')
"""References that meet all tasks at once: they have nothing to forget."""


def read_records(workdir: str | epath.PathLike) -> list[dict[str, Any]]:
  r"""Reads every record under a directory.

  Looks for `records.jsonl` in `workdir` itself, one level below (the branches
  of one run) and two levels below (rows and their branches). A last line that
  was cut while it was written is left out. A step that was written twice,
  because a run was resumed from before it, counts once, as written last.

  Args:
    workdir: directory of a comparison, a run or a branch; `gs://` works.

  Returns:
    The records, sorted by row (in order of the directories' names), branch
    and step: plain dicts, as `train_stream` returns them.

  Raises:
    FileNotFoundError: if there is no record under `workdir`.
    ValueError: if a line is not a record; names the file and the line.

  Example:
    >>> import json, pathlib, tempfile
    >>> record = {
    ...   'row': 'ER', 'branch': 'main', 'step': 2, 'task': 0, 'task_end': True,
    ...   'num_tasks': 1, 'metrics': {'accuracy': [[0.5]]}}
    >>> with tempfile.TemporaryDirectory() as workdir:
    ...   file = pathlib.Path(workdir) / 'records.jsonl'
    ...   _ = file.write_text(json.dumps(record) + '\n')
    ...   print(read_records(workdir) == [record])
    True
  """
  root = epath.Path(workdir)
  records: dict[tuple, dict[str, Any]] = {}
  for path in _files(root):
    for record in _read(path):
      records[record['row'], record['branch'], record['step']] = record
  if not records:
    raise FileNotFoundError(
      f'read_records: no records under {root}; expected '
      '<workdir>/<row>/<branch>/records.jsonl with at least one line.'
    )
  return [records[key] for key in sorted(records)]


def _files(root: epath.Path) -> list[epath.Path]:
  if not root.is_dir():
    return []
  patterns = ('records.jsonl', '*/records.jsonl', '*/*/records.jsonl')
  return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def _read(path: epath.Path) -> list[dict[str, Any]]:
  """The records of one file, without a cut last line."""
  lines = path.read_text().split('\n')
  records = []
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      record = json.loads(line)
    except json.JSONDecodeError as error:
      if number == len(lines):  # no newline after it: the writer was stopped
        break
      raise ValueError(
        f'read_records: {path}:{number} is not JSON ({error.msg}); remove or '
        'repair the line.'
      ) from error
    records.append(_checked(record, f'{path}:{number}'))
  return records


def _checked(record: Any, where: str) -> dict[str, Any]:
  """`record` itself, if it has the fields that every report needs."""
  if not isinstance(record, dict):
    raise ValueError(f'read_records: {where} holds no JSON object.')
  missing = [name for name in REQUIRED if name not in record]
  if missing:
    raise ValueError(
      f'read_records: {where} lacks {", ".join(missing)}; it is no record of '
      'an evaluation.'
    )
  try:
    accuracies(record)
  except ValueError as error:
    raise ValueError(f'read_records: {where}: {error}') from error
  return record


def accuracies(record: Record) -> np.ndarray:
  """Accuracy on every test set, `[seeds, T]`; NaN where none was measured."""
  return measured(record, 'accuracy')


def measured(record: Record, name: str) -> np.ndarray:
  """A metric of every test set, `[seeds, T]`; NaN where none was measured."""
  seeds = record.get('seeds')
  want = (1 if seeds is None else len(seeds), num_test_sets(record))
  values = record['metrics'].get(name)
  if values is None:
    return np.full(want, np.nan)
  try:
    array = np.asarray(values, np.float64)
  except (TypeError, ValueError):
    array = np.zeros(0)  # ragged, or no numbers: no shape that fits
  array = array.reshape(1, -1) if seeds is None else array
  if array.shape != want:
    raise ValueError(
      f'metrics[{name!r}] must be numbers of shape {want}: seeds by tasks '
      '(tasks alone where seeds is null).'
    )
  return array


def num_test_sets(record: Record) -> int:
  """How many test sets there are: one per task, unless it says otherwise."""
  return record.get('num_test_sets', record['num_tasks'])


def row_names(records: Iterable[Record]) -> list[str]:
  """The rows (contenders) that occur, in order of appearance."""
  return list(dict.fromkeys(record['row'] for record in records))


def branch_names(records: Sequence[Record], row: str) -> list[str]:
  """The branches of a row: roots first, then by fork step and name."""
  names = dict.fromkeys(r['branch'] for r in records if r['row'] == row)

  def order(name: str) -> tuple[bool, int, bool, str]:
    parent = parent_of(records, row, name)
    step = -1 if parent is None else parent[1]
    return parent is not None, step, name != 'main', name

  return sorted(names, key=order)


def select(
  records: Iterable[Record], row: str, branch: str = 'main'
) -> list[Record]:
  """The records of one branch, by step.

  Raises:
    KeyError: if there are none.
  """
  found = [r for r in records if r['row'] == row and r['branch'] == branch]
  if not found:
    raise KeyError(f'no records of branch {branch!r} of row {row!r}')
  return sorted(found, key=lambda record: record['step'])


def parent_of(
  records: Iterable[Record], row: str, branch: str
) -> tuple[str, int] | None:
  """Where `branch` forked: `(branch, step)`, or None for a root."""
  parent = select(records, row, branch)[0].get('parent')
  return None if parent is None else (parent[0], int(parent[1]))


def seeds_of(records: Iterable[Record], row: str) -> tuple[int, ...] | None:
  """The seeds of a row, or None where it has a single unnamed one."""
  seeds = next(r for r in records if r['row'] == row).get('seeds')
  return None if seeds is None else tuple(seeds)
