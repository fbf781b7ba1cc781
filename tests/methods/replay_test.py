"""Replay is the gradient of a sum of losses, and of their mean with factors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods
from tests.methods import problem

PARAMS = problem.init_params
GRADIENT = jax.jit(jax.grad(problem.scalar_loss))


@jax.jit
def replayed(weight, batch, memory, ready=True):
  params = PARAMS()
  tx = methods.add_memory_gradient(weight)
  extras = problem.extra_args(params, batch)
  grads = extras['grad_fn'](params, batch)
  updates, _ = tx.update(
    grads, tx.init(params), params, memory=memory, memory_ready=ready, **extras
  )
  return updates


def close(a, b):
  check = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
  jax.tree.map(check, a, b)


@pytest.mark.parametrize('weight', [0.0, 0.7])
def test_gradient_of_the_sum_of_losses(weight):
  batch, memory = problem.make_batch(0, pad=2), problem.make_batch(1, size=6)
  loss = lambda p: (
    problem.scalar_loss(p, batch) + weight * problem.scalar_loss(p, memory)
  )
  close(replayed(weight, batch, memory), jax.jit(jax.grad(loss))(PARAMS()))


@pytest.mark.parametrize('size', [4, 24])
def test_equals_concatenation(size):
  batch, memory = problem.make_batch(0), problem.make_batch(1, size=size)
  both = jax.tree.map(lambda *x: jnp.concatenate(x), batch, memory)
  factor = 8 / (8 + size)
  updates = replayed(size / 8, batch, memory)
  updates = jax.tree.map(lambda u: factor * u, updates)
  close(updates, GRADIENT(PARAMS(), both))


def test_not_ready_is_the_identity():
  tx, params = methods.add_memory_gradient(), PARAMS()
  bad = lambda params, _: jax.tree.map(lambda p: p * jnp.nan, params)
  extras = {'grad_fn': bad, 'memory': {}, 'memory_ready': jnp.bool_(False)}
  updates, _ = tx.update(params, tx.init(params), params, **extras)
  jax.tree.map(np.testing.assert_array_equal, updates, params)


def test_weight_may_be_traced():
  batch, memory = problem.make_batch(0), problem.make_batch(1)
  many = jax.vmap(lambda w: replayed(w, batch, memory))(jnp.array([0.5, 2.0]))
  for i, weight in enumerate((0.5, 2.0)):
    one = replayed(weight, batch, memory)
    close(jax.tree.map(lambda x, i=i: x[i], many), one)


def test_bfloat16():
  params, batch = PARAMS(0, jnp.bfloat16), problem.make_batch(0)
  tx = methods.add_memory_gradient(1 / 3)
  extras = problem.extra_args(params, batch)
  zeros = jax.tree.map(jnp.zeros_like, params)
  extras |= {'memory': batch, 'memory_ready': True}
  extras['grad_fn'] = GRADIENT
  updates, _ = tx.update(zeros, tx.init(params), params, **extras)
  want = jax.tree.map(
    lambda g: (g.astype(jnp.float32) / 3).astype(jnp.bfloat16),
    extras['grad_fn'](params, batch),
  )
  close(*jax.tree.map(lambda x: x.astype(jnp.float32), (updates, want)))
  assert all(u.dtype == jnp.bfloat16 for u in jax.tree.leaves(updates))


def test_errors():
  tx = methods.add_memory_gradient()
  with pytest.raises(TypeError, match="'memory' and 'memory_ready'"):
    optax.chain(tx).update((), ((),), (), grad_fn=None)
  extra = {'grad_fn': None, 'memory': {}, 'memory_ready': True}
  with pytest.raises(ValueError, match='pass params to update'):
    tx.update((), (), **extra)
  with pytest.raises(ValueError, match='weight is nan; it must be finite'):
    methods.add_memory_gradient(float('nan'))
