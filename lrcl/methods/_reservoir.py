"""Algorithm R for batches, and the random numbers that a memory needs."""

import jax
import jax.numpy as jnp

from lrcl.methods import _slots


def slots(
  seen: jax.Array, valid: jax.Array, bits: jax.Array, capacity: int
) -> tuple[jax.Array, jax.Array]:
  """Algorithm R for a whole batch.

  The n-th example (from 0) goes to slot n while there is room, and then to a
  slot drawn from 0 .. n if there is such a slot. Of several rows of one batch
  that are given the same slot, the last stays, as if they came one by one.

  Returns:
    Slots `[batch]`, all different, out of range where a row is not stored; and
    the new count.
  """
  size = valid.size
  seen = jnp.minimum(seen, jnp.iinfo(jnp.int32).max - size)
  rank = seen + jnp.cumsum(valid, dtype=jnp.int32) - 1
  drawn = below(bits, rank + 1)
  slot = jnp.where(rank < capacity, rank, drawn)
  slot = jnp.where(valid, slot, capacity)
  slot = _slots.distinct(slot, capacity)
  return slot, seen + jnp.sum(valid, dtype=jnp.int32)


def random_bits(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """The next key and `count` random uint32, out of one call.

  A split and a second call would double the cost of a step's random numbers.
  """
  words = jax.random.key_data(key).size
  bits = jax.random.bits(key, (words + count,), jnp.uint32)
  key = jax.random.wrap_key_data(bits[:words], impl=jax.random.key_impl(key))
  return key, bits[words:]


def below(bits: jax.Array, bound: jax.Array) -> jax.Array:
  """Draws from 0 .. bound - 1: `bits * bound / 2**32` in 32-bit arithmetic.

  A remainder would favour small numbers, which are the slots of the memory.
  """
  bound = bound.astype(jnp.uint32)
  high, low = bits >> 16, bits & 0xFFFF
  bound_high, bound_low = bound >> 16, bound & 0xFFFF
  first = high * bound_low + ((low * bound_low) >> 16)
  second = low * bound_high + (first & 0xFFFF)
  product = high * bound_high + (first >> 16) + (second >> 16)
  return product.astype(jnp.int32)
