"""MIR shows the rows that brute force finds; ER-ACE is a sum of two losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import losses, methods
from tests.methods import problem
from tests.methods.memory_test import spy

CANDIDATES, SIZE, RATE = 16, 4, 0.3


def make_candidates(seed=5, pad=3):
  return problem.make_batch(seed, CANDIDATES, pad)


def shown(tx, params, memory, batch):
  """The rows that the inner link sees."""
  extras = problem.extra_args(params, batch)
  grads = extras['grad_fn'](params, batch)
  extras |= {'memory': memory, 'memory_ready': True}
  return tx.update(grads, tx.init(params), params, **extras)[1][0]


@pytest.mark.parametrize('seed', range(3))
def test_rows_are_those_of_brute_force(seed):
  params, memory = problem.init_params(seed), make_candidates(seed)
  batch = problem.make_batch(100 + seed)
  tx = methods.retrieve_interfered(spy(), SIZE, learning_rate=RATE)
  got = jax.jit(functools.partial(shown, tx))(params, memory, batch)
  gradient = jax.jit(jax.grad(problem.scalar_loss))(params, batch)
  moved = jax.tree.map(lambda p, g: p - RATE * g, params, gradient)
  one_loss = jax.jit(problem.value_fn)
  rises = []
  for i in range(CANDIDATES):  # one row at a time
    row = jax.tree.map(lambda x, i=i: x[i : i + 1], memory)
    rise = one_loss(moved, row)[0] - one_loss(params, row)[0]
    rises.append(float(rise) if row['weight'][0] > 0 else -np.inf)
  chosen = np.argsort(rises)[::-1][:SIZE]
  assert len(set(np.round(rises, 6))) > SIZE + 1
  for name, x in memory.items():
    np.testing.assert_array_equal(got[name], np.asarray(x)[chosen])


def test_padding_comes_last():
  params, batch = problem.init_params(), problem.make_batch(9)
  memory = make_candidates(pad=CANDIDATES - 2)
  tx = methods.retrieve_interfered(spy(), SIZE, learning_rate=RATE)
  got = shown(tx, params, memory, batch)
  assert got['weight'].tolist() == [1, 1, 0, 0]


def test_replay_of_the_retrieved_rows():
  params, memory = problem.init_params(), make_candidates()
  batch = problem.make_batch(9)
  retrieve = functools.partial(
    methods.retrieve_interfered, size=SIZE, learning_rate=RATE
  )

  @jax.jit
  def updates(params, memory, batch):
    extras = problem.extra_args(params, batch)
    grads = extras['grad_fn'](params, batch)
    extras |= {'memory': memory, 'memory_ready': True}
    tx = retrieve(methods.add_memory_gradient(0.5))
    return tx.update(grads, tx.init(params), params, **extras)[0]

  rows = shown(retrieve(spy()), params, memory, batch)
  loss = lambda p: (
    problem.scalar_loss(p, batch) + 0.5 * problem.scalar_loss(p, rows)
  )
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  want = jax.jit(jax.grad(loss))(params)
  jax.tree.map(close, updates(params, memory, batch), want)


def test_the_rate_of_inner_is_read_where_none_is_given():
  """A rate so large that it changes what is chosen."""
  params, memory = problem.init_params(1), make_candidates(pad=0)
  batch = problem.make_batch(9)
  ramp = lambda step: jnp.where(step == 0, RATE, 30.0)
  inner = optax.chain(spy(), methods.scale_by_schedule_value(ramp))
  tx = methods.retrieve_interfered(inner, SIZE)

  @jax.jit
  def update(state):
    extras = problem.extra_args(params, batch)
    grads = extras['grad_fn'](params, batch)
    extras |= {'memory': memory, 'memory_ready': True}
    return tx.update(grads, state, params, **extras)[1]

  rows = lambda rate: shown(
    methods.retrieve_interfered(spy(), SIZE, learning_rate=rate),
    params,
    memory,
    batch,
  )['inputs']
  low, high = rows(RATE), rows(30.0)
  assert np.any(low != high)
  state = tx.init(params)
  for want in (low, low, high):  # the third step knows the second one's rate
    state = update(state)
    np.testing.assert_array_equal(state[0][0]['inputs'], want)


def test_map_memory_hands_on_what_fn_makes():
  tx = methods.map_memory(spy(), lambda memory: {'x': memory['x'] + 1})
  _, state = tx.update((), tx.init(()), memory={'x': 1}, memory_ready=True)
  assert state == ({'x': 2}, True)


def test_asymmetric_cross_entropy():
  """ER-ACE: local classes for the batch, all classes for the memory."""
  params, memory = problem.init_params(), problem.make_batch(1, 4)
  batch = problem.make_batch(2)
  batch['labels'] = batch['labels'] % 2  # class 2 does not occur
  everything = jnp.ones((4, problem.CLASSES), bool)
  tx = methods.map_memory(
    methods.add_memory_gradient(0.5),
    lambda memory: {**memory, 'class_mask': everything},
  )

  def loss(params, batch):
    logits = problem.apply_fn(params, batch['inputs'])[0]
    return jnp.mean(losses.local_cross_entropy(logits, batch))

  def by_hand(params):
    logits = lambda b: problem.apply_fn(params, b['inputs'])[0]
    local = problem.loss_fn(logits(batch)[:, :2], batch)
    return jnp.mean(local) + 0.5 * jnp.mean(
      problem.loss_fn(logits(memory), memory)
    )

  @jax.jit
  def both(params):
    grad_fn = jax.grad(loss)
    extras = {'grad_fn': grad_fn, 'memory': memory, 'memory_ready': True}
    updates, _ = tx.update(grad_fn(params, batch), (), params, **extras)
    return updates, jax.grad(by_hand)(params)

  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, *both(params))


def test_errors():
  make = methods.retrieve_interfered
  with pytest.raises(ValueError, match='retrieve_interfered: size is 0'):
    make(spy(), 0)
  with pytest.raises(ValueError, match=r'learning_rate is 0.*must be > 0'):
    make(spy(), 2, learning_rate=0.0)
  with pytest.raises(ValueError, match='learning_rate is None and inner keeps'):
    make(spy(), 2).init(())
  params, memory = problem.init_params(), problem.make_batch()
  tx = make(methods.add_memory_gradient(), 9, learning_rate=0.1)
  extras = problem.extra_args(params, memory)
  extras |= {'memory': memory, 'memory_ready': True}
  with pytest.raises(ValueError, match='size is 9, but the memory shows 8'):
    tx.update(params, (), params, **extras)
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, (), **extras)
  for name in ('value_fn', 'memory'):
    fewer = {k: v for k, v in extras.items() if k != name}
    with pytest.raises(TypeError, match=name):
      tx.update(params, (), params, **fewer)
  with pytest.raises(TypeError, match="'memory'"):
    methods.map_memory(spy(), dict).update((), (), ())
