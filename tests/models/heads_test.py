"""Heads of directions: values, invariance, gradients at zero."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl import models

rng = np.random.default_rng(0)
FEATURES = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
PARAMS = {'kernel': jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}


def apply(head, features, params=PARAMS) -> Any:
  return head.apply({'params': params}, features)


def cosines():
  x, w = np.asarray(FEATURES, float), np.asarray(PARAMS['kernel'], float)
  norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0)
  return x @ w / norms


def test_cosines_do_not_see_norms():
  head = models.CosineHead(3, scale=7.0)
  got = apply(head, FEATURES)
  np.testing.assert_allclose(got, 7 * cosines(), rtol=1e-5)
  longer = {'kernel': PARAMS['kernel'] * jnp.array([[2.0, 0.5, 30.0]])}
  again = apply(head, 5 * FEATURES, longer)
  np.testing.assert_allclose(again, got, rtol=1e-5)


def test_both_factors_of_a_linear_head():
  head = models.CosineDotHead(3)
  got = apply(head, FEATURES)
  assert got.shape == (6, 2, 3)
  np.testing.assert_allclose(got[:, 1], cosines(), rtol=1e-5)
  np.testing.assert_allclose(got[:, 0], FEATURES @ PARAMS['kernel'], rtol=1e-5)


def test_parameters_are_those_of_a_dense_layer():
  for head in (models.CosineHead(3), models.CosineDotHead(3)):
    shapes = jax.eval_shape(head.init, jax.random.key(0), FEATURES)
    assert jax.tree.map(lambda x: (x.shape, x.dtype.name), shapes) == {
      'params': {'kernel': ((4, 3), 'float32')}
    }


def test_float32_out_of_bfloat16():
  head = models.CosineHead(3, dtype=jnp.bfloat16)
  got = apply(head, FEATURES.astype(jnp.bfloat16))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, 10 * cosines(), atol=0.15)


def test_a_row_of_zeros_is_harmless():
  loss = lambda x: jnp.sum(apply(models.CosineHead(3), x))
  value, gradient = jax.value_and_grad(loss)(jnp.zeros((2, 4)))
  assert value == 0 and np.isfinite(gradient).all()
