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


def gram(
  stack: Any, vector: Any, kept: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Inner products of a stack with itself and with one tree.

  On a CPU a block of all trees at a time: it stays in the cache while the
  products are taken, and those that nobody asks for are left out. Elsewhere
  these are products of matrices.

  Args:
    stack: a tree whose leaves have a leading axis m.
    vector: a tree like it without that axis.
    kept: bool `[m]`, which of the stack count.

  Returns:
    float32 `[m, m]` and `[m]`, 0 in the rows that are not kept.
  """
  leaves = jax.tree.leaves(stack), jax.tree.leaves(vector)
  pairs = [(_flat(x), _flat(y[None])[0]) for x, y in zip(*leaves, strict=True)]

  def total(leaf, pairs):
    add = functools.partial(jax.tree.map, jnp.add)
    square, products = functools.reduce(add, [leaf(*x, kept) for x in pairs])
    return (
      jnp.where(kept[:, None], square, 0.0),
      jnp.where(kept, products, 0.0),
    )

  def take(pairs):
    in_blocks = functools.partial(total, _gram_in_blocks)
    whole = functools.partial(total, _gram)
    return jax.lax.platform_dependent(pairs, cpu=in_blocks, default=whole)

  zeros = lambda *shape: jnp.zeros(shape, jnp.float32)
  nothing = lambda _: (zeros(kept.size, kept.size), zeros(kept.size))
  return jax.lax.cond(jnp.any(kept), take, nothing, pairs)


def _flat(stack: jax.Array) -> jax.Array:
  """A leaf of a stack as float32 rows."""
  return _quadratic.wide(stack).reshape(stack.shape[0], -1)


def _gram(
  rows: jax.Array, vector: jax.Array, kept: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`rows rows'` and `rows vector`, where `kept` at least."""
  del kept
  product = functools.partial(jnp.matmul, rows, precision=_EXACT)
  return product(rows.T), product(vector)


def _gram_in_blocks(
  rows: jax.Array, vector: jax.Array, kept: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`_gram`, a block of columns after the other."""
  number, size = rows.shape
  if size < _BLOCK:
    return _gram(rows, vector, kept)
  cut = functools.partial(jax.lax.dynamic_slice_in_dim, slice_size=_BLOCK)
  zeros = jnp.zeros([number], jnp.float32)

  def turn(index, total):
    block = cut(rows, index * _BLOCK, axis=1)
    product = functools.partial(jnp.matmul, block, precision=_EXACT)
    with_one = lambda row: jax.lax.cond(
      kept[row], lambda: product(block[row]), lambda: zeros
    )
    square = jax.lax.map(with_one, jnp.arange(number))
    products = product(cut(vector, index * _BLOCK))
    return total[0] + square, total[1] + products

  turns = size // _BLOCK
  rest = turns * _BLOCK
  start = _gram(rows[:, rest:], vector[rest:], kept)
  return jax.lax.fori_loop(0, turns, turn, start)


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
