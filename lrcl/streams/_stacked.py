"""Several plans side by side, for sweeps over seeds and class orders."""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np

from lrcl.streams._plan import PlanChunk
from lrcl.streams._stream_plan import StreamPlan


@dataclasses.dataclass(frozen=True, eq=False)
class StackedPlan:
  """Plans with the same timetable and batch size, one per replica."""

  plans: tuple[StreamPlan, ...]

  @property
  def replicas(self) -> int:
    """How many plans there are."""
    return len(self.plans)

  @property
  def batch_size(self) -> int:
    """Rows in the batch of one replica."""
    return self.plans[0].batch_size

  @property
  def timetable(self) -> Any:
    """When a step is in which task, which all plans share."""
    return self.plans[0].timetable

  @property
  def num_steps(self) -> int:
    """Length in steps."""
    return self.plans[0].num_steps

  @property
  def boundaries(self) -> Sequence[int]:
    """Steps at which a new task begins, without 0."""
    return self.plans[0].boundaries

  def next_boundary(self, step: int) -> int:
    """The first step after `step` at which a task begins, or the end."""
    return self.plans[0].next_boundary(step)

  @property
  def most_task_rows(self) -> int:
    """Rows of the largest task of any plan."""
    return max(plan.most_task_rows for plan in self.plans)

  @property
  def digest(self) -> str:
    """sha256 over the plans' digests."""
    return self._digest

  @functools.cached_property
  def _digest(self) -> str:
    joined = '|'.join(plan.digest for plan in self.plans)
    return hashlib.sha256(f'stack 1|{joined}'.encode()).hexdigest()

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """As `Plan.chunk`, with indices and weights `[steps, S, batch]`."""
    chunks = [plan.chunk(start, steps) for plan in self.plans]
    stack = lambda arrays: np.stack(arrays, axis=1)
    indices = stack([chunk.indices for chunk in chunks])
    weights = stack([chunk.weights for chunk in chunks])
    return PlanChunk(chunks[0].task_ids, indices, weights)

  def hold(self, step: int) -> 'StackedPlan':
    """As `Plan.hold`."""
    return StackedPlan(tuple(plan.hold(step) for plan in self.plans))

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """As `Plan.task_batches`, both `[batches, S, batch_size]`."""
    pairs = [plan.task_batches(task, batch_size) for plan in self.plans]
    most = max(len(indices) for indices, _ in pairs)
    pairs = [_extend(indices, weights, most) for indices, weights in pairs]
    indices, weights = zip(*pairs, strict=True)
    return np.stack(indices, axis=1), np.stack(weights, axis=1)


def _extend(
  indices: np.ndarray, weights: np.ndarray, batches: int
) -> tuple[np.ndarray, np.ndarray]:
  """Adds batches of weight 0."""
  missing = batches - len(indices)
  extra = np.repeat(indices[:1], missing, axis=0)
  zeros = np.zeros((missing, indices.shape[1]), np.float32)
  return np.concatenate([indices, extra]), np.concatenate([weights, zeros])
