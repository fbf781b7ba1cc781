"""Estimates of other orders: exact where they must be, and as good as told."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from lrcl.analysis import order_effects, retrain
from lrcl.schedules import wsd_schedule

STEPS = 12


def _orders(count=6, seed=0):
  rng = np.random.default_rng(seed)
  return np.stack([rng.permutation(STEPS) for _ in range(count)])


def _quadratic():
  rng = np.random.default_rng(0)
  matrix = rng.normal(size=(STEPS, 4, 3)).astype(np.float32)
  target = rng.normal(size=(STEPS, 4)).astype(np.float32)

  def loss(params, batch):
    error = batch['x'] @ params['w'] + params['b'] - batch['y']
    return 0.5 * jnp.mean(error**2)

  params = {'w': jnp.ones(3), 'b': jnp.float32(0.5)}
  return jax.grad(loss), params, {'x': matrix, 'y': target}


_RATE = wsd_schedule(0.2, 2, 6, 4)
_OPTIMIZERS = {
  'sgd': optax.sgd(_RATE),
  'momentum': optax.sgd(0.1, momentum=0.9, nesterov=True),
  'adam': optax.adam(_RATE),
}


@pytest.mark.parametrize('name', _OPTIMIZERS)
def test_first_order_is_exact_for_a_quadratic_loss(name):
  grad_fn, params, batches = _quadratic()
  tx, orders = _OPTIMIZERS[name], _orders()
  found = order_effects(tx, grad_fn, params, batches, orders)
  true = retrain(tx, grad_fn, params, batches, orders)
  assert float(jnp.ptp(true['w'][:, 0])) > 1e-3, 'the order matters'
  for leaf in ('w', 'b'):
    np.testing.assert_allclose(
      found.params[leaf], true[leaf], rtol=2e-4, atol=2e-6
    )


def test_zeroth_order_is_exact_for_a_linear_loss():
  grad_fn = jax.grad(lambda w, x: jnp.sum(w * x))
  batches = jnp.asarray(np.random.default_rng(0).normal(size=(STEPS, 3)), 'f4')
  tx, orders = optax.adam(0.1), _orders()
  args = (tx, grad_fn, jnp.zeros(3), batches, orders)
  found = order_effects(*args, expansion=0)
  np.testing.assert_allclose(found.params, retrain(*args), rtol=1e-5)


def test_retrain_is_a_plain_loop():
  grad_fn, params, batches = _quadratic()
  tx, orders = _OPTIMIZERS['adam'], _orders(2)
  found = retrain(tx, grad_fn, params, batches, orders)
  for i, order in enumerate(orders):
    point, state = params, tx.init(params)
    for which in order:
      batch = {name: array[which] for name, array in batches.items()}
      updates, state = tx.update(grad_fn(point, batch), state, point)
      point = optax.apply_updates(point, updates)
    np.testing.assert_allclose(found['w'][i], point['w'], rtol=1e-4, atol=1e-6)


def test_the_own_order_is_the_run_itself():
  grad_fn, params, batches = _quadratic()
  own = np.arange(STEPS)[None]
  tx = _OPTIMIZERS['sgd']
  for expansion in (0, 1):
    found = order_effects(
      tx, grad_fn, params, batches, own, expansion=expansion
    )
    true = retrain(tx, grad_fn, params, batches, own)
    np.testing.assert_allclose(found.params['w'], true['w'], rtol=1e-5)
    assert float(found.distance[0]) < 1e-5


def _network():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(STEPS, 8, 5)).astype(np.float32)
  y = np.tanh(x.sum(-1) + np.linspace(-2, 2, STEPS)[:, None]).astype('f4')
  key = jax.random.key(0)
  params = {
    'in': 0.5 * jax.random.normal(key, (5, 8)),
    'out': 0.5 * jax.random.normal(jax.random.key(1), (8,)),
  }

  def loss(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params['in']) @ params['out'] - y) ** 2)

  return loss, params, (x, y)


def test_the_estimate_ranks_orders_of_a_network_and_fades_with_the_rate():
  loss, params, batches = _network()
  orders = _orders(30)
  end = jax.vmap(lambda p: loss(p, jax.tree.map(jnp.concatenate, batches)))
  rank, distance = [], []
  for rate in (3e-3, 0.3):
    args = (optax.adam(rate), jax.grad(loss), params, batches, orders)
    found, true = order_effects(*args), retrain(*args)
    rank.append(stats.spearmanr(end(found.params), end(true)).statistic)
    distance.append(float(found.distance.mean()))
  assert rank[0] > 0.98 > rank[1]
  assert distance[0] < 0.1 < distance[1]


@pytest.mark.parametrize(
  'orders, kwargs, message',
  [
    ([[0, 1]], {}, r'must be \[orders, 12\]'),
    (np.zeros((2, STEPS)), {}, 'whole numbers'),
    (np.full((2, STEPS), 12), {}, 'batches 0 to 11'),
    (_orders(), {'expansion': 2}, 'must be 0 or 1'),
  ],
)
def test_orders_that_do_not_fit(orders, kwargs, message):
  grad_fn, params, batches = _quadratic()
  with pytest.raises(ValueError, match=message):
    order_effects(
      _OPTIMIZERS['sgd'], grad_fn, params, batches, orders, **kwargs
    )
