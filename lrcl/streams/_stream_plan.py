"""What a plan is: the pure function from a step to rows."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from lrcl.streams._plan import PlanChunk


class StreamPlan(Protocol):
  """What a stream needs of its plan: `Plan`, a stack of them, and others.

  A method that costs the same at every step, and memory that does not grow with
  the number of steps: so may a plan be as long as an int32 can count.
  """

  @property
  def replicas(self) -> int | None:
    """None, or how many plans are stacked."""
    ...

  @property
  def timetable(self) -> Any:
    """What decides when a step is in which task; equal where that is equal."""
    ...

  @property
  def batch_size(self) -> int:
    """Rows in a batch."""
    ...

  @property
  def num_steps(self) -> int:
    """Length in steps."""
    ...

  @property
  def boundaries(self) -> Sequence[int]:
    """Steps at which a new task begins, without 0."""
    ...

  def next_boundary(self, step: int) -> int:
    """The first step after `step` at which a task begins, or the end."""
    ...

  @property
  def digest(self) -> str:
    """sha256 of everything that decides the plan."""
    ...

  @property
  def most_task_rows(self) -> int:
    """Rows of the largest task, or a bound on them."""
    ...

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """The rows of `steps` steps from `start` on."""
    ...

  def hold(self, step: int) -> 'StreamPlan':
    """The same up to `step`, then for ever the task of `step - 1`."""
    ...

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Every training row of one task once."""
    ...
