"""Scales and offsets: golden values, and networks that compute the same."""

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, tree


class Normalised(nn.Module):
  """ReLU behind layer normalisations that have a scale and an offset."""

  @nn.compact
  def __call__(self, x):
    for width in (6, 5):
      x = nn.Dense(width, use_bias=False)(x)
      x = nn.relu(nn.LayerNorm()(x))
    return nn.Dense(3, name='head')(nn.LayerNorm(name='last')(x))


class NormalisedNnx(nnx.Module):
  """The same, with the names of linen."""

  def __init__(self, rngs):
    widths = (4, 6, 5)
    for i in range(2):
      dense = nnx.Linear(*widths[i : i + 2], use_bias=False, rngs=rngs)
      setattr(self, f'Dense_{i}', dense)
      setattr(self, f'LayerNorm_{i}', nnx.LayerNorm(widths[i + 1], rngs=rngs))
    self.last = nnx.LayerNorm(5, rngs=rngs)
    self.head = nnx.Linear(5, 3, rngs=rngs)

  def __call__(self, x):
    for i in range(2):
      dense, norm = (getattr(self, f'{n}_{i}') for n in ('Dense', 'LayerNorm'))
      x = nnx.relu(norm(dense(x)))
    return self.head(self.last(x))


INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), 'f')
HIDDEN = tree.path_mask('LayerNorm_[01]/(scale|bias)$')


def disturb(params, size):
  """Other parameters, far from their spheres."""
  rng = np.random.default_rng(1)
  move = lambda x: x + size * jnp.asarray(rng.normal(size=x.shape), 'f')
  return jax.tree.map(move, params)


def joint_norm(layer):
  leaves = [np.ravel(x) for x in jax.tree.leaves(layer)]
  return np.linalg.norm(np.concatenate(leaves))


def linen():
  params = Normalised().init(jax.random.key(0), INPUTS)['params']
  return params, lambda p: Normalised().apply({'params': p}, INPUTS)


def nnx_tree():
  graph, params = nnx.split(NormalisedNnx(nnx.Rngs(0)), nnx.Param)
  return params, lambda p: nnx.merge(graph, p)(INPUTS)


@pytest.mark.parametrize('make', [linen, nnx_tree])
def test_no_output_moves_and_all_spheres_are_met(make):
  """Invariance is exact but for the epsilon of the normalisations."""
  params, apply = make()
  nap = optax.chain(
    methods.normalize_and_project(mask=models.nap_mask),
    methods.project_scales(mask=HIDDEN),
  )
  state = nap.init(params)
  moved = disturb(params, 3.0)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = jax.jit(nap.update)(zero, state, moved)
  end = optax.apply_updates(moved, updates)
  for name, size in (('LayerNorm_0', 6), ('LayerNorm_1', 5)):
    assert abs(joint_norm(moved[name]) - size**0.5) > 1
    np.testing.assert_allclose(joint_norm(end[name]), size**0.5, rtol=1e-6)
  for name in ('Dense_0', 'Dense_1'):
    np.testing.assert_allclose(
      joint_norm(end[name]), joint_norm(params[name]), rtol=1e-6
    )
  np.testing.assert_allclose(apply(end), apply(moved), rtol=1e-3, atol=1e-4)
  assert np.abs(apply(moved) - apply(params)).max() > 0.1


def test_the_layer_in_front_of_the_head_does_matter():
  """So it is left out; by default it is taken, too."""
  params, apply = linen()
  tx = methods.project_scales()
  moved = disturb(params, 3.0)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, tx.init(params), moved)
  end = optax.apply_updates(moved, updates)
  np.testing.assert_allclose(joint_norm(end['last']), 5**0.5, rtol=1e-6)
  assert np.abs(apply(end) - apply(moved)).max() > 0.1
  np.testing.assert_array_equal(end['head']['bias'], moved['head']['bias'])


def test_golden_values():
  norm = {'scale': jnp.array([2.0, 1.0]), 'bias': jnp.array([1.0, 0.0])}
  tx, zero = methods.project_scales(), jax.tree.map(jnp.zeros_like, norm)
  updates, _ = tx.update(zero, tx.init(norm), norm)
  end = optax.apply_updates(norm, updates)
  np.testing.assert_allclose(end['scale'], [1.154701, 0.57735], rtol=1e-6)
  np.testing.assert_allclose(end['bias'], [0.57735, 0.0], rtol=1e-6)


def test_a_scale_without_an_offset():
  params = {'norm': {'scale': jnp.array([3.0, 4.0])}, 'w': jnp.ones((2, 2))}
  tx, zero = methods.project_scales(), jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, tx.init(params), params)
  end = optax.apply_updates(params, updates)
  np.testing.assert_allclose(end['norm']['scale'], [0.6 * 2**0.5, 0.8 * 2**0.5])
  np.testing.assert_array_equal(end['w'], params['w'])


def test_every_other_update_and_zero():
  params = {'scale': jnp.ones(4)}
  tx = methods.project_scales(every=2)
  state, norms = tx.init(params), []
  for _ in range(4):
    updates, state = tx.update(params, state, params)
    params = optax.apply_updates(params, updates)
    norms.append(float(joint_norm(params)))
  np.testing.assert_allclose(norms, [4.0, 2.0, 4.0, 2.0], rtol=1e-6)
  minus = jax.tree.map(jnp.negative, params)
  once = methods.project_scales()
  updates, _ = once.update(minus, once.init(params), params)
  np.testing.assert_array_equal(updates['scale'], minus['scale'])


def test_bfloat16_parameters_and_float32_updates():
  params = {'scale': jnp.ones(4, jnp.bfloat16)}
  tx = methods.project_scales(every=2)
  state = tx.init(params)
  for _ in range(2):
    updates, state = tx.update({'scale': jnp.ones(4)}, state, params)
    assert updates['scale'].dtype == jnp.bfloat16


def test_errors():
  with pytest.raises(ValueError, match='every is 0'):
    methods.project_scales(every=0)
  params = {'a': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}}
  with pytest.raises(ValueError, match="no vector called 'scale'"):
    methods.project_scales().init(params)
  with pytest.raises(ValueError, match='must have one shape'):
    methods.project_scales(mask=tree.path_mask('a')).init(params)
  with pytest.raises(ValueError, match='matches none'):
    methods.project_scales(mask=tree.path_mask('none')).init(params)
  tx = methods.project_scales(mask=tree.path_mask('bias'))
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, tx.init(params))
