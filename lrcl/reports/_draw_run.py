"""The picture of one run: its curves, with those of every branch."""

from collections.abc import Sequence
import re
from typing import Any

from etils import epath
import numpy as np

from lrcl import metrics
from lrcl.reports import _records, _series, _style, _summary, _traces
from lrcl.reports._records import Record
from lrcl.reports._style import LIGHT

POINTS = 250
"""How many points of a noisy curve are shown over the whole run."""

PANELS = (
  'learning rate',
  'training loss (log scale)',
  'accuracy, tasks met so far',
  'effective learning rate',
)


def draw_branched_run(
  records: Sequence[Record],
  path: str | epath.PathLike,
  *,
  row: str | None = None,
) -> epath.Path:
  """Draws one run and its branches: learning rates, loss, accuracy.

  Args:
    records: from `read_records`.
    path: where to write; the suffix decides: `.png` or `.svg`.
    row: the contender; None takes the best one that has branches.

  Returns:
    The path.

  Raises:
    ImportError: if matplotlib is missing.
    KeyError: if the row has no records.
    ValueError: if no row has branches, or the suffix is another.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': step, 'task': 0,
    ...    'task_end': step == 4, 'num_tasks': 1,
    ...    'metrics': {'accuracy': [[0.5]]},
    ...    'trace': {'start': step - 2, 'loss': [[2.0, 1.0]],
    ...              'learning_rate': [0.2, 0.1]}}
    ...   for step in (2, 4)]
    >>> records.append(records[-1] | {
    ...   'branch': 'decay-4', 'parent': ('main', 4), 'step': 6})
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as workdir:
    ...   print(draw_branched_run(records, f'{workdir}/run.svg').name)
    run.svg
  """
  target = epath.Path(path)
  if target.suffix not in ('.png', '.svg'):
    raise ValueError(
      f'draw_branched_run: the suffix of {target.name} must be .png or .svg.'
    )
  name = row or best_branched(records)
  fig = run_figure(records, name, title=name)
  with target.open('wb') as file:
    fig.savefig(
      file,
      format=target.suffix[1:],
      dpi=160,
      metadata={'Date': None} if target.suffix == '.svg' else None,
    )
  return target


def best_branched(records: Sequence[Record]) -> str:
  """The best contender that has branches, else any row that has some."""
  for row in _summary.summarize(records):
    if len(_records.branch_names(records, row['row'])) > 1:
      return row['row']
  raise ValueError('draw_branched_run: no row has a branch besides main.')


def run_figure(records: Sequence[Record], row: str, *, title: str = '') -> Any:
  """Learning rate over loss over accuracy, all branches, one axis of steps.

  Below them, for a run with normalised layers, the effective learning rate.
  """
  names = _records.branch_names(records, row)
  effective = {n: _traces.effective_rates(records, row, n) for n in names}
  ratios = (1, 1.25, 1.25, 1) if any(effective.values()) else (1, 1.25, 1.25)
  fig = _style.new_figure('draw_branched_run', 10, 6.6 / 3.5 * sum(ratios))
  axes = fig.subplots(len(ratios), sharex=True, height_ratios=ratios)
  colors = family_colors(names)
  for name in names[::-1]:  # main is drawn last, on top
    color = colors[family(name)]
    _curves(axes, records, row, name, color)
    if rates := effective[name]:
      _band(axes[3], *_style.thin(*rates), color)
  _log_axis(axes[1])
  _accuracy_axis(axes[2])
  for ax, name in zip(axes, PANELS, strict=False):
    _style.dress(ax)
    _boundaries(ax, records, row)
    _style.label(ax, x='step' if ax is axes[-1] else '', y=name)
  for ax in (axes[0], *axes[3:]):
    ax.set_ylim(bottom=0)
  axes[0].margins(x=0.01)
  _task_names(axes[0], records, row)
  _legend(fig, colors, title)
  return fig


def family(branch: str) -> str:
  """What branches of one kind share: `decay` for `decay-200-60`."""
  return re.sub(r'([-_]?\d+)+$', '', branch) or branch


def family_colors(names: Sequence[str]) -> dict[str, str]:
  """A colour for every family of branches; main comes first."""
  families = dict.fromkeys(family(name) for name in names)
  return {name: _style.series_color(n) for n, name in enumerate(families)}


def _curves(
  axes: Any, records: Sequence[Record], row: str, name: str, color: str
) -> None:
  """One branch in the three panels, from its fork on."""
  trace = _traces.branch_trace(records, row, name, joined=False)
  if trace is not None:
    _band(axes[0], *_style.thin(trace.steps, trace.learning_rate), color)
    width = -(-last_step(records, row) // POINTS)
    steps, loss = _style.bucket(trace.steps, trace.loss, width)
    _band(axes[1], steps, loss, color, log=True)
  steps, accuracy = _series.met_accuracy(records, row, name)
  own = _from_fork(records, row, name, steps)
  steps, accuracy = _style.thin(steps[own], accuracy[:, own])
  _band(axes[2], steps, accuracy, color)
  if name != 'main':
    mean = accuracy[:, -1].mean()
    axes[2].plot(steps[-1:], [mean], 'o', color=color, markersize=4)


def _from_fork(
  records: Sequence[Record], row: str, name: str, steps: np.ndarray
) -> np.ndarray:
  """Mask of the evaluations from the fork on, so that lines are joined."""
  parent = _records.parent_of(records, row, name)
  return steps >= (-1 if parent is None else parent[1])


def last_step(records: Sequence[Record], row: str) -> int:
  """The last step that any branch of a row was evaluated at."""
  return max(r['step'] for r in records if r['row'] == row)


def _band(
  ax: Any,
  steps: np.ndarray,
  values: np.ndarray,
  color: str,
  *,
  log: bool = False,
) -> None:
  """The mean over seeds of `values[seeds, n]` and its 95% interval.

  With `log` both are taken of the logarithm, as fits a log axis.
  """
  values = np.log(np.maximum(values, 1e-8)) if log else values
  mean, half = metrics.mean_interval(values)
  shown = np.exp if log else np.asarray
  ax.plot(
    steps, shown(mean), color=color, linewidth=1.3, solid_capstyle='round'
  )
  if len(values) > 1:
    low, high = shown(mean - half), shown(mean + half)
    ax.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)


def _log_axis(ax: Any) -> None:
  """A log axis over the lines, with few and plain numbers.

  A wide band may leave the axes: it would else flatten every line.
  """
  from matplotlib import ticker

  low, high = _line_range(ax)
  if not 0 < low <= high:
    return
  low, high = low / 1.6, high * 1.6
  parts = (1, 2, 5) if high / low < 200 else (1,)
  powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))))
  ticks = [part * 10.0**power for power in powers for part in parts]
  ax.set_yscale('log')
  ax.yaxis.set_major_locator(ticker.FixedLocator(ticks))
  ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f'{y:g}'))
  ax.minorticks_off()
  ax.set_ylim(low, high)


def _accuracy_axis(ax: Any) -> None:
  """A linear axis over the lines, not above 1."""
  low, high = _line_range(ax)
  if np.isfinite(low):
    pad = max(0.02, 0.06 * (high - low))
    ax.set_ylim(max(low - pad, -0.02), min(high + pad, 1.02))


def _line_range(ax: Any) -> tuple[float, float]:
  """The lowest and highest finite value of the lines."""
  values = [np.asarray(line.get_ydata(), np.float64) for line in ax.lines]
  values = np.concatenate([np.full(1, np.nan), *values])
  values = values[np.isfinite(values)]
  if not values.size:
    return np.nan, np.nan
  return float(values.min()), float(values.max())


def boundaries(records: Sequence[Record], row: str) -> list[tuple[int, int]]:
  """`(last step, task)` of every task that ended on main."""
  series = _series.continual_series(records, row)
  ends = series.steps[list(series.ends)].tolist()
  return list(zip(ends, series.tasks, strict=True))


def _boundaries(ax: Any, records: Sequence[Record], row: str) -> None:
  for step, _ in boundaries(records, row)[:-1]:
    ax.axvline(step, color=LIGHT['muted'], linewidth=0.6, linestyle=(0, (2, 3)))


def _task_names(ax: Any, records: Sequence[Record], row: str) -> None:
  """`task 0`, `task 1`, ... over the stretches of steps."""
  ends = boundaries(records, row)
  if not 1 < len(ends) <= 20:
    return
  start, word = 0, 'task ' if len(ends) <= 12 else ''
  for step, task in ends:
    ax.text(
      (start + step) / 2,
      1.02,
      f'{word}{task}',
      transform=ax.get_xaxis_transform(),
      ha='center',
      va='bottom',
      fontsize=8.5,
      color=LIGHT['muted'],
    )
    start = step


def _legend(fig: Any, colors: dict[str, str], title: str) -> None:
  from matplotlib import lines

  handles = [
    lines.Line2D([], [], color=c, linewidth=2) for c in colors.values()
  ]
  names = [name if name == 'main' else f'{name} branches' for name in colors]
  legend = fig.legend(
    handles,
    [_style.plain(name) for name in names],
    loc='outside upper left',
    ncols=len(names),
    frameon=False,
    fontsize=9,
    labelcolor=LIGHT['ink'],
    title=_style.plain(title) or None,
    alignment='left',
    title_fontproperties={'size': 10.5, 'weight': 'bold'},
  )
  legend.get_title().set_color(LIGHT['ink'])
