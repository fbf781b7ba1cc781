"""The branch tree as text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrcl.reports import _records, _series, _traces
from lrcl.reports._records import Record


def format_tree(records: Sequence[Record]) -> str:
  """Draws the branches of every row with lines of unicode.

  Each branch has its name, the step at which it forked, its schedule, the
  steps it took, the mean loss of its last recorded steps and its last
  accuracy (the mean over the tasks met), both averaged over seeds.

  Args:
    records: from `read_records`.

  Returns:
    Text of several lines, without a newline at its end.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> records.append(records[-1] | {
    ...   'branch': 'decay-4', 'parent': ('main', 4), 'step': 6,
    ...   'metrics': {'accuracy': [[0.7, 0.9]]}})
    >>> print(format_tree(records))
    ER  (1 seed)
    main  from 0, 4 steps  accuracy 0.650
    └─ decay-4  not trained  accuracy 0.800
  """
  blocks = []
  for row in _records.row_names(records):
    seeds = _records.seeds_of(records, row)
    count = 1 if seeds is None else len(seeds)
    lines = [f'{row}  ({count} seed{"s" * (count > 1)})']
    for root in children(records, row, None):
      lines += _branch(records, row, root, '')
    blocks.append('\n'.join(lines))
  return '\n\n'.join(blocks)


def children(
  records: Sequence[Record], row: str, parent: str | None
) -> list[str]:
  """Branches that forked from `parent`; None asks for the roots."""
  names = _records.branch_names(records, row)
  found = []
  for name in names:
    origin = _records.parent_of(records, row, name)
    source = origin[0] if origin and origin[0] in names else None
    if source == parent:
      found.append(name)
  return found


def _branch(
  records: Sequence[Record], row: str, name: str, indent: str
) -> list[str]:
  lines = [describe_branch(records, row, name)]
  below = children(records, row, name)
  for n, child in enumerate(below):
    last = n == len(below) - 1
    first, rest = ('└─ ', '   ') if last else ('├─ ', '│  ')
    inner = _branch(records, row, child, indent + rest)
    lines.append(indent + first + inner[0])
    lines += inner[1:]
  return lines


def describe_branch(records: Sequence[Record], row: str, name: str) -> str:
  """One branch in one line."""
  facts = branch_facts(records, row, name)
  steps = f'from {facts["fork"] or 0}, {facts["steps"]} steps'
  parts = [name, steps if facts['trained'] else 'not trained']
  parts.append(facts['schedule'])
  if facts['loss'] is not None:
    parts.append(f'loss {facts["loss"]:.3f}')
  if facts['accuracy'] is not None:
    parts.append(f'accuracy {facts["accuracy"]:.3f}')
  return '  '.join(part for part in parts if part)


def branch_facts(
  records: Sequence[Record], row: str, name: str
) -> dict[str, Any]:
  """What is told of a branch.

  `fork`, `end` and `steps`; `trained`, which is False of a reference row that
  has no training; `schedule`; `loss` and `accuracy`, None where unknown.
  """
  found = _records.select(records, row, name)
  parent = _records.parent_of(records, row, name)
  last = found[-1]
  fork = None if parent is None else parent[1]
  return {
    'fork': fork,
    'end': last['step'],
    'steps': last['step'] - (fork or 0),
    'trained': len(found) > 1 or last.get('learning_rate') is not None,
    'schedule': schedule_name(last),
    'loss': _last_loss(records, row, name),
    'accuracy': _last_accuracy(records, row, name),
  }


def schedule_name(record: Record) -> str:
  """The name of the schedule a record was made under, or nothing."""
  return (record.get('schedule') or {}).get('name', '')


def _last_loss(
  records: Sequence[Record], row: str, name: str, steps: int = 10
) -> float | None:
  trace = _traces.branch_trace(records, row, name, joined=False)
  return None if trace is None else float(trace.loss[:, -steps:].mean())


def _last_accuracy(
  records: Sequence[Record], row: str, name: str
) -> float | None:
  """Mean over seeds and the tasks met; None where none was measured."""
  _, accuracy = _series.met_accuracy(records, row, name)
  mean = float(accuracy[:, -1].mean())
  return None if np.isnan(mean) else mean
