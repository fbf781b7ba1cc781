"""Draws the pictures of the plans and writes their page."""

import inspect
import pathlib
import textwrap

from experiments.stream_gallery import draw, rows
from lrcl import streams

DOCS = pathlib.Path(__file__).parents[2] / 'docs'
PAGE, FOLDER = 'stream_gallery.md', 'streams'

_HEAD = """# The streams, drawn

What comes when: each column is a stretch of steps, and the darker, the larger
the share of its rows. The vertical axis is the class of the data unless it says
otherwise; orange lines are the boundaries of tasks, where there are few. Which
scenario serves which purpose stands in [Streams](streams.md).

This page is made by `python -m experiments.stream_gallery` from the functions
of `experiments/stream_gallery/rows.py`, on the digits of scikit-learn.

```python
from lrcl import schedules, streams

train, test = streams.digits()
```
"""


def format_page() -> str:
  """The whole page."""
  parts = [_HEAD]
  for make in rows.ROWS:
    name, doc = make.__name__, inspect.getdoc(make)
    picture = f'![{doc}]({FOLDER}/{name}.png)'
    code = f'```python\n{code_of(make)}\n```'
    parts += [f'## {name}', doc or '', picture, code]
  return '\n\n'.join(part.strip() for part in parts) + '\n'


def code_of(make: rows.Make) -> str:
  """The body of a row's function, with its result named `stream`."""
  body = inspect.getsource(make).split('"""', 2)[2]
  return textwrap.dedent(body).strip().replace('return ', 'stream = ')


def main() -> None:
  """Writes page and pictures."""
  train, test = streams.digits()
  folder = DOCS / FOLDER
  folder.mkdir(exist_ok=True)
  for old in folder.glob('*.png'):
    old.unlink()
  for make, axis in rows.ROWS.items():
    stream = make(train, test)
    figure = draw.draw(draw.shares(stream, axis), stream, axis)
    path = folder / f'{make.__name__}.png'
    figure.savefig(path, dpi=110, metadata={'Software': None})
  (DOCS / PAGE).write_text(format_page())
  print(f'docs/{PAGE}: {len(rows.ROWS)} pictures')


if __name__ == '__main__':
  main()
