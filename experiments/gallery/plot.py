"""One plot of the gallery: a schedule over its steps, and what it was fed."""

from collections.abc import Mapping
import re
from typing import Any

import numpy as np

from lrcl.reports import _style
from lrcl.reports._style import DARK, LIGHT

_DASHES = ('-', (0, (5, 1.5)), (0, (1.5, 1)), (0, (7, 1.5, 1.5, 1.5)))


def draw(
  lines: Mapping[str, np.ndarray],
  fed: Mapping[str, np.ndarray],
  *,
  x: str = 'step',
  legend: str = '',
) -> Any:
  """The plot as a figure.

  Args:
    lines: values over the steps, by label.
    fed: the extra args over the steps, by name. A task is marked in the plot,
      everything else has a panel of its own beneath it.
    x: what the horizontal axis counts.
    legend: the title of the lines' legend; without one there is no legend.
  """
  panels = {key: values for key, values in fed.items() if key != 'task_id'}
  axes = _new_axes(len(panels))
  _draw_lines(axes[0], lines, legend)
  if 'task_id' in fed:
    _mark_tasks(axes[0], fed['task_id'])
  for ax, (key, values) in zip(axes[1:], panels.items(), strict=True):
    ax.plot(values, color=LIGHT['muted'], linewidth=1)
    ax.set_ylabel(key, color=LIGHT['muted'], fontsize=9)
  axes[-1].set_xlabel(x, color=LIGHT['muted'], fontsize=9)
  return axes[0].figure


def _new_axes(panels: int) -> np.ndarray:
  """Axes at the same place in every plot, with room for a legend."""
  height = 2.1 + 0.8 * panels
  fig = _style.new_figure('draw', 7.5, height)
  fig.set_layout_engine('none')
  room = {'top': 1 - 0.22 / height, 'bottom': 0.44 / height}
  axes = fig.subplots(
    1 + panels,
    sharex=True,
    squeeze=False,
    gridspec_kw={'left': 0.07, 'right': 0.71, 'hspace': 0.25, **room},
    height_ratios=(2.2, *[1] * panels),
  )[:, 0]
  for ax in axes:
    _style.dress(ax)
    ax.margins(x=0.01)
    ax.locator_params(axis='y', nbins=3)
  return axes


def _draw_lines(ax: Any, lines: Mapping[str, np.ndarray], legend: str) -> None:
  for n, (label, values) in enumerate(lines.items()):
    ax.plot(
      values,
      color=_style.series_color(n),
      linestyle=_DASHES[n % len(_DASHES)],
      linewidth=1.5,
      label=label,
    )
  ax.set_ylim(bottom=0)
  if not legend:
    return
  box = ax.legend(
    title=legend,
    loc='center left',
    bbox_to_anchor=(1.01, 0.5),
    frameon=False,
    fontsize=8.5,
    labelcolor=LIGHT['ink'],
    handlelength=2.4,
    alignment='left',
    title_fontsize=8.5,
  )
  box.get_title().set_color(LIGHT['muted'])


def _mark_tasks(ax: Any, tasks: np.ndarray) -> None:
  """A dotted line where the task changes, and its number above each."""
  starts = [0, *np.flatnonzero(np.diff(tasks)) + 1]
  for start, end in zip(starts, [*starts[1:], len(tasks)], strict=True):
    if start:
      ax.axvline(start, color=LIGHT['muted'], linewidth=0.7, linestyle=':')
    ax.text(
      (start + end) / 2,
      1.02,
      f'task {tasks[start]}',
      transform=ax.get_xaxis_transform(),
      ha='center',
      va='bottom',
      fontsize=8.5,
      color=LIGHT['muted'],
    )


def to_file(fig: Any, name: str) -> str:
  """The figure as an SVG file of its own, in the light of its reader.

  Every colour stays in place for viewers that know no style sheets; one sheet
  replaces them where the reader prefers a dark page.
  """
  svg = _style.to_svg(fig, name, name.replace('_', ' '))
  rules = []
  for color, value in LIGHT.items():
    svg = svg.replace(f'var(--{color})', value)
    for kind in ('fill', 'stroke'):
      if f'{kind}: {value}' in svg:
        rules.append(
          f'[style*="{kind}: {value}"]{{{kind}:{DARK[color]}!important}}'
        )
  sheet = f'svg{{background:{LIGHT["surface"]}}}@media'
  sheet += f'(prefers-color-scheme:dark){{svg{{background:{DARK["surface"]}}}'
  sheet += ''.join(rules) + '}'
  end = svg.index('>') + 1
  body = f'<style>{sheet}</style>\n{svg[end:]}'
  return f'{svg[:end]}\n{_shrink(body).strip()}\n'


def _shrink(svg: str) -> str:
  """Short decimals, one font for all, no indentation: a third of the bytes."""
  # Coordinates only: the labels of the axes keep their digits.
  svg = re.sub(r'(\d\.\d\d)\d+(?![^<>]*</text>)', r'\1', svg)
  svg = re.sub(
    r"font-family: '[^;]*, sans-serif", 'font-family: sans-serif', svg
  )
  return re.sub(r'\s*\n\s*', '\n', svg)
