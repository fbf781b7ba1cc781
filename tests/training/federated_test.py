"""Federated averaging: slow twins, one program, and a run that goes on."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, training, tree

RNG = np.random.default_rng(0)
ROWS, FEATURES = 30, 3
ARRAYS = {
  'inputs': RNG.normal(size=(ROWS, FEATURES)).astype(np.float32),
  'labels': RNG.normal(size=ROWS).astype(np.float32),
}
POOLS = (np.arange(4), np.arange(4, 14), np.arange(14, 30))
DATA = training.federated_data(ARRAYS, POOLS)
KEY = jax.random.key(1)


def apply_fn(params, inputs, *, rng=None, model_state=(), train=True):
  del rng, train
  if model_state:  # counts the batches it has seen
    model_state = {'seen': model_state['seen'] + 1}
  return inputs @ params, model_state


def loss_fn(logits, batch):
  return (logits - batch['labels']) ** 2 / 2


make = functools.partial(
  training.federated_averaging,
  apply_fn,
  loss_fn=loss_fn,
  clients_per_round=3,
  batch_size=16,  # a client's rows are one batch, whatever their order
  local_epochs=4,
)


def rounds(algorithm, state, count, data=DATA):
  infos = []
  for _ in range(count):
    state, info = algorithm.update(state, data)
    infos.append(info)
  return state, infos


def twin(params, rate, weights, count=1, server_rate=1.0):
  """Full-batch local steps and the weighted mean, in float64."""
  for _ in range(count):
    ends = []
    for pool in POOLS:
      x, y = ARRAYS['inputs'][pool], ARRAYS['labels'][pool]
      local = params.copy()
      for _ in range(4):
        local = local - rate * x.T @ (x @ local - y) / len(pool)
      ends.append(local)
    delta = params - np.average(ends, axis=0, weights=weights)
    params = params - server_rate * delta
  return params


@pytest.mark.parametrize(
  'weighting,use_vmap', [('examples', False), ('clients', True)]
)
def test_equals_the_slow_twin(weighting, use_vmap):
  sizes = [len(pool) for pool in POOLS]
  algorithm = make(
    optax.sgd(0.1), optax.sgd(0.5), weighting=weighting, use_vmap=use_vmap
  )
  start = jnp.ones(FEATURES)
  state, _ = rounds(algorithm, algorithm.init(start, KEY), 3)
  weights = sizes if weighting == 'examples' else None
  want = twin(np.ones(FEATURES), 0.1, weights, 3, 0.5)
  np.testing.assert_allclose(state.params, want, rtol=1e-5, atol=1e-6)
  before = twin(np.ones(FEATURES), 0.1, weights, 2, 0.5)
  np.testing.assert_allclose(
    state.global_update, (before - want) / 0.5, rtol=1e-3, atol=1e-5
  )


def test_one_client_is_plain_training():
  data = training.federated_data(ARRAYS, [POOLS[1]])
  algorithm = make(optax.adam(0.1), optax.sgd(1.0), clients_per_round=1)
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam mixes kinds
    state, (info,) = rounds(
      algorithm, algorithm.init(jnp.ones(FEATURES), KEY), 1, data
    )
    params, tx, losses = jnp.ones(FEATURES), optax.adam(0.1), []
    opt_state = tx.init(params)
    batch = {name: column[POOLS[1]] for name, column in ARRAYS.items()}
    for _ in range(4):
      loss = lambda p: jnp.mean(loss_fn(batch['inputs'] @ p, batch))
      value, grads = jax.value_and_grad(loss)(params)
      updates, opt_state = tx.update(grads, opt_state)
      params = optax.apply_updates(params, updates)
      losses.append(float(value))
  np.testing.assert_allclose(state.params, params, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(info.loss, np.mean(losses), rtol=1e-5)
  assert np.isnan(info.client_rate) and np.isnan(info.server_rate)


def test_an_epoch_visits_every_row_of_the_client_once():
  # The gradient of a row is its own unit vector, shared by the rows of a batch:
  # of five rows in batches of two, one is alone.
  arrays = {'inputs': np.eye(8, dtype='f4'), 'labels': np.zeros(8, 'f4')}
  data = training.federated_data(arrays, [np.array([0, 2, 3, 5, 7])], 6)
  alone = set()
  algorithm = training.federated_averaging(
    apply_fn,
    optax.sgd(1.0),
    optax.sgd(1.0),
    loss_fn=lambda logits, batch: logits,
    clients_per_round=1,
    batch_size=2,
  )
  for seed in range(6):
    state = algorithm.init(jnp.zeros(8), jax.random.key(seed))
    state, _ = algorithm.update(state, data)
    moved = -np.asarray(state.params)
    assert sorted(moved) == [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1]
    assert set(np.flatnonzero(moved)) == {0, 2, 3, 5, 7}
    alone.add(int(moved.argmax()))
  assert len(alone) > 1


def test_clients_are_drawn_without_replacement_and_in_turn():
  # Each client moves a parameter of its own.
  arrays = {'inputs': np.eye(6, dtype='f4'), 'labels': np.zeros(6, 'f4')}
  data = training.federated_data(arrays, [np.array([i]) for i in range(6)])
  algorithm = make(
    optax.sgd(1.0),
    optax.sgd(1.0),
    loss_fn=lambda logits, batch: logits,
    local_epochs=1,
  )
  state = algorithm.init(jnp.zeros(6), KEY)
  drawn = []
  for _ in range(8):
    state, _ = algorithm.update(state, data)
    chosen = np.flatnonzero(np.asarray(state.global_update))
    assert len(chosen) == 3
    drawn.append(tuple(chosen))
  assert set(np.concatenate(drawn)) == set(range(6)) and len(set(drawn)) > 3


def test_goes_on_from_a_state_and_compiles_once():
  traces = []

  def counted(*args, **kwargs):
    traces.append(args)
    return apply_fn(*args, **kwargs)

  algorithm = training.federated_averaging(
    counted,
    methods.scale_by_schedule_value(0.05),
    methods.scale_by_fedhyper_global(),
    loss_fn=loss_fn,
    clients_per_round=2,
    batch_size=4,
    local_epochs=2,
  )
  state = algorithm.init(jnp.ones(FEATURES), KEY)
  once = None
  for index in range(4):
    state, _ = algorithm.update(state, DATA)
    once = once or len(traces)
    if index == 1:
      kept = jax.tree.map(jnp.copy, state)
  assert len(traces) == once
  again, _ = rounds(algorithm, kept, 2)
  assert tree.digest(again) == tree.digest(state)
  # A loop of rounds is a scan, with the state as its carry.
  body = lambda s, _: algorithm.update(s, DATA)
  scanned, infos = jax.lax.scan(body, kept, length=2)
  np.testing.assert_allclose(scanned.params, state.params, rtol=1e-6)
  assert infos.loss.shape == (2,)


def test_the_client_s_chain_may_follow_the_server():
  decay = lambda server: methods.scale_by_schedule_value(
    0.1 * 0.5 ** server.round.astype(jnp.float32)
  )
  algorithm = make(decay, optax.sgd(1.0))
  _, infos = rounds(algorithm, algorithm.init(jnp.ones(FEATURES), KEY), 3)
  rates = [float(info.client_rate) for info in infos]
  np.testing.assert_allclose(rates, [0.1, 0.05, 0.025], rtol=1e-6)


def products(states):
  deltas = [np.asarray(s.global_update, np.float64) for s in states]
  pairs = itertools.pairwise(deltas)
  return [0.0, *(float(a @ b) for a, b in pairs)]


def history(client_tx, server_tx, count=5):
  algorithm = make(client_tx, server_tx)
  state, states, infos = algorithm.init(jnp.ones(FEATURES), KEY), [], []
  for _ in range(count):
    state, info = algorithm.update(state, DATA)
    states.append(state)
    infos.append(info)
  return states, infos


def test_fedhyper_of_the_server():
  states, infos = history(
    methods.scale_by_schedule_value(0.05), methods.scale_by_fedhyper_global()
  )
  rates = np.array([float(info.server_rate) for info in infos])
  np.testing.assert_allclose(rates, 1 + np.cumsum(products(states)), rtol=1e-5)
  assert rates[-1] > 1.05
  np.testing.assert_allclose([i.client_rate for i in infos], 0.05, rtol=1e-6)


def test_fedhyper_s_rate_for_the_clients():
  send = lambda server: methods.scale_by_schedule_value(
    methods.applied_rate(server.opt_state)[0]
  )
  server_tx = optax.chain(
    methods.track_fedhyper_client_rate(0.02, hyper_rate=0.1), optax.scale(-1.0)
  )
  states, infos = history(send, server_tx)
  kept = 0.02 + 0.1 * np.cumsum(products(states))
  got = [float(info.client_rate) for info in infos]
  # What a round led to is what the next one trains with.
  np.testing.assert_allclose(got, [0.02, *kept[:-1]], rtol=1e-5)
  assert got[-1] > 0.021


def test_fedhyper_of_the_client():
  chain = lambda server: methods.scale_by_fedhyper_client(
    0.02, server.global_update, 1 / 4, hyper_rate=0.01
  )
  states, infos = history(chain, optax.sgd(1.0), 2)
  params, sent = np.asarray(states[0].params), states[0].global_update
  last = []
  for pool in POOLS:
    x, y = ARRAYS['inputs'][pool], ARRAYS['labels'][pool]
    local, rate, before = params, 0.02, None
    for _ in range(4):
      gradient = x.T @ (x @ local - y) / len(pool)
      if before is not None:
        rate += 0.01 * (gradient @ before + gradient @ sent / 4)
        rate = min(max(rate, 0.002), 0.2)
      local, before = local - rate * gradient, gradient
    last.append(rate)
  np.testing.assert_allclose(infos[1].client_rate, np.mean(last), rtol=1e-4)
  assert abs(np.mean(last) / 0.02 - 1) > 0.01


def test_model_state_is_averaged_and_keeps_its_kind():
  algorithm = make(optax.sgd(0.1), optax.sgd(1.0))
  for seen in (jnp.float32(1.0), jnp.int32(1)):
    state = algorithm.init(jnp.ones(FEATURES), KEY, {'seen': seen})
    state, _ = algorithm.update(state, DATA)
    assert float(state.model_state['seen']) == 5  # 1 and 4 local steps
    assert state.model_state['seen'].dtype == seen.dtype


@pytest.mark.parametrize(
  'arguments,message',
  [
    (dict(clients_per_round=0), 'clients_per_round is 0; it must be >= 1'),
    (dict(batch_size=0), 'batch_size is 0; it must be >= 1'),
    (dict(local_epochs=1.5), 'local_epochs is 1.5; it must be a whole'),
    (dict(weighting='size'), "weighting is 'size'; it must be 'examples'"),
  ],
)
def test_errors(arguments, message):
  with pytest.raises(ValueError, match=f'federated_averaging: {message}'):
    make(optax.sgd(0.1), optax.sgd(1.0), **arguments)


def test_errors_of_the_data():
  algorithm = make(optax.sgd(0.1), optax.sgd(1.0), clients_per_round=4)
  with pytest.raises(ValueError, match='the data have 3 clients'):
    algorithm.update(algorithm.init(jnp.ones(FEATURES), KEY), DATA)
  with pytest.raises(ValueError, match='every client must have rows'):
    training.federated_data(ARRAYS, [np.arange(2), np.arange(0)])
  with pytest.raises(ValueError, match='longest is 3; it must be >= 16'):
    training.federated_data(ARRAYS, POOLS, longest=3)
