"""A plan that draws every row from pools by weights that move."""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
from typing import Any, Protocol

import numpy as np

from lrcl.streams._digest import describe
from lrcl.streams._epochs import pad_to_batches
from lrcl.streams._hash import hash_uniforms
from lrcl.streams._plan import ENDLESS, PlanChunk
from lrcl.streams._plan_checks import check_chunk, check_hold


class Weights(Protocol):
  """How much of each pool the steps take; a pure function of the step."""

  def __call__(self, steps: np.ndarray) -> np.ndarray:
    """`[n]` steps to `[n, pools]`, not negative, above 0 in every row."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class MixturePlan:
  """Each row of each batch from a pool drawn by the step's weights.

  Rows are drawn with replacement, by a hash of the seed, the step and the
  place in the batch: any step costs the same, and nothing grows with the
  length. A pool is visited in no order, so no epoch is complete.

  Attributes:
    pools: rows of the source, int32, one pool per arm of the mixture.
    weights: of the pools at each step; they need not sum to 1.
    num_steps: steps in all.
    batch_size: rows in a batch.
    seed: draws the rows.
    phase_steps: after how many steps `task_id` counts one up, until that of
      the last pool; None: never, as where weights drift and no boundary is to
      be seen.
    held: the step whose weights go on for ever from the next one on, or None.
  """

  pools: tuple[np.ndarray, ...]
  weights: Weights
  num_steps: int
  batch_size: int
  seed: int
  phase_steps: int | None = None
  held: int | None = None

  @property
  def replicas(self) -> int | None:
    """None: this is a single plan."""
    return None

  @property
  def timetable(self) -> Any:
    """What decides `task_id`."""
    return (self.num_steps, self.phase_steps, self.held)

  @property
  def boundaries(self) -> Sequence[int]:
    """Steps at which a new task begins, without 0."""
    if self.phase_steps is None:
      return ()
    end = self.num_steps if self.held is None else self.held + 1
    return range(self.phase_steps, min(end, self._last + 1), self.phase_steps)

  def next_boundary(self, step: int) -> int:
    """The first step after `step` at which a task begins, or the end."""
    if self.phase_steps is None:
      return self.num_steps
    following = step + self.phase_steps - step % self.phase_steps
    held = ENDLESS if self.held is None else self.held
    if following > min(held, self._last):
      return self.num_steps
    return min(following, self.num_steps)

  @property
  def most_task_rows(self) -> int:
    """Rows of the largest pool; of all where there is one task."""
    total = max if self.phase_steps is not None else sum
    return total(len(pool) for pool in self.pools)

  @property
  def digest(self) -> str:
    """sha256 of everything that decides the plan, the pools included."""
    return self._digest

  @functools.cached_property
  def _digest(self) -> str:
    parts = [getattr(self, field.name) for field in dataclasses.fields(self)]
    return hashlib.sha256(f'mixture 1|{describe(parts)}'.encode()).hexdigest()

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """The rows of `steps` steps from `start` on; costs the same anywhere.

    Raises:
      ValueError: if a step lies outside the plan.
    """
    start, steps = check_chunk('MixturePlan', start, steps, self.num_steps)
    numbers = np.arange(start, start + steps)
    held = ENDLESS if self.held is None else self.held
    which = np.minimum(numbers, held)
    tasks = np.zeros(steps, np.int32)
    if self.phase_steps is not None:
      tasks = (np.minimum(which, self._last) // self.phase_steps).astype('i4')
    indices = self._draw(numbers, self.shares(which))
    return PlanChunk(tasks, indices, np.ones(indices.shape, np.float32))

  def shares(self, steps: np.ndarray) -> np.ndarray:
    """The weights of some steps, `[n, pools]`, each row summing to 1.

    Raises:
      ValueError: if they are negative, not finite or all 0 at a step.
    """
    weights = np.asarray(self.weights(steps), np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0)).all(1)
    bad |= weights.sum(1) <= 0
    if bad.any() or weights.shape != (len(steps), len(self.pools)):
      where = steps[bad][0] if bad.any() else steps[0]
      found = weights[bad][0] if bad.any() else f'of shape {weights.shape}'
      raise ValueError(
        f'MixturePlan: the weights of step {where} are {found}; they must be '
        f'{len(self.pools)} numbers, not negative, and not all 0.'
      )
    return weights / weights.sum(1, keepdims=True)

  def hold(self, step: int) -> 'MixturePlan':
    """The same plan up to `step`; from there on the weights of `step - 1`.

    Raises:
      ValueError: if `step` is not in `[1, num_steps]`.
    """
    check_hold(step, self.num_steps)
    held = step - 1 if self.held is None else min(step - 1, self.held)
    return dataclasses.replace(self, held=held, num_steps=ENDLESS)

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Every row of one pool once; of all pools where there is one task.

    Args:
      task: the phase, whose newest pool is that of its number.
      batch_size: rows in a batch; the last one is padded with weight 0.

    Returns:
      `(indices, weights)`, both `[batches, batch_size]`.
    """
    if self.phase_steps is None:
      return pad_to_batches(np.concatenate(self.pools), batch_size)
    return pad_to_batches(self.pools[task], batch_size)

  def _draw(self, steps: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Rows of the source, `[n, batch]`."""
    slots = np.arange(self.batch_size)
    first = hash_uniforms((self.seed, 0), steps[:, None], slots)
    second = hash_uniforms((self.seed, 1), steps[:, None], slots)
    ends = np.cumsum(shares, 1)[:, None, :-1]
    pool = (first[..., None] >= ends).sum(-1)
    row = (second * self._sizes[pool]).astype(np.int64)
    return self._flat[self._offsets[pool] + row]

  @property
  def _last(self) -> int:
    """The step at which the last pool arrives, where phases count them."""
    return (len(self.pools) - 1) * (self.phase_steps or 0)

  @functools.cached_property
  def _sizes(self) -> np.ndarray:
    return np.array([len(pool) for pool in self.pools])

  @functools.cached_property
  def _flat(self) -> np.ndarray:
    return np.concatenate(self.pools).astype(np.int32)

  @functools.cached_property
  def _offsets(self) -> np.ndarray:
    return np.cumsum([0, *self._sizes[:-1]])
