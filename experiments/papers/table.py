"""Makes docs/claims.md from the outcomes that were measured.

python -m experiments.papers.table
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from experiments.papers import claims

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'claims.md'

_HEAD = """# Claims, measured

What the papers behind LRCL say, and what came of it here, at the scale of a
laptop. Rates are tuned equally for every contender, on seeds apart from those
reported; `+-` is half of a 95% interval over seeds. The verdict follows from
the numbers by a rule in the claim's own file. "Not reproduced" speaks of this
scale and nothing else.

Images, where a claim takes `--data_dir=DEST`, come from
`python -m experiments.fetch_data DEST`. This page is made by
`python -m experiments.papers.table` from `experiments/papers/results/`.
"""


def read_results() -> list[dict[str, Any]]:
  """Every outcome that was kept, by name."""
  paths = sorted(claims.RESULTS.glob('*.json'))
  return [json.loads(path.read_text()) for path in paths]


def make_page() -> str:
  """The whole page: the table of all claims, then each with its numbers."""
  results = read_results()
  lines = [_HEAD, '| claim | verdict | measured | CPU s |', '|---|---|---|---|']
  for r in results:
    link = f'[{r["title"]}](#{_anchor(r["title"])})'
    cells = (link, f'**{r["verdict"]}**', r['measured'], str(r['cpu_seconds']))
    lines.append(_row(cells))
  lines += [part for r in results for part in ('', _section(r))]
  return '\n'.join(lines) + '\n'


def _section(result: Mapping[str, Any]) -> str:
  lines = [
    f'## {result["title"]}',
    '',
    f'`{_command(result["name"])}`, {result["cpu_seconds"]} CPU s.',
    '',
    f'- **Paper**: {result["paper"]}',
    f'- **It says**: {result["says"]}',
    f'- **Setting**: {result["setting"]}',
    f'- **Measured**: {result["measured"]}',
    f'- **Verdict**: {result["verdict"]}',
  ]
  rows = result['table']
  if rows:
    names = list(rows[0])
    lines += ['', _row(names), _row(['---'] * len(names))]
    lines += [_row([str(v) for v in row.values()]) for row in rows]
  return '\n'.join(lines)


def _command(name: str) -> str:
  """What measures a claim; with data if its file says so."""
  source = (pathlib.Path(__file__).parent / f'{name}.py').read_text()
  data = ' --data_dir=DEST' if 'takes_data=True' in source else ''
  return f'python -m experiments.papers.{name}{data}'


def _row(cells: Any) -> str:
  return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


def _anchor(title: str) -> str:
  """The name that a Markdown viewer gives the section."""
  kept = (c for c in title.lower() if c.isalnum() or c in ' -')
  return ''.join(kept).replace(' ', '-')


if __name__ == '__main__':
  PAGE.write_text(make_page())
  print(f'{PAGE.name}: {len(read_results())} claims')
