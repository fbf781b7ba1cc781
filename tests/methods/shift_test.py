"""Detectors find what a slow twin finds, and know a rate from a shift."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import methods

DETECTORS = {
  'window_shift': methods.window_shift(5, 20, 3.0),
  'page_hinkley': methods.page_hinkley(),
  'cumulative_sum': methods.cumulative_sum(),
}
each = pytest.mark.parametrize('detector', DETECTORS.values(), ids=DETECTORS)


def losses(shifts=(100, 200), steps=300, seed=0):
  """Falling losses with noise, which start anew at each shift."""
  rng = np.random.default_rng(seed)
  age = np.arange(steps)
  for shift in shifts:
    age[shift:] = np.arange(steps - shift)
  mean = 0.3 + 2.0 * np.exp(-age / 10)
  return (mean * (1 + 0.2 * rng.normal(size=steps))).astype(np.float32)


def run(detector, values, rates=None):
  """Where shifts are seen, in one compiled scan."""
  rates = np.full(len(values), 0.1, np.float32) if rates is None else rates
  step = lambda state, xs: detector.update(state, *xs)
  scan = jax.jit(lambda v, r: jax.lax.scan(step, detector.init(), (v, r))[1])
  return np.flatnonzero(scan(values, rates)).tolist()


def window_twin(values, window, history, threshold, patience=1):
  found, since, over = [], 0, 0
  for i in range(len(values)):
    seen = values[since : i + 1].astype(np.float64)
    if len(seen) < window + history:
      continue
    before = seen[-window - history : -window]
    high = seen[-window:].mean() > before.mean() + threshold * before.std()
    over = over + 1 if high else 0
    if over >= patience:
      found.append(i)
      since, over = i + 1, 0
  return found


@pytest.mark.parametrize('patience', [1, 3])
@pytest.mark.parametrize('seed', range(3))
def test_the_window_is_its_slow_twin(seed, patience):
  values = losses(seed=seed)
  detector = methods.window_shift(5, 20, 1.0, patience=patience)
  found = run(detector, values)
  assert found == window_twin(values, 5, 20, 1.0, patience)
  assert found


@each
def test_sees_each_shift_once_and_soon(detector):
  for seed in range(5):
    found = run(detector, losses(seed=seed))
    assert len(found) == 2, found
    assert all(0 <= f - s < 15 for f, s in zip(found, (100, 200), strict=True))


@each
def test_sees_nothing_where_nothing_is(detector):
  for seed in range(5):
    assert run(detector, losses(shifts=(), seed=seed)) == []


@each
def test_a_rate_that_restarts_is_no_shift(detector):
  values = losses()  # the second rise is that of the rate
  rates = np.where(np.arange(300) < 200, 0.01, 0.1).astype(np.float32)
  assert len(run(detector, values, rates)) == 2
  gated = methods.restart_on_rate(detector, 2.0)
  (found,) = run(gated, values, rates)
  assert 100 <= found < 115
  # A rate that falls is none of its business, one that creeps up is.
  assert len(run(gated, values, rates[::-1].copy())) == 2
  creeping = np.geomspace(0.01, 0.1, 300).astype(np.float32)
  assert len(run(gated, values[150:], creeping[150:])) == 1


@each
def test_the_baseline_is_that_of_the_time_without_a_shift(detector):
  values = np.tile(np.array([1.0, 2.0], np.float32), 30)
  state = detector.init()
  assert [float(x) for x in detector.baseline(state)] == [0.0, 0.0]
  for value in values[:20]:
    state, _ = detector.update(state, value, 0.1)
  np.testing.assert_allclose(detector.baseline(state), (1.5, 0.5), atol=0.04)
  for value in values[20:]:
    state, _ = detector.update(state, value, 0.1)
  np.testing.assert_allclose(detector.baseline(state), (1.5, 0.5), atol=0.04)


def test_cusum_by_hand():
  detector = methods.cumulative_sum(0.5, 4.0, warmup=2)
  state, shifted = detector.init(), []
  for value in (1.0, 3.0, 4.0, 4.0, 4.0):  # mean 2, std 1: 1.5 a step
    state, flag = detector.update(state, value, 0.1)
    shifted.append(bool(flag))
  assert shifted == [False] * 4 + [True]
  assert int(state.count) == 0  # it has started anew


def test_page_hinkley_moves_its_level():
  detector = methods.page_hinkley(0.0, 100.0, warmup=2)
  state = detector.init()
  for value in (1.0, 3.0, 5.0):
    state, _ = detector.update(state, value, 0.1)
  assert float(state.total) == 3.0 and float(state.mean) == 3.0
  np.testing.assert_allclose(detector.baseline(state)[1], np.sqrt(8 / 3))


@each
def test_many_series_at_once_are_single_ones(detector):
  stack = jnp.stack([losses(seed=seed) for seed in range(3)])
  step = lambda state, value: detector.update(state, value, 0.1)
  scan = lambda values: jax.lax.scan(step, detector.init(), values)[1]
  together = jax.jit(jax.vmap(scan))(stack)
  for found, values in zip(together, stack, strict=True):
    assert np.flatnonzero(found).tolist() == run(detector, np.asarray(values))


@pytest.mark.parametrize(
  'make,message',
  [
    (lambda: methods.window_shift(0), 'window is 0'),
    (lambda: methods.window_shift(history=1), 'history is 1'),
    (lambda: methods.window_shift(threshold=0.0), 'threshold is 0'),
    (lambda: methods.window_shift(patience=0), 'patience is 0'),
    (lambda: methods.page_hinkley(-1.0), 'allowance is -1'),
    (lambda: methods.cumulative_sum(threshold=0.0), 'threshold is 0'),
    (lambda: methods.cumulative_sum(warmup=1), 'warmup is 1'),
    (
      lambda: methods.restart_on_rate(methods.window_shift(), 1.0),
      'ratio is 1',
    ),
  ],
)
def test_impossible_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
