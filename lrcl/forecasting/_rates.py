"""Sums over the rates of a run: exact enough in float32, and differentiable.

A law adds up tens of thousands of rates and then takes small differences of
such sums. A plain float32 sum would lose them, so `prefix_sums` carries what
each addition rounds away in a second number.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import is_concrete

TINY = 1e-8
"""Rates below this part of the largest, and areas, count as that much: laws
have powers in them that are infinite at 0, with gradients that are worse."""


class Prefix(NamedTuple):
  """Sums `high + low` of everything up to each step, that step included."""

  high: jax.Array
  low: jax.Array

  def at(self, index: Any) -> 'Prefix':
    """The sums up to some steps."""
    return Prefix(self.high[index], self.low[index])

  def minus(self, other: 'Prefix') -> jax.Array:
    """What lies between: the leading digits cancel without an error."""
    return (self.high - other.high) + (self.low - other.low)


def check_rates(where: str, name: str, lrs: Any) -> jax.Array:
  """The rates of every step as floats, checked where they are concrete.

  Float64 is kept where JAX has it; all else counts as float32.

  Raises:
    ValueError: if they are no row of numbers that are finite and at least 0.
  """
  if is_concrete(lrs):
    values = np.asarray(lrs)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in 'fiu':
      raise ValueError(
        f'{where}: {name} has shape {values.shape} and type {values.dtype}; it '
        'must be the rate of every step, [steps].'
      )
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
      raise ValueError(
        f'{where}: {name}[{bad[0]}] is {values[bad[0]]}; every rate must be '
        'finite and >= 0.'
      )
  wide = getattr(lrs, 'dtype', None) == np.float64 and jax.config.x64_enabled
  return jnp.asarray(lrs, jnp.float64 if wide else jnp.float32)


def check_reading_steps(where: str, steps: Any, length: int) -> Any:
  """The steps at which losses are wanted, or None for all of them.

  Raises:
    ValueError: if they are no row of whole numbers in [0, length).
  """
  if steps is None or not is_concrete(steps):
    return steps
  values = np.asarray(steps)
  if values.ndim != 1 or values.dtype.kind not in 'iu':
    raise ValueError(
      f'{where}: steps has shape {values.shape} and type {values.dtype}; it '
      'must be a row of whole numbers, [readings].'
    )
  bad = values[(values < 0) | (values >= length)]
  if bad.size:
    raise ValueError(
      f'{where}: steps holds {bad[0]}; it must be from 0 to {length - 1}, the '
      'last step that lrs has a rate for.'
    )
  return values


def prefix_sums(values: jax.Array) -> Prefix:
  """Sums of `values[steps]` up to every step, in twice the precision.

  Gradients are those of a plain sum, which is linear.
  """
  exact = jax.lax.stop_gradient
  high, low = jax.lax.associative_scan(
    _add, (exact(values), jnp.zeros_like(values))
  )
  plain = jnp.cumsum(values)
  return Prefix(plain + exact(high - plain), low)


def _add(a: Any, b: Any) -> Any:
  """Adds two numbers, each in two parts; what is rounded away is kept."""
  high = a[0] + b[0]
  part = high - a[0]
  lost = (a[0] - (high - part)) + (b[0] - part)
  low = lost + (a[1] + b[1])
  total = high + low
  return total, low - (total - high)


def decayed_sums(values: jax.Array, decay: jax.Array) -> jax.Array:
  """`m[i] = decay * m[i - 1] + values[i]`, for `values[steps]`."""

  def join(a: Any, b: Any) -> Any:
    return a[0] * b[0], a[1] * b[0] + b[1]

  decays = jnp.broadcast_to(jnp.asarray(decay, values.dtype), values.shape)
  return jax.lax.associative_scan(join, (decays, values))[1]


def decreases(lrs: jax.Array) -> jax.Array:
  """By how much every rate is below the one before; 0 at the first."""
  return jnp.concatenate([jnp.zeros_like(lrs[:1]), lrs[:-1] - lrs[1:]])


def least(lrs: jax.Array) -> jax.Array:
  """The size below which a rate or an area counts as this much."""
  return TINY * jax.lax.stop_gradient(jnp.max(lrs))
