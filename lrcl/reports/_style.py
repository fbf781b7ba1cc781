"""The look of the figures: one palette in two lights, and SVG for a page.

A figure is drawn in the light palette. For a page every colour is then
replaced by a CSS variable, so that one drawing serves light and dark.
"""

import io
import re
from typing import Any

import numpy as np

LIGHT = {
  'ink': '#1f2328',
  'muted': '#656d76',
  'line': '#d0d7de',
  'surface': '#fefefe',
  'blue': '#0072b2',
  'orange': '#d55e00',
  'green': '#009e73',
  'purple': '#a5508f',
  'yellow': '#b8860b',
  'sky': '#3a9bd9',
}
"""Colours by name; the hues are those of Okabe and Ito, safe for the
colour-blind, some of them darker so that thin lines show on white."""

DARK = {
  'ink': '#e6e9ed',
  'muted': '#9aa4af',
  'line': '#3b434c',
  'surface': '#15191e',
  'blue': '#58aeea',
  'orange': '#ff9248',
  'green': '#35c99d',
  'purple': '#dd8fc9',
  'yellow': '#e5b93c',
  'sky': '#9bd5ff',
}

SERIES = ('blue', 'orange', 'green', 'purple', 'yellow', 'sky')
"""The order in which lines take their colours."""


def series_color(n: int) -> str:
  """The colour of the n-th line; they come round again after six."""
  return LIGHT[SERIES[n % len(SERIES)]]


def new_figure(where: str, width: float, height: float) -> Any:
  """An empty figure in inches, free of pyplot and its global state.

  Raises:
    ImportError: if matplotlib is missing; says how to get it.
  """
  try:
    from matplotlib import figure
  except ImportError as error:
    raise ImportError(
      f'{where}: matplotlib is not installed; install it with: pip install '
      "'lrcl[experiments]'."
    ) from error
  return figure.Figure(
    figsize=(width, height),
    facecolor=LIGHT['surface'],
    layout='constrained',
  )


def dress(ax: Any, *, grid: bool = True) -> None:
  """Axes without a box: two thin spines, small ticks, a faint grid."""
  ax.set_facecolor('none')
  for side in ('top', 'right'):
    ax.spines[side].set_visible(False)
  for side in ('left', 'bottom'):
    ax.spines[side].set_color(LIGHT['line'])
  ax.tick_params(
    which='both', colors=LIGHT['muted'], labelsize=8.5, length=3, width=0.6
  )
  ax.minorticks_off()
  if grid:
    ax.grid(axis='y', color=LIGHT['line'], linewidth=0.5)
    ax.set_axisbelow(True)


def label(ax: Any, *, x: str = '', y: str = '', title: str = '') -> None:
  """Axis labels and a title at the left, in the page's colours."""
  ax.set_xlabel(plain(x), color=LIGHT['muted'], fontsize=9)
  ax.set_ylabel(plain(y), color=LIGHT['muted'], fontsize=9)
  if title:
    ax.set_title(
      plain(title), color=LIGHT['ink'], fontsize=9.5, loc='left', pad=8
    )


def plain(text: str) -> str:
  """Text that matplotlib takes as it stands: no dollar starts a formula."""
  return text.replace('$', r'\$')


def to_svg(fig: Any, name: str, description: str) -> str:
  """The figure as an `<svg>` element for a page.

  Args:
    fig: a figure that was drawn in `LIGHT`.
    name: makes the ids inside the drawing unique on the page.
    description: what a screen reader says.
  """
  import matplotlib as mpl

  buffer = io.StringIO()
  with mpl.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'lrcl'}):
    fig.savefig(
      buffer,
      format='svg',
      transparent=True,
      metadata={'Date': None, 'Creator': None, 'Format': None, 'Type': None},
    )
  text = buffer.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  text = re.sub(r'(\sid="|url\(#|href="#)', rf'\1{name}-', text)
  for color, value in LIGHT.items():
    text = text.replace(value, f'var(--{color})')
  return _headed(text, description)


def _headed(svg: str, description: str) -> str:
  """Sets the opening tag: no fixed size, and a name for what is drawn."""
  from html import escape

  found = re.search(r'viewBox="([^"]+)"', svg)
  box = found.group(1) if found else '0 0 1 1'
  end = svg.index('>') + 1
  head = (
    f'<svg viewBox="{box}" role="img" aria-label="{escape(description)}" '
    'xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink">'
  )
  return head + svg[end:].strip()


def thin(
  steps: np.ndarray, values: np.ndarray, points: int = 300
) -> tuple[np.ndarray, np.ndarray]:
  """Every so many entries of `values[..., n]`, the first and last among them.

  For smooth curves: what is shown was really there.
  """
  if len(steps) <= points:
    return steps, values
  pick = np.linspace(0, len(steps) - 1, points).round().astype(int)
  return steps[pick], values[..., pick]


def bucket(
  steps: np.ndarray, values: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
  """Means of `values[..., n]` over runs of `width` steps, for noisy curves."""
  if width <= 1:
    return steps, values
  starts = np.arange(0, len(steps), width)
  counts = np.diff(np.append(starts, len(steps)))
  mean = lambda x: np.add.reduceat(x, starts, axis=-1) / counts
  return mean(steps.astype(np.float64)), mean(values)
