"""Samplers of arms: twins in numpy, and what starves without a floor."""

import functools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import streams

_SAMPLERS = {
  'uniform': streams.uniform_arms,
  'order': lambda: streams.fixed_order_arms([3, 7, 9]),
  'recency': streams.recency_arms,
  'ucb': functools.partial(streams.ucb_arms, window=4),
  'td0': streams.td0_arms,
  'exp3': streams.exp3_arms,
}
ARMS, ROWS = 4, 5


def _batches(seed, count=6):
  rng = np.random.default_rng(seed)
  for _ in range(count):
    yield (
      rng.integers(0, ARMS, ROWS),
      rng.uniform(-1, 1, ROWS).astype(np.float32),
      rng.integers(0, 2, ROWS).astype(np.float32),
    )


def _run(sampler, batches):
  state, update = sampler.init(ARMS), jax.jit(sampler.update)
  for arms, signal, weight in batches:
    state = update(
      state, jnp.asarray(arms, jnp.int32), jnp.asarray(signal), weight
    )
  return state


@pytest.mark.parametrize('name', _SAMPLERS)
def test_probabilities_sum_to_one_in_a_scan_and_under_vmap(name):
  sampler = _SAMPLERS[name]()
  arms, signal, weight = (
    jnp.asarray(np.stack(x)) for x in zip(*_batches(0), strict=True)
  )

  def step(state, inputs):
    step, arms, signal, weight = inputs
    probs = sampler.probs(state, step)
    return sampler.update(state, arms.astype(jnp.int32), signal, weight), probs

  run = lambda signal: jax.lax.scan(
    step, sampler.init(ARMS), (jnp.arange(6), arms, signal, weight)
  )
  state, probs = jax.jit(run)(signal)
  np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
  assert probs.dtype == jnp.float32 and (probs >= 0).all()
  by_hand = _run(sampler, _batches(0))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), state, by_hand
  )
  both = jax.vmap(run)(jnp.stack([signal, signal]))[1]
  np.testing.assert_allclose(both[1], probs, rtol=1e-5)


@pytest.mark.parametrize('name', _SAMPLERS)
def test_padding_may_be_no_number(name):
  sampler = _SAMPLERS[name]()
  arms, signal, weight = next(_batches(1))
  weight[:] = [1, 0, 1, 0, 1]
  clean = _run(sampler, [(arms, np.where(weight > 0, signal, 0), weight)])
  dirty = _run(sampler, [(arms, np.where(weight > 0, signal, np.nan), weight)])
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def _slow_ucb(batches, window, exploration, temperature, floor):
  recent, pulls = [[] for _ in range(ARMS)], [0] * ARMS
  for arms, signal, weight in batches:
    for arm, value, real in zip(arms, signal, weight, strict=True):
      if real:
        recent[arm].append(abs(float(value)))
        pulls[arm] += 1
  scores = []
  for arm in range(ARMS):
    last = recent[arm][-window:]
    size = sum(last) / len(last) if last else 0.0
    bonus = math.sqrt(2 * math.log(sum(pulls) + 1) / (pulls[arm] + 1))
    scores.append((size + exploration * bonus) / temperature)
  weights = np.exp(np.array(scores) - max(scores))
  return (1 - floor) * weights / weights.sum() + floor / ARMS


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), window=st.sampled_from([1, 4]))
def test_ucb_is_the_slow_one(seed, window):
  sampler = streams.ucb_arms(
    window=window, exploration=0.7, temperature=0.3, floor=0.2
  )
  state = _run(sampler, _batches(seed))
  slow = _slow_ucb(_batches(seed), window, 0.7, 0.3, 0.2)
  np.testing.assert_allclose(sampler.probs(state, 0), slow, rtol=1e-4)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_td0_exp3_and_recency_are_the_slow_ones(seed):
  q, log_w, age = np.zeros(ARMS), np.zeros(ARMS), np.ones(ARMS)
  for arms, signal, weight in _batches(seed):
    real = weight > 0
    share = np.exp(log_w) / np.exp(log_w).sum()
    probs = 0.75 * share + 0.25 / ARMS
    for arm in range(ARMS):
      mine = real & (arms == arm)
      age[arm] = 1 if mine.any() else age[arm] + 1
      if mine.any():
        q[arm] += 0.3 * (np.abs(signal[mine]).mean() - q[arm])
      reward = signal[mine].sum() / probs[arm] / max(real.sum(), 1)
      log_w[arm] += 0.5 / ARMS * reward
  softmax = lambda x: np.exp(x) / np.exp(x).sum()
  td0 = streams.td0_arms(rate=0.3, temperature=0.7, floor=0.0)
  found = td0.probs(_run(td0, _batches(seed)), 0)
  np.testing.assert_allclose(found, softmax(q / 0.7), rtol=1e-4)
  exp3 = streams.exp3_arms(rate=0.5, floor=0.25)
  found = exp3.probs(_run(exp3, _batches(seed)), 0)
  np.testing.assert_allclose(found, 0.75 * softmax(log_w) + 0.0625, rtol=1e-4)
  recency = streams.recency_arms(1.5)
  found = recency.probs(_run(recency, _batches(seed)), 0)
  law = age**-1.5
  np.testing.assert_allclose(found, law / law.sum(), rtol=1e-5)


def test_an_arm_that_never_came_outranks_all_and_equal_signals_are_uniform():
  sampler = streams.ucb_arms(window=50, floor=0.0)
  even = [(np.arange(ARMS), np.full(ARMS, 0.4, 'f4'), np.ones(ARMS, 'f4'))]
  np.testing.assert_allclose(
    sampler.probs(_run(sampler, even * 20), 0), 0.25, rtol=1e-5
  )
  three = [(np.array([0, 1, 2]), np.full(3, 0.4, 'f4'), np.ones(3, 'f4'))]
  assert int(jnp.argmax(sampler.probs(_run(sampler, three * 20), 0))) == 3


def _unlock(sampler, seed, rounds=120, rows=8, needed=60):
  """Whether an arm is found out whose signal is 0 until it came often.

  Three arms always give something; the last one gives nothing before `needed`
  rows of it were trained on, and then most of all.
  """

  def step(carry, key):
    state, pulls = carry
    arms = jax.random.categorical(
      key, jnp.log(sampler.probs(state, 0)), shape=(rows,)
    ).astype(jnp.int32)
    open_ = pulls[3] >= needed
    gives = jnp.where(open_, 0.9, 0.0)
    signal = jnp.where(arms == 3, gives, 0.5)
    state = sampler.update(state, arms, signal, jnp.ones(rows))
    pulls = pulls + jax.nn.one_hot(arms, 4).sum(0)
    return (state, pulls), None

  keys = jax.random.split(jax.random.key(seed), rounds)
  start = (sampler.init(4), jnp.zeros(4))
  return jax.lax.scan(step, start, keys)[0][1]


@pytest.mark.parametrize(
  'make',
  [
    functools.partial(streams.ucb_arms, exploration=0.5, window=10),
    functools.partial(streams.td0_arms, temperature=0.1),
  ],
)
def test_without_a_floor_a_silent_arm_starves(make):
  seeds = jnp.arange(6)
  pulls = lambda floor: jax.vmap(
    lambda seed: _unlock(make(floor=floor), seed)[3]
  )(seeds)
  starved, fed = pulls(0.0), pulls(0.3)
  assert (np.asarray(starved) < 60).all(), 'it never gave anything'
  assert (np.asarray(fed) > 100).all(), 'it was found, and drawn more'


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: streams.fixed_order_arms([3, 3]), 'must increase'),
    (lambda: streams.fixed_order_arms([3]).init(3), '1 boundaries part 2'),
    (lambda: streams.ucb_arms(window=0), 'window'),
    (lambda: streams.ucb_arms(temperature=0.0), 'temperature is 0.0'),
    (lambda: streams.td0_arms(rate=0.0), 'rate is 0.0'),
    (lambda: streams.td0_arms(floor=1.5), 'floor is 1.5'),
    (lambda: streams.exp3_arms(floor=0.0), 'floor is 0.0'),
    (lambda: streams.recency_arms(-1.0), 'exponent is -1.0'),
  ],
)
def test_samplers_that_make_no_sense(call, message):
  with pytest.raises(ValueError, match=message):
    call()
