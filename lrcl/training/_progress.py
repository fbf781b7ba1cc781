"""A progress bar on a terminal, and nothing anywhere else."""

import sys
import time
from typing import Any


class Progress:
  """Shows the step, task, learning rate, loss, steps/s and the time left.

  Off unless standard error is a terminal and `rich` is installed.

  Args:
    total: the step at which the run ends.
    start: the step at which it begins.
    label: what is being trained, `row/branch` say.
    enabled: True or False to insist.
  """

  def __init__(
    self, total: int, start: int, label: str = '', enabled: bool | None = None
  ):
    if enabled is None:
      enabled = sys.stderr.isatty()
    self._bar = _make_bar(label, total, start) if enabled else None
    self._start = (time.monotonic(), start)

  def __enter__(self) -> 'Progress':
    if self._bar is not None:
      self._bar[0].start()
    return self

  def __exit__(self, *exc: Any) -> None:
    if self._bar is not None:
      self._bar[0].stop()

  def update(self, step: int, task: int, rate: float, loss: float) -> None:
    """Shows the state of the run after `step` steps."""
    if self._bar is None:
      return
    bar, bar_task = self._bar
    began, first = self._start
    speed = (step - first) / max(time.monotonic() - began, 1e-9)
    text = f'task {task}  rate {rate:.3g}  loss {loss:.3g}  {speed:.0f} steps/s'
    bar.update(bar_task, completed=step, info=text)


def _make_bar(label: str, total: int, start: int) -> Any:
  """A rich bar and its one task; None where rich is not installed."""
  try:
    from rich import console, progress
  except ImportError:
    return None
  bar = progress.Progress(
    progress.TextColumn('{task.description}'),
    progress.BarColumn(bar_width=24),
    progress.MofNCompleteColumn(),
    progress.TextColumn('{task.fields[info]}'),
    progress.TimeRemainingColumn(),
    console=console.Console(stderr=True),
    transient=True,
  )
  return bar, bar.add_task(label, total=total, completed=start, info='')
