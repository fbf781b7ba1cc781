"""Schedules that fall with the inverse square root of the step, for ever."""

import jax
import jax.numpy as jnp
import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _checks
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._families import Value
from lrcl.schedules._segments import Segment, segments
from lrcl.schedules._steps import compiled, normal_step


def inverse_sqrt_schedule(
  peak_value: Value,
  warmup_steps: int,
  *,
  timescale: int | None = None,
  init_value: Value = 0.0,
) -> optax.Schedule:
  """Warm-up, then `peak_value * sqrt(timescale / step)`, without an end.

  By default the time scale is the warm-up, so the fall starts where the rise
  ends. Levanter has a time scale apart from the warm-up, 10000 by default; the
  step counts from the start of the run there, too. From the end of the warm-up
  to step `timescale` the value then rests at the peak. A time scale that is
  shorter than the warm-up would let the value drop at the end of it; Levanter
  does so, here it is refused.

  Args:
    peak_value: the value at the end of the warm-up.
    warmup_steps: steps of the linear rise from `init_value`; may be 0 if a
      time scale is given.
    timescale: the step at which the fall starts, at least `warmup_steps`. None
      is `warmup_steps`.
    init_value: the value at step 0.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if the time scale is less than the warm-up or than 1, or a value
      is negative.

  Example:
    >>> schedule = inverse_sqrt_schedule(1.0, 4)
    >>> [float(schedule(step)) for step in (0, 2, 4, 16, 64)]
    [0.0, 0.5, 1.0, 0.5, 0.25]

  References:
    Vaswani et al., 2017, `Attention Is All You Need
    <https://arxiv.org/abs/1706.03762>`_; Levanter
    (https://github.com/stanford-crfm/levanter) for the time scale.
  """
  where = 'inverse_sqrt_schedule'
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  name = 'warmup_steps' if timescale is None else 'timescale'
  timescale = warmup_steps if timescale is None else timescale
  timescale = check_steps(where, name, timescale, 1)
  if timescale < warmup_steps:
    raise ValueError(
      f'{where}: timescale is {timescale}; it must be >= {warmup_steps}, the '
      'steps of the warm-up.'
    )
  _checks.check_values(where, peak_value=peak_value, init_value=init_value)
  start = init_value if warmup_steps else peak_value
  rise = segments(
    where,
    [Segment(max(warmup_steps, 1), start, peak_value, profiles.linear)],
  )

  def evaluate(step: jax.Array) -> jax.Array:
    step = normal_step(where, step)
    late = jnp.maximum(step.astype(jnp.float32), timescale)
    return jnp.asarray(rise(step)) * jnp.sqrt(timescale / late)

  return compiled(where, evaluate)


def noam_schedule(
  model_size: int, warmup_steps: int, *, factor: Value = 1.0
) -> optax.Schedule:
  """The schedule of the first transformer, whose peak follows from its width.

  `factor * model_size ** -0.5 * min(step ** -0.5, step * warmup_steps ** -1.5)`
  with the step counted from 1 there: step 0 has the value of step 1.

  Args:
    model_size: the width of the model.
    warmup_steps: steps of the linear rise, at least 1. The peak is `factor *
      (model_size * warmup_steps) ** -0.5`.
    factor: a multiplier.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if the size, the warm-up or the factor is impossible.

  Example:
    >>> schedule = noam_schedule(4, 4)
    >>> [float(schedule(step)) for step in (0, 1, 2, 4, 16)]
    [0.0625, 0.0625, 0.125, 0.25, 0.125]

  References:
    Vaswani et al., 2017, `Attention Is All You Need
    <https://arxiv.org/abs/1706.03762>`_.
  """
  where = 'noam_schedule'
  check_value(where, 'model_size', model_size, above=0.0)
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps, 1)
  _checks.check_values(where, factor=factor)
  peak_value = factor * (model_size * warmup_steps) ** -0.5
  schedule = inverse_sqrt_schedule(peak_value, warmup_steps)

  def evaluate(step: jax.Array) -> jax.Array:
    return jnp.asarray(schedule(jnp.maximum(normal_step(where, step), 1)))

  return compiled(where, evaluate)
