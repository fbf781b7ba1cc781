"""Binary weights: gradients in closed form, and networks that are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import models

BATCH, INPUTS, UNITS = 5, 7, 4


def draws(seed=0):
  rng = np.random.default_rng(seed)
  inputs = np.maximum(rng.normal(size=(BATCH, INPUTS)), 0)
  fields = rng.normal(size=(INPUTS, UNITS))
  noise, delta = rng.normal(size=(2, BATCH, UNITS))
  return inputs, fields, noise, delta


@pytest.mark.parametrize('beta', [0.3, 1.0, 4.0])
def test_gradient_is_the_closed_form(beta):
  a, fields, noise, delta = draws()
  a[0] = 0  # no input at all: no division by a deviation of 0
  m = np.tanh(beta * fields)
  v = 1 - m**2
  deviation = np.sqrt(a**2 @ v / INPUTS + 1e-30)
  straight = a.T @ delta / np.sqrt(INPUTS)
  bent = m * ((a**2).T @ (noise * delta / deviation)) / INPUTS
  want = beta * v * (straight - bent)
  wide = lambda *xs: [jnp.asarray(x, jnp.float32) for x in xs]
  inputs, theta, eps, weight = wide(a, fields, noise, delta)
  total = lambda theta: jnp.sum(
    weight * models.binary_preactivation(inputs, theta, beta, eps)
  )
  np.testing.assert_allclose(jax.grad(total)(theta), want, rtol=2e-4, atol=2e-5)
  z = a @ m / np.sqrt(INPUTS) + deviation * noise
  found = models.binary_preactivation(inputs, theta, beta, eps)
  np.testing.assert_allclose(found, z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('beta', [0.5, 2.0])
def test_divergence_has_the_curvature_of_the_fisher(beta):
  fields = jnp.asarray(draws()[1][:, 0], jnp.float32)
  kl = lambda x: models.binary_kl(x, fields, beta)
  assert abs(float(kl(fields))) < 1e-5
  np.testing.assert_allclose(jax.grad(kl)(fields), 0, atol=1e-6)
  want = beta**2 * (1 - np.tanh(beta * np.float64(fields)) ** 2)
  curvature = jax.hessian(kl)(fields)
  np.testing.assert_allclose(curvature, np.diag(want), rtol=1e-3, atol=1e-5)


def test_divergence_is_that_of_two_coins():
  x, y, beta = 0.4, -0.7, 1.5
  p, q = (1 / (1 + np.exp(-2 * beta * t)) for t in (x, y))
  want = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
  found = models.binary_kl({'a': jnp.full(2, x)}, {'a': jnp.full(2, y)}, beta)
  np.testing.assert_allclose(found, 2 * want, rtol=1e-5)
  far = models.binary_kl(jnp.array([100.0]), jnp.array([-100.0]), 10.0)
  np.testing.assert_allclose(far, 2000.0, rtol=1e-5)


def make(beta=1.5, features=(16,)):
  module = models.BinaryMLP(features, 3, beta)
  return models.from_module(module, jnp.zeros((1, INPUTS)))


def test_noise_is_that_of_drawn_weights():
  # One layer, so that the mean field is no approximation.
  init_fn, apply_fn = make(features=())
  params, state = init_fn(jax.random.key(0))
  inputs = jnp.asarray(draws()[0], jnp.float32)

  @jax.vmap
  def both(key):
    drawn = models.sample_binary(params, 1.5, key)
    options = {'model_state': state, 'rng': key}
    noisy, _ = apply_fn(params, inputs, train=True, **options)
    drawn, _ = apply_fn(drawn, inputs, train=False, **options)
    return noisy, drawn

  noisy, drawn = both(jax.random.split(jax.random.key(1), 4000))
  mean, _ = apply_fn(params, inputs, rng=None, model_state=state, train=False)
  for found in (noisy, drawn):
    np.testing.assert_allclose(found.mean(0), mean, atol=0.06)
  np.testing.assert_allclose(noisy.std(0), drawn.std(0), atol=0.05)


def test_drawn_weights_are_one_and_minus_one():
  params, _ = make()[0](jax.random.key(0))
  drawn = models.sample_binary(params, 0.7, jax.random.key(1))
  signs = np.tanh(np.concatenate([x.ravel() for x in jax.tree.leaves(drawn)]))
  assert set(signs.tolist()) == {-1.0, 1.0}
  fields = np.concatenate([x.ravel() for x in jax.tree.leaves(params)])
  agree = np.mean(signs == np.sign(fields))
  want = np.mean(1 / (1 + np.exp(-1.4 * np.abs(fields))))
  assert abs(agree - want) < 0.12


def test_the_clock_of_a_schedule_counts_training_steps():
  init_fn, apply_fn = make(
    lambda step: 0.5 + 0.5 * jnp.asarray(step, jnp.float32)
  )
  params, state = init_fn(jax.random.key(0))
  inputs = jnp.asarray(draws()[0], jnp.float32)
  call = lambda state, train: apply_fn(
    params, inputs, rng=jax.random.key(2), model_state=state, train=train
  )
  for step in range(3):
    assert int(state['clock']['step']) == step
    now, same = call(state, False)
    assert int(same['clock']['step']) == step
    fixed = make(0.5 * (1 + step))[1]
    want, _ = fixed(params, inputs, rng=None, model_state={}, train=False)
    np.testing.assert_allclose(now, want, rtol=1e-5)
    _, state = call(state, True)


def test_errors():
  with pytest.raises(ValueError, match=r'beta is 0\.0; it must be > 0'):
    models.sample_binary(jnp.ones(2), 0.0, jax.random.key(0))
