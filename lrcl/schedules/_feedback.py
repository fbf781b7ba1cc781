"""Rates that follow the loss.

They are instances of `optax.schedules.StatefulSchedule` that read the extra arg
`value`. A step's loss is known before its update, so it counts for that update
already, as it does in `optax.contrib.reduce_on_plateau`.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _checks


class PlateauState(NamedTuple):
  """What `plateau_per_task` remembers.

  Attributes:
    task_id: int32, the task of the last step.
    count: int32, steps already made in it.
    plateau: the state of `optax.contrib.reduce_on_plateau`, in float32.
  """

  task_id: jax.Array
  count: jax.Array
  plateau: optax.contrib.ReduceLROnPlateauState


@dataclasses.dataclass(frozen=True)
class Feedback:
  """A stateful schedule: `read(follow(state, value))`, from `start()` on."""

  start: Callable[[], Any]
  follow: Callable[[Any, jax.Array], Any]
  read: Callable[[Any], jax.Array]

  def init(self) -> Any:
    return self.start()

  def update(self, state: Any, *, value: Any, **extra_args: Any) -> Any:
    del extra_args
    return self.follow(state, jnp.asarray(value, jnp.float32))

  def __call__(
    self, state: Any, *, value: Any = None, **extra_args: Any
  ) -> jax.Array:
    # An optimizer's init asks for a value and passes no extra args.
    if value is not None:
      state = self.update(state, value=value, **extra_args)
    return self.read(state)


class TaskFeedback(Feedback):
  """The same, begun anew at every change of the task."""

  def update(
    self, state: Any, *, value: Any, task_id: Any, **extra_args: Any
  ) -> Any:
    task_id = jnp.asarray(task_id, jnp.int32)
    fresh = self.start()._replace(task_id=task_id)
    state = where(task_id == state.task_id, state, fresh)
    return super().update(state, value=value, **extra_args)


def plateau_per_task(
  schedule: optax.Schedule,
  *,
  factor: float = 0.1,
  patience: int = 10,
  rtol: float = 1e-4,
  atol: float = 0.0,
  cooldown: int = 0,
  accumulation_size: int = 1,
  min_scale: float = 0.0,
) -> optax.schedules.StatefulSchedule:
  """Cuts the rate where a task's loss stops falling; a new task starts anew.

  Within a task this is `optax.contrib.reduce_on_plateau` over `schedule`: the
  rate is the schedule's, times a scale that falls by `factor` once `patience`
  averages of `accumulation_size` losses have brought no new best. At a change
  of the task, a return to an earlier one included, scale, best and clock are
  those of the start: the first loss of a new task is no plateau of the old one,
  and a scale that has reached 1e-6 would never learn again.

  Args:
    schedule: a function of the step within the task, such as
      `optax.constant_schedule(0.1)`.
    factor: the factor of a cut, in (0, 1).
    patience: how many averages without a new best lead to a cut, at least 1.
    rtol: by which fraction of it a new best is below the last, in [0, 1].
    atol: by how much it is below that, besides.
    cooldown: for how many averages after a cut none is looked at.
    accumulation_size: how many losses are averaged.
    min_scale: the least scale.

  Returns:
    A stateful schedule; its state is a `PlateauState`. It needs the extra args
    `value` and `task_id` in every update; without them `update` raises a
    `TypeError`.

  Raises:
    ValueError: if `schedule` is no function of the step, a number is
      impossible, or both tolerances are 0.

  Example:
    >>> rate = plateau_per_task(optax.constant_schedule(1.0), patience=2)
    >>> state, rates = rate.init(), []
    >>> for task in (0, 0, 0, 0, 1):
    ...   state = rate.update(state, value=1.0, task_id=task)
    ...   rates.append(round(float(rate(state)), 3))
    >>> rates
    [1.0, 1.0, 0.1, 0.1, 1.0]

  References:
    `optax.contrib.reduce_on_plateau
    <https://optax.readthedocs.io/en/latest/api/contrib.html>`_, after
    `ReduceLROnPlateau` of Keras and PyTorch.
  """
  where = 'plateau_per_task'
  _checks.check_schedule(where, 'schedule', schedule)
  _checks.check_between_0_and_1(where, 'factor', factor)
  check_value(where, 'rtol', rtol, minimum=0.0, maximum=1.0)
  _checks.check_values(where, atol=atol, min_scale=min_scale)
  if rtol == 0 and atol == 0:
    raise ValueError(f'{where}: rtol and atol are 0; one must be greater.')
  size = check_steps(where, 'accumulation_size', accumulation_size, 1)
  rule = optax.contrib.reduce_on_plateau(
    factor,
    check_steps(where, 'patience', patience, 1),
    rtol,
    atol,
    check_steps(where, 'cooldown', cooldown),
    size,
    min_scale,
  )
  zero = lambda: jnp.zeros([], jnp.int32)

  def start() -> PlateauState:
    plateau: Any = rule.init(jnp.zeros([], jnp.float32))
    return PlateauState(zero(), zero(), plateau)

  def follow(state: PlateauState, value: jax.Array) -> PlateauState:
    # optax multiplies a count with a loss, which strict promotion refuses.
    with jax.numpy_dtype_promotion('standard'):
      plateau: Any = rule.update((), state.plateau, value=value)[1]
    count: Any = optax.safe_increment(state.count)
    return PlateauState(state.task_id, count, plateau)

  def read(state: PlateauState) -> jax.Array:
    step = jnp.maximum(state.count - 1, 0)
    return jnp.asarray(schedule(step), jnp.float32) * state.plateau.scale

  return TaskFeedback(start, follow, read)


def where(keep: jax.Array, state: Any, other: Any) -> Any:
  """One of two states."""
  return jax.tree.map(lambda a, b: jnp.where(keep, a, b), state, other)
