"""The parts of the page that are text: header, table, findings, set-up."""

from collections.abc import Sequence
from html import escape
import json
from typing import Any

from lrcl.reports import _page_notes, _page_style, _records, _summary, _table
from lrcl.reports._records import Record

Row = dict[str, Any]

PAIRS = (
  ('Average accuracy', 'average_accuracy'),
  ('Forgetting', 'forgetting'),
  ('Worst case', 'worst_case_accuracy'),
)
MORE = (
  ('average incremental accuracy', 'average_incremental_accuracy'),
  ('learning accuracy', 'learning_accuracy'),
  ('backward transfer', 'backward_transfer'),
  ('forward transfer', 'forward_transfer'),
  ('min-ACC', 'min_accuracy'),
  ('gap depth', 'gap_depth'),
  ('recovery steps', 'recovery_steps'),
)


def document(title: str, body: str) -> str:
  """The whole file around `body`."""
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    f'<title>{escape(title)} - LRCL report</title>\n'
    f'<style>{_page_style.css()}</style>\n</head>\n<body>\n<main>\n{body}\n'
    '</main>\n</body>\n</html>\n'
  )


def header(rows: Sequence[Row], records: Sequence[Record], title: str) -> str:
  """The title and the size of the comparison."""
  seeds = sorted({row['num_seeds'] for row in rows})
  steps = max(r['step'] for r in records if r['branch'] == 'main')
  facts = [
    f'{len(rows)} rows',
    f'{rows[0]["num_tasks"]} tasks',
    f'{" to ".join(map(str, seeds[:1] + seeds[1:][-1:]))} seeds',
    f'{steps:,} steps',
  ]
  return (
    f'<header><h1>{escape(title)}</h1><p class="note">'
    f'{" · ".join(facts)}</p></header>'
  )


def table(rows: Sequence[Row]) -> str:
  """The summary table, before and after the decay."""
  costs = [c for c in _table.COSTS if any(row[c[1]] for row in rows)]
  top = ''.join(f'<th colspan="2" scope="colgroup">{h}</th>' for h, _ in PAIRS)
  top += ''.join(f'<th rowspan="2" scope="col">{h}</th>' for h, _ in costs)
  below = '<th scope="col">before</th><th scope="col">after</th>'
  lines = [_line(row, costs, _best(rows)) for row in rows]
  return (
    '<section><div class="scroll"><table class="summary"><thead>'
    f'<tr><th rowspan="2" scope="col">Row</th>{top}'
    '<th rowspan="2" scope="col">Seeds</th></tr>'
    f'<tr>{below * len(PAIRS)}</tr></thead><tbody>{"".join(lines)}</tbody>'
    '</table></div><p class="note">Mean ± half width of the 95% Student t '
    'interval over seeds; before and after the decay branches. A dash: does '
    'not apply.</p></section>'
  )


def _best(rows: Sequence[Row]) -> str:
  return '' if rows[0]['reference'] else rows[0]['row']


def _line(row: Row, costs: Sequence[tuple[str, str]], best: str) -> str:
  kinds = ['reference'] * row['reference'] + ['best'] * (row['row'] == best)
  tag = ' <span class="tag">reference</span>' if row['reference'] else ''
  if not row['finished']:
    tag += (
      f' <span class="tag">{row["tasks_done"]} of {row["num_tasks"]}</span>'
    )
  cells = []
  for _, key in PAIRS:
    cells += [_cell(row[key]), _cell(row[f'{key}_decayed'])]
  cells += [f'<td>{_table.format_count(row[key])}</td>' for _, key in costs]
  return (
    f'<tr class="{" ".join(kinds)}"><th scope="row">{escape(row["row"])}{tag}'
    f'</th>{"".join(cells)}<td>{row["num_seeds"]}</td></tr>'
  )


def _cell(estimate: _summary.Estimate | None) -> str:
  """A number with its interval in a softer colour."""
  text = _table.format_cell(estimate)
  mean, _, half = text.partition(' ± ')
  soft = f' <span class="half">± {half}</span>' if half else ''
  return f'<td>{mean}{soft}</td>'.replace('<td>-', '<td class="none">-')


def sentences(found: Sequence[str]) -> str:
  """The findings as a list."""
  kept = [
    escape(sentence).replace(' ± ', '&nbsp;±&nbsp;') for sentence in found
  ]
  items = ''.join(f'<li>{sentence}</li>' for sentence in kept)
  return (
    f'<section><h2>Findings</h2><ul class="findings">{items}</ul></section>'
  )


def measures(rows: Sequence[Row]) -> str:
  """Further measures of the main branches, folded."""
  rows = [row for row in rows if any(row[key] for _, key in MORE)]
  columns = [c for c in MORE if any(row[c[1]] for row in rows)]
  if not columns:
    return ''
  head = ''.join(f'<th scope="col">{name}</th>' for name, _ in columns)
  lines = []
  for row in rows:
    cells = ''.join(_cell(row[key]) for _, key in columns[:-1])
    cells += _cell(row[columns[-1][1]])
    lines.append(f'<tr><th scope="row">{escape(row["row"])}</th>{cells}</tr>')
  return (
    '<details><summary>More measures, before the decay</summary>'
    '<div class="scroll"><table><thead><tr><th scope="col">Row</th>'
    f'{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div></details>'
  )


def caption(row: Row, key: str) -> str:
  """Numbers that belong to a figure, in one line."""
  if key != 'gap' or row['min_accuracy'] is None:
    return ''
  names = (
    ('min-ACC', 'min_accuracy'),
    ('WC-ACC', 'worst_case_accuracy'),
    ('gap depth', 'gap_depth'),
  )
  parts = [f'{n} {_table.format_cell(row[k])}' for n, k in names if row[k]]
  if row['recovery_steps']:
    parts.append(f'recovery {row["recovery_steps"].mean:.0f} steps')
  return f'<p class="note">{" · ".join(parts)}</p>'


def setup(records: Sequence[Record], rows: Sequence[Row]) -> str:
  """Where the numbers come from: digests, seeds, schedules, versions."""
  lines = []
  for row in rows:
    last = _records.select(records, row['row'])[-1]
    seeds = '-' if row['seeds'] is None else ', '.join(map(str, row['seeds']))
    cells = [
      seeds,
      _code(last.get('config')),
      _code(last.get('plan')),
      _code(json.dumps(last['schedule']) if last.get('schedule') else None),
    ]
    lines.append(
      f'<tr><th scope="row">{escape(row["row"])}</th>'
      f'{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    )
  heads = ''.join(
    f'<th scope="col">{h}</th>'
    for h in ('Row', 'Seeds', 'Config', 'Stream plan', 'Schedule of main')
  )
  return (
    '<section><h2>Set-up</h2><div class="scroll"><table class="setup"><thead>'
    f'<tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    f'<p class="note">{_versions(records)}</p>{_definitions()}</section>'
  )


def _code(text: Any) -> str:
  """A digest or JSON; the beginning shows, the whole is in the tooltip."""
  if text is None:
    return '-'
  whole = str(text)
  short = whole if ' ' in whole else whole[:12]
  return f'<code title="{escape(whole)}">{escape(short)}</code>'


def _versions(records: Sequence[Record]) -> str:
  """Every version that occurs, by package."""
  found: dict[str, dict[str, None]] = {}
  for record in records:
    for name, version in (record.get('versions') or {}).items():
      found.setdefault(name, {})[str(version)] = None
  parts = [f'{escape(n)} {escape(", ".join(v))}' for n, v in found.items()]
  return ' · '.join(parts)


def _definitions() -> str:
  items = ''.join(
    f'<dt>{term}</dt><dd>{text}</dd>' for term, text in _page_notes.DEFINITIONS
  )
  return f'<details><summary>Definitions</summary><dl>{items}</dl></details>'
