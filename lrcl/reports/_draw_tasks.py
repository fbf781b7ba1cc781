"""Pictures of the tasks: the accuracy matrix and the stability gap."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrcl.reports import _series, _style
from lrcl.reports._records import Record
from lrcl.reports._style import LIGHT


def matrix_figure(records: Sequence[Record], row: str) -> Any:
  """The accuracy matrix as a heat map with numbers, before and after decay."""
  panels = [('before the decay', _series.accuracy_matrix(records, row))]
  if _series.decay_branches(records, row):
    panels.append(('after the decay', _series.decayed_matrix(records, row)))
  else:
    panels = [('', panels[0][1])]
  tasks = panels[0][1].shape[-1]
  side = min(4.0, 0.5 + 0.38 * tasks)
  fig = _style.new_figure('write_report', 0.3 + side * len(panels), side + 0.5)
  axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
  for ax, (title, matrix) in zip(axes, panels, strict=True):
    _heat(ax, matrix.mean(0))
    _style.label(ax, x='accuracy on task', title=title)
  _style.label(
    axes[0], x='accuracy on task', y='after task', title=panels[0][0]
  )
  return fig


def _heat(ax: Any, matrix: np.ndarray) -> None:
  """Cells in one hue, the stronger the higher; unmet tasks are bare."""
  from matplotlib import patches

  tasks = len(matrix)
  for i, j in np.ndindex(matrix.shape):
    value = float(matrix[i, j])
    if np.isnan(value):
      continue
    met = j <= i
    if met:
      ax.add_patch(
        patches.Rectangle(
          (j - 0.48, i - 0.48),
          0.96,
          0.96,
          facecolor=LIGHT['blue'],
          alpha=min(1.0, 0.06 + 0.94 * value),
          linewidth=0,
        )
      )
    if tasks <= 12:
      _number(ax, j, i, value, met)
  _style.dress(ax, grid=False)
  for spine in ax.spines.values():
    spine.set_visible(False)
  ax.tick_params(length=0)
  every = -(-tasks // 12)
  ax.set_xticks(range(0, tasks, every))
  ax.set_yticks(range(0, tasks, every))
  ax.set_xlim(-0.5, tasks - 0.5)
  ax.set_ylim(tasks - 0.5, -0.5)
  ax.set_aspect('equal')


def _number(ax: Any, x: int, y: int, value: float, met: bool) -> None:
  strong = LIGHT['surface'] if value > 0.6 else LIGHT['ink']
  ax.text(
    x,
    y,
    f'{value:.2f}',
    ha='center',
    va='center',
    fontsize=8.5,
    color=strong if met else LIGHT['muted'],
  )


def gap_figure(records: Sequence[Record], row: str) -> Any:
  """Accuracy of every task over the steps; the minima since the task ends."""
  series = _series.continual_series(records, row)
  fig = _style.new_figure('write_report', 10, 2.9)
  ax = fig.subplots()
  first = 0
  for n, (end, task) in enumerate(zip(series.ends, series.tasks, strict=True)):
    color = _style.series_color(n)
    _task_line(ax, series.steps, series.accuracy[..., task], first, end, color)
    if end < series.ends[-1]:
      _lowest(ax, series, task, end, color)
      ax.axvline(
        series.steps[end],
        color=LIGHT['muted'],
        linewidth=0.6,
        linestyle=(0, (2, 3)),
      )
    first = end
  _style.dress(ax)
  ax.set_ylim(-0.02, 1.04)
  ax.margins(x=0.01)
  _style.label(ax, x='step', y='accuracy on each task')
  _names(ax, series)
  return fig


def _task_line(
  ax: Any,
  steps: np.ndarray,
  accuracy: np.ndarray,
  first: int,
  end: int,
  color: str,
) -> None:
  """Thin while the task is trained, full with a band once it is over.

  The band is the range over seeds: with few seeds the intervals of many tasks
  would hide one another.
  """
  mean = accuracy.mean(0)
  start, learnt = slice(first, end + 1), slice(end, None)
  ax.plot(steps[start], mean[start], color=color, linewidth=0.9, alpha=0.55)
  x, y = _style.thin(steps[learnt], accuracy[:, learnt])
  ax.plot(x, y.mean(0), color=color, linewidth=1.5)
  if len(y) > 1:
    ax.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.13, linewidth=0)


def _lowest(
  ax: Any, series: _series.Series, task: int, end: int, color: str
) -> None:
  """A triangle at the lowest mean accuracy of a task since it ended."""
  mean = series.accuracy[:, : series.ends[-1] + 1, task].mean(0)
  low = end + 1 + int(mean[end + 1 :].argmin())
  ax.plot(
    series.steps[low],
    mean[low] - 0.035,
    marker='^',
    color=color,
    markersize=6,
    linestyle='none',
    clip_on=False,
  )


def _names(ax: Any, series: _series.Series) -> None:
  """The tasks' names in their colours over the stretches they train in."""
  if len(series.ends) > 20:
    return
  start, word = 0, 'task ' if len(series.ends) <= 12 else ''
  for n, (end, task) in enumerate(zip(series.ends, series.tasks, strict=True)):
    ax.text(
      (start + series.steps[end]) / 2,
      1.02,
      f'{word}{task}',
      transform=ax.get_xaxis_transform(),
      ha='center',
      va='bottom',
      fontsize=8.5,
      color=_style.series_color(n),
    )
    start = series.steps[end]
