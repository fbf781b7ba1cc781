"""Schedules for a budget of steps that is known: one profile over all of it."""

import jax
import jax.numpy as jnp
import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _checks
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._budgeted_profiles import (
  check_beta,
  rex_profile,
  uba_profile,
)
from lrcl.schedules._families import Value
from lrcl.schedules._segments import Segment, segments
from lrcl.schedules._steps import LAST_STEP, compiled, normal_step


def rex_schedule(
  peak_value: Value,
  decay_steps: int,
  *,
  beta: Value = 0.5,
  warmup_steps: int = 0,
  init_value: Value = 0.0,
  end_value: Value = 0.0,
) -> optax.Schedule:
  """A decay over the whole budget that falls late: reflected exponential.

  It is `(1 - u) / (1 - beta u)` of the way from the end to the peak, `u` the
  fraction of the decay. The rate wants to be tuned anew for every budget.

  Args:
    peak_value: the value at which the decay starts.
    decay_steps: steps of the decay, at least 1.
    beta: at least 0, where it is linear, and less than 1; see `rex_profile`.
    warmup_steps: steps of a linear rise from `init_value` before the decay.
      The published schedule has none.
    init_value: the value at step 0 of a warm-up.
    end_value: the value at the end of the decay and after it.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if a phase is too short, or a value is impossible.

  Example:
    >>> schedule = rex_schedule(1.0, 4)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [1.0, 0.857, 0.667, 0.4, 0.0, 0.0]

  References:
    Chen et al., 2021, `REX: Revisiting Budgeted Training with an Improved
    Schedule <https://arxiv.org/abs/2107.04197>`_.
  """
  where = 'rex_schedule'
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  decay_steps = check_steps(where, 'decay_steps', decay_steps, 1)
  _checks.check_values(
    where, peak_value=peak_value, init_value=init_value, end_value=end_value
  )
  check_beta(where, beta)
  shape = profiles.blend(rex_profile(beta))
  row = [
    Segment(warmup_steps, init_value, peak_value, profiles.linear),
    Segment(decay_steps, peak_value, end_value, shape),
  ]
  return segments(where, row)


def uba_schedule(
  peak_value: Value,
  decay_steps: int,
  phi: Value,
  *,
  end_value: Value = 0.0,
) -> optax.Schedule:
  """A decay over the whole budget, between constant and exponential.

  The profile is `uba_profile(phi)`; half-way the value is `2 / (2 + phi)` of
  the way from the end to the peak.

  Args:
    peak_value: the value at step 0.
    decay_steps: steps of the decay, at least 1.
    phi: at least 0: 0 is constant, also after the decay; 2 is the cosine.
    end_value: the value at the end of the decay and after it.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if the decay has no steps, or a value is impossible.

  Example:
    >>> schedule = uba_schedule(1.0, 4, 1.0)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [1.0, 0.921, 0.667, 0.255, 0.0, 0.0]

  References:
    Tang et al., 2025, `Stepsize anything: A unified learning rate schedule for
    budgeted-iteration training <https://arxiv.org/abs/2505.24452>`_; see
    `uba_profile` for what of it is unconfirmed.
  """
  where = 'uba_schedule'
  decay_steps = check_steps(where, 'decay_steps', decay_steps, 1)
  _checks.check_values(where, peak_value=peak_value, end_value=end_value)
  check_value(where, 'phi', phi, minimum=0.0)
  shape = profiles.blend(uba_profile(phi))
  return segments(where, [Segment(decay_steps, peak_value, end_value, shape)])


def sampled(schedule: optax.Schedule, every: int) -> optax.Schedule:
  """Reads a schedule at every so many steps, and holds what it read.

  At step `t` the value is `schedule((t // every) * every)`, so the first
  `every` steps are at `schedule(0)`. A profile and a rate of sampling make the
  schedules of the budgeted literature: step decays are profiles that are read
  coarsely.

  Args:
    schedule: any function of the step.
    every: steps between two readings, at least 1.

  Returns:
    A schedule: int or float steps to float32. The division is one of whole
    numbers, exact for every int32 step.

  Raises:
    ValueError: if `schedule` is no function of the step, or `every` no number
      of steps.

  Example:
    >>> schedule = sampled(rex_schedule(1.0, 4), 2)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [1.0, 1.0, 0.667, 0.667, 0.0, 0.0]

  References:
    Chen et al., 2021, `REX: Revisiting Budgeted Training with an Improved
    Schedule <https://arxiv.org/abs/2107.04197>`_; the rates of sampling as in
    https://github.com/wolfecameron/LRSchedules.
  """
  where = 'sampled'
  _checks.check_schedule(where, 'schedule', schedule)
  every = check_steps(where, 'every', every, 1)
  check_value(where, 'every', every, maximum=LAST_STEP)

  def evaluate(step: jax.Array) -> jax.Array:
    step = normal_step(where, step)
    past = jax.lax.rem(step, jnp.full_like(step, every))
    return jnp.asarray(schedule(step - past), jnp.float32)

  return compiled(where, evaluate)
