"""Arrays out of records: what was recorded at every step of a branch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrcl.reports import _records, _series
from lrcl.reports._records import Record


class Trace(NamedTuple):
  """What was recorded at every step along a branch.

  Attributes:
    steps: `[n]`, counted from 0: the step at which the loss was taken.
    loss: `[seeds, n]`.
    learning_rate: `[1, n]`, or `[seeds, n]` where it differs by seed.
  """

  steps: np.ndarray
  loss: np.ndarray
  learning_rate: np.ndarray


def branch_trace(
  records: Sequence[Record],
  row: str,
  branch: str = 'main',
  *,
  joined: bool = True,
) -> Trace | None:
  """Loss and learning rate at every recorded step of a branch.

  Args:
    records: from `read_records`.
    row: the contender.
    branch: its branch.
    joined: whether the ancestors' steps up to the forks come first.

  Returns:
    A `Trace`, or None where no record holds one.

  Raises:
    KeyError: if the branch has no records.

  Example:
    >>> records = [
    ...   {'row': 'ER', 'branch': 'main', 'step': step, 'task': 0,
    ...    'task_end': step == 4, 'num_tasks': 1,
    ...    'metrics': {'accuracy': [[0.5]]},
    ...    'trace': {'start': step - 2, 'loss': [[2.0, 1.0]],
    ...              'learning_rate': [0.2, 0.1]}}
    ...   for step in (2, 4)]
    >>> trace = branch_trace(records, 'ER')
    >>> trace.steps.tolist(), trace.loss.tolist()
    ([0, 1, 2, 3], [[2.0, 1.0, 2.0, 1.0]])
  """
  _records.select(records, row, branch)
  path = _series.lineage(records, row, branch)
  parts = []
  for name, until in path if joined else path[-1:]:
    for record in _records.select(records, row, name):
      parts += _steps_of(record.get('trace'), until)
  if not parts:
    return None
  steps, loss, rate = zip(*parts, strict=True)
  widest = max(len(x) for x in rate)
  rate = [np.broadcast_to(x, (widest, x.shape[1])) for x in rate]
  return _unique(np.concatenate(steps), np.hstack(loss), np.hstack(rate))


def _steps_of(trace: Any, until: int | None) -> list[tuple]:
  """Steps, losses and rates of one record, before the step `until`."""
  if not trace or not trace.get('loss'):
    return []
  loss = np.atleast_2d(np.asarray(trace['loss'], np.float64))
  steps = int(trace['start']) + np.arange(loss.shape[-1])
  rate = _rates(trace.get('learning_rate'), len(steps))
  keep = slice(None if until is None else max(0, until - int(trace['start'])))
  return [(steps[keep], loss[:, keep], rate[:, keep])]


def _rates(values: Any, length: int) -> np.ndarray:
  if values is None:
    return np.full((1, length), np.nan)
  return np.atleast_2d(np.asarray(values, np.float64))


def _unique(steps: np.ndarray, loss: np.ndarray, rate: np.ndarray) -> Trace:
  """A trace with each step once, as recorded last."""
  steps, index = np.unique(steps[::-1], return_index=True)
  pick: Callable[[np.ndarray], np.ndarray] = lambda x: x[:, ::-1][:, index]
  return Trace(steps, pick(loss), pick(rate))


def effective_rates(
  records: Sequence[Record], row: str, branch: str = 'main'
) -> tuple[np.ndarray, np.ndarray] | None:
  """The effective learning rate at each evaluation of a branch.

  Returns:
    `(steps[n], rates[seeds, n])`, the geometric mean over the weights; None
    where no record holds one that is a number.

  Raises:
    KeyError: if the branch has no records.
  """
  found = [
    record
    for record in _records.select(records, row, branch)
    if record.get('effective_learning_rate')
  ]
  if not found:
    return None
  values = [list(r['effective_learning_rate'].values()) for r in found]
  rates = np.asarray(values, np.float64)  # [n, weights] or [n, weights, seeds]
  with np.errstate(divide='ignore'):  # a rate of 0 is 0 again
    mean = np.exp(np.log(rates).mean(1))
  if not np.isfinite(mean).any():
    return None
  return np.array([r['step'] for r in found]), np.atleast_2d(mean.T)
