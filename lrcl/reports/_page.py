"""The page of a comparison: one self-contained file."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from etils import epath

from lrcl.reports import (
  _draw_run,
  _draw_tasks,
  _draw_tree,
  _page_notes,
  _page_text,
  _records,
  _series,
  _style,
  _summary,
  _traces,
)
from lrcl.reports._findings import findings
from lrcl.reports._records import Record

Row = dict[str, Any]


def write_report(
  workdir: str | epath.PathLike, path: str | epath.PathLike | None = None
) -> epath.Path:
  r"""Writes `report.html`: table, findings, branched runs, tasks, set-up.

  The file needs no network and no JavaScript; its figures are inline SVG whose
  text can be selected, and it follows the reader's light or dark setting.

  Args:
    workdir: directory with records, as `read_records` takes.
    path: where to write; None is `report.html` inside `workdir`.

  Returns:
    The path of the page.

  Raises:
    FileNotFoundError: if there is no record under `workdir`.
    ImportError: if matplotlib is missing.
    ValueError: if a record is malformed.

  Example:
    >>> import json, pathlib, tempfile
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': 2 * task + 2, 'task': task,
    ...    'task_end': True, 'num_tasks': 2, 'metrics': {'accuracy': [row]}}
    ...   for task, row in enumerate([[0.9, 0.0], [0.5, 0.8]])]
    >>> with tempfile.TemporaryDirectory() as workdir:
    ...   file = pathlib.Path(workdir) / 'records.jsonl'
    ...   _ = file.write_text('\n'.join(map(json.dumps, records)) + '\n')
    ...   print(write_report(workdir).name)
    report.html
  """
  records = _records.read_records(workdir)
  root = epath.Path(workdir)
  target = root / 'report.html' if path is None else epath.Path(path)
  target.write_text(page(records, title=root.name or 'LRCL'))
  return target


def page(records: Sequence[Record], *, title: str) -> str:
  """The page as text."""
  rows = _summary.summarize(records)
  sections = [
    _page_text.header(rows, records, title),
    _page_text.table(rows),
    _page_text.sentences(findings(rows)),
    _page_text.measures(rows),
    _runs(records, rows),
    _matrices(records, rows),
    _gaps(records, rows),
    _page_text.setup(records, rows),
  ]
  return _page_text.document(title, '\n'.join(s for s in sections if s))


def _runs(records: Sequence[Record], rows: Sequence[Row]) -> str:
  """Curves and tree of every row with a trace; the best one is open."""
  names = [row['row'] for row in rows if _has_run(records, row['row'])]
  blocks = []
  for n, name in enumerate(names):
    figures = [
      _figure(
        _draw_run.run_figure(records, name),
        f'run{n}',
        f'Learning rate, loss and accuracy of {name} and its branches',
      )
    ]
    if len(_records.branch_names(records, name)) > 1:
      figures.append(
        _figure(
          _draw_tree.tree_figure(records, name),
          f'tree{n}',
          f'Branches of {name}',
        )
      )
    blocks.append(_details(name, ''.join(figures), is_open=n == 0))
  return _section('Branched runs', _page_notes.RUNS, blocks)


def _has_run(records: Sequence[Record], row: str) -> bool:
  return _traces.branch_trace(records, row) is not None


def _matrices(records: Sequence[Record], rows: Sequence[Row]) -> str:
  blocks = _tiles(
    _with_tasks(records, rows),
    lambda name: _draw_tasks.matrix_figure(records, name),
    'matrix',
    'Accuracy matrix of',
  )
  grid = f'<div class="grid">{"".join(blocks)}</div>' if blocks else ''
  return _section('Accuracy matrices', _page_notes.MATRICES, [grid])


def _gaps(records: Sequence[Record], rows: Sequence[Row]) -> str:
  blocks = _tiles(
    _with_tasks(records, rows),
    lambda name: _draw_tasks.gap_figure(records, name),
    'gap',
    'Accuracy of every task over the steps of',
  )
  return _section('Stability gap', _page_notes.GAPS, blocks)


def _with_tasks(records: Sequence[Record], rows: Sequence[Row]) -> list[Row]:
  """Rows whose tasks come one after another, each once."""
  found = []
  for row in rows:
    if not row['trained'] or row['row'] in _records.WHOLE:
      continue
    tasks = _series.continual_series(records, row['row']).tasks
    if tasks and tasks == tuple(range(len(tasks))):
      found.append(row)
  return found


def _tiles(
  rows: Iterable[Row], draw: Callable[[str], Any], key: str, words: str
) -> list[str]:
  """A figure with a caption for every row."""
  tiles = []
  for n, row in enumerate(rows):
    name = row['row']
    svg = _figure(draw(name), f'{key}{n}', f'{words} {name}')
    caption = _page_text.caption(row, key)
    tiles.append(
      f'<div class="tile"><h3>{escape(name)}</h3>{caption}{svg}</div>'
    )
  return tiles


def _figure(fig: Any, name: str, description: str) -> str:
  return f'<figure>{_style.to_svg(fig, name, description)}</figure>\n'


def _details(summary: str, body: str, *, is_open: bool) -> str:
  mark = ' open' if is_open else ''
  return (
    f'<details{mark}><summary>{escape(summary)}</summary>\n{body}</details>\n'
  )


def _section(title: str, text: str, blocks: Sequence[str]) -> str:
  body = ''.join(blocks)
  if not body:
    return ''
  return (
    f'<section><h2>{title}</h2>\n<p class="note">{text}</p>\n{body}</section>'
  )
