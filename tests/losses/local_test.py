"""Cross-entropy among the classes that occur."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import losses

LOGITS = jnp.asarray(
  2 * np.random.default_rng(0).normal(size=(5, 7)), jnp.float32
)
LABELS = np.array([3, 0, 3, 6, 5])
WEIGHT = np.array([1.0, 0.5, 1.0, 1.0, 0.0], np.float32)


def test_is_cross_entropy_over_the_classes_that_occur():
  batch = {'labels': jnp.array(LABELS), 'weight': jnp.array(WEIGHT)}
  got = losses.local_cross_entropy(LOGITS, batch)
  rows = np.asarray(LOGITS, np.float64)[:, [0, 3, 6]]
  place = [1, 0, 1, 2]
  want = np.log(np.exp(rows).sum(1))[:4] - rows[np.arange(4), place]
  np.testing.assert_allclose(got[:4], want, rtol=1e-5)
  assert np.isfinite(got[4])  # class 5 occurs in padding only

  loss = lambda x: jnp.sum(losses.local_cross_entropy(x, batch) * WEIGHT)
  gradient = np.asarray(jax.grad(loss)(LOGITS))
  assert not np.any(gradient[:, [1, 2, 4, 5]])
  assert np.all(gradient[:4][:, [0, 3, 6]])


def test_without_weights_every_row_counts():
  batch = {'labels': jnp.array(LABELS)}
  got = losses.local_cross_entropy(LOGITS, batch)
  rows = np.asarray(LOGITS, np.float64)[:, [0, 3, 5, 6]]
  place = [1, 0, 1, 3, 2]
  want = np.log(np.exp(rows).sum(1)) - rows[np.arange(5), place]
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_mask_is_kept():
  mask = jnp.ones((5, 7), bool).at[:, 1].set(False)
  batch = {'labels': jnp.array(LABELS), 'class_mask': mask}
  np.testing.assert_array_equal(
    losses.local_cross_entropy(LOGITS, batch),
    losses.cross_entropy(LOGITS, batch),
  )


def test_tokens():
  logits = LOGITS[:4].reshape(2, 2, 7)
  batch = {'labels': jnp.array([[0, 1], [1, 4]]), 'weight': jnp.array([1.0, 0])}
  got = losses.local_cross_entropy(logits, batch)
  rows = np.asarray(LOGITS, np.float64)[:2, [0, 1]]
  want = np.log(np.exp(rows).sum(1)) - rows[[0, 1], [0, 1]]
  np.testing.assert_allclose(got[0], want.mean(), rtol=1e-5)


def test_is_the_same_under_jit_and_keeps_float32():
  batch = {'labels': jnp.array(LABELS), 'weight': jnp.array(WEIGHT)}
  half = LOGITS.astype(jnp.bfloat16)
  got = jax.jit(losses.local_cross_entropy)(half, batch)
  assert got.dtype == jnp.float32
  want = losses.local_cross_entropy(half.astype(jnp.float32), batch)
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_errors():
  with pytest.raises(ValueError, match='labels have shape'):
    losses.local_cross_entropy(LOGITS, {'labels': jnp.zeros((5, 2), int)})
