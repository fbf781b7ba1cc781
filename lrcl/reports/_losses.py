"""Losses on every task after every task, for the terminal."""

from collections.abc import Sequence

import numpy as np

from lrcl.reports import _records
from lrcl.reports._records import WHOLE, Record
from lrcl.reports._series import loss_matrix


def format_losses(records: Sequence[Record], row: str) -> str:
  """The loss matrix of a row's main branch as plain aligned text.

  Lines are ends of tasks, columns the tasks' test sets; below stands `exp` of
  the last line, the perplexity of a language model. All are means over seeds;
  a geometric one of perplexities. A row that meets all tasks at once has its
  last line alone.

  Args:
    records: from `read_records`.
    row: the contender.

  Returns:
    Text of several lines, without a newline at its end.

  Raises:
    KeyError: if the row has no branch `main`.
    ValueError: if its tasks recur, no task has ended, or no losses were
      recorded.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'loss': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> print(format_losses(records, 'ER'))
     ER: after      0      1
             0  0.900  0.000
             1  0.500  0.800
    perplexity  1.649  2.226
  """
  if row in WHOLE:
    last = _records.select(records, row)[-1]
    lines = {'all': _records.measured(last, 'loss').mean(0)}
  else:
    matrix = loss_matrix(records, row).mean(0)
    lines = {str(task): line for task, line in enumerate(matrix)}
  lines = {
    name: line for name, line in lines.items() if np.isfinite(line).any()
  }
  if not lines:
    raise ValueError(f'format_losses: {row!r} has no losses at ends of tasks.')
  lines['perplexity'] = np.exp(list(lines.values())[-1])
  tasks = len(lines['perplexity'])
  table = [[f'{row}: after', *map(str, range(tasks))]]
  table += [[name, *map('{:.3f}'.format, line)] for name, line in lines.items()]
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  pad = lambda cells: [c.rjust(w) for c, w in zip(cells, widths, strict=True)]
  return '\n'.join('  '.join(pad(cells)) for cells in table)
