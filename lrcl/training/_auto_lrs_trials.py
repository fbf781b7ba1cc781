"""Trials: the losses of a few steps from one state, at several rates."""

from collections.abc import Callable, Iterator, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from lrcl import tree
from lrcl.streams import RESIDENT_BYTES, Stream, is_resident
from lrcl.training import _chunk
from lrcl.training._state import Learner, TrainState
from lrcl.training._task_end import make_task_end


class Trials:
  """Runs the same steps of a stream from one state at several rates.

  The chunk is the one that `train_stream` compiles for the same learner, so
  trials that run one after another compile nothing of their own. The state
  that is passed in stays as it is.

  Args:
    learner: a learner whose `tx` is a function of `hyperparams`.
    stream: a single stream.
    length: steps per chunk, as `train_stream` has it.
    hyperparams: `hyperparams(rates)` makes the argument of `learner.tx` of one
      rate; of several it makes a stack.
    validate: `validate(state) -> loss`, for trials that are validated.
    together: run all rates of a call as one program (`jax.vmap`), which holds
      as many states; else one after another.
    mesh: as for `train_stream`.
    resident_bytes: as for `train_stream`.
  """

  def __init__(
    self,
    learner: Learner,
    stream: Stream,
    *,
    length: int,
    hyperparams: Callable[[Any], Any],
    validate: Callable[[TrainState], Any] | None = None,
    together: bool = False,
    mesh: Mesh | None = None,
    resident_bytes: int = RESIDENT_BYTES,
  ):
    self._stream, self._length, self._mesh = stream, length, mesh
    self._hyperparams, self._validate = hyperparams, validate
    self._together = together
    self._resident = is_resident(stream.source, resident_bytes)
    self._chunk = _chunk.make_chunk(
      learner,
      stream.prepare,
      length=length,
      resident=self._resident,
      replicas=None,
      mesh=mesh,
      axis_name=None,
      arms=None,
    )
    self._end_task = make_task_end(learner, stream, self._resident)
    if together:
      self._chunk = _over_rates(self._chunk)
    data: Any = stream.source if self._resident else {}
    self._data = _chunk.place(dict(data), mesh)
    self._tables = _chunk.place(stream.tables, mesh)

  def run(
    self,
    state: TrainState,
    rates: Sequence[float],
    start: int,
    steps: int,
    every: int | None = None,
  ) -> np.ndarray:
    """The losses of a trial at each rate.

    Args:
      state: where all of them begin.
      rates: learning rates.
      start: the step of `state`.
      steps: the length of a trial.
      every: validate after this many steps, and again, ...; None: take the
        training loss of every step.

    Returns:
      `[rates, steps]`, or `[rates, steps // every]` of validation losses.
    """
    if self._together:
      states = jax.tree.map(lambda x: jnp.stack([x] * len(rates)), state)
      return self._losses(states, np.asarray(rates), start, steps, every)
    one = lambda rate: self._losses(
      tree.copy(state), np.asarray(rate), start, steps, every
    )
    return np.stack([one(rate) for rate in rates])

  def _losses(self, state, rates, start, steps, every) -> np.ndarray:
    state = _chunk.place(state, self._mesh)
    hyperparams = _chunk.place(self._hyperparams(rates), self._mesh)
    training, validation = [], []
    for step, stop in self._segments(start, steps, every):
      if step in self._stream.boundaries:
        state = self._end(state, step)
      state, losses = self._advance(state, step, stop, hyperparams)
      training.append(losses)
      if every and (stop - start) % every == 0:
        validation.append(self._validated(state))
    if every:
      return np.stack(validation, -1)
    return np.concatenate(training, -1)

  def _segments(
    self, start: int, steps: int, every: int | None
  ) -> Iterator[tuple[int, int]]:
    """Cuts the trial where a chunk, a task or a validation ends it."""
    step, end = start, start + steps
    while step < end:
      stops = [end, step + self._length]
      stops += [b for b in self._stream.boundaries if b > step]
      stops += [step + every - (step - start) % every] if every else []
      yield step, min(stops)
      step = min(stops)

  def _advance(self, state, step, stop, hyperparams):
    inputs = _chunk.read_chunk(
      self._stream, step, stop - step, self._length, self._resident
    )
    inputs = _chunk.place_inputs(inputs, self._mesh, None)
    active = jnp.int32(stop - step)
    state, infos = self._chunk(
      state, self._data, self._tables, inputs, active, hyperparams
    )
    return state, np.asarray(infos.loss)[..., : stop - step]

  def _end(self, state, step):
    end = lambda state: self._end_task(state, self._data, self._tables, step)
    return jax.vmap(end)(state) if self._together else end(state)

  def _validated(self, state) -> np.ndarray:
    assert self._validate is not None
    if not self._together:
      return np.asarray(self._validate(state), np.float64)
    states = [
      jax.tree.map(lambda x, i=i: x[i], state)
      for i in range(state.step.shape[0])
    ]
    return np.array([self._validate(one) for one in states], np.float64)


@functools.lru_cache(maxsize=32)
def _over_rates(chunk: _chunk.RunChunk) -> _chunk.RunChunk:
  """The chunk over a stack of states and their hyper-parameters."""
  over_rates = jax.vmap(chunk, (0, None, None, None, None, 0))
  return jax.jit(over_rates, donate_argnums=0)
