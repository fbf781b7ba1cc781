"""The convex bound: the reference's numbers, a slow twin, and its limits."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl.forecasting import ConvexLaw, convex_bound
from lrcl.schedules import wsd_schedule

_LENGTH = 12


def _twin(lrs, distance=1.0, norms=1.0):
  """The formula as it is written: a sum of sums, in float64."""
  lrs = np.trim_zeros(np.asarray(lrs, np.float64), 'b')
  norms = np.resize(np.asarray(norms, np.float64), lrs.shape)
  whole = lrs.sum()
  drift = distance**2 / (2 * whole)
  noise = sum(r**2 * g**2 for r, g in zip(lrs, norms, strict=True)) / whole / 2
  for k in range(len(lrs) - 1):
    later = sum(lrs[k + 1 :])
    square = sum((lrs[t] * norms[t]) ** 2 for t in range(k, len(lrs)))
    noise += 0.5 * lrs[k] / later * square / (later + lrs[k])
  best = 2 * np.sqrt(drift * noise)
  return np.array([drift + noise, np.sqrt(drift / noise), best])


def _rates(schedule, steps):
  return np.asarray(jax.vmap(schedule)(jnp.arange(steps)))


def _wsd(steps, fraction, decay='linear'):
  decaying = round(fraction * steps)
  return _rates(
    wsd_schedule(1.0, 0, steps - decaying, decaying, decay=decay), steps
  )


def test_by_hand():
  # 1 / (2 * 2.5) + 2.25 / (2 * 2.5), and for the two steps before the last
  # (1 / 1.5 * 2.25 / 2.5 + 1 / .5 * 1.25 / 1.5) / 2.
  expected = 0.2 + 0.45 + 1.1333333
  np.testing.assert_allclose(
    convex_bound([1.0, 1.0, 0.5]).bound, expected, rtol=1e-6
  )


@pytest.mark.parametrize(
  'rates,scale,bound',
  [
    (_wsd(400, 1.0), 0.049563, 0.100630),
    (_wsd(400, 1.0, 'one_minus_sqrt'), 0.073797, 0.101243),
    (_wsd(400, 1.0, 'cosine'), 0.048242, 0.103386),
    (_wsd(400, 0.2, 'one_minus_sqrt'), 0.026846, 0.107288),
    (_wsd(400, 0.2), 0.025374, 0.109323),
    (np.arange(1, 401) ** -0.5, 0.212086, 0.122264),
    (np.ones(400), 0.018176, 0.137545),
  ],
  ids=['linear', '1-sqrt', 'cosine', 'wsd sqrt', 'wsd', '1/sqrt', 'constant'],
)
def test_published_simulator(rates, scale, bound):
  found = convex_bound(rates)
  np.testing.assert_allclose(found.best_scale, scale, atol=6e-7)
  np.testing.assert_allclose(found.best_bound, bound, atol=6e-7)


@pytest.mark.parametrize(
  'steps,ratio', [(100, 1.114), (400, 1.258), (1600, 1.380), (6400, 1.487)]
)
def test_the_cooldown_removes_the_logarithm(steps, ratio):
  constant, wsd = convex_bound(np.ones(steps)), convex_bound(_wsd(steps, 0.2))
  np.testing.assert_allclose(
    constant.best_bound / wsd.best_bound, ratio, atol=5e-4
  )


_positive = st.floats(2**-6, 4.0, width=32)


@settings(deadline=None, max_examples=60)
@given(
  hnp.arrays(np.float32, _LENGTH, elements=_positive | st.just(0.0)),
  hnp.arrays(np.float32, _LENGTH, elements=_positive),
  _positive,
)
def test_the_slow_twin(lrs, norms, distance):
  lrs[0] = max(lrs[0], 0.5)  # one of them has to move
  found = convex_bound(lrs, distance=distance, gradient_norms=norms)
  np.testing.assert_allclose(
    np.array(found), _twin(lrs, distance, norms), rtol=2e-5
  )


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, _LENGTH, elements=_positive), _positive)
def test_the_best_scale_is_best(lrs, factor):
  found = convex_bound(lrs)
  at_best = convex_bound(lrs * np.asarray(found.best_scale)).bound
  np.testing.assert_allclose(at_best, found.best_bound, rtol=1e-5)
  other = convex_bound(lrs * np.asarray(found.best_scale) * factor).bound
  assert other >= found.best_bound * (1 - 1e-5)
  scaled = convex_bound(lrs * np.float32(factor))
  np.testing.assert_allclose(scaled.best_bound, found.best_bound, rtol=1e-5)


@pytest.mark.parametrize('scale', [1e-30, 1e-8, 1e30])
def test_float32_bears_rates_of_any_size(scale):
  lrs = np.float32(scale) * _wsd(400, 0.2)
  np.testing.assert_allclose(
    np.array(convex_bound(lrs, distance=scale)), _twin(lrs, scale), rtol=1e-5
  )


def test_float32_is_as_good_on_a_long_run():
  # The gap of T to the twin's O(T^2) is closed by cumulative float64 sums.
  lrs = _wsd(100_000, 0.1, 'one_minus_sqrt').astype(np.float64)
  ahead = np.cumsum(lrs[::-1])[::-1]
  square = np.cumsum(lrs[::-1] ** 2)[::-1]
  ratio = lrs[:-1] / ahead[1:] * square[:-1] / ahead[:-1]
  noise = square[0] / ahead[0] / 2 + ratio.sum() / 2
  expected = 0.5 / ahead[0] + noise
  np.testing.assert_allclose(convex_bound(lrs).bound, expected, rtol=2e-5)


def test_float64_is_kept():
  with jax.enable_x64(True):
    lrs = np.linspace(1.0, 0.1, 50)
    found = convex_bound(lrs)
    assert found.bound.dtype == jnp.float64
    np.testing.assert_allclose(np.array(found), _twin(lrs), rtol=1e-13)


def test_zeros_at_the_end_move_nothing():
  short, long = [1.0, 0.0, 0.5], [1.0, 0.0, 0.5, 0.0, 0.0]
  np.testing.assert_array_equal(
    np.array(convex_bound(short)), np.array(convex_bound(long))
  )
  slope = jax.grad(lambda x: convex_bound(x).bound)(jnp.array(long))
  assert np.all(np.isfinite(slope))


def test_gradient_and_jit():
  lrs, norms = jnp.linspace(1.0, 0.2, 8), jnp.linspace(2.0, 1.0, 8)
  of = lambda lrs, norms, d: (
    convex_bound(lrs, distance=d, gradient_norms=norms).bound
  )
  found = jax.jit(jax.grad(of, (0, 1, 2)))(lrs, norms, jnp.float32(3.0))
  args = [np.asarray(lrs, np.float64), np.asarray(norms, np.float64)]
  twin = lambda lrs, norms, d: _twin(lrs, d, norms)[0]
  for which in range(2):
    for at in range(8):
      move = [np.zeros(8), np.zeros(8)]
      move[which][at] = 1e-6
      up = twin(*(a + m for a, m in zip(args, move, strict=True)), 3.0)
      down = twin(*(a - m for a, m in zip(args, move, strict=True)), 3.0)
      slope = (up - down) / 2e-6
      np.testing.assert_allclose(found[which][at], slope, rtol=1e-3, atol=1e-4)
  slope = (twin(*args, 3.001) - twin(*args, 2.999)) / 2e-3
  np.testing.assert_allclose(found[2], slope, rtol=1e-4)


def test_the_law_bounds_each_step_as_the_last():
  lrs = _wsd(20, 0.5)
  law = ConvexLaw(2.0, np.linspace(1.0, 2.0, 20, dtype=np.float32))
  expected = [
    _twin(lrs[: n + 1], 2.0, law.gradient_norms[: n + 1])[0] for n in range(20)
  ]
  np.testing.assert_allclose(law.predict(lrs), expected, rtol=1e-5)
  asked = np.array([[19, 3], [0, 7]])
  np.testing.assert_allclose(
    law.predict(lrs, asked), np.array(expected)[asked], rtol=1e-5
  )


def test_the_law_is_a_pytree_and_infinite_before_it_moves():
  law = jax.tree.map(jnp.float32, ConvexLaw())
  found = jax.jit(lambda law, x: law.predict(x))(law, jnp.array([0.0, 1.0]))
  np.testing.assert_allclose(found, [np.inf, 1.0])


@pytest.mark.parametrize(
  'lrs,kwargs,message',
  [
    ([], {}, 'at least one step'),
    ([[1.0]], {}, r'shape \(1, 1\)'),
    ([1.0, -1.0], {}, r'lrs\[1\] is -1.0; it must be >= 0'),
    ([np.nan, 1.0], {}, r'lrs\[0\] is nan; it must be finite'),
    ([0.0, 0.0], {}, 'all 0'),
    ([1.0], {'distance': 0.0}, 'distance is 0'),
    ([1.0], {'gradient_norms': 0.0}, r'gradient_norms\[0\] is 0.0'),
    ([1.0, 1.0], {'gradient_norms': [1.0]}, 'gradient_norms has shape'),
  ],
)
def test_errors(lrs, kwargs, message):
  with pytest.raises(ValueError, match=message):
    convex_bound(lrs, **kwargs)
  with pytest.raises(ValueError, match=message):
    ConvexLaw(**kwargs).predict(lrs)
