"""Views of a row side by side, and then a long time not."""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._iterator import IteratorPlan
from lrcl.streams._numbered import PrepareNumbered, number_rows
from lrcl.streams._plan import PlanChunk
from lrcl.streams._stacked import StackedPlan
from lrcl.streams._stream import Stream
from lrcl.streams._stream_plan import StreamPlan


@dataclasses.dataclass(frozen=True, eq=False)
class RepeatedPlan:
  """Every row of a plan several times in a row, within the same batch.

  Attributes:
    plan: whose batches are `repeats` times smaller.
    repeats: how many times a row stands in its batch.
  """

  plan: StreamPlan
  repeats: int

  @property
  def replicas(self) -> int | None:
    """None: this is a single plan."""
    return None

  @property
  def timetable(self) -> Any:
    """That of the plan."""
    return self.plan.timetable

  @property
  def batch_size(self) -> int:
    """Rows in a batch, the repeated ones counted."""
    return self.plan.batch_size * self.repeats

  @property
  def num_steps(self) -> int:
    """Length in steps."""
    return self.plan.num_steps

  @property
  def boundaries(self) -> Sequence[int]:
    """Steps at which a new task begins, without 0."""
    return self.plan.boundaries

  @property
  def most_task_rows(self) -> int:
    """Rows of the largest task, each once."""
    return self.plan.most_task_rows

  @property
  def digest(self) -> str:
    """sha256 of the plan and the repeats."""
    return self._digest

  @functools.cached_property
  def _digest(self) -> str:
    parts = f'repeated 1|{self.repeats}|{self.plan.digest}'
    return hashlib.sha256(parts.encode()).hexdigest()

  def next_boundary(self, step: int) -> int:
    """The first step after `step` at which a task begins, or the end."""
    return self.plan.next_boundary(step)

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """As that of the plan, each row `repeats` times."""
    chunk = self.plan.chunk(start, steps)
    repeat = functools.partial(np.repeat, repeats=self.repeats, axis=1)
    return chunk._replace(
      indices=repeat(chunk.indices), weights=repeat(chunk.weights)
    )

  def hold(self, step: int) -> 'RepeatedPlan':
    """As that of the plan."""
    return dataclasses.replace(self, plan=self.plan.hold(step))

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Every training row of one task once, unrepeated."""
    return self.plan.task_batches(task, batch_size)


def repeat_views(stream: Stream, repeats: int) -> Stream:
  """Shows every row several times in one batch, and then not for long.

  The number of steps, of rows per batch and of times that a row is trained on
  stay the same. But its repeats stand side by side in one batch, where an
  augmentation makes several views of it, and an epoch takes `repeats` times as
  many steps: the interval after which a row is recalled is `repeats` times as
  long. Batches have the number of each row in the data as `row`, by which
  `lrcl.losses.view_consistency` knows views of the same one.

  Batches of rows that occur several times are correlated, which batch
  normalization notices.

  Args:
    stream: a single stream; replicate afterwards.
    repeats: views of a row; divides the batch size.

  Returns:
    The stream, of the same length.

  Raises:
    ValueError: if `repeats` does not divide the batch size, or for a plan that
      is stacked or an iterator.

  Example:
    >>> from lrcl.streams import split
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> stream = split(train, num_tasks=2, batch_size=4, steps_per_task=10)
    >>> views = repeat_views(stream, 2)
    >>> first = views.chunk(0, 1).indices[0]
    >>> bool((first[::2] == first[1::2]).all()), views.num_steps
    (True, 20)

  References:
    Kang et al., `Do Your Best and Get Enough Rest for Continual Learning
    <https://arxiv.org/abs/2503.18371>`_, 2025 (the view-batch model; the
    sampler of the authors' code, which repeats rows within an epoch)
  """
  where = 'repeat_views'
  repeats = check_steps(where, 'repeats', repeats, 1)
  plan = stream.plan
  if isinstance(plan, StackedPlan | IteratorPlan | RepeatedPlan):
    raise ValueError(
      f'{where}: give a single stream with a plan of rows, not repeated yet.'
    )
  if plan.batch_size % repeats:
    raise ValueError(
      f'{where}: repeats is {repeats}; it must divide the batch size, '
      f'{plan.batch_size}.'
    )
  assert dataclasses.is_dataclass(plan)
  fewer = dataclasses.replace(plan, batch_size=plan.batch_size // repeats)
  return dataclasses.replace(
    stream,
    plan=RepeatedPlan(fewer, repeats),
    source=number_rows(stream.source),
    prepare=PrepareNumbered(stream.prepare),
  )
