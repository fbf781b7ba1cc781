"""Metrics of continual evaluation: how low a task falls between its ends.

`accuracy[n, j]` is the accuracy on task j at the n-th evaluation, and
`task_ends` lists, in the order of training, the row n of the evaluation at the
end of each task. Leading axes (seeds, for one) are kept. A finer evaluation
can only lower a minimum, so rows are comparable only at one interval.
"""

from collections.abc import Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np

from lrcl.metrics._arrays import Array, as_float, namespace, undefined


def min_accuracy(accuracy: Any, task_ends: Sequence[int]) -> Array:
  """Mean over the earlier tasks of their lowest accuracy since they ended.

  With k task ends and t the last of them:
  `min-ACC = 1/(k-1) sum_{i<k} min_{t_i < n <= t} a_i(n)`. The minimum starts
  strictly after the end of task i, and the current task k takes no part.

  Args:
    accuracy: `[..., n, T]`, accuracy on every task at every evaluation.
    task_ends: k <= T rows, increasing: where each task's training ended.

  Returns:
    An array `[...]`; NaN where there is one task only.

  Raises:
    ValueError: if the shape or the rows make no sense.

  Example:
    >>> series = [[0.9, 0.0], [0.4, 0.5], [0.7, 0.8]]
    >>> float(min_accuracy(series, [0, 2]))
    0.4

  References:
    De Lange et al., `Continual evaluation for lifelong learning: identifying
    the stability gap <https://arxiv.org/abs/2205.13452>`_, 2023. Formula
    unconfirmed (from memory of the paper and its repository).
  """
  a, ends = _checked('min_accuracy', accuracy, task_ends)
  if len(ends) == 1:
    return undefined(a, 2)
  last = ends[-1] + 1
  lowest = [
    a[..., end + 1 : last, task].min(-1) for task, end in enumerate(ends[:-1])
  ]
  return namespace(a).stack(lowest, -1).mean(-1)


def worst_case_accuracy(accuracy: Any, task_ends: Sequence[int]) -> Array:
  """The newest task's accuracy together with the lowest of the others.

  With k task ends and t the last of them:
  `WC-ACC = 1/k a_k(t) + (1 - 1/k) min-ACC`; for one task it is `a_1(t)`.

  Args:
    accuracy: `[..., n, T]`, accuracy on every task at every evaluation.
    task_ends: k <= T rows, increasing: where each task's training ended.

  Returns:
    An array `[...]`.

  Raises:
    ValueError: if the shape or the rows make no sense.

  Example:
    >>> series = [[0.9, 0.0], [0.4, 0.5], [0.7, 0.8]]
    >>> round(float(worst_case_accuracy(series, [0, 2])), 6)
    0.6

  References:
    De Lange et al., `Continual evaluation for lifelong learning: identifying
    the stability gap <https://arxiv.org/abs/2205.13452>`_, 2023. Formula
    unconfirmed (from memory of the paper and its repository).
  """
  a, ends = _checked('worst_case_accuracy', accuracy, task_ends)
  tasks = len(ends)
  newest = a[..., ends[-1], tasks - 1]
  if tasks == 1:
    return newest
  return newest / tasks + (1 - 1 / tasks) * min_accuracy(a, ends)


class StabilityGap(NamedTuple):
  """The gap after each of the k - 1 switches, arrays `[..., k - 1]`.

  Attributes:
    drop: from the level at the switch down to the lowest point before the end
      of the next task. Contains what is forgotten for good.
    depth: the part of it that comes back by itself: from the lower one of the
      levels at both ends down to the lowest point, at least 0.
    recovery_steps: from the switch until that lower level is reached again
      after the lowest point; 0 where there is no gap.
  """

  drop: Array
  depth: Array
  recovery_steps: Array


def stability_gap(
  accuracy: Any,
  task_ends: Sequence[int],
  *,
  steps: Any = None,
  tolerance: float = 0.01,
) -> StabilityGap:
  """Depth and length of the transient loss that follows each task switch.

  For the switch after task k, `m(n)` is the mean accuracy over the tasks
  `1..k` at evaluation n, and n runs over `t_k < n <= t_{k+1}`:

  * `drop = m(t_k) - min_n m(n)`, at least 0;
  * `level = min(m(t_k), m(t_{k+1}))`;
  * `depth = level - min_n m(n)`, at least 0;
  * `recovery_steps = steps[n*] - steps[t_k]`, with n* the first evaluation at
    or after the minimum where `m(n*) >= level - tolerance`; 0 where
    `depth <= tolerance`. It is never undefined, since `m(t_{k+1}) >= level`.

  The definitions are this library's own. They keep a gap, which closes, apart
  from forgetting, which does not: a learner that loses the old tasks and never
  regains them has a drop and no gap.

  Args:
    accuracy: `[..., n, T]`, accuracy on every task at every evaluation.
    task_ends: k <= T rows, increasing: where each task's training ended.
    steps: `[n]`, the training step of each evaluation; None counts
      evaluations.
    tolerance: how much below the level counts as recovered.

  Returns:
    A `StabilityGap` of arrays `[..., k - 1]`, empty for one task.

  Raises:
    ValueError: if the shapes or the rows make no sense.

  Example:
    >>> series = [[0.9, 0.0], [0.4, 0.5], [0.8, 0.7], [0.8, 0.8]]
    >>> gap = stability_gap(series, [0, 3], steps=[100, 110, 120, 130])
    >>> [round(float(x[0]), 6) for x in gap]
    [0.5, 0.4, 20.0]

  References:
    The phenomenon is that of De Lange et al., `Continual evaluation for
    lifelong learning: identifying the stability gap
    <https://arxiv.org/abs/2205.13452>`_, 2023; the definition is LRCL's own.
  """
  a, ends = _checked('stability_gap', accuracy, task_ends)
  clock = np.arange(a.shape[-2]) if steps is None else np.asarray(steps)
  if clock.shape != a.shape[-2:-1]:
    raise ValueError(
      f'stability_gap: steps has shape {clock.shape}; it must be '
      f'{a.shape[-2:-1]}, one step per evaluation.'
    )
  xp = namespace(a)
  if len(ends) == 1:
    none = xp.zeros((*a.shape[:-2], 0), a.dtype)
    return StabilityGap(none, none, none)
  pairs = itertools.pairwise(ends)
  gaps = []
  for task, (start, end) in enumerate(pairs):
    mean = a[..., start : end + 1, : task + 1].mean(-1)
    gaps.append(_switch(mean, clock[start : end + 1], tolerance))
  return StabilityGap(*[xp.stack(part, -1) for part in zip(*gaps, strict=True)])


def _switch(mean: Any, clock: np.ndarray, tolerance: float) -> tuple[Any, ...]:
  """Drop, depth and recovery of `mean[..., n]`, from one task end to the next.

  The first entry is the level at the switch.
  """
  xp = namespace(mean)
  before, after, path = mean[..., 0], mean[..., -1], mean[..., 1:]
  level, lowest = xp.minimum(before, after), path.min(-1)
  depth = xp.maximum(level - lowest, 0.0)
  later = np.arange(path.shape[-1])
  shaped = lambda x: xp.broadcast_to(x, path.shape)
  back = shaped(later) >= shaped(path.argmin(-1)[..., None])
  back = back & (path >= shaped((level - tolerance)[..., None]))
  waited = xp.asarray((clock[1:] - clock[0]).astype(mean.dtype))
  recovery = waited[back.argmax(-1)]
  recovery = xp.where(depth > tolerance, recovery, xp.zeros_like(recovery))
  return xp.maximum(before - lowest, 0.0), depth, recovery


def _checked(
  where: str, accuracy: Any, task_ends: Sequence[int]
) -> tuple[Any, list[int]]:
  """The series as floats and the rows as ints, both checked."""
  a = as_float(accuracy)
  if a.ndim < 2:
    raise ValueError(
      f'{where}: accuracy has shape {a.shape}; it must be [..., n, T]: '
      'evaluations by tasks.'
    )
  ends = [int(end) for end in task_ends]
  if not 1 <= len(ends) <= a.shape[-1]:
    raise ValueError(
      f'{where}: task_ends has {len(ends)} rows; there must be 1 to '
      f'{a.shape[-1]}, at most one per task.'
    )
  rising = all(x < y for x, y in itertools.pairwise(ends))
  if not rising or ends[0] < 0 or ends[-1] >= a.shape[-2]:
    raise ValueError(
      f'{where}: task_ends is {ends}; the rows must increase and lie in '
      f'0..{a.shape[-2] - 1}.'
    )
  return a, ends
