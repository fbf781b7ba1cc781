"""The matmul form of a convolution is the convolution."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import models


def _draw(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('matmul', [False, True])
@pytest.mark.parametrize('use_bias,size', [(False, (3, 3)), (True, (5, 3))])
def test_equals_nn_conv(use_bias, size, matmul, key):
  x = _draw(2, 7, 6, 3)
  ours = models.Conv(4, size, use_bias, matmul=matmul)
  theirs = nn.Conv(4, size, use_bias=use_bias)
  spec = jax.eval_shape(theirs.init, key, x)
  assert spec == jax.eval_shape(ours.init, key, x)
  variables = jax.tree.map(lambda leaf: _draw(*leaf.shape), spec)

  @jax.jit
  def run(variables, x):
    def total(variables, x, module):
      y = module.apply(variables, x)
      return jnp.sum(jnp.sin(y)), y

    both = jax.value_and_grad(total, (0, 1), has_aux=True)
    return both(variables, x, ours), both(variables, x, theirs)

  ((_, y), gradient), ((_, y_want), gradient_want) = run(variables, x)
  np.testing.assert_allclose(y, y_want, rtol=1e-5, atol=1e-5)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, gradient, gradient_want)


def test_starts_as_nn_conv(key):
  x = jnp.ones((1, 3, 3, 2))
  ours, theirs = models.Conv(4), nn.Conv(4, (3, 3))
  equal = np.testing.assert_array_equal
  jax.tree.map(equal, ours.init(key, x), theirs.init(key, x))


def test_even_kernels_are_refused():
  with pytest.raises(ValueError, match='the kernel is 2 x 3'):
    models.conv_same(jnp.ones((1, 4, 4, 1)), jnp.ones((2, 3, 1, 1)))


@pytest.mark.parametrize('shape', [(2, 6, 4, 3), (2, 7, 5, 3)])
def test_max_pool_equals_nn_max_pool(shape):
  x = _draw(*shape)
  want = nn.max_pool(x, (2, 2), (2, 2))
  np.testing.assert_array_equal(models.max_pool(jnp.asarray(x)), want)


def test_cnn_forms_agree_inside_a_loop(key):
  x = _draw(2, 8, 8)
  make = lambda matmul: models.CNN((4,), 8, 3, normalize=True, matmul=matmul)
  spec = jax.eval_shape(make(True).init, key, x)['params']
  params = jax.tree.map(lambda leaf: _draw(*leaf.shape), spec)

  @functools.partial(jax.jit, static_argnums=1)
  def train(x, matmul):
    def step(p, _):
      loss = lambda p: jnp.mean(make(matmul).apply({'params': p}, x) ** 2)
      move = lambda p, g: p - 1e-2 * g
      return jax.tree.map(move, p, jax.grad(loss)(p)), None

    return jax.lax.scan(step, params, length=3)[0]

  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  jax.tree.map(close, train(x, True), train(x, False))


def test_channel_axis_is_optional(key):
  model = models.CNN((), 8, 3)
  x = _draw(2, 4, 4)
  spec = jax.eval_shape(model.init, key, x)
  variables = jax.tree.map(lambda leaf: _draw(*leaf.shape), spec)
  np.testing.assert_array_equal(
    model.apply(variables, x), model.apply(variables, x[..., None])
  )
