"""Fine-tuning at the end of training, of a task, or every so often."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.losses import cross_entropy
from lrcl.methods import MemoryState
from lrcl.streams import Stream
from lrcl.training._book import Record
from lrcl.training._fine_tune import fine_tune_on_memory
from lrcl.training._loop import train_stream
from lrcl.training._run_checks import first_step
from lrcl.training._state import Learner, TaskEnd, TrainState

_SALT = 0xF1FE  # sets these keys apart from those of steps and of task ends


@dataclasses.dataclass(frozen=True, eq=False)
class FineTuning:
  """`fine_tune_on_memory` as a function of a state, in the form of a hook.

  It is an `on_task_end` of a `Learner`, and what `train_and_fine_tune` runs
  between steps. The memory is the first in the state of the optimizer. With a
  replaying method that is FPF; with plain SGD in `with_memory`, which stores
  rows and replays none, it is k-FPF.

  Attributes:
    apply_fn: the model.
    tx: the optimizer of the fine-tuning.
    loss_fn: the loss on rows of the memory.
    mask: which leaves are trained.
    steps: of one fine-tuning.
    batch_size: rows of a step.

  Example:
    >>> tuning = FineTuning(lambda p, x, **_: (x @ p, ()), optax.sgd(0.1))
    >>> tuning.rows  # that one call learns from
    9600

  References:
    Zhao et al., `Does continual learning equally forget all parameters?
    <https://arxiv.org/abs/2304.04158>`_, 2023
  """

  apply_fn: Any
  tx: optax.GradientTransformation
  loss_fn: base.LossFn = cross_entropy
  mask: Any = None
  steps: int = 300
  batch_size: int = 32

  @property
  def rows(self) -> int:
    """Examples whose gradient one call takes, for tables of costs."""
    return self.steps * self.batch_size

  def __call__(
    self, state: TrainState, task_data: Any, key: jax.Array
  ) -> TrainState:
    """Fine-tunes `state`; `task_data` is not looked at.

    Raises:
      ValueError: if the optimizer keeps no memory.
    """
    del task_data
    memories = tree.get_states(state.opt_state, MemoryState)
    if not memories:
      raise ValueError(
        'FineTuning: the state of the optimizer has no memory; wrap tx in '
        'with_memory.'
      )
    params, model_state = fine_tune_on_memory(
      self.apply_fn,
      state.params,
      memories[0],
      self.tx,
      key,
      loss_fn=self.loss_fn,
      mask=self.mask,
      steps=self.steps,
      batch_size=self.batch_size,
      model_state=state.model_state,
    )
    return state._replace(params=params, model_state=model_state)


def train_and_fine_tune(
  learner: Learner,
  state: TrainState,
  stream: Stream,
  fine_tune: TaskEnd,
  times: int,
  *,
  steps: int | None = None,
  trace: Any = None,
  **options: Any,
) -> tuple[TrainState, list[Record]]:
  """Trains on a stream and fine-tunes `times` times, the end included (k-FPF).

  The stops lie at equal distances, whatever the tasks; training goes on from
  the fine-tuned parameters. Once is FPF after training.

  A record and a checkpoint at a stop are of the state before it was
  fine-tuned. A state that comes from a checkpoint at a stop is therefore
  fine-tuned first, and a run that was stopped and restored ends with the same
  bits. A returned state has been fine-tuned already: it is not one to go on
  from, unless the step is no stop of the next call. Its accuracy is not in the
  records; evaluate it.

  Cost: that of `train_stream`, and `times` fine-tunings, which are compiled
  once for all calls with the same `fine_tune`.

  Args:
    learner: its `tx` keeps a memory (`with_memory`).
    state: where to begin.
    stream: the stream, replicated or not.
    fine_tune: `fine_tune(state, None, key) -> state`, a `FineTuning`.
    times: how many times, at least 1.
    steps: the last step; by default the stream's end.
    trace: as for `train_stream`.
    **options: those of `train_stream`.

  Returns:
    The state after the last fine-tuning, and the records.

  Raises:
    ValueError: if `times` is below 1 or above the number of steps, or by
      `train_stream`.

  Example:
    >>> import numpy as np, optax
    >>> from lrcl import methods, streams, training
    >>> train = {'inputs': np.eye(8, dtype=np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> stream = streams.split(
    ...   train, num_tasks=2, batch_size=4, steps_per_task=3)
    >>> apply_fn = lambda p, x, **_: (x @ p, ())
    >>> tx = methods.with_memory(optax.sgd(0.5), 8, stream.batch_spec, 1)
    >>> init_fn = lambda key: (jnp.zeros((8, 4)), ())
    >>> state = training.create_state(init_fn, tx, jax.random.key(0))
    >>> tuning = training.FineTuning(apply_fn, optax.sgd(0.5), steps=10)
    >>> state, records = train_and_fine_tune(
    ...   Learner(tx, apply_fn), state, stream, tuning, times=2)
    >>> [r['step'] for r in records]
    [3, 6]

  References:
    Zhao et al., `Does continual learning equally forget all parameters?
    <https://arxiv.org/abs/2304.04158>`_, 2023
  """
  last = stream.num_steps if steps is None else steps
  stops = fine_tuning_stops(last, times)
  run = _compile(fine_tune, stream.replicas)
  records: list[Record] = []
  now = first_step(state)
  for stop in [stop for stop in stops if stop > now] or [last]:
    if first_step(state) in stops[:-1]:
      state = run(state)
    state, more = train_stream(
      learner, state, stream, steps=stop, trace=trace, **options
    )
    records, trace = records + more, None
  return run(state), records


def fine_tuning_stops(steps: int, times: int) -> list[int]:
  """The steps after which to fine-tune; the last of them is `steps`.

  Args:
    steps: length of the run.
    times: how many times to fine-tune.

  Raises:
    ValueError: if `times` is below 1 or above `steps`.
  """
  base.check_steps('train_and_fine_tune', 'times', times, minimum=1)
  if times > steps:
    raise ValueError(
      f'train_and_fine_tune: times is {times}; there are {steps} steps only.'
    )
  return [steps * (i + 1) // times for i in range(times)]


@functools.lru_cache(maxsize=32)
def _compile(
  fine_tune: TaskEnd, replicas: int | None
) -> Callable[[TrainState], TrainState]:
  """One fine-tuning as one program, with a key of its step."""

  def run(state: TrainState) -> TrainState:
    key = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), _SALT)
    return fine_tune(state, {}, key)

  compiled = jax.jit(run)
  if replicas is None:
    return compiled

  def run_each(states: TrainState) -> TrainState:
    # As at ends of tasks: the program of a single run, so that it has its bits.
    at = lambda i: jax.tree.map(lambda x: x[i], states)
    done = [compiled(at(i)) for i in range(replicas)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)

  return run_each
