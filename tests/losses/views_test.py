"""Divergence of views from the first one, against a loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import losses

ROWS = np.array([7, 3, 7, 7, 5, 3, 9, 9])
WEIGHT = np.array([1, 1, 1, 1, 1, 1, 1, 0], np.float32)


def _logits(seed=0):
  logits = np.random.default_rng(seed).normal(size=(8, 4)) * 2
  return jnp.asarray(logits, jnp.float32)


def _batch(**kwargs):
  labels = jnp.asarray(np.arange(8) % 4, jnp.int32)
  return {'labels': labels, 'row': jnp.asarray(ROWS, jnp.int32), **kwargs}


def _slow(logits, weight=(1.0,) * 8, mask=None):
  """What is added to the mean over real rows, group by group."""
  z = np.asarray(logits, np.float64)
  if mask is not None:
    z = np.where(mask, z, -np.inf)
  p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
  added = np.zeros(8)
  for row in set(ROWS):
    mine = [i for i in range(8) if ROWS[i] == row and weight[i] > 0]
    for i in mine[1:]:
      pairs = zip(p[mine[0]], p[i], strict=True)
      kl = sum(a * np.log(a / b) for a, b in pairs if a > 0)
      added[i] = kl * len(mine) / (len(mine) - 1)
  return added


def _added(batch, weight=1.0, logits=None):
  logits = _logits() if logits is None else logits
  loss_fn = jax.jit(losses.view_consistency(weight=weight))
  plain = losses.cross_entropy(logits, batch)
  return np.asarray(loss_fn(logits, batch) - plain)


def test_adds_the_divergence_of_later_views():
  np.testing.assert_allclose(
    _added(_batch(), 0.5), 0.5 * _slow(_logits()), atol=2e-6
  )
  # In the mean over a group of n this is 1 / (n - 1) times the sum.
  added = _slow(_logits())
  group = ROWS == 7
  assert added[group].mean() == pytest.approx(
    added[group].sum() * 2 / 3 / 2, rel=1e-9
  )


def test_padding_is_no_view_and_masks_hold():
  padded = _added(_batch(weight=jnp.asarray(WEIGHT)))
  np.testing.assert_allclose(padded, _slow(_logits(), WEIGHT), atol=2e-6)
  assert padded[6] == 0 and _added(_batch())[7] > 0
  mask = np.tile([True, True, True, False], (8, 1))
  batch = _batch(class_mask=jnp.asarray(mask), labels=jnp.zeros(8, jnp.int32))
  np.testing.assert_allclose(
    _added(batch), _slow(_logits(), mask=mask), atol=2e-6
  )


def test_the_first_view_gets_no_gradient():
  loss_fn = losses.view_consistency(
    lambda logits, batch: jnp.zeros(logits.shape[0])
  )
  slope = jax.grad(lambda z: loss_fn(z, _batch()).sum())(_logits())
  first = np.array([0, 1, 4, 6])
  np.testing.assert_array_equal(slope[first], 0)
  assert (np.abs(np.delete(slope, first, 0)).sum(1) > 0).all()
  assert np.isfinite(slope).all()


def test_without_rows_it_is_the_loss():
  batch = _batch()
  del batch['row']
  np.testing.assert_array_equal(_added(batch), 0)
  with pytest.raises(ValueError, match=r'weight is -1\.0'):
    losses.view_consistency(weight=-1.0)
