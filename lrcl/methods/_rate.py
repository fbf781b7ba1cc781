"""The link of the chain that applies the learning rate, and remembers it."""

from collections.abc import Iterator
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base

_LinkState = optax.schedules.InjectStatefulHyperparamsState
_RATE = 'learning_rate'


def scale_by_schedule_value(
  schedule: base.ScheduleLike,
) -> optax.GradientTransformationExtraArgs:
  """Multiplies updates by minus the learning rate that a schedule gives.

  The link is `optax.inject_hyperparams` around a scaling: its state is an
  `optax.schedules.InjectStatefulHyperparamsState` with the rate of the last
  update in `hyperparams['learning_rate']` and the number of updates in
  `count`, the schedule's clock. `applied_rate` reads both. The rate is kept in
  float32 whatever the updates are, the product is taken in float32 at least,
  and the result has the dtype of the update.

  Place in the chain: after the preconditioner and decoupled weight decay,
  before constraints on the step (`project_on_memory`) and on the point
  (`normalize_and_project`).

  A number is a constant schedule: it is read from here at every step and not
  from the state, so a restored state follows the rate it is given, and every
  schedule without a state leaves a state of the same structure.

  Args:
    schedule: a number, an `optax.Schedule` (`count -> rate`), or an
      `optax.schedules.StatefulSchedule`, which is given the extra args of every
      step and so may react to `task_id` or `value`. The values may be traced.

  Returns:
    A transformation that passes no extra arg on and ignores those it does not
    know.

  Raises:
    TypeError: if `schedule` is none of the three.

  Example:
    >>> tx = scale_by_schedule_value(optax.linear_schedule(1.0, 0.0, 4))
    >>> state = tx.init(jnp.zeros(2))
    >>> for _ in range(2):
    ...   updates, state = tx.update(jnp.ones(2), state)
    >>> print(updates)
    [-0.75 -0.75]
    >>> rate, count = applied_rate(state)
    >>> print(rate, count)
    0.75 2
  """
  inject = optax.inject_hyperparams(
    _scale_by_rate, hyperparam_dtype=jnp.float32
  )
  return inject(learning_rate=_as_schedule(schedule))


def applied_rate(opt_state: Any) -> tuple[jax.Array, jax.Array]:
  """Reads the learning rate of the last update out of an optimizer's state.

  The link is found under any wrapper; of several, the first in tree order is
  read. It may be that of `scale_by_schedule_value`, of
  `optax.inject_hyperparams` around any optimizer with a `learning_rate`, or any
  transformation that finds its rate itself and has a NamedTuple with the fields
  `learning_rate` and `count` as its state. The call reads two leaves and
  computes nothing, so it costs nothing in a compiled loop.

  Args:
    opt_state: the state, after `update`. Before the first one the rate is the
      schedule's value at the start and the count is 0.

  Returns:
    `(rate, count)`: float32 and int32 scalars, the rate by which the last
    update was multiplied and the number of updates done; with a leading axis
    where the state is a stack. `(nan, -1)` if there is no such link. Where a
    wrapper held an update back (`accumulate` between two emissions,
    `optax.apply_if_finite` on a bad step), both are those of the last update
    that went through.

  Example:
    >>> tx = optax.chain(optax.scale_by_adam(), scale_by_schedule_value(0.1))
    >>> rate, count = applied_rate(tx.init(jnp.zeros(2)))
    >>> print(rate, count)
    0.1 0
    >>> print(*applied_rate(optax.sgd(0.1).init(jnp.zeros(2))))
    nan -1
  """
  for rate, count in _links(opt_state):
    return jnp.asarray(rate, jnp.float32), jnp.asarray(count, jnp.int32)
  return jnp.asarray(jnp.nan, jnp.float32), jnp.asarray(-1, jnp.int32)


class _Float32Schedule:
  """A stateful schedule whose value is always a float32 array."""

  def __init__(self, schedule: optax.schedules.StatefulSchedule):
    self._schedule = schedule

  def init(self) -> Any:
    return self._schedule.init()

  def update(self, state: Any, **extra_args: Any) -> Any:
    return self._schedule.update(state, **extra_args)

  def __call__(self, state: Any, **extra_args: Any) -> jax.Array:
    return jnp.asarray(self._schedule(state, **extra_args), jnp.float32)


def _as_schedule(schedule: base.ScheduleLike) -> Any:
  """One form for all three kinds, so that the state has float32 leaves."""
  if isinstance(schedule, optax.schedules.StatefulSchedule):
    return _Float32Schedule(schedule)
  if callable(schedule):
    return lambda count: jnp.asarray(schedule(count), jnp.float32)
  if isinstance(schedule, numbers.Real) or hasattr(schedule, 'dtype'):
    base.check_value('scale_by_schedule_value', 'schedule', schedule)
    return lambda count: jnp.asarray(schedule, jnp.float32)
  raise TypeError(
    f'scale_by_schedule_value: schedule is {schedule!r}; it must be a number, '
    'a function of the step or an optax.schedules.StatefulSchedule.'
  )


def _scale_by_rate(
  learning_rate: jax.Array,
) -> optax.GradientTransformation:
  """The stateless scaling whose factor is injected."""
  return optax.stateless(lambda updates, _: apply_rate(updates, learning_rate))


def apply_rate(updates: Any, learning_rate: jax.Array) -> Any:
  """Multiplies by minus the rate, in float32 at least; dtypes are kept."""

  def scale(update: jax.Array) -> jax.Array:
    dtype = update.dtype if update.dtype.itemsize > 2 else jnp.float32
    step = update.astype(dtype) * -learning_rate.astype(dtype)
    return step.astype(update.dtype)

  return jax.tree.map(scale, updates)


def _links(opt_state: Any) -> Iterator[tuple[Any, Any]]:
  """Rate and count of every link that applies a rate, in tree order."""
  is_link = lambda n: isinstance(n, _LinkState) or _keeps_rate(n)
  for node in jax.tree.leaves(opt_state, is_leaf=is_link):
    if isinstance(node, _LinkState):
      if _RATE in node.hyperparams:
        yield node.hyperparams[_RATE], node.count
      yield from _links(node.inner_state)
    elif _keeps_rate(node):
      yield node.learning_rate, node.count


def _keeps_rate(node: Any) -> bool:
  """Whether `node` is the state of a link that finds its rate itself."""
  fields = getattr(node, '_fields', ())
  return _RATE in fields and 'count' in fields
