"""The search for the best schedule: published optima, brute force, limits."""

import itertools
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import isotonic

from lrcl.forecasting import (
  AnnealingLaw,
  ConvexLaw,
  MultiPowerLaw,
  optimize_schedule,
)
from lrcl.schedules import build_schedule, wsd_schedule

# Luo et al., 2025: the parameters of the law, and what its authors' optimised
# schedule is predicted to reach at step 24,000.
STEPS, WARMUP, PEAK = 24_000, 2160, 3e-4
PUBLISHED = {
  '25M': (
    *(3.04045406, 0.52468604, 0.50786857, 363.78751622),
    *(2.06560812, 0.58279013, 0.64142257),
    3.14968,
  ),
  '100M': (
    *(2.6514477, 0.60115152, 0.45295811, 437.9464276),
    *(2.13245612, 0.59785199, 0.65523644),
    2.79414,
  ),
  '400M': (
    *(2.37474466, 0.65421216, 0.42878731, 523.42464371),
    *(2.02462735, 0.59350493, 0.63472457),
    2.53322,
  ),
}


class AfterWarmup(NamedTuple):
  """The law as the authors' optimiser has it: the warm-up costs nothing."""

  parameters: Any

  def predict(self, lrs, steps):
    floor, a, alpha, b, c, beta, gamma = self.parameters
    lrs = lrs[WARMUP:]
    area = jnp.cumsum(lrs[::-1])[::-1]
    speed = c * jnp.maximum(lrs[1:], 1e-10) ** -gamma
    paid = 1 - (1 + speed * area[1:]) ** -beta
    before = 0.5 * PEAK * WARMUP
    gained = jnp.sum((lrs[:-1] - lrs[1:]) * paid)
    loss = floor + a * (before + area[0]) ** -alpha - b * gained
    return jnp.broadcast_to(loss, jnp.shape(steps))


def _simple_schedules():
  """The best WSD, by the law, is among the first; the last is the cosine."""
  for part in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.7):
    decaying = round(part * STEPS)
    for decay, end in (('linear', 0.0), ('exponential', PEAK / 100)):
      yield wsd_schedule(
        PEAK,
        WARMUP,
        STEPS - WARMUP - decaying,
        decaying,
        end_value=end,
        decay=decay,
      )
  yield wsd_schedule(
    PEAK, WARMUP, 0, STEPS - WARMUP, end_value=PEAK / 10, decay='cosine'
  )


@pytest.mark.parametrize('size', PUBLISHED)
def test_published_optima(size):
  *parameters, published = PUBLISHED[size]
  law = AfterWarmup(parameters)
  found = optimize_schedule(law, STEPS + 1, PEAK, warmup_steps=WARMUP)
  np.testing.assert_allclose(found.loss, published, atol=3e-4)
  predict = jax.jit(lambda rates: law.predict(rates, jnp.array([STEPS]))[0])
  at = jnp.arange(STEPS + 1)
  others = [float(predict(jax.vmap(fn)(at))) for fn in _simple_schedules()]
  assert found.loss < min(others) - 1e-3
  # The shape is warm-up, stable, decay.
  leaves = np.argmax(found.rates[WARMUP:] < 0.999 * PEAK) + WARMUP
  assert 0.8 < leaves / STEPS < 0.95
  assert found.rates[-1] < 0.01 * PEAK


def test_the_multi_power_law_agrees():
  *parameters, published = PUBLISHED['100M']
  law = MultiPowerLaw(*parameters)
  found = optimize_schedule(law, STEPS + 1, PEAK, warmup_steps=WARMUP, knots=20)
  with jax.enable_x64(True):
    at_end = jnp.array([STEPS])
    rates = found.rates.astype(np.float64)
    without = AfterWarmup(parameters).predict(rates, at_end)[0]
    np.testing.assert_allclose(without, published, atol=3e-4)
    again = law.predict(rates, at_end)[0]
  np.testing.assert_allclose(found.loss, again, rtol=1e-9)


class Wanted(NamedTuple):
  """A law that likes the rates it is given."""

  rates: Any

  def predict(self, lrs, steps):
    return jnp.sum((lrs - self.rates) ** 2)[None]


_LENGTH = 12
_ALL = 3 * _LENGTH
"""So many knots are more than there are steps: every rate is one."""

_rates = st.lists(
  st.floats(0.0, 1.0, width=32), min_size=_LENGTH, max_size=_LENGTH
)


@settings(deadline=None, max_examples=5)
@given(_rates)
def test_never_rising_is_the_isotonic_regression(wanted):
  wanted = np.array([1.0, *wanted[1:]])
  expected = isotonic.isotonic_regression(wanted, increasing=False)
  found = optimize_schedule(Wanted(wanted), _LENGTH, 1.0, knots=_ALL)
  best = float(np.sum((expected - wanted) ** 2))
  assert found.loss <= best + 1e-4
  np.testing.assert_allclose(found.rates, expected, atol=0.02)


@settings(deadline=None, max_examples=5)
@given(_rates, st.floats(0.0, 0.4))
def test_free_rates_are_those_that_are_wanted(wanted, least):
  wanted = np.array(wanted)
  found = optimize_schedule(
    Wanted(wanted),
    _LENGTH,
    1.0,
    min_value=least,
    non_increasing=False,
    knots=_ALL,
  )
  expected = np.append(1.0, np.clip(wanted[1:], least, 1.0))
  np.testing.assert_allclose(found.rates, expected, atol=2e-3)


@pytest.mark.parametrize(
  'law',
  [
    MultiPowerLaw(2.0, 0.5, 0.5, 2.0, 0.5, 0.6, 0.5),
    AnnealingLaw(2.0, 0.5, 0.5, 0.05, 0.9),
    ConvexLaw(2.0),
  ],
  ids=lambda law: type(law).__name__,
)
def test_no_worse_than_brute_force(law):
  grid = np.linspace(0.05, 1.0, 20)
  predict = jax.jit(lambda x: jax.lax.map(lambda r: law.predict(r, [3])[0], x))
  tried = [
    (1.0, *sorted(each, reverse=True))
    for each in itertools.combinations_with_replacement(grid, 3)
  ]
  best = float(jnp.min(predict(jnp.array(tried))))
  found = optimize_schedule(law, 4, 1.0, min_value=0.05, knots=12)
  assert found.loss <= best + 1e-5
  assert found.loss >= best - 0.05 * abs(best)


@settings(deadline=None, max_examples=5)
@given(
  st.floats(0.01, 2.0),
  st.floats(0.0, 1.0),
  st.none() | st.floats(0.0, 1.0),
  st.booleans(),
)
def test_what_is_asked_for_is_kept(peak, low, end, falls):
  low = 0.5 * low * peak
  end = None if end is None else low + end * (peak - low)
  law = MultiPowerLaw(2.0, 0.5, 0.5, 2.0, 0.5, 0.6, 0.5)
  found = optimize_schedule(
    law,
    40,
    peak,
    warmup_steps=5,
    start_step=10,
    min_value=low,
    end_value=end,
    non_increasing=falls,
    knots=8,
  )
  rates, slack = found.rates, 1e-6 * peak
  np.testing.assert_allclose(rates[:6], peak * np.arange(6) / 5, rtol=1e-6)
  np.testing.assert_allclose(rates[5:11], peak, rtol=1e-6)
  assert np.all(rates[10:] >= low - slack) and np.all(rates <= peak + slack)
  if falls:
    assert np.all(np.diff(rates[10:]) <= 0)
  if end is not None:
    end = rates.dtype.type(end)  # what is drawn may be less than it can hold
    np.testing.assert_allclose(rates[-1], end, rtol=1e-6)
  built = build_schedule(found.record())(np.arange(40))
  np.testing.assert_allclose(built, rates, rtol=1e-5, atol=slack)


def test_it_goes_on_from_a_trunk():
  record = {
    'name': 'infinite_schedule',
    'kwargs': dict(
      peak_value=1.0, constant_value=0.6, warmup_steps=5, cooldown_steps=10
    ),
  }
  trunk = build_schedule(record)
  law = MultiPowerLaw(2.0, 0.5, 0.5, 2.0, 0.5, 0.6, 0.5)
  found = optimize_schedule(law, 40, 1.0, trunk=trunk, start_step=20, knots=8)
  np.testing.assert_allclose(found.rates[:21], trunk(np.arange(21)), rtol=1e-6)
  assert np.all(np.diff(found.rates[20:]) <= 0) and found.rates[-1] < 0.1
  assert found.loss < float(law.predict(trunk(np.arange(40)), [39])[0])
  built = build_schedule(found.record(record))(np.arange(40))
  np.testing.assert_allclose(built, found.rates, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match='trunk is None'):
    found.record()


@pytest.mark.parametrize(
  'kwargs,message',
  [
    (dict(steps=1), 'steps is 1.*>= 2'),
    (dict(peak_value=0.0), 'peak_value is 0'),
    (dict(knots=3), 'knots is 3'),
    (dict(warmup_steps=19), 'up to step 19 are fixed'),
    (dict(warmup_steps=4, start_step=3), 'start_step is 3.*>= 4'),
    (dict(min_value=2.0), 'min_value is 2'),
    (dict(end_value=2.0), 'end_value is 2'),
    (dict(min_value=0.5, end_value=0.1), 'end_value is 0.1'),
    (dict(warmup_steps=2, trunk=lambda step: 1.0 * step), 'and trunk is given'),
  ],
)
def test_errors(kwargs, message):
  kwargs = {'steps': 20, 'peak_value': 1.0} | kwargs
  with pytest.raises(ValueError, match=message):
    optimize_schedule(ConvexLaw(), **kwargs)


def test_a_law_predicts():
  with pytest.raises(TypeError, match=r'must have predict'):
    optimize_schedule(None, 20, 1.0)
