"""Schedules with a clock of their own for every task.

They are instances of `optax.schedules.StatefulSchedule`: what they need, the
extra arg `task_id`, comes through the optimizer's chain. The link that feeds
it to them is `optax.inject_hyperparams(optax.scale_by_learning_rate)`.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl.schedules import _checks


class TaskScheduleState(NamedTuple):
  """What a task schedule remembers; both int32 scalars."""

  count: jax.Array
  """Steps already made in the current task."""
  task_id: jax.Array
  """The task of the last step."""


@dataclasses.dataclass(frozen=True)
class _TaskSchedule:
  """A stateful schedule: `rate(steps in the task, task_id)`."""

  rate: Callable[[jax.Array, jax.Array], jax.Array]

  def init(self) -> TaskScheduleState:
    return TaskScheduleState(jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32))

  def update(
    self, state: TaskScheduleState, *, task_id: Any, **extra_args: Any
  ) -> TaskScheduleState:
    del extra_args
    now = _enter(state, task_id)
    return now._replace(count=optax.safe_increment(now.count))

  def __call__(
    self, state: TaskScheduleState, *, task_id: Any = None, **extra_args: Any
  ) -> jax.Array:
    # An optimizer's init asks for a value and passes no extra args; its update
    # asks with the new task_id before this state has seen it.
    del extra_args
    now = state if task_id is None else _enter(state, task_id)
    return self.rate(now.count, now.task_id)


def _enter(state: TaskScheduleState, task_id: Any) -> TaskScheduleState:
  """The state in the task `task_id`: its clock restarts if that is new."""
  task_id = jnp.asarray(task_id, jnp.int32)
  count = jnp.where(task_id == state.task_id, state.count, 0)
  return TaskScheduleState(count, task_id)


def per_task(
  schedule: optax.Schedule,
) -> optax.schedules.StatefulSchedule:
  """Restarts a schedule at every change of the task.

  A return to an earlier task is a change, too: the schedule starts anew, it is
  not taken up where that task was left.

  Args:
    schedule: a function of the step within the task.

  Returns:
    A stateful schedule for `optax.inject_hyperparams`; its state is a
    `TaskScheduleState`. It needs the extra arg `task_id`, an int32 scalar, in
    every update; without it `update` raises a `TypeError`.

  Raises:
    ValueError: if `schedule` is no function of the step.

  Example:
    >>> from lrcl.schedules import wsd_schedule
    >>> rate = per_task(wsd_schedule(1.0, 0, 2, 2))
    >>> link = optax.inject_hyperparams(optax.scale_by_learning_rate)(rate)
    >>> state, rates = link.init(0.0), []
    >>> for task in (0, 0, 0, 0, 1, 1, 0):
    ...   update, state = link.update(-1.0, state, 0.0, task_id=task)
    ...   rates.append(float(update))
    >>> rates
    [1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0]
  """
  _checks.check_schedule('per_task', 'schedule', schedule)

  def rate(count: jax.Array, task_id: jax.Array) -> jax.Array:
    del task_id
    return jnp.asarray(schedule(count), jnp.float32)

  return _TaskSchedule(rate)


def by_task(
  schedules: Sequence[optax.Schedule],
) -> optax.schedules.StatefulSchedule:
  """Gives every task its own schedule, started when the task starts.

  Args:
    schedules: one function of the step within the task for task 0, 1, ...; the
      last one serves all later tasks as well. A task that returns starts its
      schedule anew.

  Returns:
    A stateful schedule, as from `per_task`.

  Raises:
    ValueError: if there is no schedule, or one is no function of the step.

  Example:
    >>> rate = by_task([optax.constant_schedule(r) for r in (0.5, 0.25)])
    >>> [float(rate(rate.init(), task_id=task)) for task in (0, 1, 2)]
    [0.5, 0.25, 0.25]
  """
  schedules = list(schedules)
  if not schedules:
    raise ValueError('by_task: schedules is empty; it must hold one per task.')
  for index, schedule in enumerate(schedules):
    _checks.check_schedule('by_task', f'schedules[{index}]', schedule)
  as_float = lambda s: lambda count: jnp.asarray(s(count), jnp.float32)
  branches = [as_float(schedule) for schedule in schedules]

  def rate(count: jax.Array, task_id: jax.Array) -> jax.Array:
    index = jnp.clip(task_id, 0, len(branches) - 1)
    return jax.lax.switch(index, branches, count)

  return _TaskSchedule(rate)
