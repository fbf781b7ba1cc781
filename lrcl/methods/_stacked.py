"""Stacks of trees, such as gradients of several tasks, as matrices."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl.methods import _quadratic

_EXACT = jax.lax.Precision.HIGHEST


def products(a: Any, b: Any) -> jax.Array:
  """Inner products of two stacks, all leaves as one vector.

  Args:
    a: a tree whose leaves have a leading axis m.
    b: a tree like it, with a leading axis n.

  Returns:
    float32 `[m, n]`.
  """
  flat = lambda x: _quadratic.wide(x).reshape(x.shape[0], -1)
  product = lambda x, y: jnp.matmul(flat(x), flat(y).T, precision=_EXACT)
  return jax.tree.reduce(jnp.add, jax.tree.map(product, a, b))


def coefficients(stack: Any, vector: Any) -> jax.Array:
  """Inner products of each tree of a stack with one tree: float32 `[m]`."""
  return products(stack, jax.tree.map(lambda x: x[None], vector))[:, 0]


def combine(weights: jax.Array, stack: Any) -> Any:
  """The sum of a float32 stack under `weights[m]`."""
  return jax.tree.map(
    lambda x: jnp.tensordot(weights, x, 1, precision=_EXACT), stack
  )
