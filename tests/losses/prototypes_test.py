"""The contrast of prototypes equals loops over classes and views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import base, losses

ROWS, FEATURES, CLASSES, TEMPERATURE = 10, 3, 5, 0.5
rng = np.random.default_rng(0)
LABELS = np.array([0, 0, 2, 4, 1, 0, 2, 2, 4, 1])
VIEW = np.arange(ROWS) >= 5
WEIGHT = np.array([1, 2, 1, 1, 0, 1, 1, 1, 1, 1], np.float32)  # half of 1: pad
Z = rng.normal(size=(ROWS, FEATURES))
LOGITS = jnp.asarray(rng.normal(size=(ROWS, CLASSES)), jnp.float32)
BATCH = {
  'labels': jnp.asarray(LABELS),
  'view': jnp.asarray(VIEW),
  'weight': jnp.asarray(WEIGHT),
}
LOSS = losses.equilibrate_prototypes(weight=0.7, temperature=TEMPERATURE)


def twin(z):
  """The mean over prototypes, in float64."""
  unit = z / np.linalg.norm(z, axis=1, keepdims=True)
  made = {}
  for c in (0, 2, 4):
    for view in (False, True):
      rows = (LABELS == c) & (VIEW == view)
      mean = np.average(unit[rows], axis=0, weights=WEIGHT[rows])
      made[c, view] = mean / np.linalg.norm(mean)
  total = 0.0
  for (c, view), p in made.items():
    score = lambda q, p=p: np.exp(p @ q / TEMPERATURE)
    rest = sum(score(q) for k, q in made.items() if k != (c, view))
    total -= np.log(score(made[c, not view]) / rest)
  return total / len(made)


@jax.jit
def term(z):
  values = LOSS((LOGITS, z), BATCH)
  assert values.shape == (ROWS,) and values.dtype == jnp.float32
  plain = losses.cross_entropy(LOGITS, BATCH)
  return base.weighted_mean(values - plain, BATCH['weight'])


def test_its_mean_under_the_weight_is_the_mean_over_prototypes():
  got = term(jnp.asarray(Z, jnp.float32))
  np.testing.assert_allclose(got, 0.7 * twin(Z), rtol=1e-5)


def test_the_gradient_is_that_of_the_twin():
  got = jax.jit(jax.grad(term))(jnp.asarray(Z, jnp.float32))
  along = rng.normal(size=Z.shape)
  slope = (twin(Z + 1e-5 * along) - twin(Z - 1e-5 * along)) / 2e-5
  np.testing.assert_allclose(np.sum(got * along), 0.7 * slope, rtol=1e-4)
  alone = LABELS == 1  # one of its two views is padding
  assert not np.asarray(got)[alone].any()


def test_zeros_and_lonely_classes_are_harmless():
  batch = BATCH | {'view': jnp.zeros(ROWS, bool)}
  loss = lambda z: jnp.sum(LOSS((LOGITS, z), batch))
  value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.zeros_like(LOGITS))
  plain = jnp.sum(losses.cross_entropy(LOGITS, batch))
  np.testing.assert_allclose(value, plain, rtol=1e-6)
  assert not gradient.any()


def test_a_batch_without_views_has_the_loss_alone():
  batch = {'labels': BATCH['labels']}
  np.testing.assert_array_equal(
    LOSS((LOGITS, LOGITS), batch), losses.cross_entropy(LOGITS, batch)
  )


def test_errors():
  with pytest.raises(ValueError, match='equilibrate_prototypes: weight is -1'):
    losses.equilibrate_prototypes(weight=-1.0)
  with pytest.raises(ValueError, match='temperature is 0'):
    losses.equilibrate_prototypes(temperature=0.0)
  with pytest.raises(ValueError, match='projections have shape'):
    LOSS((LOGITS, LOGITS[0]), BATCH)
