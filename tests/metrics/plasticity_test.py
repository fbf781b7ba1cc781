"""Signs of lost plasticity: by definition, against slow twins in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import metrics, tree
from tests.metrics import twins


def draw(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return np.maximum(rng.normal(size=shape), 0).astype(np.float32)


@pytest.mark.parametrize('threshold', [0.0, 0.1, 0.5, 1.0])
def test_dormant_units_of_a_dense_and_a_convolutional_layer(threshold):
  rng = np.random.default_rng(1)
  scale = lambda units: rng.choice([0.0, 0.02, 0.2, 1.0], units)
  layers = [draw(6, 20) * scale(20), draw(6, 3, 3, 12, seed=2) * scale(12)]
  layers = [layer.astype(np.float32) for layer in layers]
  weight = [1.0, 2.0, 0.0, 1.0, 0.5, 0.0]
  call = jax.jit(
    lambda a, t, w: metrics.dormant_fraction(a, t, weight=w)  # traced
  )
  got = call({'a': layers[0], 'b': layers[1]}, threshold, jnp.array(weight))
  named = {'a': layers[0], 'b': layers[1]}
  want = twins.dormant_fraction(named, threshold, weight)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  got = metrics.dormant_fraction(layers, threshold)
  want = twins.dormant_fraction(named, threshold)
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_padding_wakes_no_unit():
  layer = jnp.array([[1.0, 0.0], [1.0, 9.0]])
  weight = jnp.array([1.0, 0.0])
  assert float(metrics.dormant_fraction(layer, weight=weight)) == 0.5
  assert float(metrics.dormant_fraction(layer)) == 0.0
  assert float(metrics.active_fraction(layer, weight=weight)) == 0.5


def test_negative_activations_count_as_activity():
  assert float(metrics.dormant_fraction(-jnp.ones((3, 4)))) == 0.0
  assert float(metrics.active_fraction(-jnp.ones((3, 4)))) == 0.0


def test_a_silent_layer_is_all_dormant():
  assert float(metrics.dormant_fraction(jnp.zeros((3, 4)))) == 1.0


def test_active_fraction_counts():
  layer = draw(5, 4, 4, 3)
  np.testing.assert_allclose(
    metrics.active_fraction(layer), np.mean(layer > 0), rtol=1e-6
  )


def test_weight_norm_of_all_and_of_some():
  params = {
    'a': {'kernel': draw(3, 4), 'bias': draw(4, seed=1)},
    'b': {'kernel': draw(4, 2, seed=2)},
  }
  flat = lambda xs: np.concatenate([np.ravel(x) for x in xs])
  want = np.linalg.norm(flat(jax.tree.leaves(params)))
  np.testing.assert_allclose(metrics.weight_norm(params), want, rtol=1e-6)
  kernels = [params['a']['kernel'], params['b']['kernel']]
  got = metrics.weight_norm(params, mask=tree.path_mask('kernel$'))
  np.testing.assert_allclose(got, np.linalg.norm(flat(kernels)), rtol=1e-6)
  wide = metrics.weight_norm(jnp.ones(1024, jnp.bfloat16))
  assert wide.dtype == jnp.float32 and float(wide) == 32.0


def test_update_to_weight_ratio_leaf_by_leaf():
  params = {'a': draw(3, 4), 'zero': jnp.zeros(2)}
  updates = {'a': 1e-3 * draw(3, 4, seed=3), 'zero': jnp.ones(2)}
  got = jax.jit(metrics.update_to_weight_ratio)(updates, params)
  want = np.linalg.norm(updates['a']) / np.linalg.norm(params['a'])
  np.testing.assert_allclose(got['a'], want, rtol=1e-5)
  assert np.isnan(got['zero'])
  some = metrics.update_to_weight_ratio(
    updates, params, mask=tree.path_mask('a')
  )
  assert tree.is_masked(some['zero']) and len(jax.tree.leaves(some)) == 1


def test_errors():
  with pytest.raises(ValueError, match='threshold is -1'):
    metrics.dormant_fraction(jnp.ones((2, 2)), -1.0)
  with pytest.raises(ValueError, match=r'\[\(3,\)\]'):
    metrics.dormant_fraction(jnp.ones(3))
  with pytest.raises(ValueError, match='active_fraction: activations'):
    metrics.active_fraction({})
  with pytest.raises(ValueError, match='matches none'):
    metrics.weight_norm({'a': jnp.ones(2)}, mask=tree.path_mask('b'))
