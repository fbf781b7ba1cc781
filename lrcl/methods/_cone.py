"""The nearest vector that agrees with several others."""

import jax
import jax.numpy as jnp


def multipliers(
  gram: jax.Array,
  dots: jax.Array,
  active: jax.Array,
  margin: jax.Array,
  iterations: int,
) -> jax.Array:
  """Multipliers of the projection on `{x: <x, r_k> >= 0 for all k}`.

  The projection of `u` is `u + sum_k v_k r_k`, where `v >= 0` minimises
  `v' G v / 2 + <d, v>`, with `G` the products of the `r` and `d` those of `u`
  with them. This is solved for vectors of length 1, which makes tasks of very
  different gradients one problem of one scale, by accelerated projected
  gradient descent that drops its momentum where it leads uphill.

  Args:
    gram: float32 `[k, k]`.
    dots: float32 `[k]`.
    active: bool `[k]`; the multipliers of all others are 0.
    margin: a lower bound of the multipliers.
    iterations: how many, static.

  Returns:
    float32 `[k]`; 0 where `u` is in the cone already, whatever the margin.
  """
  lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
  some = active & (lengths > 0)
  scale = jnp.where(some, 1.0 / jnp.where(some, lengths, 1.0), 0.0)
  unit = gram * scale[:, None] * scale[None, :]
  least = jnp.where(some, margin * lengths, 0.0)
  solution = _minimize(unit, dots * scale, least, iterations)
  conflict = jnp.any(some & (dots < 0))
  return jnp.where(conflict, solution * scale, 0.0)


def _minimize(
  matrix: jax.Array, linear: jax.Array, least: jax.Array, iterations: int
) -> jax.Array:
  """Minimises `x' matrix x / 2 + <linear, x>` over `x >= least`."""
  product = lambda x: jnp.matmul(matrix, x, precision=jax.lax.Precision.HIGHEST)
  # At least the greatest eigenvalue.
  bound = jnp.maximum(jnp.max(jnp.sum(jnp.abs(matrix), axis=1)), 1e-6)

  def body(_, carry):
    x, ahead, momentum = carry
    new = jnp.maximum(ahead - (product(ahead) + linear) / bound, least)
    uphill = jnp.vdot(ahead - new, new - x) > 0
    grown = (1.0 + jnp.sqrt(1.0 + 4.0 * jnp.square(momentum))) / 2.0
    push = jnp.where(uphill, 0.0, (momentum - 1.0) / grown)
    momentum = jnp.where(uphill, 1.0, grown)
    return new, new + push * (new - x), momentum

  start = least, least, jnp.ones([], jnp.float32)
  return jax.lax.fori_loop(0, iterations, body, start)[0]
