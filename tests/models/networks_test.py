"""The networks: shapes, dtypes, scale invariance, causality, gradients."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import losses, models


def _mlp(**options):
  return models.MLP(features=(16, 8), num_classes=5, **options)


def _cnn(**options):
  return models.CNN(features=(4, 6), hidden=8, num_classes=5, **options)


def _gpt(**options):
  return models.GPT(
    vocab_size=5, length=6, width=8, layers=1, heads=2, **options
  )


_MODELS = {'mlp': _mlp, 'cnn': _cnn, 'gpt': _gpt}


def _inputs(name):
  rng = np.random.default_rng(0)
  if name == 'gpt':
    return rng.integers(0, 5, (3, 6), np.int32)
  return rng.uniform(size=(3, 9, 8)).astype(np.float32)


def fill(spec):
  """Random parameters without the cost of compiling `jax.random`."""
  rng = np.random.default_rng(0)

  def draw(leaf):
    fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 10
    return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

  return jax.tree.map(draw, spec)


@functools.cache  # compiled once for all tests of one worker
def _setup(name, normalize=False, dtype=None):
  """Initial parameters, the compiled network and its compiled gradient."""
  model = _MODELS[name](normalize=normalize, dtype=dtype)
  shape = (3, 6) if name == 'gpt' else (3,)
  batch = {'labels': np.arange(np.prod(shape), dtype=np.int32) % 5}
  batch['labels'] = batch['labels'].reshape(shape)

  def apply(params, inputs):
    return model.apply({'params': params}, inputs)

  def loss(params, inputs):
    return losses.cross_entropy(apply(params, inputs), batch).sum()

  spec = jax.eval_shape(model.init, jax.random.key(0), _inputs(name))
  return fill(spec['params']), jax.jit(apply), jax.jit(jax.grad(loss))


def _logits(run, params, inputs):
  return np.asarray(run(params, inputs))


_EACH = pytest.mark.parametrize('name', _MODELS)
_BOTH = pytest.mark.parametrize('normalize', [False, True])


@_BOTH
@_EACH
def test_shapes_and_dtypes(name, normalize):
  params, run, _ = _setup(name, normalize)
  logits = run(params, _inputs(name))
  assert logits.shape == ((3, 6, 5) if name == 'gpt' else (3, 5))
  assert logits.dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('float32')}


@_BOTH
@_EACH
def test_gradients_are_finite_and_reach_all(name, normalize):
  params, _, grad = _setup(name, normalize)
  for gradient in jax.tree.leaves(grad(params, _inputs(name))):
    gradient = np.asarray(gradient)
    assert np.isfinite(gradient).all() and gradient.any()
  if normalize:  # blank inputs have no variance to divide by
    blank = grad(params, np.zeros_like(_inputs(name)))
    for gradient in map(np.asarray, jax.tree.leaves(blank)):
      assert np.isfinite(gradient).all()
      assert np.abs(gradient).max() < 100


@_EACH
def test_bfloat16_is_near_float32(name):
  params, run, _ = _setup(name, True)
  _, half, grad = _setup(name, True, 'bfloat16')
  inputs = _inputs(name)
  got = half(params, inputs)
  assert got.dtype == jnp.float32
  want = _logits(run, params, inputs)
  np.testing.assert_allclose(got, want, atol=0.15)
  assert (np.asarray(got) != want).any()
  for gradient in jax.tree.leaves(jax.eval_shape(grad, params, inputs)):
    assert gradient.dtype == jnp.float32


@_EACH
def test_the_readout_is_multiplied_in_front_of_its_bias(name):
  params, run, _ = _setup(name)
  multiplied = _MODELS[name](readout_multiplier=2.0)
  got = jax.jit(multiplied.apply)({'params': params}, _inputs(name))
  head = params['head'] | {'kernel': 2 * params['head']['kernel']}
  want = _logits(run, params | {'head': head}, _inputs(name))
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@_EACH
def test_each_masked_matrix_has_no_scale_when_normalized(name):
  params, run, _ = _setup(name, True)
  logits = _logits(run, params, _inputs(name))
  leaves, treedef = jax.tree.flatten(params)
  mask = jax.tree.leaves(models.nap_mask(params))
  assert sum(mask) == sum(x.ndim >= 2 for x in leaves) - 1  # all but the head
  for i, chosen in enumerate(mask):
    scaled = [x * 3 if i == j else x for j, x in enumerate(leaves)]
    moved = _logits(run, treedef.unflatten(scaled), _inputs(name))
    same = np.allclose(moved, logits, atol=1e-4)
    assert same == chosen or not leaves[i].any()


@_EACH
def test_scale_matters_without_normalisation(name):
  params, run, _ = _setup(name)
  scaled = jax.tree.map(lambda x: x * 3, params)
  logits = _logits(run, params, _inputs(name))
  assert np.abs(_logits(run, scaled, _inputs(name)) - logits).max() > 0.1


@pytest.mark.parametrize('name', ['mlp', 'cnn'])
def test_no_bias_before_a_normalisation(name):
  params, *_ = _setup(name, True)
  assert [n for n, layer in params.items() if 'bias' in layer] == ['head']
  params, *_ = _setup(name)
  assert all('bias' in layer for layer in params.values())


def test_layers_have_plain_names():
  names = {name: set(_setup(name)[0]) for name in _MODELS}
  assert names['mlp'] == {'Dense_0', 'Dense_1', 'head'}
  assert names['cnn'] == {'Conv_0', 'Conv_1', 'Dense_0', 'head'}
  assert names['gpt'] == {'tokens', 'positions', 'Block_0', 'head'}


def test_initializers(key):
  inputs = np.ones((1, 100), np.float32)
  for name, std in {'lecun': 1.0, 'uniform': 3**-0.5}.items():
    model = models.MLP((), 400, initializer=name)  # pyright: ignore
    layer = jax.jit(model.init)(key, inputs)['params']['head']
    kernel, bias = np.asarray(layer['kernel']), np.asarray(layer['bias'])
    np.testing.assert_allclose(kernel.std() * 10, std, rtol=0.05)
    if name == 'lecun':
      assert not bias.any()
    else:
      np.testing.assert_allclose(bias.std() * 10, std, rtol=0.1)
      assert 0.09 < np.abs(kernel).max() <= 0.1 >= np.abs(bias).max()


def test_unknown_initializer(key):
  model = models.MLP((4,), 3, initializer='normal')  # pyright: ignore
  with pytest.raises(ValueError, match="initializer is 'normal'"):
    jax.eval_shape(model.init, key, np.ones((1, 2), np.float32))


def test_activation_is_used():
  params, *_ = _setup('mlp')
  inputs = _inputs('mlp')
  logits = _mlp(activation=jnp.zeros_like).apply({'params': params}, inputs)
  want = np.broadcast_to(params['head']['bias'], (3, 5))
  np.testing.assert_allclose(logits, want, rtol=1e-6)


@_BOTH
def test_gpt_is_causal(normalize):
  params, run, _ = _setup('gpt', normalize)
  tokens = _inputs('gpt')
  later = tokens.copy()
  later[:, 3] = (later[:, 3] + 1) % 5
  moved = np.abs(_logits(run, params, later) - _logits(run, params, tokens))
  assert moved[:, :3].max() < 1e-6
  assert (moved[:, 3:].max((0, 2)) > 1e-5).all()


def test_gpt_takes_fewer_tokens_but_not_more():
  params, run, _ = _setup('gpt')
  tokens = _inputs('gpt')
  shorter = jax.jit(_gpt().apply)({'params': params}, tokens[:, :4])
  want = _logits(run, params, tokens)[:, :4]
  np.testing.assert_allclose(shorter, want, atol=1e-5)
  with pytest.raises(ValueError, match='7 tokens in a row'):
    jax.eval_shape(_gpt().apply, {'params': params}, np.zeros((1, 7), np.int32))


def test_gpt_knows_positions():
  params, run, _ = _setup('gpt')
  logits = _logits(run, params, np.ones((3, 6), np.int32))
  assert np.abs(logits[0, 0] - logits[0, 5]).max() > 1e-3


def test_gpt_drops_only_while_training():
  params, run, _ = _setup('gpt')
  model = _gpt(dropout=0.5)

  @functools.partial(jax.jit, static_argnums=0)
  def apply(train, seed):
    rngs = {'dropout': jax.random.key(seed)}
    return model.apply({'params': params}, _inputs('gpt'), train, rngs=rngs)

  a, b, c = [np.asarray(apply(True, seed)) for seed in (1, 1, 2)]
  np.testing.assert_array_equal(a, b)
  assert np.abs(a - c).max() > 1e-3
  plain = _logits(run, params, _inputs('gpt'))
  np.testing.assert_allclose(apply(False, 1), plain, atol=1e-6)


def test_standardize():
  rng = np.random.default_rng(0)
  x = rng.normal(5, 3, (4, 100)).astype(np.float32)
  standardize = jax.jit(models.standardize)
  y = np.asarray(standardize(x))
  np.testing.assert_allclose(y.mean(1), np.zeros(4), atol=1e-5)
  np.testing.assert_allclose(y.std(1), np.ones(4), rtol=1e-4)
  np.testing.assert_allclose(standardize(7 * x), y, atol=1e-5)
  assert standardize(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
  norm = nn.LayerNorm(use_bias=False, use_scale=False)
  np.testing.assert_allclose(norm.apply({}, x), y, atol=1e-5)
