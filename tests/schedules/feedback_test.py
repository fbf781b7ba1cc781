"""Rates that follow the loss, against slow twins and against optax."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import schedules

SETTINGS = hypothesis.settings(max_examples=25, deadline=None)
# Few values, so that ties, runs and new bests are all frequent.
LOSSES = st.lists(st.integers(0, 12), min_size=40, max_size=40)


def run(schedule, losses, task_ids=None):
  """The rates of a compiled loop, one per loss."""
  losses = jnp.asarray(losses, jnp.float32)
  ids = np.zeros(losses.shape[0]) if task_ids is None else task_ids
  return compiled(schedule, losses, jnp.asarray(ids, jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def compiled(schedule, losses, task_ids):
  def step(state, told):
    value, task_id = told
    told = {'value': value, 'task_id': task_id}
    return schedule.update(state, **told), schedule(state, **told)

  return jax.lax.scan(step, schedule.init(), (losses, task_ids))[1]


class SlowGreedy:
  """GreedyLR as its rules read, one branch after the other."""

  def __init__(self, rate, factor, patience, cooldown, warmup, bounds, reset):
    self.first, self.factor, self.patience = rate, factor, patience
    self.waits, self.bounds, self.reset = (warmup, cooldown), bounds, reset
    self.restart()

  def restart(self):
    self.rate, self.best, self.at_min = self.first, np.inf, 0
    self.good = self.bad = self.wait = 0

  def __call__(self, loss):
    if self.wait:
      self.wait -= 1
      self.good = self.bad = 0
      return self.rate
    if loss < self.best - 1e-6:
      self.best, self.good, self.bad = loss, self.good + 1, 0
    else:
      self.good, self.bad = 0, self.bad + 1
    low, high = self.bounds
    if self.good > self.patience:
      self.rate = min(self.rate / self.factor, high)
      self.good, self.wait, self.at_min = 0, self.waits[0], 0
    elif self.bad > self.patience:
      self.rate = max(self.rate * self.factor, low)
      self.at_min += self.rate <= low
      if self.at_min >= self.reset:
        self.restart()
      self.bad, self.wait = 0, self.waits[1]
    return self.rate


GREEDY = schedules.greedy(
  0.5,
  factor=0.5,
  patience=1,
  cooldown=2,
  warmup=1,
  min_value=0.125,
  max_value=1.0,
  reset_after=3,
)


def slow_greedy(losses):
  rule = SlowGreedy(0.5, 0.5, 1, 2, 1, (0.125, 1.0), 3)
  return [rule(loss) for loss in losses]


@SETTINGS
@hypothesis.given(LOSSES)
def test_greedy_is_its_rules(losses):
  np.testing.assert_array_equal(run(GREEDY, losses), slow_greedy(losses))


@pytest.mark.parametrize('losses', [np.arange(40)[::-1], np.zeros(40)])
def test_greedy_meets_both_bounds(losses):
  rates = run(GREEDY, losses)
  np.testing.assert_array_equal(rates, slow_greedy(losses))
  if losses[0]:
    assert rates[0] == 0.5 and rates[-1] == 1.0
  else:
    # Cuts to 1/4 and 1/8, two more that meet the bound, and all anew.
    assert list(rates[np.flatnonzero(np.diff(rates)) + 1][:4]) == [
      0.25,
      0.125,
      0.5,
      0.25,
    ]


def test_greedy_averages_over_a_window():
  losses = np.array([4.0, 2.0, 6.0, 1.0, 5.0, 0.0, 4.0, 3.0])
  means = [losses[max(0, i - 2) : i + 1].mean() for i in range(8)]
  kwargs = {'factor': 0.5, 'patience': 0}
  windowed = run(schedules.greedy(0.1, window=3, **kwargs), losses)
  want = run(schedules.greedy(0.1, **kwargs), means)
  np.testing.assert_array_equal(windowed, want)
  assert np.any(windowed != run(schedules.greedy(0.1, **kwargs), losses))


def test_greedy_starts_anew_with_a_task_only_where_it_is_told():
  losses, ids = 2 * [3.0, 2.0, 1.0, 1.0], 4 * [0] + 4 * [7]
  kwargs = {'factor': 0.5, 'patience': 1}
  rates = run(schedules.greedy(0.1, per_task=True, **kwargs), losses, ids)
  np.testing.assert_array_equal(rates[:4], rates[4:])
  one_task = run(schedules.greedy(0.1, **kwargs), losses, ids)
  assert one_task[-1] < one_task[0] < rates[-1]


PLATEAU = {'factor': 0.5, 'patience': 2, 'rtol': 1e-4, 'atol': 0.5}
PLATEAU |= {'cooldown': 1, 'accumulation_size': 2, 'min_scale': 0.1}
RAMP = optax.linear_schedule(1.0, 2.0, 32)  # exact in float32
BY_TASK = schedules.plateau_per_task(RAMP, **PLATEAU)


@jax.jit
def optax_scales(losses):
  """What `optax.contrib.reduce_on_plateau` multiplies updates with."""
  rule = optax.contrib.reduce_on_plateau(**PLATEAU)

  def step(state, value):
    scale, state = rule.update(jnp.ones([]), state, value=value)
    return state, scale

  with jax.numpy_dtype_promotion('standard'):
    return jax.lax.scan(step, rule.init(jnp.ones([])), losses)[1]


def plateau_rates(losses):
  scales = optax_scales(jnp.asarray(losses, jnp.float32))
  return RAMP(jnp.arange(len(losses))) * scales


@SETTINGS
@hypothesis.given(LOSSES)
def test_within_a_task_the_plateau_is_that_of_optax(losses):
  np.testing.assert_array_equal(run(BY_TASK, losses), plateau_rates(losses))


def test_a_change_of_task_starts_the_plateau_anew():
  losses = np.r_[np.ones(12), 5 * np.ones(8), np.ones(20)]
  ids = np.r_[np.zeros(12), np.ones(8), np.zeros(20)]
  rates = run(BY_TASK, losses, ids)
  parts = [plateau_rates(np.ones(count)) for count in (12, 8, 20)]
  np.testing.assert_array_equal(rates, np.concatenate(parts))
  assert plateau_rates(losses)[12] < rates[12] == 1.0


WRONG = [
  (schedules.greedy, {'factor': 1.0}, 'factor is 1.0; it must be < 1'),
  (schedules.greedy, {'factor': 0.0}, 'factor is 0.0.*> 0'),
  (schedules.greedy, {'patience': -1}, 'patience is -1'),
  (schedules.greedy, {'cooldown': 0.5}, 'cooldown is 0.5'),
  (schedules.greedy, {'reset_after': 0}, 'reset_after is 0'),
  (schedules.greedy, {'window': 0}, 'window is 0'),
  (schedules.greedy, {'threshold': -1.0}, 'threshold is -1.0'),
  (schedules.greedy, {'min_value': 0.2}, 'init_value is 0.1.*>= 0.2'),
  (schedules.greedy, {'max_value': 0.05}, 'max_value is 0.05.*>= 0.1'),
  (schedules.plateau_per_task, {'schedule': 0.1}, 'schedule is 0.1'),
  (schedules.plateau_per_task, {'factor': 1.0}, 'factor is 1.0'),
  (schedules.plateau_per_task, {'patience': 0}, 'patience is 0'),
  (schedules.plateau_per_task, {'rtol': 2.0}, 'rtol is 2.0'),
  (schedules.plateau_per_task, {'rtol': 0.0}, 'rtol and atol are 0'),
  (schedules.plateau_per_task, {'atol': -1.0}, 'atol is -1.0'),
  (schedules.plateau_per_task, {'accumulation_size': 0}, 'accumulation_size'),
]


@pytest.mark.parametrize(('fn', 'wrong', 'message'), WRONG)
def test_refused(fn, wrong, message):
  good = {'init_value': 0.1} if fn is schedules.greedy else {'schedule': RAMP}
  with pytest.raises(ValueError, match=f'^{fn.__name__}: .*{message}'):
    fn(**{**good, **wrong})
