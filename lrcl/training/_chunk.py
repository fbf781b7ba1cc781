"""A chunk of steps as one compiled program, for every length up to its own."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from lrcl.streams import Arms, Stream, make_batch
from lrcl.training._state import Learner, TrainState
from lrcl.training._step import StepInfo, make_train_step


class ChunkInput(NamedTuple):
  """What one chunk reads, padded to the chunk's length.

  Attributes:
    task_ids: int32 `[steps]`.
    rows: int32 indices `[steps, batch]` into the resident data, or the rows
      themselves, a dict of `[steps, batch, ...]`. Replicated streams have one
      more axis, `[steps, replicas, batch]`.
    weights: float32, of the indices' shape.
  """

  task_ids: Any
  rows: Any
  weights: Any


RunChunk = Callable[..., tuple[TrainState, StepInfo]]
Prepare = Callable[..., Any]


def choose_length(params: Any, stream: Stream) -> int:
  """Steps per chunk: 50, more where a step of a tiny model costs too little.

  A chunk should be worth its dispatch: about 10 GFLOP, at most 1,000 steps.
  """
  replicas = stream.replicas or 1
  size = sum(x.size for x in jax.tree.leaves(params)) // replicas
  flops = 6 * max(size, 1) * stream.batch_size * replicas
  return int(np.clip(10**10 // flops, 50, 1000))


def read_chunk(
  stream: Stream, start: int, steps: int, length: int, resident: bool
) -> ChunkInput:
  """Reads `steps` steps of the plan on the host, padded to `length`."""
  chunk = stream.chunk(start, steps)
  rows = chunk.indices if resident else stream.rows(chunk.indices)
  inputs = ChunkInput(chunk.task_ids, rows, chunk.weights)
  if steps == length:
    return inputs
  zeros = lambda x: np.zeros((length - steps, *x.shape[1:]), x.dtype)
  return jax.tree.map(lambda x: np.concatenate([x, zeros(x)]), inputs)


@functools.lru_cache(maxsize=32)
def make_chunk(
  learner: Learner,
  prepare: Prepare,
  *,
  length: int,
  resident: bool,
  replicas: int | None = None,
  mesh: Mesh | None = None,
  axis_name: str | None = None,
  use_vmap: bool | None = None,
  arms: Arms | None = None,
) -> RunChunk:
  """Makes the compiled `chunk(...) -> (state, infos)` of one kind of run.

  `chunk(state, data, tables, inputs, active, hyperparams)`: the number of
  active steps, the tasks, the rows and the hyper-parameters are arrays, so
  that task ends, saves, remainders and branches cost no retrace; a later call
  for the same learner finds the program compiled. The state is donated; data
  are arguments, never constants of the program.

  Args:
    learner: the learner.
    prepare: the stream's `prepare`.
    length: steps per chunk.
    resident: whether rows come as indices into `data`.
    replicas: the number of replicas of state and stream, or None.
    mesh: see `make_train_step`.
    axis_name: see `make_train_step`; the chunk is then mapped by `pmap`.
    use_vmap: how replicas run: `vmap` (default on accelerators), or one after
      another in one program (default on CPUs: bit-identical to single runs
      and no slower).
    arms: what draws the rows of each step, in place of `inputs`, and learns
      from what came of them.
  """

  def run(state, data, tables, inputs, active, hyperparams):
    tx = learner.tx(hyperparams) if callable(learner.tx) else learner.tx
    step = make_train_step(
      learner.apply_fn, learner.loss_fn, tx, mesh=mesh, axis_name=axis_name
    )

    step = step if arms is None else learning_step(step, learner, arms)

    def body(i, carry):
      state, infos = carry
      rows: Any = jax.tree.map(lambda x: x[i], inputs.rows)
      drawn = ()
      if arms is not None:
        size = rows.shape[0]
        drawn = arms.draw(state.stream_state, state.step, tables, size)
        rows = drawn[1]
      if resident:
        rows = jax.tree.map(lambda x: x[rows], data)
      task_id, weights = inputs.task_ids[i], inputs.weights[i]
      batch = make_batch(rows, tables, task_id, weights, prepare)
      state, info = step(state, batch, task_id, *drawn[:1])
      infos = jax.tree.map(lambda all, x: all.at[i].set(x), infos, info)
      return state, infos

    return jax.lax.fori_loop(0, active, body, (state, _blank(length)))

  if replicas is not None:
    run = _over_replicas(run, use_vmap)
  if axis_name is not None:
    return _over_devices(run, axis_name)
  return jax.jit(run, donate_argnums=0)


def learning_step(step: Any, learner: Learner, arms: Arms) -> Any:
  """The step, after which the sampler is told what came of each row."""

  def losses(state: TrainState, batch: Any) -> jax.Array:
    logits, _ = learner.apply_fn(
      state.params,
      batch['inputs'],
      rng=None,
      model_state=state.model_state,
      train=False,
    )
    return learner.loss_fn(logits, batch)

  def step_and_tell(state, batch, task_id, drawn):
    before = losses(state, batch)
    state, info = step(state, batch, task_id)
    after = losses(state, batch) if arms.looks_twice else before
    stream_state = arms.update(
      state.stream_state, drawn, arms.told(before, after), batch['weight']
    )
    return state._replace(stream_state=stream_state), info

  return step_and_tell


def _blank(length: int) -> StepInfo:
  """Reports of steps that have not run."""
  nan = jnp.full(length, jnp.nan, jnp.float32)
  return StepInfo(nan, nan, jnp.full(length, -1, jnp.int32))


def _over_replicas(run, use_vmap):
  """Runs `run` for each replica of the state, in one program."""
  if use_vmap is None:
    use_vmap = jax.default_backend() != 'cpu'

  def run_all(state, data, tables, inputs, active, hyperparams):
    # [steps, replicas, ...] -> [replicas, steps, ...]
    swap = functools.partial(jax.tree.map, lambda x: jnp.swapaxes(x, 0, 1))
    rows, weights = swap(inputs.rows), swap(inputs.weights)

    def one(args):
      state, tables, rows, weights = args
      inputs_ = ChunkInput(inputs.task_ids, rows, weights)
      return run(state, data, tables, inputs_, active, hyperparams)

    args = (state, tables, rows, weights)
    return jax.vmap(one)(args) if use_vmap else jax.lax.map(one, args)

  return run_all


def _over_devices(run, axis_name):
  """Maps `run` over the local devices by `pmap`; the state stays global."""
  mapped = jax.pmap(
    run,
    axis_name=axis_name,
    in_axes=(None, None, None, 0, None, None),
    out_axes=None,
  )

  def run_mapped(state, data, tables, inputs, active, hyperparams):
    devices = jax.local_device_count()

    def spread(x):  # [steps, batch, ...] -> [devices, steps, batch / devices]
      x = jnp.asarray(x)
      x = x.reshape(x.shape[0], devices, -1, *x.shape[2:])
      return jnp.swapaxes(x, 0, 1)

    tasks = jnp.broadcast_to(inputs.task_ids, (devices, *inputs.task_ids.shape))
    rows = jax.tree.map(spread, inputs.rows)
    inputs = ChunkInput(tasks, rows, spread(inputs.weights))
    return mapped(state, data, tables, inputs, active, hyperparams)

  return run_mapped


def place(tree: Any, mesh: Mesh | None) -> Any:
  """Puts arrays on the device, or on every device of the mesh."""
  if mesh is None:
    return jax.tree.map(jnp.asarray, tree)
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def place_inputs(
  inputs: ChunkInput, mesh: Mesh | None, replicas: int | None
) -> ChunkInput:
  """Puts a chunk's input on the device, its batch axis split over the mesh."""
  if mesh is None:
    return inputs
  lead = [None] if replicas is None else [None, None]
  spec = PartitionSpec(*lead, mesh.axis_names[0])
  split = lambda x: jax.device_put(x, NamedSharding(mesh, spec))
  rows, weights = jax.tree.map(split, (inputs.rows, inputs.weights))
  return ChunkInput(place(inputs.task_ids, mesh), rows, weights)
