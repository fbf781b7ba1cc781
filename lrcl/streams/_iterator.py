"""Streams over an iterator of batches that can seek."""

from collections.abc import Mapping
import dataclasses
import hashlib
from typing import Any, Protocol

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._plan import PlanChunk
from lrcl.streams._prepare import PrepareRows, Transform
from lrcl.streams._stream import EvalSet, Stream


class SeekableIterator(Protocol):
  """Batches one after the other, from any step on."""

  def __next__(self) -> Mapping[str, Any]:
    """`dict(inputs=[B, ...], labels=[B])`, always of one shape."""
    ...

  def seek(self, step: int) -> None:
    """Makes the next batch that of `step`."""
    ...


@dataclasses.dataclass(frozen=True)
class IteratorPlan:
  """One phase, whose "rows" are numbers of steps."""

  num_steps: int
  batch_size: int
  name: str = ''

  @property
  def replicas(self) -> None:
    """None: an iterator cannot be stacked."""
    return None

  @property
  def timetable(self) -> int:
    """The length of the single phase."""
    return self.num_steps

  @property
  def boundaries(self) -> tuple[int, ...]:
    """None: there is one task."""
    return ()

  def next_boundary(self, step: int) -> int:
    """The end: there is one task."""
    return self.num_steps

  @property
  def most_task_rows(self) -> int:
    """Rows of all steps."""
    return self.num_steps * self.batch_size

  @property
  def digest(self) -> str:
    """sha256 of the name and the sizes."""
    parts = f'iterator 1|{self.name}|{self.num_steps}|{self.batch_size}'
    return hashlib.sha256(parts.encode()).hexdigest()

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """As `Plan.chunk`; every index is the number of its step."""
    start = check_steps('IteratorPlan.chunk', 'start', start)
    if start + steps > self.num_steps:
      raise ValueError(
        f'IteratorPlan.chunk: steps {start} to {start + steps} go past the '
        f'end, {self.num_steps}.'
      )
    shape = (steps, self.batch_size)
    numbers = np.arange(start, start + steps, dtype=np.int32)
    indices = np.repeat(numbers[:, None], self.batch_size, axis=1)
    return PlanChunk(np.zeros(steps, np.int32), indices, np.ones(shape, 'f4'))

  def hold(self, step: int) -> 'IteratorPlan':
    """Itself: there is no other task to stay away from."""
    return self

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """An iterator knows no rows of a task.

    Raises:
      ValueError: always.
    """
    raise ValueError(
      'task_batches: this stream is an iterator, whose rows cannot be read '
      'by task; use a source with random access.'
    )


class IteratorSource:
  """The host source that reads an iterator; seeks only where it must."""

  def __init__(self, batches: SeekableIterator, plan: IteratorPlan):
    self._batches, self._plan = batches, plan
    self._next: int | None = None

  def __len__(self) -> int:
    return self._plan.num_steps * self._plan.batch_size

  def describe(self) -> str:
    """The plan's digest: an iterator says nothing of its rows."""
    return self._plan.digest

  def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the steps in `indices [steps, batch]`."""
    batches = [self._read(int(step)) for step in indices[:, 0]]
    columns = {name: [b[name] for b in batches] for name in batches[0]}
    return {name: np.stack(column) for name, column in columns.items()}

  def _read(self, step: int) -> dict[str, np.ndarray]:
    try:
      if step != self._next:
        self._batches.seek(step)
      found = next(self._batches)
    except StopIteration:
      raise ValueError(
        f'from_iterator: the batches end before step {step}; num_steps is '
        f'{self._plan.num_steps}.'
      ) from None
    batch = {name: np.asarray(value) for name, value in found.items()}
    self._next = step + 1
    sizes = {len(column) for column in batch.values()}
    if sizes != {self._plan.batch_size}:
      raise ValueError(
        f'from_iterator: the batch of step {step} has {sorted(sizes)} rows, '
        f'not {self._plan.batch_size}; batches must have one shape.'
      )
    batch['labels'] = batch['labels'].astype(np.int32, copy=False)
    return batch


def from_iterator(
  batches: SeekableIterator,
  *,
  num_steps: int,
  batch_size: int,
  num_classes: int,
  name: str = '',
  transform: Transform | None = None,
  evaluation: EvalSet | None = None,
) -> Stream:
  """A stream over any iterator of batches that has `seek(step)`.

  For pipelines that make their own batches. They are read in order, one
  chunk ahead, and after a restart from the right step on, so a run resumes
  exactly if the iterator's batches are a function of the step.

  Args:
    batches: has `__next__`, which gives `dict(inputs=[B, ...], labels=[B])`,
      and `seek(step)`. Other columns are ignored. `seekable` makes one of a
      grain pipeline.
    num_steps: length of the stream.
    batch_size: rows in each batch.
    num_classes: number of different labels.
    name: identifies the pipeline in the digest, its seed included.
    transform: as in `split`.
    evaluation: test rows, one set or several.

  Returns:
    A stream with one task and no boundaries. It has no `task_batches` and
    cannot be replicated or joined.

  Example:
    >>> class Counter:
    ...   def seek(self, step): self.step = step
    ...   def __next__(self):
    ...     self.step += 1
    ...     return {'inputs': np.full((2, 1), self.step - 1),
    ...             'labels': np.zeros(2, np.int32)}
    >>> stream = from_iterator(Counter(), num_steps=9, batch_size=2,
    ...                        num_classes=1)
    >>> stream.rows(stream.chunk(4, 3).indices)['inputs'].ravel().tolist()
    [4, 4, 5, 5, 6, 6]
  """
  num_steps = check_steps('from_iterator', 'num_steps', num_steps, 1)
  batch_size = check_steps('from_iterator', 'batch_size', batch_size, 1)
  num_classes = check_steps('from_iterator', 'num_classes', num_classes, 1)
  plan = IteratorPlan(num_steps, batch_size, name)
  source = IteratorSource(batches, plan)
  tasks = 1 if evaluation is None else evaluation.num_tasks
  return Stream(
    source, plan, {}, PrepareRows(transform), evaluation, num_classes, tasks
  )
