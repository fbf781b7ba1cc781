"""Stacks of trees against float64, on both sides of every threshold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl.methods import _stacked

BLOCK, FEW = _stacked._BLOCK, _stacked._FEW


def make(number, *sizes, seed=0):
  """A stack of trees with leaves of these sizes, in float32."""
  rng = np.random.default_rng(seed)
  leaves = [rng.normal(size=(number, 2, n // 2)) for n in sizes]
  return {str(i): np.float32(x) for i, x in enumerate(leaves)}


def flat(stack):
  rows = [x.reshape(len(x), -1) for x in stack.values()]
  return np.concatenate(rows, axis=1).astype(np.float64)


@pytest.mark.parametrize(
  'sizes',
  [(4,), (BLOCK - 2,), (BLOCK,), (BLOCK + 2,), (2 * BLOCK + 6, 10, BLOCK)],
)
def test_products_with_itself(sizes):
  stack = make(5, *sizes)
  kept = np.array([True, False, True, True, False])
  got = jax.jit(_stacked.gram)(stack, jnp.asarray(kept))
  want = kept[:, None] * (flat(stack) @ flat(stack).T)
  np.testing.assert_allclose(got, want, atol=1e-5 * sum(sizes))
  assert not np.any(got[~kept])
  plain = _stacked.products(stack, stack)
  np.testing.assert_allclose(got[kept], plain[kept], atol=1e-5 * sum(sizes))


def test_products_over_seeds_that_keep_others():
  stacks = [make(3, BLOCK + 8, 6, seed=i) for i in range(2)]
  kept = jnp.array([[True, False, True], [False, False, True]])
  both = jax.tree.map(lambda *x: jnp.stack(x), *stacks)
  got = jax.vmap(_stacked.gram)(both, kept)
  for i, stack in enumerate(stacks):
    want = _stacked.gram(stack, kept[i])
    np.testing.assert_allclose(got[i], want, atol=1e-2)
    assert np.any(want)


@pytest.mark.parametrize('number', [1, 2, FEW, FEW + 1])
def test_coefficients_and_sums(number):
  stack, vector = make(number, 8, 30), {'0': np.ones((2, 4)), '1': 0.5}
  vector['1'] = np.full((2, 15), 0.5)
  vector = jax.tree.map(np.float32, vector)
  got = _stacked.coefficients(stack, vector)
  row = flat(jax.tree.map(lambda x: x[None], vector))[0]
  np.testing.assert_allclose(got, flat(stack) @ row, atol=1e-5)
  weights = np.float32(np.random.default_rng(1).normal(size=number))
  total = jax.jit(_stacked.combine)(weights, stack)
  want = {k: np.tensordot(weights, x, 1) for k, x in stack.items()}
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), total, want
  )
