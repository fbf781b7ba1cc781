"""How long a stability gap lasts, gathered evaluation by evaluation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class RecoverySeries(NamedTuple):
  """Evaluations in their order, in room for `E` of them; 0 where none is.

  Attributes:
    values: float32 `[E, ...]`.
    steps: int32 `[E]`, the training step of each.
    count: int32 scalar, how many there were; those above `E` are lost.
  """

  values: jax.Array
  steps: jax.Array
  count: jax.Array

  def join(self, other: 'RecoverySeries') -> 'RecoverySeries':
    """This series, and then the other one."""
    place = jnp.arange(self.steps.shape[0])
    mine, after = place < self.count, place - self.count

    def one(a: jax.Array, b: jax.Array) -> jax.Array:
      along = lambda flags: flags.reshape(-1, *(1,) * (a.ndim - 1))
      b = b.at[jnp.maximum(after, 0)].get(mode='clip')
      b = jnp.where(along(after < other.count), b, 0)
      return jnp.where(along(mine), a, b)

    return RecoverySeries(
      one(self.values, other.values),
      one(self.steps, other.steps),
      self.count + other.count,
    )

  def recovery(self, level: Any, start: Any, tolerance: Any) -> jax.Array:
    """Steps from `start` until the series is back; NaN where rows were lost."""
    room = self.steps.shape[0]
    place = jnp.arange(room)
    known = place < self.count
    last = self.values[jnp.clip(self.count - 1, 0, room - 1)]
    path = jnp.where(known, self.values, jnp.inf)
    level = jnp.minimum(level, last)
    is_back = (place >= path.argmin()) & (path >= level - tolerance) & known
    waited = self.steps[is_back.argmax()] - start
    waited = jnp.where(level - path.min() > tolerance, waited, 0)
    return jnp.where(self.count > room, jnp.nan, waited.astype(jnp.float32))


class RunningRecovery(NamedTuple):
  """What `recovery_steps` of `stability_gap` needs of a stretch.

  The level that counts as recovered is known only at the end of the next task,
  and each evaluation before it may be the one: so, unlike what `RunningGap`
  keeps, this needs room for the evaluations between two ends of tasks. Tasks
  end in the order 0, 1, ... . Memory: `evaluations * (tasks + 2)` numbers, and
  a merge goes over them once.

  Attributes:
    tolerance: float32 scalar, how much below the level counts as recovered.
    head: the means over the tasks `0..k`, for every k, `[E, T]`, up to the
      first end and with it.
    newest: int32, the task that ended last, -1 if none did.
    level: the mean over `0..newest` at that end; 0 if there is none.
    start: int32, the step of that end; 0 if there is none.
    tail: the same mean after it, `[E]`.
    steps: float32 `[T]`, entry k: of the switch after task k.
    closed: `[T]` bool, which switches have both ends in the stretch.

  Example:
    >>> running = RunningRecovery.empty(2, evaluations=3)
    >>> rows = ([0.9, 0], [0.4, 0.5], [0.8, 0.7], [0.8, 0.8])
    >>> for row, step, end in zip(rows, (100, 110, 120, 130), (0, -1, -1, 1)):
    ...   one = RunningRecovery.of(jnp.array(row), step, end, evaluations=3)
    ...   running = running.merge(one)
    >>> print(running.compute())
    [20.]
  """

  tolerance: jax.Array
  head: RecoverySeries
  newest: jax.Array
  level: jax.Array
  start: jax.Array
  tail: RecoverySeries
  steps: jax.Array
  closed: jax.Array

  @classmethod
  def empty(
    cls, num_tasks: int, *, evaluations: int, tolerance: float = 0.01
  ) -> 'RunningRecovery':
    """Nothing yet.

    Args:
      num_tasks: how many tasks there are.
      evaluations: the most evaluations from one task's end, without it, to the
        next one's, with it. Where there were more, the result is NaN.
      tolerance: as for `stability_gap`; the same for all that is merged.
    """
    none, zero = jnp.int32(0), jnp.float32(0.0)
    steps = jnp.zeros(evaluations, jnp.int32)
    series = lambda *shape: RecoverySeries(jnp.zeros(shape), steps, none)
    return cls(
      tolerance=jnp.float32(tolerance),
      head=series(evaluations, num_tasks),
      newest=jnp.int32(-1),
      level=zero,
      start=none,
      tail=series(evaluations),
      steps=jnp.zeros(num_tasks, jnp.float32),
      closed=jnp.zeros(num_tasks, bool),
    )

  @classmethod
  def of(
    cls,
    accuracy: jax.Array,
    step: jax.Array | int,
    ended: jax.Array | int = -1,
    *,
    evaluations: int,
    tolerance: float = 0.01,
  ) -> 'RunningRecovery':
    """One evaluation.

    Args:
      accuracy: `[T]`, on every task.
      step: int32, the training step.
      ended: int32, the task whose training ended at this evaluation; -1: none.
      evaluations: as for `empty`.
      tolerance: as for `empty`.
    """
    tasks = accuracy.shape[0]
    step, ended = jnp.asarray(step, jnp.int32), jnp.asarray(ended, jnp.int32)
    count = jnp.arange(1, tasks + 1, dtype=jnp.float32)
    means = jnp.cumsum(accuracy.astype(jnp.float32)) / count
    none = cls.empty(tasks, evaluations=evaluations, tolerance=tolerance)
    return none._replace(
      head=RecoverySeries(
        none.head.values.at[0].set(means),
        none.head.steps.at[0].set(step),
        jnp.int32(1),
      ),
      newest=ended,
      level=jnp.where(ended >= 0, means[jnp.maximum(ended, 0)], 0.0),
      start=jnp.where(ended >= 0, step, 0),
    )

  def merge(self, other: 'RunningRecovery') -> 'RunningRecovery':
    """This stretch, and then the other one."""
    open_, ends = self.newest >= 0, other.newest >= 0
    at = jnp.maximum(self.newest, 0)
    path = self.tail.join(other.head._replace(values=other.head.values[:, at]))
    none = jax.tree.map(jnp.zeros_like, path)
    closes = (jnp.arange(self.closed.size) == at) & open_ & ends
    found = path.recovery(self.level, self.start, self.tolerance)
    found = jnp.where(closes, found, other.steps)
    return RunningRecovery(
      self.tolerance,
      _choose(open_, self.head, self.head.join(other.head)),
      _choose(ends, other.newest, self.newest),
      _choose(ends, other.level, self.level),
      _choose(ends, other.start, self.start),
      _choose(ends, other.tail, _choose(open_, path, none)),
      jnp.where(self.closed, self.steps, found),
      self.closed | other.closed | closes,
    )

  def compute(self) -> jax.Array:
    """Float32 `[T - 1]`; NaN before the next task has ended."""
    return jnp.where(self.closed, self.steps, jnp.nan)[:-1]


def _choose(flag: jax.Array, a: Any, b: Any) -> Any:
  return jax.tree.map(lambda x, y: jnp.where(flag, x, y), a, b)
