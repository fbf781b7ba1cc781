"""Sums over the rates of a run: exact enough in float32, and differentiable.

A law adds up tens of thousands of rates. What a float32 sum rounds away drifts,
so `prefix_sums` carries it along in a second number.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import is_concrete

TINY = 1e-8
"""Rates below this part of the largest, and areas, count as that much: laws
have powers in them that are infinite at 0, with gradients that are worse."""

BLOCK = 64
"""Sums run within blocks of so many steps, and then from block to block."""


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
    if not values.any():
      raise ValueError(f'{where}: {name} are all 0; one must be > 0.')
  lrs = jnp.asarray(lrs)
  return lrs if lrs.dtype == jnp.float64 else lrs.astype(jnp.float32)


def check_steps(where: str, steps: Any, length: int) -> jax.Array:
  """The steps at which losses are wanted, an array of any shape.

  Raises:
    ValueError: if they are no whole numbers in [0, length).
  """
  if steps is None:
    return jnp.arange(length)
  if is_concrete(steps):
    values = np.asarray(steps)
    if values.dtype.kind not in 'iu':
      raise ValueError(
        f'{where}: steps are {values.dtype}; they must be whole numbers.'
      )
    bad = values[(values < 0) | (values >= length)]
    if bad.size:
      raise ValueError(
        f'{where}: steps hold {bad[0]}; they must be from 0 to {length - 1}, '
        'the last that lrs has a rate for.'
      )
  return jnp.asarray(steps)


def in_blocks(xp: Any, values: Any, fill: float = 0.0) -> Any:
  """`values[n]` as `[blocks, BLOCK]` with `fill` at the end; xp is a numpy."""
  count = -len(values) % BLOCK
  filled = xp.concatenate([values, xp.full((count,), fill, values.dtype)])
  return filled.reshape(-1, BLOCK)


def prefix_sums(values: jax.Array) -> jax.Array:
  """Sums of `values[steps]` up to every step.

  No more is rounded away than in a sum of one block: what the additions of
  whole blocks lose is kept in a second number.
  """
  blocks = in_blocks(jnp, values)

  def add(sums: Any, new: jax.Array) -> Any:
    high, low = sums
    total = high + new
    lost = jnp.where(
      jnp.abs(high) >= jnp.abs(new),
      (high - total) + new,
      (new - total) + high,
    )
    return (total, low + lost), high + low

  zero = jnp.zeros_like(values[0])
  within = jnp.cumsum(blocks, axis=1)
  _, before = jax.lax.scan(add, (zero, zero), within[:, -1])
  return (before[:, None] + within).reshape(-1)[: len(values)]


def decayed_sums(values: jax.Array, decay: Any) -> jax.Array:
  """`m[i] = decay * m[i - 1] + values[i]`, for `values[steps]`."""
  blocks = in_blocks(jnp, values)
  decay = jnp.asarray(decay, values.dtype)
  place = jnp.arange(BLOCK)
  age = jnp.subtract.outer(place, place).astype(values.dtype)
  weight = jnp.where(age >= 0, decay ** jnp.maximum(age, 0), 0.0)
  within = jnp.matmul(blocks, weight.T, precision='highest')
  fade = jnp.full_like(blocks[:, 0], decay**BLOCK)
  before = carry(jnp.ones_like(fade), fade, within[:, -1])
  fades = decay ** (place + 1).astype(values.dtype)
  return (within + jnp.outer(before, fades)).reshape(-1)[: len(values)]


def carry(goes_on: jax.Array, fade: jax.Array, new: jax.Array) -> jax.Array:
  """What reaches each block from those before it.

  That is `y[i] = goes_on[i] * (fade[i-1] * y[i-1] + new[i-1])`, and 0 at first.

  Args:
    goes_on: `[blocks]`, 0 where nothing reaches a block, else 1.
    fade: `[blocks, ...]`, the part of what reached a block that leaves it.
    new: `[blocks, ...]`, what the block adds.
  """

  def step(leaving: jax.Array, block: Any) -> Any:
    goes_on, fade, new = block
    arriving = goes_on * leaving
    return fade * arriving + new, arriving

  return jax.lax.scan(step, jnp.zeros_like(new[0]), (goes_on, fade, new))[1]


def decreases(lrs: jax.Array) -> jax.Array:
  """By how much every rate is below the one before; 0 at the first."""
  return jnp.concatenate([jnp.zeros_like(lrs[:1]), lrs[:-1] - lrs[1:]])


def least(lrs: jax.Array) -> jax.Array:
  """The size below which a rate or an area counts as this much."""
  return TINY * jnp.maximum(jax.lax.stop_gradient(jnp.max(lrs)), TINY)
