"""The loop: chunks on the device, and everything else between two chunks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh

from lrcl import base, tree
from lrcl.streams import Stream, is_resident
from lrcl.training import _chunk
from lrcl.training._book import Book, Record
from lrcl.training._branches import Branches
from lrcl.training._effective_rate import make_read_rates
from lrcl.training._interrupt import Interrupted, catch_signals
from lrcl.training._progress import Progress
from lrcl.training._run_checks import (
  check_arms,
  check_devices,
  check_steps,
  first_step,
)
from lrcl.training._state import Learner, TrainState
from lrcl.training._task_end import make_task_end
from lrcl.training._trace import Trace


def train_stream(
  learner: Learner,
  state: TrainState,
  stream: Stream,
  *,
  steps: int | None = None,
  evaluate: Callable[[TrainState], Mapping[str, Any]] | None = None,
  evaluate_every: int | None = None,
  branches: Branches | None = None,
  branch: str = 'main',
  save_every: int | None = None,
  on_record: Callable[[Record], None] | None = None,
  about: Mapping[str, Any] | None = None,
  trace: Mapping[str, Any] | None = None,
  hyperparams: Any = None,
  mesh: Mesh | None = None,
  axis_name: str | None = None,
  chunk_steps: int | None = None,
  resident_bytes: int = 2**30,
  progress: bool | None = None,
) -> tuple[TrainState, list[Record]]:
  """Trains on a stream from `state.step` on, and says what came of it.

  The steps run in compiled chunks, compiled once. Between two chunks, at the
  end of every task, every `evaluate_every` steps and at the end, the state is
  evaluated and a record made; at the end of every task, every `save_every`
  steps and at the end it is saved. All of these fall on absolute steps, so
  that a run that was stopped and restored makes the same records.

  Args:
    learner: model, loss and transformations.
    state: where to begin; it is copied, never donated.
    stream: the stream; a replicated one goes with `create_states`.
    steps: the step at which to stop; by default the stream's end.
    evaluate: `evaluate(state) -> metrics`, see `make_evaluator`.
    evaluate_every: evaluate at multiples of this, besides ends of tasks.
    branches: where to save; nothing is saved by default.
    branch: the branch that this run writes.
    save_every: save at multiples of this, besides ends of tasks.
    on_record: called with each record, before the state is saved.
    about: further fields for every record: `row`, `config`, `seeds` ...
    trace: the steps since the last record, as `Restored.extra['trace']` of
      the checkpoint has them; pass it on when a run is restored.
    hyperparams: pytree of arrays for a learner whose `tx` is a function of
      them. They are arguments of the compiled chunk: a sweep over rates, or a
      branch under another schedule, compiles nothing anew.
    mesh: shards each batch over the devices of the mesh under `jit`.
    axis_name: maps the step over the local devices by `pmap` instead.
    chunk_steps: steps per compiled chunk; by default 50, more for tiny models.
    resident_bytes: arrays up to this size live on the device; larger sources
      are gathered on the host one chunk ahead. Both are bit-identical.
    progress: show a progress bar; by default on a terminal only.

  Returns:
    The final state, and the records as a list of dicts.

  Raises:
    ValueError: for steps that the stream does not have, a state that does not
      go with it, or batches that do not divide among the devices.
    FloatingPointError: if a loss or a parameter is not finite: names the step,
      the learning rate and the last good checkpoint. Nothing is saved then.
    Interrupted: on SIGINT or SIGTERM, after the state has been saved.

  Example:
    >>> import jax, numpy as np, optax
    >>> from lrcl import streams
    >>> train = {'inputs': np.eye(8, dtype=np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> stream = streams.split(
    ...   train, num_tasks=2, batch_size=4, steps_per_task=3
    ... )
    >>> learner = Learner(optax.sgd(0.5), lambda p, x, **_: (x @ p, ()))
    >>> params = jnp.zeros((8, 4))
    >>> state = TrainState(
    ...   jnp.int32(0), params, learner.tx.init(params), jax.random.key(0)
    ... )
    >>> state, records = train_stream(learner, state, stream)
    >>> int(state.step), [(r['step'], r['task']) for r in records]
    (6, [(3, 0), (6, 1)])
  """
  start, steps = first_step(state), check_steps(stream, state, steps)
  for name, every in (
    ('evaluate_every', evaluate_every),
    ('save_every', save_every),
    ('chunk_steps', chunk_steps),
  ):
    if every is not None:
      base.check_steps('train_stream', name, every, 1)
  check_devices(stream, mesh, axis_name)
  check_arms(stream, state, resident_bytes, axis_name)
  book = Book(
    stream,
    Trace(start, trace),
    evaluate=evaluate,
    branches=branches,
    branch=branch,
    on_record=on_record,
    about=about or {},
    read_rates=make_read_rates(learner.effective_rate, stream.replicas),
  )
  device = _Device(
    learner,
    stream,
    length=chunk_steps or _chunk.choose_length(state.params, stream),
    resident=is_resident(stream.source, resident_bytes),
    hyperparams=hyperparams,
    mesh=mesh,
    axis_name=axis_name,
  )
  stops = _Stops(stream, steps, evaluate_every, save_every)
  label = f'{(about or {}).get("row", "")}/{branch}'.strip('/')
  with Progress(steps, start, label, progress) as bar, catch_signals() as stop:
    state = _train(device, book, stops, state, bar, stop)
  return state, book.records


class _Segment(NamedTuple):
  """The steps `[start, stop)`, which one chunk runs."""

  start: int
  stop: int


class _Stops:
  """The steps at which something is to be done, all of them absolute."""

  def __init__(self, stream, end, evaluate_every, save_every):
    self.end = end
    self._plan = stream.plan
    self._evaluate_every, self._save_every = evaluate_every, save_every

  def segments(self, step: int, length: int) -> Iterator[_Segment]:
    """Cuts the run into segments of at most `length` steps."""
    while step < self.end:
      stops = [step + length, self.end, self._plan.next_boundary(step)]
      for every in (self._evaluate_every, self._save_every):
        stops += [step + every - step % every] if every else []
      yield _Segment(step, min(stops))
      step = min(stops)

  def begins_task(self, step: int) -> bool:
    return 0 < step < self._plan.num_steps and self.ends_task(step)

  def ends_task(self, step: int) -> bool:
    return step > 0 and self._plan.next_boundary(step - 1) == step

  def evaluates(self, step: int) -> bool:
    return self._at(step, self._evaluate_every)

  def saves(self, step: int) -> bool:
    return self._at(step, self._save_every)

  def _at(self, step: int, every: int | None) -> bool:
    is_multiple = bool(every) and step % every == 0
    return is_multiple or step == self.end or self.ends_task(step)


class _Device:
  """The compiled programs of a run, and what lies on the device for them."""

  def __init__(
    self, learner, stream, *, length, resident, hyperparams, mesh, axis_name
  ):
    self.stream, self.length, self.resident = stream, length, resident
    self.mesh = mesh
    self._hyperparams = _chunk.place(hyperparams, mesh)
    self._chunk = _chunk.make_chunk(
      learner,
      stream.prepare,
      length=length,
      resident=resident,
      replicas=stream.replicas,
      mesh=mesh,
      axis_name=axis_name,
      arms=stream.arms,
    )
    self._data = _chunk.place(dict(stream.source), mesh) if resident else {}
    self._tables = _chunk.place(stream.tables, mesh)
    self._end_task = make_task_end(learner, stream, resident)

  def read(self, segment: _Segment | None) -> _chunk.ChunkInput | None:
    """The input of one segment, gathered on the host."""
    if segment is None:
      return None
    start, steps = segment.start, segment.stop - segment.start
    return _chunk.read_chunk(
      self.stream, start, steps, self.length, self.resident
    )

  def end_task(self, state, step):
    return self._end_task(state, self._data, self._tables, step)

  def run(self, state, segment, inputs):
    active = jnp.int32(segment.stop - segment.start)
    inputs = _chunk.place_inputs(inputs, self.mesh, self.stream.replicas)
    return self._chunk(
      state, self._data, self._tables, inputs, active, self._hyperparams
    )


def _train(device, book, stops, state, bar, stop) -> TrainState:
  """Runs every segment; reads the next one while the device computes."""
  state = _chunk.place(tree.copy(state), device.mesh)
  segments = stops.segments(first_step(state), device.length)
  segment = next(segments, None)
  inputs = device.read(segment)
  while segment is not None:
    if stops.begins_task(segment.start):
      state = device.end_task(state, segment.start)
    state, infos = device.run(state, segment, inputs)
    task = int(inputs.task_ids[segment.stop - segment.start - 1])
    following = next(segments, None)
    inputs = device.read(following)
    book.note(segment.start, infos, segment.stop - segment.start, task)
    bar.update(segment.stop, task, book.trace.last_rate, book.trace.last_loss)
    _write(book, stops, segment.stop, task, state)
    if stop.is_set():
      _interrupt(book, stops, segment.stop, task, state)
    segment = following
  return state


def _write(book, stops, step, task, state) -> None:
  """Records and saves, where `step` is one to do so."""
  if stops.evaluates(step):
    book.record(step, task, stops.ends_task(step), state)
  if stops.saves(step):
    book.save(step, task, stops.ends_task(step), state)


def _interrupt(book, stops, step, task, state) -> None:
  if not stops.saves(step):
    book.save(step, task, False, state)
  raise Interrupted(f'stopped at step {step} of {stops.end}')
