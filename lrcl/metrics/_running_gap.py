"""The stability gap, gathered step by step like the metrics of `_running`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RunningGap(NamedTuple):
  """What `drop` and `depth` of `stability_gap` need of a stretch.

  Tasks end in the order 0, 1, ... . A stretch does not know how many had ended
  before it, so it keeps the mean over the tasks `0..k` for every k until an end
  of its own. `recovery_steps` needs the evaluations between two ends:
  `RunningRecovery`.

  Attributes:
    head: `[T]`, entry k: the lowest mean over `0..k` up to the first end.
    first: `[T]`, these means at the first end; 0 if there is none.
    newest: int32, the task that ended last, -1 if none did.
    level: the mean over `0..newest` at that end; 0 if there is none.
    tail: the lowest such mean after it.
    drop: `[T]`, entry k: of the switch after task k, once the next one ended.
    depth: `[T]`, the same.
    closed: `[T]` bool, which switches have both ends in the stretch.

  Example:
    >>> running = RunningGap.empty(2)
    >>> for row, end in (([0.9, 0.0], 0), ([0.4, 0.5], -1), ([0.7, 0.8], 1)):
    ...   running = running.merge(RunningGap.of(jnp.array(row), end))
    >>> [round(float(x[0]), 6) for x in running.compute()]
    [0.5, 0.3]
  """

  head: jax.Array
  first: jax.Array
  newest: jax.Array
  level: jax.Array
  tail: jax.Array
  drop: jax.Array
  depth: jax.Array
  closed: jax.Array

  @classmethod
  def empty(cls, num_tasks: int) -> 'RunningGap':
    """Nothing yet."""
    zeros = jnp.zeros(num_tasks, jnp.float32)
    high, zero = jnp.float32(jnp.inf), jnp.float32(0.0)
    closed = jnp.zeros(num_tasks, bool)
    none = jnp.int32(-1)
    return cls(zeros + high, zeros, none, zero, high, zeros, zeros, closed)

  @classmethod
  def of(cls, accuracy: jax.Array, ended: jax.Array | int = -1) -> 'RunningGap':
    """One evaluation.

    Args:
      accuracy: `[T]`, on every task.
      ended: int32, the task whose training ended at this evaluation; -1: none.
    """
    tasks = accuracy.shape[0]
    ended = jnp.asarray(ended, jnp.int32)
    count = jnp.arange(1, tasks + 1, dtype=jnp.float32)
    means = jnp.cumsum(accuracy.astype(jnp.float32)) / count
    here = ended >= 0
    return cls.empty(tasks)._replace(
      head=means,
      first=jnp.where(here, means, 0.0),
      newest=ended,
      level=jnp.where(here, means[jnp.maximum(ended, 0)], 0.0),
    )

  def merge(self, other: 'RunningGap') -> 'RunningGap':
    """This stretch, and then the other one."""
    open_, ends = self.newest >= 0, other.newest >= 0
    at = jnp.maximum(self.newest, 0)
    low = jnp.minimum(self.tail, other.head[at])
    tasks = jnp.arange(self.closed.shape[0], dtype=jnp.int32)
    closes = (tasks == at) & open_ & ends
    drop = jnp.maximum(self.level - low, 0.0)
    level = jnp.minimum(self.level, other.first[at])
    depth = jnp.maximum(level - low, 0.0)
    either = lambda a, b: jnp.where(self.closed, a, b)
    return RunningGap(
      jnp.where(open_, self.head, jnp.minimum(self.head, other.head)),
      jnp.where(open_, self.first, other.first),
      jnp.where(ends, other.newest, self.newest),
      jnp.where(ends, other.level, self.level),
      jnp.where(ends, other.tail, jnp.where(open_, low, jnp.inf)),
      jnp.where(closes, drop, either(self.drop, other.drop)),
      jnp.where(closes, depth, either(self.depth, other.depth)),
      self.closed | other.closed | closes,
    )

  def compute(self) -> tuple[jax.Array, jax.Array]:
    """`(drop, depth)`, each `[T - 1]`; NaN before the next task has ended."""
    only = lambda x: jnp.where(self.closed, x, jnp.nan)[:-1]
    return only(self.drop), only(self.depth)
