"""The table of a comparison, for the terminal."""

from collections.abc import Sequence
import importlib.util
import sys
from typing import Any, TextIO

import numpy as np

from lrcl.reports._findings import findings
from lrcl.reports._records import Record
from lrcl.reports._summary import Estimate, summarize

COLUMNS = (
  ('average accuracy', 'average_accuracy'),
  ('after decay', 'average_accuracy_decayed'),
  ('forgetting', 'forgetting'),
  ('after decay', 'forgetting_decayed'),
  ('worst case', 'worst_case_accuracy'),
  ('after decay', 'worst_case_accuracy_decayed'),
)
"""Heading and measure of each column that every table has."""

COSTS = (
  ('forward', 'forward_passes'),
  ('backward', 'backward_passes'),
  ('gradient evals', 'gradient_evaluations'),
  ('memory', 'memory_bytes'),
  ('stored bytes', 'stored_bytes'),
)
"""Columns that appear where a record holds them."""

NOTE = (
  'Mean ± half width of the 95% Student t interval over seeds; * marks '
  'reference rows, - what does not apply.'
)


def table_cells(
  rows: Sequence[dict[str, Any]],
) -> tuple[list[str], list[list[str]]]:
  """The table as text: headings, and the cells of each row."""
  costs = [c for c in COSTS if any(row[c[1]] for row in rows)]
  columns = [*COLUMNS, *costs]
  heads = ['row', *[head for head, _ in columns], 'seeds']
  cells = []
  for row in rows:
    name = row['row'] + (' *' if row['reference'] else '')
    texts = [
      format_count(row[key]) if (head, key) in costs else format_cell(row[key])
      for head, key in columns
    ]
    cells.append([name, *texts, str(row['num_seeds'])])
  return heads, cells


def format_cell(estimate: Estimate | None) -> str:
  """`0.882 ± 0.012`; the mean alone for one seed; `-` for None."""
  if estimate is None:
    return '-'
  if np.isnan(estimate.half):
    return f'{estimate.mean:.3f}'
  return f'{estimate.mean:.3f} ± {estimate.half:.3f}'


def format_count(estimate: Estimate | None) -> str:
  """A large number in short: `25.6k`; `-` for None."""
  if estimate is None:
    return '-'
  value, unit = estimate.mean, ''
  for larger in ('k', 'M', 'G', 'T'):
    if abs(value) < 1000:
      break
    value, unit = value / 1000, larger
  return f'{value:.3g}{unit}'


def format_table(records: Sequence[Record]) -> str:
  """The table as plain aligned text, without the findings.

  Args:
    records: from `read_records`.

  Returns:
    Text of several lines, without a newline at its end.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> format_table(records).splitlines()[2].split()
    ['ER', '0.650', '-', '0.400', '-', '0.650', '-', '1']
  """
  return _aligned(summarize(records))


def _aligned(rows: Sequence[dict[str, Any]]) -> str:
  heads, cells = table_cells(rows)
  lines = [heads, *cells]
  widths = [max(len(line[n]) for line in lines) for n in range(len(heads))]

  def aligned(line: Sequence[str]) -> str:
    first = line[0].ljust(widths[0])
    rest = [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
    return '  '.join([first, *rest]).rstrip()

  rule = '  '.join('-' * width for width in widths)
  return '\n'.join([aligned(heads), rule, *map(aligned, cells)])


def print_table(
  records: Sequence[Record], *, file: TextIO | None = None
) -> None:
  """Prints the table and, below it, the findings.

  A terminal is drawn on by rich where it is installed; everything else (a
  file, a pipe) gets plain aligned text.

  Args:
    records: from `read_records`.
    file: where to print; None is standard output.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> print_table(records)
    row  average accuracy  ...
    ER              0.650  ...
    - Fewer than three seeds: ER.
  """
  out = sys.stdout if file is None else file
  rows = summarize(records)
  if out.isatty() and _has_rich():
    _print_rich(rows, out)
  else:
    print(_aligned(rows), file=out)
  print(NOTE, file=out)
  print(file=out)
  for sentence in findings(rows):
    print(f'- {sentence}', file=out)


def _has_rich() -> bool:
  if 'rich' in sys.modules:
    return sys.modules['rich'] is not None
  return importlib.util.find_spec('rich') is not None


def _print_rich(rows: Sequence[dict[str, Any]], out: TextIO) -> None:
  from rich import box, console, table
  from rich.markup import escape

  heads, cells = table_cells(rows)
  drawn = table.Table(box=box.SIMPLE_HEAD)
  for n, head in enumerate(heads):
    drawn.add_column(head, justify='right' if n else 'left', no_wrap=n == 0)
  for row, line in zip(rows, cells, strict=True):
    drawn.add_row(*map(escape, line), style='dim' if row['reference'] else None)
  console.Console(file=out).print(drawn)
