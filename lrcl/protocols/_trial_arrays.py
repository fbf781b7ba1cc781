"""A stream as the arrays that `Trials` reads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrcl import streams

_LOOK_BACK = 128  # rows in a batch of what `on_task_end` sees


class Own(NamedTuple):
  """What one seed's run reads, besides the images; all seeds' in a stack.

  Attributes:
    task_ids: int32 `[phases, evaluations, steps]`.
    indices: rows to train on, `[phases, evaluations, steps, batch]`.
    weights: of these rows.
    tables: of the stream.
    test_tables: of its test sets.
    test_indices: rows of all test sets, `[tasks, rows]`.
    test_weights: of these rows.
    back_indices: rows of the task that each phase ends in, `[phases, batches,
      rows]`, for `on_task_end`.
    back_weights: of these rows.
  """

  task_ids: Any
  indices: Any
  weights: Any
  tables: Any
  test_tables: Any
  test_indices: Any
  test_weights: Any
  back_indices: Any
  back_weights: Any


def batch_of(
  source: Any, data: Any, tables: Any, task_id: Any, rows: Any, weights: Any
) -> dict[str, jax.Array]:
  """A batch of a stream or of its test sets, by the library's way."""
  taken = jax.tree.map(lambda x: x[rows], data)
  return streams.make_batch(taken, tables, task_id, weights, source.prepare)


def boundaries(stream: streams.Stream) -> list[int]:
  """The steps at which a new task begins, without 0."""
  found, step = [], stream.plan.next_boundary(0)
  while step < stream.num_steps:
    found.append(step)
    step = stream.plan.next_boundary(step)
  return found


def phase_ends(stream: streams.Stream, phases: int | None) -> list[int]:
  """The steps after which phases of one length end."""
  starts = boundaries(stream)
  count = len(starts) + 1 if phases is None else phases
  length, rest = divmod(stream.num_steps, count)
  ends = [length * (i + 1) for i in range(count)]
  if rest or not set(starts) <= set(ends):
    raise ValueError(
      f'Trials: phases is {count}; it must divide the {stream.num_steps} steps '
      'of the stream, and tasks must begin where phases do.'
    )
  return ends


def check_alike(first: streams.Stream, second: streams.Stream) -> None:
  """Refuses a second stream that the program of the first one cannot read."""
  for name, read in _ALIKE.items():
    if read(first) != read(second):
      raise ValueError(
        f'Trials.on: the streams differ in {name}; they may differ in their '
        'rows, tables and data only.'
      )


def rows_of(stream: streams.Stream) -> Any:
  """Rows to train and to test on, on the device once."""
  sets = stream.evaluation
  if sets is not None:
    sources = stream.source, sets.source
    if all(isinstance(source, Mapping) for source in sources):
      return jax.tree.map(jnp.asarray, sources)
  raise ValueError('Trials: the stream must be in memory and have test sets.')


def own_arrays(stream: streams.Stream, ends: Sequence[int], every: int) -> Own:
  """The arrays of all seeds, with the seeds in front."""
  sets, replicas = stream.evaluation, stream.replicas or 0
  assert sets is not None
  chunk = stream.chunk(0, stream.num_steps)
  first = lambda x: np.moveaxis(x, 1, 0)  # seeds, which come second
  cut = lambda x: x.reshape(len(x), len(ends), -1, every, *x.shape[2:])
  tasks = chunk.task_ids[np.asarray(ends) - 1]
  back = [stream.task_batches(int(task), _LOOK_BACK) for task in tasks]
  most = max(len(indices) for indices, _ in back)
  pad = lambda x: np.pad(x, [(0, most - len(x)), (0, 0), (0, 0)])
  look = lambda part: np.stack([first(pad(x[part])) for x in back], axis=1)
  return Own(
    cut(np.broadcast_to(chunk.task_ids, (replicas, stream.num_steps))),
    cut(first(chunk.indices)),
    cut(first(chunk.weights)),
    stream.tables,
    sets.tables,
    sets.indices,
    sets.weights,
    look(0),
    look(1),
  )


def test_batch(
  stream: streams.Stream, data: Any, own: Own
) -> dict[str, jax.Array]:
  """The test rows of all tasks, each leaf `[tasks, rows, ...]`."""
  sets = stream.evaluation
  assert sets is not None
  tasks = jnp.arange(sets.num_tasks, dtype=jnp.int32)
  make = lambda *x: batch_of(sets, data, own.test_tables, *x)
  return jax.vmap(make)(tasks, own.test_indices, own.test_weights)


_ALIKE: Mapping[str, Callable[[streams.Stream], Any]] = {
  'seeds': lambda stream: stream.replicas,
  'batch size': lambda stream: stream.plan.batch_size,
  'steps or boundaries': lambda stream: stream.plan.timetable,
  'what prepares a batch': lambda stream: stream.prepare,
  'what prepares the test sets': lambda stream: (
    stream.evaluation and stream.evaluation.prepare
  ),
}
