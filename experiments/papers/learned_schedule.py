"""A schedule that is a small network of the horizon and of the loss."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrcl import schedules


class ScheduleState(NamedTuple):
  """State of `LearnedSchedule`: the updates done, a mean of the log loss."""

  count: jax.Array
  log_loss: jax.Array


class LearnedSchedule:
  """An `optax.schedules.StatefulSchedule` with parameters to be learned.

  The rate is `exp(f(n / N, log N, log of the loss's running mean))`, `f` a
  network with one layer of tanh. Without the horizon, `f` sees the loss alone.
  The features are those of `lrcl.schedules.horizon_features`: fed with the
  bare step and length, a network of this size saturates.

  Args:
    params: `[NUM_PARAMS]`; all zeros give the rate 0.1.
    total_steps: `N`; may be traced.
    sees_horizon: whether `f` sees `n / N` and `log N`; may be traced.
  """

  WIDTH = 8
  NUM_PARAMS = 5 * WIDTH + 1
  SMOOTHING = 0.1

  def __init__(self, params: jax.Array, total_steps: Any, sees_horizon: Any):
    self._params, self._total = params, total_steps
    self._sees_horizon = sees_horizon

  def init(self) -> ScheduleState:
    """The state before the first step: the loss of a guess between two."""
    return ScheduleState(jnp.int32(0), jnp.log(jnp.log(2.0)))

  def update(
    self, state: ScheduleState, *, value: jax.Array, **extra_args: Any
  ) -> ScheduleState:
    """The state after a step whose loss was `value`."""
    del extra_args
    log_loss = jnp.log(jnp.maximum(value, 1e-3))
    mean = state.log_loss + self.SMOOTHING * (log_loss - state.log_loss)
    return ScheduleState(state.count + 1, mean)

  def __call__(self, state: ScheduleState, **extra_args: Any) -> jax.Array:
    """The rate of the next step, between 3e-5 and 5.5."""
    del extra_args
    done, log_total = schedules.horizon_features(state.count, self._total)
    seen = jnp.asarray(self._sees_horizon, jnp.float32)
    features = jnp.stack(
      [
        seen * (2.0 * done - 1.0),
        seen * (log_total - jnp.log(64.0)),
        state.log_loss + 1.0,
      ]
    )
    inner, bias, outer, last = jnp.split(
      self._params, np.cumsum([3 * self.WIDTH, self.WIDTH, self.WIDTH])
    )
    hidden = jnp.tanh(features @ inner.reshape(3, self.WIDTH) + bias)
    return 0.1 * jnp.exp(jnp.clip(hidden @ outer + last[0], -8.0, 4.0))
