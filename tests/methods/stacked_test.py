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


def flat_one(vector):
  return flat({name: x[None] for name, x in vector.items()})[0]


def get(stack, index):
  return {name: x[index] for name, x in stack.items()}


@pytest.mark.parametrize(
  'sizes',
  [(4,), (BLOCK - 2,), (BLOCK,), (BLOCK + 2,), (2 * BLOCK + 6, 10, BLOCK)],
)
def test_products_of_those_that_count(sizes):
  stack, vector = make(5, *sizes), get(make(1, *sizes, seed=1), 0)
  kept = np.array([True, False, True, True, False])
  square, products = jax.jit(_stacked.gram)(stack, vector, jnp.asarray(kept))
  rows = flat(stack)
  want = kept[:, None] * (rows @ rows.T), kept * (rows @ flat_one(vector))
  np.testing.assert_allclose(square, want[0], atol=1e-6 * sum(sizes) + 1e-6)
  np.testing.assert_allclose(products, want[1], atol=1e-6 * sum(sizes) + 1e-6)
  assert not np.any(square[~kept]) and not np.any(products[~kept])
  plain = _stacked.products(stack, stack)
  np.testing.assert_allclose(
    plain, rows @ rows.T, atol=1e-6 * sum(sizes) + 1e-6
  )


def test_nothing_counts():
  stack = make(3, 8)
  got = _stacked.gram(stack, get(stack, 0), jnp.zeros(3, bool))
  assert [x.shape for x in got] == [(3, 3), (3,)]
  assert not any(np.any(x) for x in got)


def test_the_whole_matrices_give_the_same():
  """What other platforms are given."""
  rng = np.random.default_rng(0)
  rows = np.float32(rng.normal(size=(3, 2 * BLOCK + 3)))
  vector = np.float32(rng.normal(size=2 * BLOCK + 3))
  args = rows, vector, jnp.ones(3, bool)
  whole, blocks = _stacked._gram(*args), _stacked._gram_in_blocks(*args)
  for a, b in zip(whole, blocks, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6 * rows.shape[1])


def test_products_over_seeds_that_keep_others():
  stacks = [make(3, BLOCK + 8, 6, seed=i) for i in range(2)]
  vector = get(stacks[0], 1)
  kept = jnp.array([[True, False, True], [False, False, True]])
  both = jax.tree.map(lambda *x: jnp.stack(x), *stacks)
  got = jax.vmap(_stacked.gram, (0, None, 0))(both, vector, kept)
  for i, stack in enumerate(stacks):
    want = _stacked.gram(stack, vector, kept[i])
    for a, b in zip(got, want, strict=True):
      np.testing.assert_allclose(a[i], b, atol=1e-6 * BLOCK)
      assert np.any(b)


@pytest.mark.parametrize('number', [1, 2, FEW, FEW + 1])
def test_coefficients_and_sums(number):
  stack, vector = make(number, 8, 30), {'0': np.ones((2, 4)), '1': 0.5}
  vector['1'] = np.full((2, 15), 0.5)
  vector = jax.tree.map(np.float32, vector)
  got = _stacked.coefficients(stack, vector)
  np.testing.assert_allclose(got, flat(stack) @ flat_one(vector), atol=1e-5)
  weights = np.float32(np.random.default_rng(1).normal(size=number))
  total = jax.jit(_stacked.combine)(weights, stack)
  want = {k: np.tensordot(weights, x, 1) for k, x in stack.items()}
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), total, want
  )
