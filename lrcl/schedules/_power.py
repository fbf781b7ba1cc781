"""The schedule that follows a power law of the tokens seen."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import check_steps, check_value, is_concrete
from lrcl.schedules import _checks
from lrcl.schedules._families import Value
from lrcl.schedules._steps import compiled, normal_step


def power_schedule(
  peak_value: Value,
  batch_size: int,
  sequence_length: int,
  *,
  amplitude: Value = 4.6,
  exponent: Value = -0.51,
  warmup_steps: int = 0,
) -> optax.Schedule:
  """`batch_size * amplitude * tokens ** exponent`, at most the peak.

  It has no end and does not know its budget; a `decay_branch` gives a result
  at any time. Made for models whose rate does not depend on the width, muP's.

  `tokens` is `step * batch_size * sequence_length`, a number that neither
  int32 nor float32 holds: 1e13 of them are 19 million steps of 2 ** 19. So it
  is never formed. `batch_size * amplitude * (batch_size * sequence_length) **
  exponent` is one constant, a float64 of Python's, and what is left to do in
  float32 is a power of the step: within 1e-6 up to step 2 ** 31 - 1.

  Args:
    peak_value: the greatest value. The curve leaves it after
      `(peak_value / (batch_size * amplitude)) ** (1 / exponent)` tokens.
    batch_size: sequences per step.
    sequence_length: tokens per sequence.
    amplitude: the law's factor, greater than 0.
    exponent: the law's exponent, less than 0.
    warmup_steps: steps of a linear rise from 0 to the value after them, which
      is the peak or lies on the curve.

  Returns:
    A schedule: int or float steps to float32. Step 0 is 0 with a warm-up, and
    the peak without one.

  Raises:
    ValueError: if a number of steps, sequences or tokens, or a value, is
      impossible.

  Example:
    >>> schedule = power_schedule(0.02, 128, 4096)
    >>> [round(float(schedule(step)), 5) for step in (0, 1000, 2000, 10**5)]
    [0.02, 0.02, 0.01477, 0.00201]

  References:
    Shen et al., 2024, `Power Scheduler: A Batch Size and Token Number Agnostic
    Learning Rate Scheduler <https://arxiv.org/abs/2408.13359>`_. The curve is
    that of Levanter (https://github.com/stanford-crfm/levanter), the warm-up
    of dolomite-engine; the paper's defaults are unconfirmed.
  """
  where = 'power_schedule'
  sizes = {'batch_size': batch_size, 'sequence_length': sequence_length}
  for name, size in sizes.items():
    if not isinstance(size, numbers.Integral) or size < 1:
      raise ValueError(
        f'{where}: {name} is {size!r}; it must be a whole number >= 1.'
      )
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  _checks.check_values(where, peak_value=peak_value)
  check_value(where, 'amplitude', amplitude, above=0.0)
  check_value(where, 'exponent', exponent)
  if is_concrete(exponent) and exponent >= 0:
    raise ValueError(f'{where}: exponent is {exponent}; it must be < 0.')
  tokens = float(int(batch_size) * int(sequence_length))
  scale = int(batch_size) * amplitude * _raise(tokens, exponent)

  def curve(step: Any) -> jax.Array:
    value = jnp.asarray(scale, jnp.float32) * jnp.power(step, exponent)
    return jnp.minimum(value, jnp.asarray(peak_value, jnp.float32))

  def evaluate(step: jax.Array) -> jax.Array:
    step = normal_step(where, step)
    # No tokens, no end of the power: the peak, with a gradient.
    some = jnp.where(step > 0, step, 1).astype(jnp.float32)
    value = jnp.where(
      step > 0, curve(some), jnp.asarray(peak_value, jnp.float32)
    )
    if not warmup_steps:
      return value
    part = step.astype(jnp.float32) / warmup_steps
    rise = part * curve(jnp.asarray(warmup_steps, jnp.float32))
    return jnp.where(step < warmup_steps, rise, value)

  return compiled(where, evaluate)


def _raise(base: float, exponent: Value) -> Any:
  """`base ** exponent`, in float64 on the host where that is possible."""
  if is_concrete(exponent):
    return base ** float(np.asarray(exponent))
  return jnp.power(jnp.float32(base), exponent)
