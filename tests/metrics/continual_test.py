"""Continual evaluation against golden values and brute-force twins."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import metrics
from tests.metrics import twins

# Two switches; rows 1, 4 and 6 are the task ends.
SERIES = np.array(
  [
    [0.5, 0.0, 0.0],
    [0.9, 0.0, 0.0],
    [0.3, 0.4, 0.0],
    [0.8, 0.6, 0.0],
    [0.7, 0.8, 0.0],
    [0.6, 0.2, 0.5],
    [0.7, 0.7, 0.9],
  ]
)
ENDS = (1, 4, 6)


@st.composite
def series(draw):
  tasks = draw(st.integers(1, 4))
  lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=tasks))
  ends = tuple(int(n) - 1 for n in np.cumsum(lengths))
  rows = ends[-1] + 1 + draw(st.integers(0, 2))
  seed = draw(st.integers(0, 2**31))
  # Few levels, so that ties and exact recoveries do occur.
  a = np.random.default_rng(seed).integers(0, 9, (rows, tasks)) / 8
  return a, ends


@settings(deadline=None, max_examples=150)
@given(series())
def test_twins(case):
  a, ends = case
  steps = 10 * np.arange(len(a)) + 5
  for name in ('min_accuracy', 'worst_case_accuracy'):
    got, want = getattr(metrics, name)(a, ends), getattr(twins, name)(a, ends)
    np.testing.assert_allclose(got, want, atol=1e-12)
  gap = metrics.stability_gap(a, ends, steps=steps, tolerance=0.03)
  for part, want in twins.stability_gap(a, ends, steps, 0.03).items():
    np.testing.assert_allclose(getattr(gap, part), want, atol=1e-12)


def test_golden():
  low = (0.3 + 0.2) / 2
  assert float(metrics.min_accuracy(SERIES, ENDS)) == pytest.approx(low)
  worst = metrics.worst_case_accuracy(SERIES, ENDS)
  assert float(worst) == pytest.approx(0.9 / 3 + 2 / 3 * low)
  gap = metrics.stability_gap(SERIES, ENDS, steps=np.arange(7) * 20)
  np.testing.assert_allclose(gap.drop, [0.6, 0.35], atol=1e-12)
  np.testing.assert_allclose(gap.depth, [0.4, 0.3], atol=1e-12)
  np.testing.assert_allclose(gap.recovery_steps, [40, 40])


def test_forgetting_for_good_is_a_drop_and_no_gap():
  lost = [[0.9, 0.0], [0.5, 0.3], [0.2, 0.9]]
  gap = metrics.stability_gap(lost, (0, 2))
  np.testing.assert_allclose(gap.drop, [0.7])
  np.testing.assert_array_equal(gap.depth, [0.0])
  np.testing.assert_array_equal(gap.recovery_steps, [0.0])


def test_the_minimum_starts_after_the_end_and_stops_at_the_last_one():
  dips = np.full((5, 2), 0.8)
  dips[[0, 1], 0] = 0.1  # during and at the end of task 0: not counted
  dips[4, 0] = 0.0  # after the last end: not counted
  assert float(metrics.min_accuracy(dips, (1, 3))) == pytest.approx(0.8)


def test_fewer_ends_than_tasks_read_the_run_so_far():
  early = metrics.worst_case_accuracy(SERIES, ENDS[:2])
  assert float(early) == pytest.approx(0.8 / 2 + 0.3 / 2)


def test_one_task():
  a = np.full((2, 3, 1), 0.5)
  assert np.isnan(metrics.min_accuracy(a, [2])).all()
  np.testing.assert_array_equal(metrics.worst_case_accuracy(a, [2]), 0.5)
  assert metrics.stability_gap(a, [2]).drop.shape == (2, 0)


@pytest.mark.parametrize(
  'fn',
  [metrics.min_accuracy, metrics.worst_case_accuracy, metrics.stability_gap],
)
def test_jax_numpy_jit_and_batches_agree(fn):
  fn = functools.partial(fn, task_ends=ENDS)
  batch = np.random.default_rng(0).random((2, 3, 7, 3)).astype(np.float32)
  want = np.array(fn(batch))
  singles = np.array([[np.array(fn(b)) for b in row] for row in batch])
  singles = np.moveaxis(singles, 2, 0) if singles.ndim > 2 else singles
  np.testing.assert_allclose(want, singles, atol=1e-6)
  device = jnp.asarray(batch)
  for got in (fn(device), jax.jit(fn)(device)):
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(got))
    np.testing.assert_allclose(np.array(got), want, atol=1e-6)


@pytest.mark.parametrize(
  ('ends', 'text'),
  [
    ((), 'has 0 rows'),
    ((0, 1, 2, 3), 'has 4 rows'),
    ((1, 1), 'must increase'),
    ((3, 2), 'must increase'),
    ((-1, 2), 'must increase'),
    ((1, 7), 'lie in 0..6'),
  ],
)
def test_bad_task_ends(ends, text):
  with pytest.raises(ValueError, match=f'min_accuracy: task_ends .*{text}'):
    metrics.min_accuracy(SERIES, ends)


def test_shape_errors():
  with pytest.raises(ValueError, match=r'it must be \[..., n, T\]'):
    metrics.worst_case_accuracy(np.zeros(3), [0])
  with pytest.raises(ValueError, match='stability_gap: steps has shape'):
    metrics.stability_gap(SERIES, ENDS, steps=np.arange(3))
