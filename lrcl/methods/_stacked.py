"""Stacks of trees, such as gradients of several tasks, as matrices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from lrcl.methods import _quadratic

_EXACT = jax.lax.Precision.HIGHEST

# Terms of a sum that are read side by side.
_FEW = 32

# Columns of a block that stays in a CPU's cache.
_BLOCK = 8192


def products(a: Any, b: Any) -> jax.Array:
  """Inner products of two stacks, all leaves as one vector.

  Args:
    a: a tree whose leaves have a leading axis m.
    b: a tree like it, with a leading axis n.

  Returns:
    float32 `[m, n]`.
  """
  product = lambda x, y: jnp.matmul(_flat(x), _flat(y).T, precision=_EXACT)
  return jax.tree.reduce(jnp.add, jax.tree.map(product, a, b))


def coefficients(stack: Any, vector: Any) -> jax.Array:
  """Inner products of each tree of a stack with one tree: float32 `[m]`."""
  return products(stack, jax.tree.map(lambda x: x[None], vector))[:, 0]


def _flat(stack: jax.Array) -> jax.Array:
  """A leaf of a stack as float32 rows."""
  return _quadratic.wide(stack).reshape(stack.shape[0], -1)


def gram(stack: Any, kept: jax.Array) -> jax.Array:
  """Inner products of a stack with itself, 0 in the rows that are not `kept`.

  On a CPU a block of all trees at a time: it stays in the cache while the
  products are taken, and those that nobody asks for are left out. Elsewhere it
  is one product of matrices.
  """
  flat = [_flat(x) for x in jax.tree.leaves(stack)]
  whole = lambda *rows: functools.reduce(jnp.add, [_square(x) for x in rows])
  blocks = lambda *rows: functools.reduce(
    jnp.add, [_square_in_blocks(x, kept) for x in rows]
  )
  square = jax.lax.platform_dependent(*flat, cpu=blocks, default=whole)
  return jnp.where(kept[:, None], square, 0.0)


def _square(rows: jax.Array) -> jax.Array:
  return jnp.matmul(rows, rows.T, precision=_EXACT)


def _square_in_blocks(rows: jax.Array, kept: jax.Array) -> jax.Array:
  """The rows that are `kept` of `_square(rows)`."""
  number, size = rows.shape
  if size < _BLOCK:
    return _square(rows)

  def products_with(block, index):
    product = lambda: jnp.matmul(block, block[index], precision=_EXACT)
    nothing = lambda: jnp.zeros([number], jnp.float32)
    return jax.lax.cond(kept[index], product, nothing)

  def turn(index, total):
    first = index * _BLOCK
    block = jax.lax.dynamic_slice_in_dim(rows, first, _BLOCK, axis=1)
    with_block = functools.partial(products_with, block)
    return total + jax.lax.map(with_block, jnp.arange(number))

  turns = size // _BLOCK
  rest = _square(rows[:, turns * _BLOCK :])
  return jax.lax.fori_loop(0, turns, turn, rest)


def combine(weights: jax.Array, stack: Any) -> Any:
  """The sum of a float32 stack under `weights[m]`.

  Few terms are written out, so that XLA adds them where the sum is used and
  does not write it to memory.
  """
  if weights.size > _FEW:
    product = lambda x: jnp.tensordot(weights, x, 1, precision=_EXACT)
    return jax.tree.map(product, stack)
  terms = lambda x: [weights[i] * x[i] for i in range(weights.size)]
  return jax.tree.map(lambda x: functools.reduce(jnp.add, terms(x)), stack)
