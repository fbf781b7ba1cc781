"""What the loop writes down between two chunks: records and checkpoints."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.streams import Stream
from lrcl.training import _records
from lrcl.training._branches import Branches
from lrcl.training._state import TrainState
from lrcl.training._step import StepInfo
from lrcl.training._trace import Trace

Record = dict[str, Any]
Evaluate = Callable[[TrainState], Mapping[str, Any]]
"""From a state to what is to be recorded of it."""


class Book:
  """Evaluates, records and saves on behalf of one run.

  Args:
    stream: what the run trains on.
    trace: the steps since the last record.
    evaluate: `evaluate(state) -> metrics`, or None.
    branches: where to save, or None.
    branch: the branch that the run writes.
    on_record: called with each record.
    about: further fields for every record.
    read_rates: `read_rates(state) -> {leaf: rate}`, or None.
  """

  def __init__(
    self,
    stream: Stream,
    trace: Trace,
    *,
    evaluate: Evaluate | None,
    branches: Branches | None,
    branch: str,
    on_record: Callable[[Record], None] | None,
    about: Mapping[str, Any],
    read_rates: Evaluate | None = None,
  ):
    self.records: list[Record] = []
    self.trace = trace
    self._rate = trace.last_rate
    self._stream, self._evaluate = stream, evaluate
    self._branches, self._branch = branches, branch
    self._on_record, self._read_rates = on_record, read_rates
    self._fields = {**_lineage_fields(branches, branch), **about}
    self._fields |= dict(plan=stream.digest, versions=_records.versions())

  def note(self, start: int, infos: StepInfo, steps: int, task: int) -> None:
    """Takes down the steps of a chunk; stops at a loss that is no number."""
    infos = jax.device_get(infos)
    self.trace.add(infos, steps)
    self._rate = self.trace.last_rate
    losses = infos.loss[..., :steps].reshape(-1, steps)
    bad = ~np.isfinite(losses)
    if bad.any():
      step = int(np.argmax(bad.any(0)))
      value = losses[:, step][bad[:, step]][0]
      rate = infos.learning_rate[..., step].reshape(-1)[0]
      self._fail(f'the loss is {value}', start + step, task, rate)

  def record(self, step: int, task: int, task_end: bool, state: Any) -> None:
    """Evaluates the state and records everything since the last record."""
    metrics = {} if self._evaluate is None else dict(self._evaluate(state))
    record = dict(
      step=step,
      task=task,
      task_end=task_end,
      **_numbers(self._stream),
      branch=self._branch,
      learning_rate=self.trace.last_rate,
      schedule_count=self.trace.count,
      metrics=metrics,
      trace=self.trace.as_dict(),
      **self._fields,
    )
    if self._stream.arms is not None:
      probs = self._stream.arms.probs(state.stream_state, state.step)
      record['arm_probabilities'] = np.asarray(probs).tolist()
    if self._read_rates is not None:
      record['effective_learning_rate'] = dict(self._read_rates(state))
    self.records.append(_records.to_json(record))
    self.trace = Trace(step)
    if self._on_record is not None:
      self._on_record(self.records[-1])

  def save(self, step: int, task: int, keep: bool, state: TrainState) -> None:
    """Saves the state, unless a parameter is no longer a finite number."""
    if self._branches is None:
      return
    if not all_finite(state.params):
      self._fail('a parameter is not finite', step, task, self._rate)
    extra = _records.to_json({'trace': self.trace.as_dict()})
    self._branches.save(state, self._branch, step=step, keep=keep, extra=extra)

  def _fail(self, what: str, step: int, task: int, rate: Any) -> NoReturn:
    row = f'{self._fields["row"]}: ' if 'row' in self._fields else ''
    raise FloatingPointError(
      f'{row}{what} at step {step} (task {task}, learning rate {rate:.6g}); '
      f'{self._last_good()}. Lower the learning rate, warm up for longer or '
      'clip the gradient.'
    )

  def _last_good(self) -> str:
    if self._branches is None:
      return 'nothing was saved, since no branches were given'
    where = self._branches.directory(self._branch)
    steps = self._branches.steps(self._branch)
    if not steps:
      return f'{where} has no checkpoint yet'
    return f'the last good checkpoint is step {steps[-1]} in {where}'


def _numbers(stream: Stream) -> dict[str, int]:
  """How many tasks there are and, where that differs, how many test sets."""
  found = dict(num_tasks=stream.num_tasks)
  sets = stream.evaluation
  if sets is not None and sets.num_tasks != stream.num_tasks:
    found['num_test_sets'] = sets.num_tasks
  return found


def _lineage_fields(branches: Branches | None, branch: str) -> dict[str, Any]:
  """What a record says of its branch: where it forked, and its schedule."""
  lineage = branches.tree().get(branch) if branches is not None else None
  if lineage is None:
    return dict(parent=None, schedule=None)
  parent = lineage.parent and [lineage.parent, lineage.fork_step]
  return dict(parent=parent, schedule=lineage.schedule)


@jax.jit
def all_finite(params: Any) -> jax.Array:
  """Whether every parameter is a finite number."""
  leaves = [x for x in jax.tree.leaves(params) if _is_float(x)]
  return jnp.all(jnp.array([jnp.isfinite(x).all() for x in leaves]))


def _is_float(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jnp.inexact)
