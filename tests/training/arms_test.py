"""A stream that learns which task comes next, inside the loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, streams, training
from lrcl.training import Branches


def _data(rows=120, classes=6, seed=0):
  rng = np.random.default_rng(seed)
  labels = np.arange(rows, dtype=np.int32) % classes
  centres = rng.normal(size=(classes, 5))
  inputs = centres[labels] + 0.3 * rng.normal(size=(rows, 5))
  return {'inputs': inputs.astype(np.float32), 'labels': labels}


def _stream(signal='progress', sampler=None, steps=60, **kwargs):
  tasks = streams.split(
    _data(), num_tasks=3, batch_size=8, test=_data(seed=1), **kwargs
  )
  sampler = sampler or streams.ucb_arms(window=40)
  return streams.draw_tasks(tasks, sampler, signal=signal, steps=steps)


@functools.cache
def _learner():
  init_fn, apply_fn = models.from_module(
    models.MLP((8,), 6), _stream().batch_spec['inputs']
  )
  tx = optax.chain(optax.trace(0.9), methods.scale_by_schedule_value(0.02))
  return init_fn, training.Learner(tx, apply_fn)


def _state(stream, seed=0):
  init_fn, learner = _learner()
  state = training.create_state(init_fn, learner.tx, jax.random.key(seed))
  return state._replace(stream_state=stream.init_state())


def _equal(a, b):
  def same(x, y):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(x, y)

  jax.tree.map(same, a, b)


@pytest.mark.parametrize('signal', ['loss', 'progress'])
def test_the_loop_is_the_recursion_by_hand(signal):
  stream, (_, learner) = _stream(signal, steps=12), _learner()
  state = _state(stream)
  got, _ = training.train_stream(learner, state, stream, chunk_steps=5)
  step = training.make_train_step(learner.apply_fn, learner.loss_fn, learner.tx)
  tables = jax.tree.map(jnp.asarray, stream.tables)
  arms = stream.arms
  losses = lambda state, batch: learner.loss_fn(
    learner.apply_fn(
      state.params,
      batch['inputs'],
      rng=None,
      model_state=state.model_state,
      train=False,
    )[0],
    batch,
  )
  for _ in range(12):
    drawn, rows = arms.draw(state.stream_state, state.step, tables, 8)
    labels = stream.source['labels'][rows]
    np.testing.assert_array_equal(labels // 2, drawn)
    batch = streams.make_batch(
      jax.tree.map(jnp.asarray, stream.rows(np.asarray(rows))),
      tables,
      jnp.int32(0),
      jnp.ones(8),
      stream.prepare,
    )
    np.testing.assert_array_equal(batch['task'], drawn)
    before = losses(state, batch)
    state, _ = step(state, batch, jnp.int32(0))
    told = before - losses(state, batch) if signal == 'progress' else before
    learned = arms.sampler.update(state.stream_state, drawn, told, jnp.ones(8))
    state = state._replace(stream_state=learned)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
  jax.tree.map(close, got.params, state.params)
  jax.tree.map(close, got.stream_state, state.stream_state)


def test_a_run_resumes_to_the_bit_with_what_it_learned(tmp_path):
  stream, (_, learner) = _stream(), _learner()
  run = functools.partial(
    training.train_stream, learner, stream=stream, chunk_steps=7
  )
  whole, records = run(_state(stream))
  with Branches(tmp_path) as branches:
    half, first = run(_state(stream), steps=25, branches=branches)
    restored = branches.restore('main', like=_state(stream))
  _equal(restored.state, half)
  rest, second = run(restored.state)
  _equal(rest, whole)
  assert records[-1] == second[-1] | {'trace': records[-1]['trace']}
  assert first[-1]['step'] == 25


def test_records_hold_the_probabilities():
  stream, (_, learner) = _stream(), _learner()
  state, records = training.train_stream(
    learner, _state(stream), stream, evaluate_every=20
  )
  assert [record['step'] for record in records] == [20, 40, 60]
  for record in records:
    assert sum(record['arm_probabilities']) == pytest.approx(1, abs=1e-5)
  last = stream.arms.probs(state.stream_state, state.step)
  np.testing.assert_allclose(records[-1]['arm_probabilities'], last)
  assert float(state.stream_state.pulls.sum()) == 60 * 8


def test_the_digest_knows_the_sampler():
  same = [_stream(sampler=streams.td0_arms(rate=0.3)) for _ in range(2)]
  assert same[0].digest == same[1].digest
  assert same[0].digest != _stream(sampler=streams.td0_arms(rate=0.4)).digest
  assert same[0].digest != _stream('loss', streams.td0_arms(rate=0.3)).digest


def test_what_does_not_go_with_a_stream_that_learns():
  stream, (init_fn, learner) = _stream(), _learner()
  state = training.create_state(init_fn, learner.tx, jax.random.key(0))
  with pytest.raises(ValueError, match=r'stream_state=stream\.init_state'):
    training.train_stream(learner, state, stream)
  with pytest.raises(ValueError, match='on the device'):
    training.train_stream(learner, _state(stream), stream, resident_bytes=1)
  with pytest.raises(ValueError, match='cannot be stacked'):
    streams.replicate([stream, stream])
  with pytest.raises(ValueError, match="signal is 'gain'"):
    _stream('gain')
  with pytest.raises(ValueError, match='1 boundaries part 2'):
    _stream(sampler=streams.fixed_order_arms([5]))


def test_an_order_that_is_fixed_trains_task_after_task():
  stream = _stream(sampler=streams.fixed_order_arms([20, 40]))
  tables = jax.tree.map(jnp.asarray, stream.tables)
  for step in (0, 19, 20, 39, 40, 59):
    drawn, _ = stream.arms.draw(stream.init_state(), jnp.int32(step), tables, 8)
    assert set(np.asarray(drawn)) == {step // 20}
