"""The text of the gallery: every plot with its call, as Python and Markdown."""

from collections.abc import Mapping
import inspect
from typing import Any

import optax

from lrcl import schedules

_WIDTH = 80

_HEAD = """# The schedules, drawn

Each plot is drawn from the call beneath it, over the steps. The lines of a plot
differ in one argument, which its legend names; the call has the value of the
first line. Which schedule serves which purpose stands in
[Schedules](schedules.md).

This page is made by `python -m experiments.gallery` from the rows of
`experiments/gallery/rows.py`, which can be drawn with other values too:

```sh
python -m experiments.main --config=experiments/configs/schedule_gallery.py \\
  --workdir=runs/gallery --config.rows.wsd_schedule.call.kwargs.decay_steps=200
```

```python
import optax

from lrcl import schedules
```
"""


def format_page(rows: Mapping[str, Any], folder: str) -> str:
  """The page; `folder` is where the plots are, seen from it."""
  parts = [_section(name, row, folder) for name, row in rows.items()]
  return '\n'.join([_HEAD, *parts])


def _section(name: str, row: Mapping[str, Any], folder: str) -> str:
  title = _title(name, row['call']['name'])
  return '\n'.join(
    [
      f'## {title}',
      '',
      row['says'],
      '',
      f'![{title}]({folder}/{name}.svg)',
      '',
      '```python',
      format_call(row['call']),
      '```',
      '',
    ]
  )


def _title(name: str, schedule: str) -> str:
  """The schedule's name, and what a row's own name adds to it."""
  return ', '.join([schedule, *name.removeprefix(schedule).split('_')[1:]])


def format_call(record: Mapping[str, Any], indent: int = 0) -> str:
  """A record as the call it stands for, in lines of at most 80.

  Example:
    >>> format_call({'name': 'power_profile', 'kwargs': {'exponent': 1.5}})
    'schedules.power_profile(exponent=1.5)'
  """
  home = schedules if hasattr(schedules, record['name']) else optax
  parameters = inspect.signature(getattr(home, record['name'])).parameters
  kwargs = record.get('kwargs', {})
  items = [(f'{key}=', kwargs[key]) for key in parameters if key in kwargs]
  start = f'{home.__name__.split(".")[-1]}.{record["name"]}('
  return _bracketed(start, items, ')', indent)


def format_value(value: Any, indent: int = 0) -> str:
  """A kwarg as Python: a number, a string, a record, or a list of them."""
  if isinstance(value, Mapping):
    return format_call(value, indent)
  if isinstance(value, list | tuple):
    return _bracketed('[', [('', item) for item in value], ']', indent)
  return repr(value)


def format_label(value: Any) -> str:
  """A kwarg as the legend of a plot names it, a record without its keywords."""
  if not isinstance(value, Mapping):
    return format_value(value)
  values = map(format_label, value['kwargs'].values())
  return f'{value["name"]}({", ".join(values)})'


def _bracketed(
  start: str, items: list[tuple[str, Any]], end: str, indent: int
) -> str:
  """On one line if it fits, else one item a line, as a formatter would."""
  flat = ', '.join(key + format_value(value) for key, value in items)
  line = f'{start}{flat}{end}'
  if '\n' not in line and indent + len(line) < _WIDTH:
    return line
  inner = indent + 2
  lines = [
    f'{" " * inner}{key}{format_value(value, inner)},\n' for key, value in items
  ]
  return f'{start}\n{"".join(lines)}{" " * indent}{end}'
