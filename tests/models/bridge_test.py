"""Modules of linen and nnx as pure functions; the mask by name."""

import functools

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import models
from lrcl.tree import leaf_name


class _Linen(nn.Module):
  """Batch statistics, dropout, and a flag for both."""

  @nn.compact
  def __call__(self, x, train: bool = False):
    x = nn.Dense(8)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.Dropout(0.5, deterministic=not train)(x)
    return nn.Dense(3, name='head')(x)


class _Deterministic(nn.Module):
  """The flag the other way round."""

  @nn.compact
  def __call__(self, x, deterministic: bool):
    return nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(3)(x))


class _Nnx(nnx.Module):
  """The same as `_Linen`, with a list of layers."""

  def __init__(self, rngs: nnx.Rngs):
    self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs)])
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(8, 3, rngs=rngs)

  def __call__(self, x):
    return self.head(self.dropout(self.norm(self.layers[0](x))))


def _bridge(name):
  if name == 'linen':
    return models.from_module(_Linen(), jnp.ones((1, 4)))
  return models.from_nnx(lambda rngs: _Nnx(rngs))


_BOTH = pytest.mark.parametrize('name', ['linen', 'nnx'])
_X = np.random.default_rng(0).normal(1, 2, (16, 4)).astype(np.float32)


@functools.cache  # compiled once for all tests of one worker
def _start(name):
  """Compiled functions and the variables of two seeds."""
  init_fn, apply_fn = _bridge(name)

  @functools.partial(jax.jit, static_argnames='train')
  def run(params, state, seed, *, train):
    def total(params):
      rng = jax.random.key(seed)
      logits, after = apply_fn(
        params, _X, rng=rng, model_state=state, train=train
      )
      return jnp.sum(logits**2), (logits, after)

    return jax.grad(total, has_aux=True)(params)

  keys = jax.random.split(jax.random.key(0), 2)
  variables = jax.device_get(jax.jit(jax.vmap(init_fn))(keys))
  return run, [jax.tree.map(lambda x, i=i: x[i], variables) for i in (0, 1)]


@_BOTH
def test_statistics_move_only_while_training(name):
  run, [(params, state), _] = _start(name)
  _, (_, after) = run(params, state, 0, train=True)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), after, state)
  assert jax.tree.leaves(moved) == [True, True]  # mean and variance
  _, (_, kept) = run(params, after, 0, train=False)
  jax.tree.map(np.testing.assert_array_equal, kept, after)


@_BOTH
def test_dropout_follows_the_key(name):
  run, [variables, _] = _start(name)
  logits = lambda seed, train=True: np.asarray(
    run(*variables, seed, train=train)[1][0]
  )
  np.testing.assert_array_equal(logits(1), logits(1))
  assert np.abs(logits(1) - logits(2)).max() > 1e-3
  np.testing.assert_array_equal(logits(1, False), logits(2, False))


@_BOTH
def test_seeds_differ_and_vmap_over_them(name):
  run, variables = _start(name)
  params, state = jax.tree.map(lambda *xs: np.stack(xs), *variables)
  every = jax.jit(jax.vmap(lambda p, s: run(p, s, 0, train=True)[1][0]))
  logits = np.asarray(every(params, state))
  assert np.abs(logits[0] - logits[1]).max() > 1e-3
  for got, one in zip(logits, variables, strict=True):
    want = run(*one, 0, train=True)[1][0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@_BOTH
def test_gradients_reach_the_parameters(name):
  run, [(params, state), _] = _start(name)
  gradient, _ = run(params, state, 0, train=True)
  assert jax.tree.structure(gradient) == jax.tree.structure(params)
  for leaf in map(np.asarray, jax.tree.leaves(gradient)):
    assert np.isfinite(leaf).all() and leaf.any()


@_BOTH
def test_params_are_plain_dicts_with_readable_names(name):
  params, _ = _start(name)[1][0]
  leaves = jax.tree_util.tree_leaves_with_path(params)
  names = {leaf_name(path) for path, _ in leaves}
  assert {'head/kernel', 'head/bias'} <= names
  first = 'Dense_0' if name == 'linen' else 'layers/0'
  assert f'{first}/kernel' in names
  assert type(params) is dict


def test_linen_and_nnx_compute_the_same():
  run, [(params, state), _] = _start('nnx')
  same = {
    'Dense_0': params['layers']['0'],
    'BatchNorm_0': params['norm'],
    'head': params['head'],
  }
  stats = {'batch_stats': {'BatchNorm_0': state['norm']}}
  got = run(params, state, 0, train=False)[1][0]
  want = _start('linen')[0](same, stats, 0, train=False)[1][0]
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_an_existing_nnx_module_keeps_its_weights(key):
  module = _Nnx(nnx.Rngs(3))
  init_fn, apply_fn = models.from_nnx(module)
  params, state = init_fn(key)
  kernel = module.head.kernel[...]
  np.testing.assert_array_equal(params['head']['kernel'], kernel)
  x = jnp.ones((2, 4))
  got, _ = apply_fn(params, x, rng=None, model_state=state, train=False)
  module.eval()
  np.testing.assert_allclose(got, module(x), rtol=1e-6)


def test_donating_the_parameters_leaves_the_module_alone(key):
  module = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
  params, _ = models.from_nnx(module)[0](key)
  jax.jit(lambda p: jax.tree.map(jnp.zeros_like, p), donate_argnums=0)(params)
  assert jnp.abs(module.kernel[...]).max() > 0


@pytest.mark.parametrize('rng', [None, 0])
def test_a_module_without_flags_or_state(rng, key):
  init_fn, apply_fn = models.from_module(nn.Dense(3), jnp.ones((1, 4)))
  params, state = init_fn(key)
  assert state == {}
  rng = None if rng is None else jax.random.key(rng)
  x = jnp.ones((2, 4))
  for train in (False, True):
    got, after = apply_fn(params, x, rng=rng, model_state=state, train=train)
    assert after == {}
    np.testing.assert_array_equal(got, nn.Dense(3).apply({'params': params}, x))


def test_deterministic_is_the_opposite_of_train(key):
  init_fn, apply_fn = models.from_module(_Deterministic(), jnp.ones((1, 4)))
  params, state = init_fn(key)
  run = lambda train: apply_fn(
    params, jnp.ones((2, 4)), rng=key, model_state=state, train=train
  )[0]
  assert (run(True) == 0).any() and (run(False) != 0).all()


def test_shapes_alone_initialise(key):
  spec = jax.ShapeDtypeStruct((1, 6), jnp.int32)
  model = models.GPT(vocab_size=5, length=6, width=8, layers=1, heads=2)
  init_fn, apply_fn = models.from_module(model, spec)
  tokens = jax.ShapeDtypeStruct((2, 6), jnp.int32)
  params, state = jax.eval_shape(init_fn, key)
  apply = functools.partial(apply_fn, rng=None, model_state=state, train=True)
  logits, _ = jax.eval_shape(apply, params, tokens)
  assert logits.shape == (2, 6, 5)


def test_mask_on_linen_and_nnx_names():
  module = _Nnx(nnx.Rngs(0))
  state = nnx.state(module, nnx.Param)
  plain, _ = _start('nnx')[1][0]
  for tree in (state, plain):
    mask = jax.tree_util.tree_leaves_with_path(models.nap_mask(tree))
    chosen = [leaf_name(path) for path, selected in mask if selected]
    assert chosen == ['layers/0/kernel']


def test_mask_without_a_head():
  params = {'a': {'kernel': jnp.ones((2, 2))}, 'b': {'scale': jnp.ones(2)}}
  mask = models.nap_mask(params, head=None)
  assert mask == {'a': {'kernel': True}, 'b': {'scale': False}}
  with pytest.raises(ValueError, match="no layer is called 'head'"):
    models.nap_mask(params)
  with pytest.raises(ValueError, match='no leaf is a `kernel`'):
    models.nap_mask({'head': params['a']})
