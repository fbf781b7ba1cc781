"""Distillation: divergences of softened predictions, distances of features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import losses

rng = np.random.default_rng(0)
LOGITS = jnp.asarray(2 * rng.normal(size=(4, 5)), jnp.float32)
TEACHER = jnp.asarray(2 * rng.normal(size=(4, 5)), jnp.float32)
BATCH = {'labels': jnp.array([0, 4, 2, 2]), 'teacher_logits': TEACHER}
MASK = np.array([[True, False, True, True, False]] * 3 + [[False] * 5])


def divergence(teacher, model, temperature):
  """T^2 KL of each row, from probabilities, in float64."""
  soften = lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
  p = soften(np.asarray(teacher, float) / temperature)
  q = soften(np.asarray(model, float) / temperature)
  return temperature**2 * np.sum(p * np.log(p / q), axis=1)


@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_adds_the_divergence(temperature):
  loss_fn = losses.distill_predictions(weight=0.3, temperature=temperature)
  got = jax.jit(loss_fn)(LOGITS, BATCH)
  want = 0.3 * divergence(TEACHER, LOGITS, temperature)
  assert got.shape == (4,) and got.dtype == jnp.float32
  plain = losses.cross_entropy(LOGITS, BATCH)
  np.testing.assert_allclose(got - plain, want, rtol=1e-4, atol=1e-6)


def test_the_size_of_the_gradient_outlives_the_temperature():
  def gradient(temperature):
    loss_fn = losses.distill_predictions(
      lambda logits, _: jnp.zeros(logits.shape[0]), 1.0, temperature
    )
    loss = lambda x: jnp.sum(loss_fn(x, BATCH))
    return jax.jit(jax.grad(loss))(LOGITS)

  # At high temperature it is that of half a mean square of centred logits.
  gap = np.asarray(LOGITS - TEACHER, float)
  want = (gap - gap.mean(axis=1, keepdims=True)) / 5
  np.testing.assert_allclose(gradient(1e3), want, rtol=0.03, atol=3e-3)


def test_only_the_classes_that_the_teacher_knows():
  batch = BATCH | {'teacher_mask': jnp.asarray(MASK)}
  loss_fn = losses.distill_predictions(weight=2.0)
  term = lambda x: loss_fn(x, batch) - losses.cross_entropy(x, batch)
  got = term(LOGITS)
  pull = jax.jit(jax.grad(lambda x: jnp.sum(term(x))))(LOGITS)
  known = MASK[0]
  want = 2 * divergence(TEACHER[:3, known], LOGITS[:3, known], 2.0)
  np.testing.assert_allclose(got[:3], want, rtol=1e-4)
  assert got[3] == 0  # no teacher
  np.testing.assert_allclose(pull[:, ~known], 0, atol=1e-6)
  np.testing.assert_allclose(pull[3], 0, atol=1e-6)
  assert np.all(np.abs(pull[:3, known]) > 1e-3)


def test_a_batch_without_a_teacher_has_the_loss_alone():
  batch = {'labels': BATCH['labels']}
  want = losses.cross_entropy(LOGITS, batch)
  got = losses.distill_predictions()(LOGITS, batch)
  np.testing.assert_array_equal(got, want)
  got = losses.distill_features()((LOGITS, LOGITS), batch)
  np.testing.assert_array_equal(got, want)


def test_the_teacher_gets_no_gradient():
  loss_fn = losses.distill_predictions()
  loss = lambda t: jnp.sum(loss_fn(LOGITS, BATCH | {'teacher_logits': t}))
  assert not jax.jit(jax.grad(loss))(TEACHER).any()


def test_tokens_are_averaged_over_time():
  batch = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), BATCH)
  loss_fn = losses.distill_predictions()
  got = loss_fn(LOGITS.reshape(2, 2, 5), batch)
  want = loss_fn(LOGITS, BATCH).reshape(2, 2).mean(axis=1)
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_one_program_serves_many_weights_and_temperatures():
  weights, temperatures = jnp.array([0.1, 2.0]), jnp.array([1.0, 3.0])
  make = losses.distill_predictions
  loss = lambda w, t: make(losses.cross_entropy, w, t)(LOGITS, BATCH)
  got = jax.jit(jax.vmap(loss))(weights, temperatures)
  want = jnp.stack([loss(0.1, 1.0), loss(2.0, 3.0)])
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_features_and_predictions():
  features, teacher = LOGITS[:, :3], TEACHER[:, :3]
  batch = BATCH | {'teacher_features': teacher}
  inner = losses.distill_predictions(weight=0.3)
  loss_fn = losses.distill_features(inner, 0.1)
  got = loss_fn((LOGITS, features.astype(jnp.bfloat16)), batch)
  gap = np.asarray(features.astype(jnp.bfloat16), float) - teacher
  want = inner(LOGITS, batch) + 0.1 * np.sum(gap**2, axis=1)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_errors():
  with pytest.raises(ValueError, match='distill_predictions: weight is -1'):
    losses.distill_predictions(weight=-1.0)
  with pytest.raises(ValueError, match='distill_predictions: temperature is 0'):
    losses.distill_predictions(temperature=0.0)
  with pytest.raises(ValueError, match='distill_features: weight is -1'):
    losses.distill_features(weight=-1.0)
  with pytest.raises(ValueError, match="teacher's outputs have shape"):
    losses.distill_predictions()(LOGITS[:, :4], BATCH)
  bad = BATCH | {'teacher_mask': jnp.ones(5, bool)}
  with pytest.raises(ValueError, match='distill_predictions: class_mask'):
    losses.distill_predictions()(LOGITS, bad)
