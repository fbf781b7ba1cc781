"""Metrics that are gathered step by step, inside a scan, and can be merged.

Each is a NamedTuple of arrays of fixed size with three parts: `empty(...)`,
`update(...)` or `of(...)` for what is new, `merge(other)` for what came after,
and `compute()`. Merging is associative with `empty` as its unit, so that a
stretch of evaluations may be cut anywhere, on devices or in time. Where the
order matters, `other` is the later stretch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrcl.base import check_steps


class RunningMean(NamedTuple):
  """A weighted mean of anything, such as accuracy by task or class.

  Attributes:
    total: `[...]` float32, the weighted sum.
    weight: `[...]` float32.

  Example:
    >>> mean = RunningMean.empty((2,))
    >>> right, task = jnp.array([1.0, 0.0, 1.0]), jnp.array([0, 1, 0])
    >>> mean = mean.update(right, group=task)
    >>> mean.compute().tolist()
    [1.0, 0.0]
  """

  total: jax.Array
  weight: jax.Array

  @classmethod
  def empty(cls, shape: tuple[int, ...] = ()) -> 'RunningMean':
    """Nothing yet."""
    return cls(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))

  def update(
    self,
    values: jax.Array,
    weight: jax.Array | None = None,
    group: jax.Array | None = None,
  ) -> 'RunningMean':
    """Adds rows.

    Args:
      values: `[rows]`.
      weight: `[rows]`; None: 1.
      group: `[rows]` int32, the entry of `total` that each row belongs to, for
        a mean of shape `[groups]`. A group out of range counts nowhere.
    """
    values = values.astype(jnp.float32)
    weight = jnp.ones_like(values) if weight is None else weight
    weight = weight.astype(jnp.float32)
    # A value that weighs nothing may be anything, NaN included.
    value = jnp.where(weight > 0, values * weight, 0.0)
    if group is None:
      return RunningMean(self.total + value.sum(), self.weight + weight.sum())
    add = lambda into, what: into.at[group].add(
      what, mode='drop', wrap_negative_indices=False
    )
    return RunningMean(add(self.total, value), add(self.weight, weight))

  def merge(self, other: 'RunningMean') -> 'RunningMean':
    """The mean over both."""
    return RunningMean(self.total + other.total, self.weight + other.weight)

  def compute(self) -> jax.Array:
    """The means; NaN where nothing was added."""
    some = self.weight > 0
    mean = self.total / jnp.where(some, self.weight, 1.0)
    return jnp.where(some, mean, jnp.nan)


class RunningMinimum(NamedTuple):
  """What `min_accuracy` and `worst_case_accuracy` need of a stretch.

  Attributes:
    ended: `[T]` bool, tasks that ended in it.
    since: `[T]`, the lowest accuracy after the end of each task that ended.
    lowest: `[T]`, the lowest accuracy in the stretch.
    last: `[T]`, the accuracies at its last evaluation.
    newest: int32, the task that ended last, -1 if none did.
    count: int32, evaluations.

  Example:
    >>> running = RunningMinimum.empty(2)
    >>> for row, ended in (([0.9, 0.0], 0), ([0.4, 0.5], -1), ([0.7, 0.8], 1)):
    ...   running = running.merge(RunningMinimum.of(jnp.array(row), ended))
    >>> [round(float(x), 6) for x in running.compute()]
    [0.4, 0.6]
  """

  ended: jax.Array
  since: jax.Array
  lowest: jax.Array
  last: jax.Array
  newest: jax.Array
  count: jax.Array

  @classmethod
  def empty(cls, num_tasks: int) -> 'RunningMinimum':
    """Nothing yet."""
    high = jnp.full(num_tasks, jnp.inf, jnp.float32)
    none = jnp.zeros(num_tasks, bool)
    zero = jnp.zeros(num_tasks, jnp.float32)
    return cls(none, high, high, zero, jnp.int32(-1), jnp.int32(0))

  @classmethod
  def of(
    cls, accuracy: jax.Array, ended: jax.Array | int = -1
  ) -> 'RunningMinimum':
    """One evaluation.

    Args:
      accuracy: `[T]`, on every task.
      ended: int32, the task whose training ended at this evaluation; -1: none.
    """
    accuracy = accuracy.astype(jnp.float32)
    newest = jnp.asarray(ended, jnp.int32)
    here = jnp.arange(accuracy.shape[0], dtype=jnp.int32) == newest
    high = jnp.full_like(accuracy, jnp.inf)
    return cls(here, high, accuracy, accuracy, newest, jnp.int32(1))

  def merge(self, other: 'RunningMinimum') -> 'RunningMinimum':
    """This stretch, and then the other one."""
    later = jnp.minimum(self.since, other.lowest)
    return RunningMinimum(
      self.ended | other.ended,
      jnp.where(self.ended, later, other.since),
      jnp.minimum(self.lowest, other.lowest),
      jnp.where(other.count > 0, other.last, self.last),
      jnp.where(other.newest >= 0, other.newest, self.newest),
      self.count + other.count,
    )

  def compute(self) -> tuple[jax.Array, jax.Array]:
    """`(min_accuracy, worst_case_accuracy)` up to the last evaluation.

    The newest task is the one that ended last, and the last evaluation that of
    its end, as for the functions of these names. NaN where no task has ended;
    the first one is NaN with one task, too.
    """
    tasks = jnp.arange(self.ended.shape[0], dtype=jnp.int32)
    earlier = self.ended & (tasks != self.newest)
    some = earlier.astype(jnp.float32).sum()
    total = jnp.where(earlier, self.since, 0.0).sum()
    least = jnp.where(some > 0, total / jnp.maximum(some, 1), jnp.nan)
    ends = jnp.maximum(self.ended.astype(jnp.float32).sum(), 1)
    newest = self.last[jnp.maximum(self.newest, 0)]
    rest = jnp.where(some > 0, (1 - 1 / ends) * least, 0.0)
    worst = jnp.where(self.newest >= 0, newest / ends + rest, jnp.nan)
    return least, worst


class RunningChange(NamedTuple):
  """What the windowed measures need of a stretch: its ends, and the best.

  Attributes:
    first: `[window - 1, T]`, its first evaluations; NaN where there are fewer.
    final: `[window - 1, T]`, its last ones, the very last one at the end.
    fall: `[T]`, the largest fall within a window.
    rise: `[T]`, the largest rise.
    count: int32, evaluations.

  Example:
    >>> running = RunningChange.empty(1, window=3)
    >>> for value in (0.9, 0.2, 0.8):
    ...   running = running.merge(RunningChange.of(jnp.array([value]), 3))
    >>> [round(float(x[0]), 6) for x in running.compute()]
    [0.7, 0.6]
  """

  first: jax.Array
  final: jax.Array
  fall: jax.Array
  rise: jax.Array
  count: jax.Array

  @classmethod
  def empty(cls, num_tasks: int, window: int) -> 'RunningChange':
    """Nothing yet.

    Args:
      num_tasks: number of tasks.
      window: evaluations, at least 2.
    """
    window = check_steps('RunningChange', 'window', window, 2)
    edge = jnp.full((window - 1, num_tasks), jnp.nan, jnp.float32)
    zero = jnp.zeros(num_tasks, jnp.float32)
    return cls(edge, edge, zero, zero, jnp.int32(0))

  @classmethod
  def of(cls, accuracy: jax.Array, window: int) -> 'RunningChange':
    """One evaluation: `accuracy [T]` on every task."""
    none = cls.empty(accuracy.shape[0], window)
    accuracy = accuracy.astype(jnp.float32)
    return none._replace(
      first=none.first.at[0].set(accuracy),
      final=none.final.at[-1].set(accuracy),
      count=jnp.int32(1),
    )

  def merge(self, other: 'RunningChange') -> 'RunningChange':
    """This stretch, and then the other one."""
    size = self.first.shape[0]
    before = jnp.arange(size - 1, -1, -1, dtype=jnp.int32)  # back from the end
    after = jnp.arange(size, dtype=jnp.int32)
    near = before[:, None] + after[None] + 1 <= size
    change = other.first[None] - self.final[:, None]  # [before, after, T]
    valid = near[..., None] & jnp.isfinite(change)
    most = lambda x: jnp.where(valid, x, 0.0).max((0, 1))
    return RunningChange(
      _joined(self.first, other.first, self.count),
      _joined(other.final[::-1], self.final[::-1], other.count)[::-1],
      jnp.maximum(jnp.maximum(self.fall, other.fall), most(-change)),
      jnp.maximum(jnp.maximum(self.rise, other.rise), most(change)),
      self.count + other.count,
    )

  def compute(self) -> tuple[jax.Array, jax.Array]:
    """`(windowed_forgetting, windowed_plasticity)`, each `[T]`."""
    return self.fall, self.rise


def _joined(head: jax.Array, tail: jax.Array, count: jax.Array) -> jax.Array:
  """The first rows of `head[:count]` followed by `tail`, as many as it has."""
  size = head.shape[0]
  at = jnp.arange(size, dtype=jnp.int32)
  from_tail = tail[jnp.clip(at - count, 0, size - 1)]
  return jnp.where((at < count)[:, None], head, from_tail)
