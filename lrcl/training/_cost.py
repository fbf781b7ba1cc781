"""What a method costs: passes per step, and what is kept between steps."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import tree
from lrcl.methods import (
  MemoryState,
  TaskMemoriesState,
  count_passes,
  mark_pass,
)
from lrcl.streams import Stream
from lrcl.training import _chunk
from lrcl.training._state import Learner, TrainState
from lrcl.training._step import make_train_step

_MEMORIES = (MemoryState, TaskMemoriesState)


class StepLedger(NamedTuple):
  """What one step costs and one run keeps; of one replica.

  Attributes:
    parameters: numbers that are trained, of whatever dtype.
    state_bytes: all else that is kept between steps, memories apart: moments,
      importance, copies of parameters, running averages.
    memory_bytes: of the memories: their rows, and the books kept of these.
    forward_passes: rows through the model at each step, in units of the
      stream's batch.
    backward_passes: the same, backwards.
    open_loops: loops whose number of turns is known only as they run, of which
      one turn is counted; see `lrcl.methods.count_passes`.

  Example:
    >>> replay = StepLedger(100, 0, 3200, 2.0, 2.0, 0)
    >>> replay.gradient_evaluations, replay.stored_bytes
    (2.0, 3200)
  """

  parameters: int
  state_bytes: int
  memory_bytes: int
  forward_passes: float
  backward_passes: float
  open_loops: int

  @property
  def gradient_evaluations(self) -> float:
    """The passes in gradients of one batch; a forward pass is a third of one.

    A pass backwards is about two forwards: it multiplies by each weight for
    the gradient of the inputs, and once more for its own.
    """
    return (self.forward_passes + 2 * self.backward_passes) / 3

  @property
  def stored_bytes(self) -> int:
    """All that is kept besides the parameters."""
    return self.state_bytes + self.memory_bytes


def step_ledger(
  learner: Learner, state: TrainState, stream: Stream, hyperparams: Any = None
) -> StepLedger:
  """Counts what one step of a learner costs, without running it.

  The program of the step is read, with its loops; what only a run can tell (a
  branch, a loop's end) is counted as `lrcl.methods.count_passes` says. The end
  of a task is no step. The passes that count are those of the learner's own
  `apply_fn`, and of what a method marks by `lrcl.methods.mark_pass`, as those
  of this library do.

  Args:
    learner: the learner.
    state: its state, of which only shapes are read.
    stream: gives the batch. What it learns from passes of its own
      (`lrcl.streams.draw_tasks`) counts, too.
    hyperparams: as for `train_stream`.

  Returns:
    A `StepLedger`. `state_bytes` and `memory_bytes` are of `opt_state`,
    `model_state` and `stream_state`; a memory is a `MemoryState` or a
    `TaskMemoriesState`.

  Example:
    >>> import numpy as np, optax
    >>> from lrcl import streams
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 2}
    >>> stream = streams.split(train, num_tasks=2, batch_size=4)
    >>> tx = optax.adam(0.1)
    >>> learner = Learner(tx, lambda p, x, **_: (x @ p, ()))
    >>> params = jnp.zeros((2, 2))
    >>> state = TrainState(
    ...   jnp.int32(0), params, tx.init(params), jax.random.key(0)
    ... )
    >>> ledger = step_ledger(learner, state, stream)
    >>> ledger.parameters, ledger.state_bytes, ledger.memory_bytes
    (4, 36, 0)
    >>> ledger.forward_passes, ledger.backward_passes
    (1.0, 1.0)
  """
  lead = stream.replicas is not None
  first = lambda x: jax.eval_shape(lambda x: x[0] if lead else x, x)
  state, tables = jax.tree.map(first, (state, stream.tables))
  step = _make_step(learner, stream, hyperparams)
  passes = count_passes(step, state, stream.batch_spec, jnp.int32(0), tables)
  kept = (state.opt_state, state.model_state, state.stream_state)
  memory = sum(_bytes(tree.get_states(kept, kind)) for kind in _MEMORIES)
  return StepLedger(
    sum(x.size for x in jax.tree.leaves(state.params)),
    _bytes(kept) - memory,
    memory,
    passes.forward / stream.batch_size,
    passes.backward / stream.batch_size,
    passes.open_loops,
  )


def step_cost(
  learner: Learner, state: TrainState, stream: Stream, hyperparams: Any = None
) -> dict[str, float]:
  """The numbers of `step_ledger` by name, for records and reports.

  Args:
    learner: the learner.
    state: its state, of which only shapes are read.
    stream: gives the batch.
    hyperparams: as for `train_stream`.

  Returns:
    The fields of a `StepLedger`; `gradient_evaluations`, 1 for a method
    without further gradients, 2 for replay of as many rows; and
    `stored_bytes`.

  Example:
    >>> import numpy as np, optax
    >>> from lrcl import streams
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 2}
    >>> stream = streams.split(train, num_tasks=2, batch_size=4)
    >>> learner = Learner(optax.sgd(0.1), lambda p, x, **_: (x @ p, ()))
    >>> params = jnp.zeros((2, 2))
    >>> state = TrainState(
    ...   jnp.int32(0), params, learner.tx.init(params), jax.random.key(0)
    ... )
    >>> cost = step_cost(learner, state, stream)
    >>> cost['gradient_evaluations'], cost['stored_bytes']
    (1.0, 0.0)
  """
  ledger = step_ledger(learner, state, stream, hyperparams)
  numbers = dict(
    ledger._asdict(),
    gradient_evaluations=ledger.gradient_evaluations,
    stored_bytes=ledger.stored_bytes,
  )
  return {name: float(value) for name, value in numbers.items()}


def _make_step(learner: Learner, stream: Stream, hyperparams: Any) -> Any:
  """The step of the loop, `(state, batch, task_id, tables)`, with its marks."""

  def marked(params, inputs, **kwargs):
    logits, model_state = learner.apply_fn(params, inputs, **kwargs)
    rows = jax.tree.leaves(inputs)[0].shape[0]
    return mark_pass(logits, rows), model_state

  tx = learner.tx(hyperparams) if callable(learner.tx) else learner.tx
  step, arms = make_train_step(marked, learner.loss_fn, tx), stream.arms
  if arms is None:
    return lambda state, batch, task_id, tables: step(state, batch, task_id)
  step = _chunk.learning_step(
    step, dataclasses.replace(learner, apply_fn=marked), arms
  )

  def learning(state, batch, task_id, tables):
    size = stream.batch_size
    drawn, _ = arms.draw(state.stream_state, state.step, tables, size)
    return step(state, batch, task_id, drawn)

  return learning


def _bytes(states: Any) -> int:
  """Of all arrays; a typed key as its data."""
  total = 0
  for leaf in jax.tree.leaves(states):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.eval_shape(jax.random.key_data, leaf)
    total += leaf.size * leaf.dtype.itemsize
  return total
