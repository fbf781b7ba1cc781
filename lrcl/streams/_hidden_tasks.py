"""A stream whose learner cannot see where tasks begin."""

import dataclasses

from lrcl.base import check_steps
from lrcl.streams._plan import ENDLESS, make_plan
from lrcl.streams._prepare import PrepareRows, PrepareSplit, PrepareTokens
from lrcl.streams._stream import Stream


def hide_tasks(stream: Stream, *, batch_size: int | None = None) -> Stream:
  """The rows of a stream in their order, without any sign of a boundary.

  Padding is left out and rows are cut into batches anew, so that a batch may
  hold rows from both sides of a boundary. There is one phase: `task_id` is 0
  throughout. What remains of the tasks is the order in which rows come.
  Evaluation stays that of `stream`.

  Streams of one number of rows have one number of steps afterwards, however
  long their tasks were: so can stochastic ones (`blurry`) be replicated.

  Args:
    stream: a single stream of listed rows that are the same in every task
      (`blurry`, `dated_text`, or `split` without masks); replicate afterwards.
    batch_size: rows in a batch; None: as many as in those of `stream`. With
      another one tasks may be smaller than a batch: make `stream` with 1.

  Returns:
    The stream, with `num_tasks` 1. Its plan lists all rows: 4 bytes each.

  Raises:
    ValueError: for a replicated stream, one that does not end, or one whose
      batches depend on the task.

  Example:
    >>> import numpy as np
    >>> from lrcl.streams import split
    >>> train = {'inputs': np.zeros((6, 2), np.float32),
    ...          'labels': np.array([0, 1, 0, 1, 0, 1])}
    >>> hidden = hide_tasks(split(train, num_tasks=2, batch_size=2))
    >>> labels = train['labels'][hidden.chunk(0, hidden.num_steps).indices]
    >>> print(labels.tolist(), hidden.boundaries)
    [[0, 0], [0, 1], [1, 1]] ()
  """
  _check(stream)
  size = stream.batch_size if batch_size is None else batch_size
  size = check_steps('hide_tasks', 'batch_size', size, 1)
  chunk = stream.chunk(0, stream.num_steps)
  rows = chunk.indices[chunk.weights > 0]
  plan = make_plan(
    [rows],
    [(0, -(-len(rows) // size))],
    batch_size=size,
    seed=None,
  )
  return dataclasses.replace(stream, plan=plan, num_tasks=1)


def _check(stream: Stream) -> None:
  if stream.replicas is not None:
    raise ValueError(
      'hide_tasks: give a single stream and replicate the results.'
    )
  if stream.num_steps == ENDLESS or stream.arms is not None:
    raise ValueError('hide_tasks: the stream has no end, or draws its tasks.')
  prepare = stream.prepare
  plain = isinstance(prepare, PrepareRows | PrepareSplit | PrepareTokens)
  if not plain or getattr(prepare, 'masked', False):
    raise ValueError(
      f'hide_tasks: prepare is {prepare!r}, by which a batch depends on the '
      'task; the rows must be the same in every task.'
    )
