"""Windowed and running metrics against brute force, cut anywhere."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import metrics
from tests.metrics import twins

GOLDEN = np.array([[0.9], [0.2], [0.8]])


@st.composite
def series(draw, tasks=2):
  length = draw(st.integers(2, 14))
  seed = draw(st.integers(0, 2**31))
  rng = np.random.default_rng(seed)
  return rng.integers(0, 9, (length, tasks)) / 8


@settings(max_examples=150, deadline=None)
@given(a=series(), window=st.integers(2, 16))
def test_windows_are_those_of_brute_force(a, window):
  fall = metrics.windowed_forgetting(a, window)
  rise = metrics.windowed_plasticity(a, window)
  code = metrics.windowed_plasticity(a, window, as_code=True)
  np.testing.assert_array_equal(fall, twins.windowed_forgetting(a, window))
  np.testing.assert_array_equal(rise, twins.windowed_plasticity(a, window))
  as_code = twins.windowed_plasticity(a, window, as_code=True)
  np.testing.assert_allclose(code, as_code, atol=1e-12)


def test_golden_windows():
  assert metrics.windowed_forgetting(GOLDEN, 3)[0] == pytest.approx(0.7)
  assert metrics.windowed_plasticity(GOLDEN, 3)[0] == pytest.approx(0.6)
  code = metrics.windowed_plasticity(GOLDEN, 3, as_code=True)
  assert code[0] == pytest.approx(-0.1)


def test_windows_keep_kind_and_leading_axes():
  a = np.random.default_rng(0).random((3, 9, 2))
  for function in (metrics.windowed_forgetting, metrics.windowed_plasticity):
    found = function(a, 4)
    assert found.shape == (3, 2) and isinstance(found, np.ndarray)
    traced = jax.jit(lambda x, f=function: f(x, 4))(jnp.asarray(a, jnp.float32))
    np.testing.assert_allclose(traced, found, rtol=1e-5)
  with pytest.raises(ValueError, match='window'):
    metrics.windowed_forgetting(a, 1)
  with pytest.raises(ValueError, match=r'must be \[..., n, T\]'):
    metrics.windowed_plasticity([0.1, 0.2], 2)


def test_running_metrics_inside_a_scan():
  a = np.random.default_rng(0).random((20, 3)).astype(np.float32)
  ends = (
    jnp.full(20, -1, jnp.int32)
    .at[jnp.array([5, 12, 19])]
    .set(jnp.arange(3, dtype=jnp.int32))
  )

  @jax.jit
  def run(rows):
    def step(state, inputs):
      row, ended = inputs
      change, lowest = state
      change = change.merge(metrics.RunningChange.of(row, 5))
      lowest = lowest.merge(metrics.RunningMinimum.of(row, ended))
      return (change, lowest), None

    empty = metrics.RunningChange.empty(3, 5), metrics.RunningMinimum.empty(3)
    (change, lowest), _ = jax.lax.scan(step, empty, (rows, ends))
    return change.compute(), lowest.compute()

  (fall, rise), (least, worst) = run(jnp.asarray(a))
  np.testing.assert_array_equal(fall, metrics.windowed_forgetting(a, 5))
  np.testing.assert_array_equal(rise, metrics.windowed_plasticity(a, 5))
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6)
  close(least, metrics.min_accuracy(a, [5, 12, 19]))
  close(worst, metrics.worst_case_accuracy(a, [5, 12, 19]))
  seeds = jax.vmap(run)(jnp.stack([jnp.asarray(a), jnp.asarray(a[::-1])]))
  close(seeds[1][0][0], least)


def test_running_mean_of_padding_that_is_no_number():
  values = jnp.array([1.0, jnp.nan, 0.0])
  mean = metrics.RunningMean.empty().update(values, jnp.array([1.0, 0.0, 1.0]))
  assert float(mean.compute()) == 0.5
  assert math.isnan(metrics.RunningMean.empty().compute())


# Of classes and curves


@settings(max_examples=60, deadline=None)
@given(a=series(tasks=4))
def test_class_forgetting_is_that_of_brute_force(a):
  np.testing.assert_allclose(
    metrics.class_forgetting(a), twins.class_forgetting(a), rtol=1e-12
  )


def test_class_forgetting_of_nothing_and_of_seeds():
  assert math.isnan(metrics.class_forgetting([[0.5, 0.5]]))
  assert math.isnan(metrics.class_forgetting([[0.0], [0.5]]))
  a = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
  wanted = np.array([twins.class_forgetting(seed) for seed in a])
  np.testing.assert_allclose(metrics.class_forgetting(a), wanted, rtol=1e-5)
  traced = jax.jit(metrics.class_forgetting)(jnp.asarray(a))
  np.testing.assert_allclose(traced, wanted, rtol=1e-5)


def test_intransigence_and_curves():
  matrix = np.random.default_rng(0).random((3, 4, 4))
  joint = np.random.default_rng(1).random((3, 4))
  wanted = [
    twins.intransigence(a, b) for a, b in zip(matrix, joint, strict=True)
  ]
  found = metrics.intransigence(matrix, joint)
  np.testing.assert_allclose(found, np.array(wanted))
  curves = np.random.default_rng(2).random((3, 4, 6))
  wanted = [twins.learning_curve_area(seed) for seed in curves]
  found = metrics.learning_curve_area(curves)
  np.testing.assert_allclose(found, np.array(wanted))


def test_area_under_accuracy_weighs_by_samples():
  a, samples = [0.2, 0.4, 0.9], [10, 30, 80]
  wanted = sum(
    value
    for value, since, until in zip(a, [0, 10, 30], samples, strict=True)
    for _ in range(since, until)
  )
  found = metrics.area_under_accuracy(a, samples)
  assert found == pytest.approx(wanted / 80, rel=1e-6)
  assert metrics.area_under_accuracy(a) == pytest.approx(0.5, rel=1e-6)
  stacked = metrics.area_under_accuracy(np.array([a, a]), samples)
  assert stacked.shape == (2,)


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: metrics.class_forgetting([0.1]), r'\[..., n, C\]'),
    (lambda: metrics.intransigence([[0.1, 0.2]], [0.1]), r'\[..., T, T\]'),
    (lambda: metrics.intransigence([[0.1]], [0.1, 0.2]), r'\[..., 1\]'),
    (lambda: metrics.learning_curve_area([0.1]), 'beta'),
    (lambda: metrics.area_under_accuracy([]), r'\[..., n\]'),
    (lambda: metrics.area_under_accuracy([0.1, 0.2], [3, 3]), 'increasing'),
    (lambda: metrics.RunningChange.empty(2, 1), 'window'),
  ],
)
def test_metrics_name_what_does_not_fit(call, message):
  with pytest.raises(ValueError, match=message):
    call()
