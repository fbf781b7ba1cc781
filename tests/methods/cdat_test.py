"""The rate from slope and curvature: golden, parabolas, and a slow twin."""

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods
from tests.methods import problem

CURVATURE = jnp.array([1.0, 4.0, 0.5])


def loss(params, batch=None):
  del batch
  return 0.5 * jnp.sum(CURVATURE * params**2)


def step(tx, params, state=None):
  grad_fn = lambda p, batch: jax.grad(loss)(p)
  state = tx.init(params) if state is None else state
  return tx.update(
    grad_fn(params, None), state, params, grad_fn=grad_fn, batch=0
  )


def test_golden():
  tx = methods.scale_by_cdat(optax.identity(), 1.0)
  grad_fn = lambda p, batch: jnp.array([1.0, 4.0]) * p
  params = jnp.array([1.0, 0.5])  # where the gradient is (1, 2)
  _, state = tx.update(
    grad_fn(params, 0), tx.init(params), params, grad_fn=grad_fn, batch=0
  )
  np.testing.assert_allclose(state.learning_rate, 5 / 17, rtol=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_one_is_the_minimum_along_the_line_and_two_its_other_side(seed):
  params = jax.random.normal(jax.random.key(seed), (3,)) + 2
  inner = optax.trace(0.5)
  updates, _ = step(methods.scale_by_cdat(inner, 1.0), params)
  along = jax.grad(loss)(params + updates) @ updates
  np.testing.assert_allclose(along, 0, atol=1e-5)
  updates, _ = step(methods.scale_by_cdat(inner, 2.0), params)
  np.testing.assert_allclose(loss(params + updates), loss(params), rtol=1e-5)


def test_equals_the_slow_twin_on_a_network():
  params = problem.init_params()
  tx = methods.scale_by_cdat(optax.trace(0.9), 2.0, decay=0.8)
  state, momentum, slope, curvature = tx.init(params), 0.0, 0.0, 0.0
  flat, unravel = ravel_pytree(params)

  @jax.jit
  def derivatives(flat, batch):
    value = lambda f: problem.scalar_loss(unravel(f), batch)
    return jax.grad(value)(flat), jax.hessian(value)(flat)

  update = jax.jit(
    lambda params, state, batch: tx.update(
      jax.grad(problem.scalar_loss)(params, batch),
      state,
      params,
      grad_fn=jax.grad(problem.scalar_loss),
      batch=batch,
    )
  )
  for index in range(4):
    batch = problem.make_batch(index)
    updates, state = update(unravel(flat), state, batch)
    gradient, hessian = map(np.asarray, derivatives(flat, batch))
    momentum = gradient + 0.9 * momentum
    slope = 0.8 * slope + 0.2 * max(gradient @ momentum, 0)
    curvature = 0.8 * curvature + 0.2 * abs(momentum @ hessian @ momentum)
    rate = 2 * slope / (curvature + 1e-8)
    np.testing.assert_allclose(state.learning_rate, rate, rtol=1e-4)
    moved = ravel_pytree(updates)[0]
    np.testing.assert_allclose(moved, -rate * momentum, rtol=1e-3, atol=1e-6)
    flat = flat + 0.1 * moved
  assert int(state.count) == 4


def test_ascent_stops_and_flatness_is_bounded():
  # A direction against the gradient has no slope; a plane has no curvature.
  against = optax.scale(-1.0)
  updates, state = step(methods.scale_by_cdat(against), jnp.ones(3))
  assert float(state.learning_rate) == 0 and not updates.any()
  tx = methods.scale_by_cdat(optax.identity(), max_value=0.5)
  params = jnp.ones(2)
  _, state = tx.update(
    params, tx.init(params), params, grad_fn=lambda p, b: params, batch=0
  )
  assert float(state.learning_rate) == 0.5


@pytest.mark.parametrize(
  'arguments,message',
  [
    (dict(scale=-1.0), 'scale is -1.0; it must be >= 0'),
    (dict(decay=1.0), 'decay is 1.0; it must be <= '),
    (dict(eps=-1.0), 'eps is -1.0; it must be >= 0'),
    (dict(max_value=0.0), 'max_value is 0.0; it must be > 0'),
  ],
)
def test_errors(arguments, message):
  with pytest.raises(ValueError, match=f'scale_by_cdat: {message}'):
    methods.scale_by_cdat(optax.identity(), **arguments)


def test_needs_params():
  tx = methods.scale_by_cdat(optax.identity())
  with pytest.raises(ValueError, match='scale_by_cdat: params is None'):
    tx.update(jnp.ones(1), tx.init(jnp.ones(1)), grad_fn=None, batch=None)
