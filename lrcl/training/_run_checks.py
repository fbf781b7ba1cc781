"""What must hold before a run: steps, devices, and a stream that learns."""

import jax
from jax.sharding import Mesh
import numpy as np

from lrcl.streams import Stream, is_resident
from lrcl.training._state import TrainState


def first_step(state: TrainState) -> int:
  """The step of a state, replicated or not, as an int."""
  return int(np.asarray(jax.device_get(state.step)).reshape(-1)[0])


def check_steps(stream: Stream, state: TrainState, steps: int | None) -> int:
  """The step at which to stop; checks that state and stream go together."""
  last = stream.num_steps
  steps = last if steps is None else steps
  if not first_step(state) <= steps <= last:
    raise ValueError(
      f'train_stream: steps is {steps}; it must lie between the step of the '
      f'state, {first_step(state)}, and the end of the stream, {last}.'
    )
  found = np.shape(state.step)
  wanted = () if stream.replicas is None else (stream.replicas,)
  if found != wanted:
    raise ValueError(
      f'train_stream: the state has replicas {found}, the stream {wanted}; '
      'make the state with create_states, one seed per replica of the stream.'
    )
  return steps


def check_devices(
  stream: Stream, mesh: Mesh | None, axis_name: str | None
) -> None:
  """Checks that a batch can be spread over the devices."""
  devices = 1 if mesh is None else mesh.shape[mesh.axis_names[0]]
  if axis_name is not None:
    devices = jax.local_device_count()
    if stream.replicas is not None:
      raise ValueError(
        'train_stream: axis_name does not go with a replicated stream; spread '
        'the batches of replicas with mesh.'
      )
  if stream.batch_size % devices:
    raise ValueError(
      f'train_stream: batches of {stream.batch_size} do not divide among '
      f'{devices} devices; take a multiple of {devices}.'
    )


def check_arms(
  stream: Stream, state: TrainState, resident_bytes: int, axis_name: str | None
) -> None:
  """Checks that a stream that learns has its state, and its rows at hand."""
  if stream.arms is None:
    return
  wanted = jax.tree.structure(jax.eval_shape(stream.init_state))
  if jax.tree.structure(state.stream_state) != wanted:
    raise ValueError(
      'train_stream: the stream learns which task comes next, and the state '
      'does not hold what it learned; begin with '
      'state._replace(stream_state=stream.init_state()).'
    )
  if axis_name is not None or not is_resident(stream.source, resident_bytes):
    raise ValueError(
      'train_stream: a stream that learns which task comes next draws its rows '
      'on the device; give arrays up to resident_bytes, and no axis_name (a '
      'mesh will do).'
    )
