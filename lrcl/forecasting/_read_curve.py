"""Curves out of files, and rates for the steps that a file does not hold."""

import csv
import os
from typing import Any

import numpy as np
import optax

from lrcl.base import check_steps
from lrcl.forecasting._curves import Curve

_COLUMNS = ('step', 'lr', 'loss')


def read_curve(
  path: str | os.PathLike[str],
  *,
  schedule: optax.Schedule | None = None,
  warmup_steps: int | None = None,
) -> Curve:
  r"""Reads a loss curve from a CSV file with columns step, lr and loss.

  A law wants the rate of every step. Where the file has not a line for every
  one, they are taken from `schedule`, which is exact; without it they are
  interpolated: linearly between two lines, and before the first line as its
  rate, after a linear warm-up from 0 that reaches it with the last of
  `warmup_steps`. A jump between two lines becomes a slope.

  Args:
    path: the file; its first line names the columns, in any order, and others
      are ignored.
    schedule: the rate of every step, from step 0 on.
    warmup_steps: how many steps the warm-up took, where no schedule is given
      and the file begins after it. None is 0, unless the file begins later than
      its first two lines lie apart: then it leaves its warm-up out, and that is
      taken to last until the first line.

  Returns:
    A `Curve` with the file's name, less its suffix.

  Raises:
    ValueError: if the file is no such table, a number is not one, steps do not
      increase, a loss is not greater than 0, or the file's rates are not those
      of the schedule; names the file, the line and the rule.

  Example:
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), 'short.csv')
    >>> _ = file.write_text('step,lr,loss\n2,0.2,3.5\n4,0.1,3.0\n')
    >>> print(read_curve(file, warmup_steps=2).lrs)
    [0.   0.2  0.2  0.15 0.1 ]
  """
  where = f'read_curve: {os.fspath(path)}'
  if warmup_steps is not None:
    warmup_steps = check_steps('read_curve', 'warmup_steps', warmup_steps)
  steps, rates, losses = _columns(where, path)
  _check_table(where, steps, rates, losses)
  if warmup_steps is None:
    late = steps[0] > steps[1] - steps[0]
    warmup_steps = int(steps[0]) if late else 0
  if schedule is None:
    lrs = _interpolated(where, steps, rates, warmup_steps)
  else:
    lrs = np.asarray(schedule(np.arange(steps[-1] + 1)), np.float64)
    _check_rates(where, lrs, steps, rates)
  name = os.path.splitext(os.path.basename(os.fspath(path)))[0]
  return Curve(lrs, losses, steps, name)


def _columns(where: str, path: Any) -> tuple[np.ndarray, ...]:
  """Steps, rates and losses as they stand in the file."""
  with open(path, newline='', encoding='utf-8-sig') as file:
    lines = list(csv.reader(file))
  names = [name.strip().lower() for name in lines[0]] if lines else []
  missing = [name for name in _COLUMNS if name not in names]
  if missing:
    raise ValueError(
      f'{where}: the first line names no column {", ".join(missing)}; it must '
      'name step, lr and loss.'
    )
  places = [names.index(name) for name in _COLUMNS]
  rows = []
  for number, line in enumerate(lines[1:], 2):
    if line:
      try:
        rows.append([float(line[place]) for place in places])
      except (IndexError, ValueError):
        raise ValueError(
          f'{where}, line {number}: {",".join(line)!r} does not give a number '
          'for each of step, lr and loss.'
        ) from None
  if len(rows) < 2:
    raise ValueError(f'{where} has {len(rows)} losses; it takes at least 2.')
  return tuple(np.array(rows).T)


def _check_table(where: str, steps: Any, rates: Any, losses: Any) -> None:
  before = np.concatenate([[-1], steps[:-1]])
  rules = [
    ('step', steps, (steps == np.floor(steps)) & (steps < 2**31), 'whole'),
    ('step', steps, steps > before, '>= 0 and above the one before'),
    ('lr', rates, np.isfinite(rates) & (rates >= 0), 'finite and >= 0'),
    ('loss', losses, np.isfinite(losses) & (losses > 0), 'finite and > 0'),
  ]
  for name, column, good, rule in rules:
    bad = np.flatnonzero(~good)
    if bad.size:
      raise ValueError(
        f'{where}, loss {bad[0] + 1}: {name} is {column[bad[0]]:g}; it must be '
        f'{rule}.'
      )


def _interpolated(
  where: str, steps: np.ndarray, rates: np.ndarray, warmup_steps: int
) -> np.ndarray:
  """The rate of every step: the warm-up, its end, and between the lines."""
  lrs = np.interp(np.arange(steps[-1] + 1), steps, rates)
  if warmup_steps > steps[0]:
    raise ValueError(
      f'{where}: warmup_steps is {warmup_steps} and the first loss is of step '
      f'{steps[0]:g}; within the warm-up the file itself gives the rates.'
    )
  lrs[:warmup_steps] = np.linspace(0.0, rates[0], warmup_steps)
  return lrs


def _check_rates(
  where: str, lrs: np.ndarray, steps: np.ndarray, rates: np.ndarray
) -> None:
  given = lrs[steps.astype(int)]
  bad = np.flatnonzero(np.abs(given - rates) > 1e-3 * lrs.max())
  if bad.size:
    step = steps[bad[0]]
    raise ValueError(
      f'{where}: lr is {rates[bad[0]]:g} at step {step:g}, where the schedule '
      f'has {given[bad[0]]:g}; the schedule must be that of the run.'
    )
