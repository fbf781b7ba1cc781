"""What happens between two tasks: a look back at the finished one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.streams import Stream, make_batch
from lrcl.training._state import Learner, TrainState, identity

_SALT = 0x7A5C  # sets the keys of task ends apart from those of steps


def make_task_end(
  learner: Learner,
  stream: Stream,
  resident: bool,
  *,
  max_bytes: int = 2**30,
) -> Any:
  """Makes `end_task(state, data, tables, step) -> state`.

  It runs `learner.on_task_end` on the task that ends at `step`, compiled once
  for all tasks: tasks of fewer batches are padded by batches of weight 0.

  Args:
    learner: gives `on_task_end`.
    stream: gives the finished task's rows.
    resident: whether `data` holds the source.
    max_bytes: of a larger source at most this much of a task is looked at, in
      the order of its rows.
  """
  if learner.on_task_end is identity:
    return lambda state, data, tables, step: state

  compiled = _compile(learner, stream.prepare, stream.replicas, resident)
  batch_size = look_back_size(stream)

  most_batches = -(-stream.plan.most_task_rows // batch_size)

  def end_task(state, data, tables, step) -> TrainState:
    task = int(stream.chunk(step - 1, 1).task_ids[0])
    indices, weights = stream.task_batches(task, batch_size)
    missing = most_batches - len(indices)
    indices, weights = _extend(indices, missing), _extend(weights, missing)
    rows = indices
    if not resident:
      fit = _fitting(stream, indices, max_bytes)
      rows, weights = stream.rows(indices[:fit]), weights[:fit]
    return compiled(state, data, tables, jnp.int32(task), rows, weights)

  return end_task


@functools.lru_cache(maxsize=32)
def _compile(learner, prepare, replicas, resident):
  """The end of a task as one program, compiled once for all of a stream."""

  def run(state, data, tables, task, rows, weights):
    def batch(args):
      rows, weights = args
      if resident:
        rows = jax.tree.map(lambda x: x[rows], data)
      return make_batch(rows, tables, task, weights, prepare)

    batches = jax.lax.map(batch, (rows, weights))
    key = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), _SALT)
    return learner.on_task_end(state, batches, key)

  compiled = jax.jit(run, donate_argnums=0)
  if replicas is None:
    return compiled

  def run_each(state, data, tables, task, rows, weights):
    # One program for all: inside another one, a replica might be rounded
    # otherwise than a single run, and ends of tasks are rare.
    states = []
    for i in range(replicas):
      one, table = jax.tree.map(lambda x, i=i: x[i], (state, tables))
      mine = jax.tree.map(lambda x, i=i: x[:, i], (rows, weights))
      states.append(compiled(one, data, table, task, *mine))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

  return run_each


def look_back_size(stream: Stream) -> int:
  """Rows per batch of `task_data`: the stream's, more where that is little.

  An online stream of ten rows a step would make a pass over a task slow. Up to
  128 rows are taken, and not more than 1 MiB of them.
  """
  row = sum(x.nbytes for x in stream.rows(np.zeros(1, np.int32)).values())
  return max(stream.batch_size, min(128, 2**20 // max(row, 1)))


def _extend(array: np.ndarray, missing: int) -> np.ndarray:
  """Adds `missing` batches of zeros."""
  zeros = np.zeros((missing, *array.shape[1:]), array.dtype)
  return np.concatenate([array, zeros])


def _fitting(stream: Stream, indices: np.ndarray, max_bytes: int) -> int:
  """How many batches of the source's rows fit into `max_bytes`."""
  one = sum(x.nbytes for x in stream.rows(indices[:1]).values())
  return max(1, min(len(indices), max_bytes // max(one, 1)))
