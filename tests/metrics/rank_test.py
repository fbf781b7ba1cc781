"""Three ranks: golden values, invariants, and slow twins in numpy."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import metrics
from tests.metrics import twins

RANKS = (metrics.effective_rank, metrics.stable_rank, metrics.feature_rank)


def with_values(*values, rows=9, seed=0):
  """A matrix with these singular values, in a random basis."""
  rng = np.random.default_rng(seed)
  left = np.linalg.qr(rng.normal(size=(rows, len(values))))[0]
  right = np.linalg.qr(rng.normal(size=(len(values),) * 2))[0]
  return (left * values @ right.T).astype(np.float32)


def test_golden_values():
  features = with_values(4.0, 2.0, 2.0)
  np.testing.assert_allclose(
    metrics.effective_rank(features), 2.0**1.5, rtol=1e-5
  )
  np.testing.assert_allclose(metrics.stable_rank(features), 1.5, rtol=1e-5)
  for delta, want in ((0.0, 3), (0.3, 2), (0.6, 1)):
    assert int(metrics.feature_rank(features, delta)) == want


@pytest.mark.parametrize('shape', [(40, 7), (7, 40)])
def test_slow_twins(shape):
  features = np.random.default_rng(3).normal(size=shape).astype(np.float32)
  features = np.maximum(features, 0)
  got = jax.jit(lambda f: [rank(f) for rank in RANKS])(features)
  np.testing.assert_allclose(got[0], twins.effective_rank(features), rtol=1e-4)
  sizes = np.linalg.norm(np.float64(features), 2), np.linalg.norm(features)
  np.testing.assert_allclose(got[1], (sizes[1] / sizes[0]) ** 2, rtol=1e-4)
  values = np.linalg.svd(np.float64(features), compute_uv=False)
  count = 1
  while values[:count].sum() < 0.99 * values.sum():
    count += 1
  assert int(got[2]) == count and got[2].dtype == jnp.int32


def test_nothing_has_no_rank():
  for rank in RANKS:
    assert float(rank(jnp.zeros((4, 3)))) == 0.0


def test_leading_axes_are_kept():
  stack = np.stack([with_values(1.0, 1.0), with_values(1.0, 0.0)])
  for rank in RANKS:
    np.testing.assert_allclose(rank(stack), [2, 1], rtol=1e-2)
    np.testing.assert_allclose(jax.vmap(rank)(stack), rank(stack), rtol=1e-6)


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
  values=st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
  scale=st.floats(1e-3, 1e3),
  seed=st.integers(0, 99),
)
def test_bounds_and_scale(values, scale, seed):
  features = with_values(*values, seed=seed)
  effective, stable = (float(rank(features)) for rank in RANKS[:2])
  assert 1 - 1e-4 <= stable <= 4 + 1e-4
  # sum (s / s_1)^2 <= sum s / s_1 = 1 / max p <= exp(entropy of p)
  assert stable - 1e-3 <= effective <= 4 + 1e-4
  for rank in RANKS[:2]:
    np.testing.assert_allclose(
      rank(scale * features), rank(features), rtol=1e-3
    )


def test_errors():
  for rank in RANKS:
    with pytest.raises(ValueError, match=r'shape \(3,\)'):
      rank(jnp.ones(3))
  with pytest.raises(ValueError, match='delta is 1'):
    metrics.feature_rank(jnp.ones((2, 2)), 1.0)
