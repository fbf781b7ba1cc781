"""The effective learning rate: by definition, and by what it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import metrics, models, tree


def make_params(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'Dense_0': {'kernel': draw(5, 4), 'bias': draw(4)},
    'head': {'kernel': draw(4, 3)},
  }


@pytest.mark.parametrize(('kind', 'want'), [('sgd', 0.025), ('adam', 0.05)])
def test_rate_a_tenth_and_norm_two(kind, want):
  weight = jnp.array([[2.0, 0.0], [0.0, 0.0]])
  got = metrics.effective_learning_rate(weight, 0.1, kind)
  assert got.dtype == jnp.float32 and got.shape == ()
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(('kind', 'power'), [('sgd', 2), ('adam', 1)])
def test_definition_leaf_by_leaf(kind, power):
  params = make_params()
  call = jax.jit(
    lambda p, r: metrics.effective_learning_rate(p, r, kind)  # traced rate
  )
  got = call(params, 0.3)
  norm = lambda x: np.linalg.norm(np.asarray(x, np.float64).ravel())
  want = jax.tree.map(lambda x: 0.3 / norm(x) ** power, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want
  )


@pytest.mark.parametrize('kind', ['sgd', 'adam'])
def test_a_step_turns_a_weight_as_that_rate_turns_its_direction(kind):
  """Of a function of the direction alone."""
  target = jnp.asarray(np.random.default_rng(1).normal(size=6), 'f')
  loss = lambda w: jnp.sum((w / jnp.linalg.norm(w) - target) ** 2)
  move = jnp.sign if kind == 'adam' else lambda g: g
  step = lambda w, rate: w - rate * move(jax.grad(loss)(w))
  direction = lambda w: w / jnp.linalg.norm(w)
  weight = 7 * jnp.asarray(np.random.default_rng(2).normal(size=6), 'f')
  rate = metrics.effective_learning_rate(weight, 0.5, kind)
  np.testing.assert_allclose(
    direction(step(weight, 0.5)),
    direction(step(direction(weight), rate)),
    rtol=1e-4,
    atol=1e-6,
  )


def test_mask_and_stack_of_runs():
  params = make_params()
  got = metrics.effective_learning_rate(params, 0.1, mask=models.nap_mask)
  assert len(jax.tree.leaves(got)) == 1
  assert tree.is_masked(got['head']['kernel'])
  stack = jax.tree.map(lambda *x: jnp.stack(x), params, make_params(1))
  call = lambda p, r: metrics.effective_learning_rate(
    p, r, mask=models.nap_mask
  )
  many = jax.vmap(call)(stack, jnp.array([0.1, 0.2]))
  want = [call(params, 0.1), call(make_params(1), 0.2)]
  want = [w['Dense_0']['kernel'] for w in want]
  np.testing.assert_allclose(many['Dense_0']['kernel'], want, rtol=1e-6)


def test_no_direction_no_rate():
  params = {'zero': jnp.zeros((2, 2)), 'one': jnp.ones(1)}
  for rate in (0.0, 0.1):
    got = metrics.effective_learning_rate(params, rate)
    assert np.isnan(got['zero'])
    np.testing.assert_allclose(got['one'], rate)
  total = lambda w: metrics.effective_learning_rate({'a': w, 'b': w + 1}, 0.1)[
    'b'
  ]
  assert np.isfinite(jax.grad(total)(0.0))


def test_bfloat16_is_summed_in_float32():
  weight = jnp.ones(1000, jnp.bfloat16)  # a sum of 1 stops growing at 256
  got = metrics.effective_learning_rate(weight, 1.0)
  np.testing.assert_allclose(got, 1e-3, rtol=1e-6)


def test_errors():
  one = jnp.ones((2, 2))
  with pytest.raises(ValueError, match="kind is 'lion'"):
    metrics.effective_learning_rate(one, 0.1, 'lion')  # pyright: ignore
  with pytest.raises(ValueError, match=r'shape \(2,\)'):
    metrics.effective_learning_rate(one, jnp.ones(2))
  with pytest.raises(ValueError, match='matches none'):
    metrics.effective_learning_rate({'a': one}, 0.1, mask=tree.path_mask('b'))
