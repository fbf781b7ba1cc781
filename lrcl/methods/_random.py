"""The random numbers that a memory needs."""

import jax
import jax.numpy as jnp


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


def uniform(bits: jax.Array) -> jax.Array:
  """Numbers in [0, 1) out of random words, float32."""
  return (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
