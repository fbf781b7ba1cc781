"""Loss curves to fit laws to: every rate of a run, and the losses read."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
  """The rates of a run and the losses that were read on its way.

  Attributes:
    lrs: `[steps]`, the rate of every step from the first one on, the warm-up
      included.
    losses: `[readings]`, greater than 0.
    steps: `[readings]`, increasing: after which steps the losses were read.
      A loss of step `s` has seen the rates `lrs[: s + 1]`. None: after every
      step.
    name: what messages and tables call the curve.
    pretraining: `[steps]`, the rates of the run that this one continues;
      read by the law of continual pre-training alone.

  Raises:
    ValueError: if the rates, steps and losses do not fit one another, or one
      of them is not finite or out of range.

  Example:
    >>> curve = Curve([0.1, 0.1, 0.05], [2.0, 1.5], steps=[0, 2], name='short')
    >>> len(curve.losses), curve.steps.tolist()
    (2, [0, 2])
  """

  lrs: Any
  losses: Any
  steps: Any = None
  name: str = 'curve'
  pretraining: Any = None

  def __post_init__(self):
    lrs, losses = self._row('lrs'), self._row('losses')
    steps = np.arange(len(lrs)) if self.steps is None else self._row('steps')
    self._check(np.isfinite(lrs) & (lrs >= 0), lrs, 'lrs', 'finite and >= 0')
    self._check(
      np.isfinite(losses) & (losses > 0), losses, 'losses', 'finite and > 0'
    )
    if len(steps) != len(losses):
      raise ValueError(
        f'Curve: {self.name} has {len(losses)} losses and {len(steps)} steps; '
        'give the step of every loss.'
      )
    self._check(
      (steps == np.floor(steps)) & (steps >= 0) & (steps < len(lrs)),
      steps,
      'steps',
      f'whole and from 0 to {len(lrs) - 1}, the last that lrs has a rate for',
    )
    self._check(
      np.diff(steps, prepend=-1) > 0, steps, 'steps', 'above the one before'
    )
    values = dict(lrs=lrs, losses=losses, steps=steps.astype(np.int64))
    if self.pretraining is not None:
      before = values['pretraining'] = self._row('pretraining')
      good = np.isfinite(before) & (before >= 0)
      self._check(good, before, 'pretraining', 'finite and >= 0')
    for name, value in values.items():
      value.setflags(write=False)
      object.__setattr__(self, name, value)

  def _row(self, name: str) -> np.ndarray:
    try:
      row = np.array(getattr(self, name), np.float64)
    except (TypeError, ValueError):
      row = np.zeros((0, 0))
    if row.ndim != 1 or not row.size:
      raise ValueError(
        f'Curve: {name} of {self.name} must be a row of numbers, not empty.'
      )
    return row

  def _check(self, good: Any, row: np.ndarray, name: str, rule: str) -> None:
    bad = np.flatnonzero(~good)
    if bad.size:
      raise ValueError(
        f'Curve: {name}[{bad[0]}] of {self.name} is {row[bad[0]]:g}; it must '
        f'be {rule}.'
      )
