"""The upper reference row: all tasks at once."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from lrcl.streams._mixture_plan import MixturePlan
from lrcl.streams._phase_plan import PhasePlan
from lrcl.streams._plan import ENDLESS, Plan, make_plan
from lrcl.streams._prepare import PreparePerRow, PrepareSplit, PrepareTokens
from lrcl.streams._sources import Source, gather
from lrcl.streams._stream import Stream

_COPY_BYTES = 2**27  # 128 MiB


@dataclasses.dataclass(frozen=True)
class TaskRows:
  """Every row of `source` once per task, with a column `task`; a host source.

  Row `task * len(source) + i` is row `i` in that task.

  Attributes:
    source: the data.
    num_rows: its length.
    num_tasks: how many times each row occurs.
  """

  source: Source
  num_rows: int
  num_tasks: int

  def __len__(self) -> int:
    return self.num_rows * self.num_tasks

  def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Columns at `indices`."""
    task, row = np.divmod(indices, np.int32(self.num_rows))
    return gather(self.source, row) | {'task': task.astype(np.int32)}


def joint(stream: Stream, *, seed: int | None = None) -> Stream:
  """Mixes all tasks of a stream into one: i.i.d. batches, as many steps.

  Every epoch visits each row once in each task that has it. Evaluation stays
  that of `stream`: its test sets, task by task. There is one phase and no
  boundary; `task_id` is 0 throughout, while `batch['task']` says for each row
  which task it is from.

  Where tasks share rows (permuted, rotated), rows are repeated per task: in
  memory if small (128 MiB), otherwise as they are gathered, on the host.

  Tasks that are drawn (`scole`, `reoccurring`, `mixture`) may be mixed, too,
  where each row says what it is in any task: all rows that may be drawn come
  equally often.

  Args:
    stream: a single stream; replicate afterwards.
    seed: shuffles the rows; None: the stream's own, or 0 if it has none.

  Returns:
    The stream. Its `task_batches` yields all rows, whatever the task.

  Raises:
    ValueError: for a replicated stream, one that does not end, or one whose
      rows are not listed or change with a task that is drawn.

  Example:
    >>> from lrcl.streams import split
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.array([0, 1, 2, 3, 0, 1, 2, 3])}
    >>> stream = split(train, num_tasks=2, batch_size=2)
    >>> mixed = joint(stream)
    >>> stream.num_steps, mixed.num_steps, mixed.boundaries
    (4, 4, ())
  """
  if stream.replicas is not None:
    raise ValueError('joint: give a single stream and replicate the results.')
  if stream.num_steps == ENDLESS:
    raise ValueError('joint: the stream is held and has no end; join it first.')
  own, source, prepare, pools = _all_rows(stream)
  seed = own if seed is None else seed
  mixed = make_plan(
    [np.concatenate(pools)],
    [(0, stream.num_steps)],
    batch_size=stream.batch_size,
    seed=0 if seed is None else seed,
  )
  mixed = dataclasses.replace(mixed, pools=mixed.pools * stream.num_tasks)
  return dataclasses.replace(stream, source=source, plan=mixed, prepare=prepare)


def _all_rows(stream: Stream) -> tuple[int | None, Source, Any, Any]:
  """The seed of a stream, and its rows as `rows_per_task` gives them."""
  plan, prepare = stream.plan, stream.prepare
  if isinstance(plan, Plan):
    return plan.seed, *rows_per_task(stream)
  by_row = PrepareSplit | PrepareTokens | PreparePerRow
  if isinstance(plan, PhasePlan | MixturePlan) and isinstance(prepare, by_row):
    return plan.seed, stream.source, prepare, plan.pools
  raise ValueError(
    'joint: give a single stream whose rows say which task they are from; '
    f'those of a {type(plan).__name__} under {prepare!r} do not.'
  )


def rows_per_task(
  stream: Stream,
) -> tuple[Source, Any, list[np.ndarray]]:
  """What lets rows of several tasks meet in one batch.

  Returns:
    A source, the `prepare` that reads each row's task, and the pools of the
    tasks in that source.
  """
  plan = stream.plan
  if not isinstance(plan, Plan):
    raise ValueError('give a single stream of listed tasks.')
  # These read the task off the row.
  if isinstance(stream.prepare, PrepareSplit | PrepareTokens):
    return stream.source, stream.prepare, list(plan.pools)
  size = _length(stream.source)
  source = _repeat(stream.source, size, stream.num_tasks)
  pools = [size * task + pool for task, pool in enumerate(plan.pools)]
  return source, PreparePerRow(stream.prepare), pools


def _length(source: Source) -> int:
  if isinstance(source, Mapping):
    return len(source['labels'])
  return len(source)


def _repeat(source: Source, size: int, num_tasks: int) -> Source:
  if size * num_tasks >= 2**31:
    raise ValueError(
      f'joint: {num_tasks} tasks of {size} rows exceed the range of int32.'
    )
  repeated = TaskRows(source, size, num_tasks)
  if not isinstance(source, Mapping):
    return repeated
  if sum(c.nbytes for c in source.values()) * num_tasks > _COPY_BYTES:
    return repeated
  return repeated.rows(np.arange(len(repeated), dtype=np.int32))
