"""More metrics that are gathered step by step: matrix, classes and area.

Each is a NamedTuple of arrays of fixed size like those of `_running`: `empty`,
`of` for one evaluation, an associative `merge` with `empty` as its unit, and
`compute`. The order matters: `other` is the later stretch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RunningMatrix(NamedTuple):
  """The accuracy matrix, filled as tasks end.

  Every metric of the matrix can be computed from it inside the same program:
  `average_accuracy(running.compute())`. Tasks that end twice keep the last.

  Attributes:
    rows: `[T, T]`, row i: the accuracies at the end of task i; 0 until then.
    ended: `[T]` bool.

  Example:
    >>> running = RunningMatrix.empty(2)
    >>> for row, ended in (([0.9, 0.1], 0), ([0.4, 0.5], -1), ([0.7, 0.8], 1)):
    ...   running = running.merge(RunningMatrix.of(jnp.array(row), ended))
    >>> print(running.compute())
    [[0.9 0.1]
     [0.7 0.8]]
  """

  rows: jax.Array
  ended: jax.Array

  @classmethod
  def empty(cls, num_tasks: int) -> 'RunningMatrix':
    """Nothing yet."""
    rows = jnp.zeros((num_tasks, num_tasks), jnp.float32)
    return cls(rows, jnp.zeros(num_tasks, bool))

  @classmethod
  def of(
    cls, accuracy: jax.Array, ended: jax.Array | int = -1
  ) -> 'RunningMatrix':
    """One evaluation.

    Args:
      accuracy: `[T]`, on every task.
      ended: int32, the task whose training ended at this evaluation; -1: none.
    """
    tasks = jnp.arange(accuracy.shape[0], dtype=jnp.int32)
    here = tasks == jnp.asarray(ended, jnp.int32)
    row = accuracy.astype(jnp.float32)[None]
    return cls(jnp.where(here[:, None], row, 0.0), here)

  def merge(self, other: 'RunningMatrix') -> 'RunningMatrix':
    """This stretch, and then the other one."""
    rows = jnp.where(other.ended[:, None], other.rows, self.rows)
    return RunningMatrix(rows, self.ended | other.ended)

  def compute(self) -> jax.Array:
    """`[T, T]`; NaN in the rows of tasks that have not ended."""
    return jnp.where(self.ended[:, None], self.rows, jnp.nan)


class RunningClasses(NamedTuple):
  """What `class_forgetting` needs of a stretch.

  Attributes:
    best: `[C]`, the best accuracy before its last evaluation; -inf if none.
    last: `[C]`, the accuracies at its last evaluation.
    count: int32, evaluations.

  Example:
    >>> running = RunningClasses.empty(2)
    >>> for row in ([0.5, 0.0], [0.75, 0.0], [0.25, 1.0]):
    ...   running = running.merge(RunningClasses.of(jnp.array(row)))
    >>> print(running.compute())
    0.5
  """

  best: jax.Array
  last: jax.Array
  count: jax.Array

  @classmethod
  def empty(cls, num_classes: int) -> 'RunningClasses':
    """Nothing yet."""
    low = jnp.full(num_classes, -jnp.inf, jnp.float32)
    return cls(low, low, jnp.int32(0))

  @classmethod
  def of(cls, accuracy: jax.Array) -> 'RunningClasses':
    """One evaluation: `accuracy [C]` on every class."""
    accuracy = accuracy.astype(jnp.float32)
    return cls(jnp.full_like(accuracy, -jnp.inf), accuracy, jnp.int32(1))

  def merge(self, other: 'RunningClasses') -> 'RunningClasses':
    """This stretch, and then the other one."""
    more = other.count > 0
    best = jnp.maximum(self.best, other.best)
    return RunningClasses(
      jnp.where(more, jnp.maximum(best, self.last), self.best),
      jnp.where(more, other.last, self.last),
      self.count + other.count,
    )

  def compute(self) -> jax.Array:
    """As `class_forgetting`; NaN where no class was ever right before."""
    known = self.best > 0
    drops = jnp.where(known, self.best - self.last, 0.0).sum()
    count = known.astype(jnp.float32).sum()
    return jnp.where(count > 0, drops / jnp.maximum(count, 1), jnp.nan)


class RunningArea(NamedTuple):
  """What `area_under_accuracy` needs of a stretch, unequal distances included.

  Attributes:
    first: the accuracy at its first evaluation.
    since: int32, the rows seen by then.
    until: int32, the rows seen by its last evaluation.
    area: the accuracies after the first, each times the rows that it stands
      for.
    count: int32, evaluations.

  Example:
    >>> running = RunningArea.empty()
    >>> for accuracy, samples in ((0.5, 300), (1.0, 400)):
    ...   one = RunningArea.of(jnp.float32(accuracy), samples)
    ...   running = running.merge(one)
    >>> print(running.compute())
    0.625
  """

  first: jax.Array
  since: jax.Array
  until: jax.Array
  area: jax.Array
  count: jax.Array

  @classmethod
  def empty(cls) -> 'RunningArea':
    """Nothing yet."""
    zero, none = jnp.float32(0.0), jnp.int32(0)
    return cls(zero, none, none, zero, none)

  @classmethod
  def of(cls, accuracy: jax.Array, samples: jax.Array | int) -> 'RunningArea':
    """One evaluation.

    Args:
      accuracy: scalar, on all that was met so far.
      samples: int32, the rows seen so far, above 0.
    """
    seen = jnp.asarray(samples, jnp.int32)
    accuracy = accuracy.astype(jnp.float32)
    return cls(accuracy, seen, seen, jnp.float32(0.0), jnp.int32(1))

  def merge(self, other: 'RunningArea') -> 'RunningArea':
    """This stretch, and then the other one."""
    some, more = self.count > 0, other.count > 0
    width = (other.since - self.until).astype(jnp.float32)
    between = jnp.where(some & more, other.first * width, 0.0)
    return RunningArea(
      jnp.where(some, self.first, other.first),
      jnp.where(some, self.since, other.since),
      jnp.where(more, other.until, self.until),
      self.area + between + other.area,
      self.count + other.count,
    )

  def compute(self) -> jax.Array:
    """The mean accuracy over the rows; NaN where there is no evaluation."""
    total = self.area + self.first * self.since.astype(jnp.float32)
    seen = jnp.maximum(self.until, 1).astype(jnp.float32)
    return jnp.where(self.count > 0, total / seen, jnp.nan)
