"""The rate that the memory chooses, against a slow twin and SciPy's test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lrcl import methods
from lrcl.methods import _replay_rate

ROWS = 8
EXAMPLE = {'inputs': jnp.zeros(3), 'weight': jnp.zeros(3)}


def value_fn(x, batch):
  return 0.5 * jnp.square(x - batch['inputs'])


def memories(seed, steps):
  rng = np.random.default_rng(seed)
  rows = rng.normal(1.0, 1.0, (steps, ROWS)).astype(np.float32)
  weight = (rng.random((steps, ROWS)) < 0.8).astype(np.float32)
  weight[:, 0] = 1.0
  return {'inputs': rows, 'weight': weight}


def follow(tx, memory, x=3.0):
  """SGD on the memory; the rate of each step, and the state at the end."""

  def step(carry, rows):
    x, state = carry
    gradient = jnp.sum(rows['weight'] * (x - rows['inputs']))
    update, state = tx.update(
      gradient / jnp.sum(rows['weight']),
      state,
      x,
      value_fn=value_fn,
      memory=rows,
      memory_ready=jnp.bool_(True),
    )
    return (x + update, state), methods.applied_rate(state)[0]

  run = jax.jit(lambda c, rows: jax.lax.scan(step, c, rows))
  (_, state), rates = run((jnp.float32(x), tx.init(None)), memory)
  return np.asarray(rates), state


def slow_rates(
  memory, rate, factor, period, records, warmup, significance=0.05, x=3.0
):
  """The published loop, with lists and SciPy, over the rows of each turn."""
  used, lists, high, turn, probe = [], {True: [], False: []}, rate, False, None
  loss = lambda i: np.average(
    0.5 * (x - memory['inputs'][i].astype(float)) ** 2,
    weights=memory['weight'][i],
  )
  for i in range(len(memory['inputs'])):
    if i % period == 0:
      if probe is not None and i > warmup:
        lists[turn] = [*lists[turn], probe[1] - loss(probe[0])][-records:]
      turn, probe = not turn, (i, loss(i))
      if all(len(found) == records for found in lists.values()):
        welch = stats.ttest_ind(lists[False], lists[True], equal_var=False)
        chance = stats.norm.sf(welch.statistic)
        if chance < significance or chance > 1 - significance:
          high = high * factor if chance < significance else high / factor
          lists, turn = {True: [], False: []}, not turn
    used.append(high if turn else high * factor)
    x -= used[-1] * np.average(
      x - memory['inputs'][i].astype(float), weights=memory['weight'][i]
    )
  return used


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('rate', [1.7, 0.02])
def test_the_rule_against_a_slow_twin(rate, seed):
  memory = memories(seed, 300)
  tx = methods.scale_by_replay_rate(
    rate, EXAMPLE, ROWS, factor=0.8, period=3, records=4, warmup_steps=6
  )
  rates, _ = follow(tx, memory)
  want = slow_rates(memory, rate, 0.8, 3, 4, 6)
  np.testing.assert_allclose(rates, want, rtol=1e-5)
  assert len(set(np.round(want, 6))) > 2  # at least one decision was taken


def test_turns_alternate_until_there_is_enough_to_compare():
  tx = methods.scale_by_replay_rate(0.1, EXAMPLE, ROWS)
  rates, state = follow(tx, memories(0, 200))
  turns = np.where(np.arange(200) // 10 % 2, 0.095, 0.1)
  np.testing.assert_allclose(rates, turns, rtol=1e-6)
  # Turns end at 10, 20, ..., 190; the first two are not recorded.
  assert state.count == 200 and list(state.recorded) == [9, 8]


def test_a_rate_that_climbs_is_cut_and_one_that_crawls_is_raised():
  tx = lambda rate: methods.scale_by_replay_rate(
    rate, EXAMPLE, ROWS, factor=0.7, period=2, records=3, warmup_steps=0
  )
  # Away from the optimum, and without noise: what counts is the bare slope.
  still = {'inputs': np.zeros((60, ROWS), np.float32)}
  still['weight'] = np.ones((60, ROWS), np.float32)
  crawls, _ = follow(tx(1e-3), still)
  assert crawls[-1] > 2e-3
  climbs, _ = follow(tx(2.2), still)
  assert climbs[-1] < 2.0


@pytest.mark.parametrize('seed', range(5))
def test_decisions_are_those_of_welch(seed):
  rng = np.random.default_rng(seed)
  wants = []
  for gap in np.linspace(-2.0, 2.0, 21):
    high, low = rng.normal(0.0, 1.0, 10), rng.normal(gap, 2.0, 10)
    high, low = np.float32(high), np.float32(low)
    tx = methods.scale_by_replay_rate(1.0, EXAMPLE, ROWS, factor=0.5)
    state = tx.init(None)._replace(
      decreases=jnp.stack([high, low]), recorded=jnp.full([2], 10, jnp.int32)
    )
    rate = _replay_rate._decide(state, 0.5, stats.norm.ppf(0.95)).high_rate
    welch = stats.ttest_ind(low, high, equal_var=False).statistic
    wants.append(np.sign(welch) * (abs(welch) > stats.norm.ppf(0.95)))
    assert rate == 0.5 ** wants[-1]
  assert {-1, 0, 1} == set(wants)


def test_equal_rates_decide_nothing():
  tx = methods.scale_by_replay_rate(1.0, EXAMPLE, ROWS, records=2)
  state = tx.init(None)._replace(recorded=jnp.full([2], 2, jnp.int32))
  assert _replay_rate._decide(state, 0.5, 1.64).high_rate == 1.0
  # No spread at all and some gain is certainty.
  state = state._replace(decreases=jnp.array([[1.0, 1.0], [2.0, 2.0]]))
  assert _replay_rate._decide(state, 0.5, 1.64).high_rate == 0.5


def test_an_empty_memory_is_not_measured():
  tx = methods.scale_by_replay_rate(
    0.1, EXAMPLE, ROWS, period=1, warmup_steps=0
  )
  state, x = tx.init(None), jnp.float32(0.0)
  rows = {'inputs': jnp.full(ROWS, jnp.nan), 'weight': jnp.zeros(ROWS)}
  for _ in range(3):
    _, state = tx.update(
      x, state, x, value_fn=value_fn, memory=rows, memory_ready=False
    )
  assert list(state.recorded) == [0, 0] and np.all(state.decreases == 0)
  assert not np.any(np.isnan(state.decreases))


GOOD = {'init_value': 0.1, 'example': EXAMPLE, 'batch_size': ROWS}


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    ({'init_value': 0.0}, 'init_value is 0.0.*> 0'),
    ({'factor': 1.0}, 'factor is 1.0; it must be < 1'),
    ({'factor': 0.0}, 'factor is 0.0'),
    ({'batch_size': 0}, 'batch_size is 0'),
    ({'period': 0}, 'period is 0'),
    ({'records': 1}, 'records is 1; it must be >= 2'),
    ({'significance': 0.6}, 'significance is 0.6'),
    ({'warmup_steps': -1}, 'warmup_steps is -1'),
  ],
)
def test_refused(wrong, message):
  with pytest.raises(ValueError, match=f'^scale_by_replay_rate: .*{message}'):
    methods.scale_by_replay_rate(**{**GOOD, **wrong})


def test_another_memory_and_missing_parameters_are_refused():
  tx = methods.scale_by_replay_rate(**GOOD)
  told = {'value_fn': value_fn, 'memory_ready': True}
  state, x = tx.init(None), jnp.zeros([])
  with pytest.raises(ValueError, match=r'memory is .*inputs.*by example'):
    tx.update(x, state, x, memory={'inputs': jnp.zeros(ROWS)}, **told)
  with pytest.raises(ValueError, match='pass params to update'):
    tx.update(x, state, memory={}, **told)
