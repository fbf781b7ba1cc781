"""Cross-entropy and predictions: values, masks, dtypes, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import losses


def _draw(*shape: int) -> jax.Array:
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _softmax_loss(logits: np.ndarray, label: int) -> float:
  """The loss of one example, in float64."""
  logits = logits.astype(np.float64)
  shifted = logits - logits.max()
  return float(np.log(np.exp(shifted).sum()) - shifted[label])


def test_equals_the_formula():
  logits = 3 * _draw(5, 7)
  labels = jnp.array([0, 6, 2, 2, 5])
  got = losses.cross_entropy(logits, {'labels': labels})
  want = [
    _softmax_loss(row, label)
    for row, label in zip(np.asarray(logits), np.asarray(labels), strict=True)
  ]
  assert got.shape == (5,) and got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_tokens_are_averaged_over_time():
  logits = _draw(2, 3, 5)
  labels = jnp.array([[0, 1, 2], [4, 4, 0]])
  got = losses.cross_entropy(logits, {'labels': labels})
  flat = losses.cross_entropy(
    logits.reshape(6, 5), {'labels': labels.reshape(6)}
  )
  assert got.shape == (2,)
  np.testing.assert_allclose(got, flat.reshape(2, 3).mean(1), rtol=1e-6)


def test_the_mask_removes_classes_and_their_gradient():
  logits = _draw(2, 4)
  mask = jnp.array([[True, False, True, True], [True, True, False, False]])
  batch = {'labels': jnp.array([2, 1]), 'class_mask': mask}
  got = losses.cross_entropy(logits, batch)
  rows = np.asarray(logits)
  want = [
    _softmax_loss(rows[0][[0, 2, 3]], 1),
    _softmax_loss(rows[1][[0, 1]], 1),
  ]
  np.testing.assert_allclose(got, want, rtol=1e-5)
  gradient = jax.grad(lambda x: losses.cross_entropy(x, batch).sum())(logits)
  assert (np.asarray(gradient)[~np.asarray(mask)] == 0).all()
  assert (np.asarray(gradient)[np.asarray(mask)] != 0).all()


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('label', [0, 1])
def test_finite_whatever_the_mask(dtype, label):
  masks = [[True, False], [False, True], [False, False]]
  for mask in masks:
    batch = {
      'labels': jnp.array([label]),
      'class_mask': jnp.array([mask]),
    }
    loss = lambda x, batch=batch: losses.cross_entropy(x, batch).sum()
    value, gradient = jax.value_and_grad(loss)(jnp.zeros((1, 2), dtype))
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    assert gradient.dtype == dtype


def test_a_masked_label_is_dear():
  mask = jnp.array([[True, False]])
  batch = {'labels': jnp.array([1]), 'class_mask': mask}
  assert losses.cross_entropy(jnp.zeros((1, 2)), batch)[0] > 1e8


def test_a_label_beyond_the_classes_is_nan():
  batch = {'labels': jnp.array([2])}
  assert jnp.isnan(losses.cross_entropy(jnp.zeros((1, 2)), batch)[0])


def test_exact_at_large_logits():
  logits = jnp.array([[1e6, 1e6 + 1.0]])
  got = losses.cross_entropy(logits, {'labels': jnp.array([0])})
  np.testing.assert_allclose(got, [np.log1p(np.e)], rtol=1e-6)


def test_bfloat16_logits_are_summed_in_float32():
  logits = _draw(4, 1000).astype(jnp.bfloat16)
  batch = {'labels': jnp.arange(4)}
  got = losses.cross_entropy(logits, batch)
  want = losses.cross_entropy(logits.astype(jnp.float32), batch)
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(got, want)


def test_jit_and_vmap_agree_with_eager():
  logits = _draw(3, 4, 5)
  labels = jnp.arange(12).reshape(3, 4) % 5
  loss = lambda x, y: losses.cross_entropy(x, {'labels': y})
  want = jnp.stack([loss(x, y) for x, y in zip(logits, labels, strict=True)])
  np.testing.assert_allclose(jax.vmap(loss)(logits, labels), want, rtol=1e-6)
  np.testing.assert_allclose(
    jax.jit(loss)(logits[0], labels[0]), want[0], rtol=1e-6
  )


def test_argmax_stays_inside_the_mask():
  logits = _draw(50, 6).astype(jnp.bfloat16)
  mask = np.asarray(_draw(50, 6)) > 0
  mask[:, 0] = True
  labels = losses.argmax(logits, {'class_mask': jnp.asarray(mask)})
  assert labels.shape == (50,) and labels.dtype == jnp.int32
  assert mask[np.arange(50), labels].all()
  free = losses.argmax(logits, {})
  np.testing.assert_array_equal(free, jnp.argmax(logits, -1))


def test_argmax_of_tokens():
  logits = _draw(2, 3, 4)
  mask = jnp.array([[True, True, False, False], [False, False, True, True]])
  labels = losses.argmax(logits, {'class_mask': mask})
  assert labels.shape == (2, 3)
  assert (labels[0] < 2).all() and (labels[1] >= 2).all()


def test_shapes_that_do_not_fit():
  logits = jnp.zeros((2, 3))
  with pytest.raises(ValueError, match='labels have shape'):
    losses.cross_entropy(logits, {'labels': jnp.zeros((2, 1), jnp.int32)})
  batch = {
    'labels': jnp.zeros(2, jnp.int32),
    'class_mask': jnp.ones(3, bool),
  }
  with pytest.raises(ValueError, match='cross_entropy: class_mask'):
    losses.cross_entropy(logits, batch)
  with pytest.raises(ValueError, match='argmax: class_mask'):
    losses.argmax(logits, batch)
