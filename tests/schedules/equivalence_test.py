"""Schedules against each other, against optax, and at random arguments."""

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import optax
import pytest

from lrcl import schedules

DECAYS = (
  'linear',
  'cosine',
  'one_minus_sqrt',
  'square',
  'exponential',
  'inverse',
  'mirror_cosine',
)
random_cases = hypothesis.settings(
  max_examples=12, deadline=None, database=None, derandomize=True
)
lengths = st.integers(0, 300)
values = st.floats(1e-6, 10.0)


def test_wsd_is_a_join_of_parts_of_optax():
  joined = optax.join_schedules(
    [
      optax.linear_schedule(0.01, 0.3, 10),
      optax.constant_schedule(0.3),
      optax.cosine_decay_schedule(0.3, 40, alpha=0.1),
    ],
    [10, 60],
  )
  ours = schedules.wsd_schedule(
    0.3, 10, 50, 40, init_value=0.01, end_value=0.03, decay='cosine'
  )
  steps = np.arange(120)
  with jax.numpy_dtype_promotion('standard'):  # optax's parts are not strict
    want = joined(steps)
  np.testing.assert_allclose(ours(steps), want, rtol=3e-6)


@pytest.mark.parametrize('decay_of', ['cycle', 'total'])
@pytest.mark.parametrize('decay', DECAYS)
def test_wsd_s_with_one_cycle_is_wsd(decay, decay_of):
  steps = np.arange(250)
  one = schedules.wsd_s_schedule(
    0.3, 20, [200], decay_of=decay_of, end_value=0.03, decay=decay
  )
  wsd = schedules.wsd_schedule(0.3, 20, 160, 20, end_value=0.03, decay=decay)
  np.testing.assert_array_equal(one(steps), wsd(steps))


def test_an_infinite_schedule_that_decays_is_its_own_branch():
  whole = schedules.infinite_schedule(
    0.3, 0.1, 5, 20, anneal_start=50, anneal_steps=10
  )
  trunk = schedules.infinite_schedule(0.3, 0.1, 5, 20)
  branch = schedules.decay_branch(
    trunk, 50, 10, end_value=0.01, decay='exponential'
  )
  steps = np.arange(80)
  np.testing.assert_allclose(branch(steps), whole(steps), rtol=3e-7)
  np.testing.assert_array_equal(branch(steps[:51]), trunk(steps[:51]))


def test_a_branch_takes_any_schedule_of_optax():
  trunk = optax.warmup_cosine_decay_schedule(0.0, 1.0, 4, 10)
  branch = schedules.decay_branch(trunk, 7, 2)
  with jax.numpy_dtype_promotion('standard'):  # the trunk is not strict
    got = [float(branch(step)) for step in (0, 4, 7, 8, 9)]
  np.testing.assert_allclose(got, [0.0, 1.0, 0.5, 0.25, 0.0], atol=1e-6)


@pytest.mark.parametrize('decay', ['exponential', 'inverse'])
def test_a_branch_off_a_trunk_at_zero_is_not_nan(decay):
  trunk = schedules.wsd_schedule(1.0, 2, 2, 2)
  branch = schedules.decay_branch(trunk, 0, 2, end_value=0.1, decay=decay)
  got = branch(np.arange(4))
  np.testing.assert_array_equal(got, np.float32([0.0, 0.0, 0.1, 0.1]))


@random_cases
@hypothesis.given(
  warmup=lengths,
  stable=lengths,
  decaying=st.integers(1, 300),
  peak=values,
  part=st.floats(0.01, 1.0),
  decay=st.sampled_from(DECAYS),
)
def test_wsd_is_bounded_and_monotone(
  warmup, stable, decaying, peak, part, decay
):
  end = peak * part
  schedule = schedules.wsd_schedule(
    peak, warmup, stable, decaying, end_value=end, decay=decay
  )
  start = warmup + stable
  got = np.asarray(schedule(np.arange(start + decaying + 10)))
  slack = 1e-6 * peak
  assert np.all(np.diff(got[: warmup + 1]) >= 0)
  np.testing.assert_array_equal(got[warmup : start + 1], np.float32(peak))
  assert np.all(np.diff(got[start:]) <= slack)
  assert got[start:].min() >= end - slack and got.max() <= peak + slack
  np.testing.assert_array_equal(got[start + decaying :], np.float32(end))


@random_cases
@hypothesis.given(
  warmup=lengths,
  lengths=st.lists(st.integers(1, 200), min_size=1, max_size=5),
  fraction=st.floats(0.05, 1.0),
  peak=values,
)
def test_wsd_s_is_bounded_and_ends_its_cycles(warmup, lengths, fraction, peak):
  ends = np.cumsum([warmup + 400, *lengths]).tolist()
  fraction = min(fraction, 0.5)
  try:
    schedule = schedules.wsd_s_schedule(
      peak, warmup, ends, decay_fraction=fraction
    )
  except ValueError as error:  # too short a cycle for a single step of decay
    assert 'decay_fraction' in str(error)
    return
  got = np.asarray(schedule(np.arange(ends[-1] + 10)))
  assert got[warmup:].min() >= 0.1 * peak * (1 - 1e-6)
  assert got.max() <= peak * (1 + 1e-6)
  np.testing.assert_array_equal(got[ends[:-1]], np.float32(peak))
  np.testing.assert_array_equal(got[ends[-1] :], np.float32(0.1 * peak))


@random_cases
@hypothesis.given(
  warmup=lengths,
  cooling=lengths,
  resting=lengths,
  annealing=st.integers(1, 200),
  peak=values,
  part=st.floats(0.01, 1.0),
  cooldown=st.sampled_from(('cosine', 'inverse_sqrt', 'linear')),
)
def test_infinite_is_bounded_and_monotone(
  warmup, cooling, resting, annealing, peak, part, cooldown
):
  start = warmup + cooling + resting
  constant = peak * part
  schedule = schedules.infinite_schedule(
    peak,
    constant,
    warmup,
    cooling,
    anneal_start=start,
    anneal_steps=annealing,
    cooldown=cooldown,
  )
  got = np.asarray(schedule(np.arange(start + annealing + 10)))
  assert np.all(np.diff(got[warmup:]) <= 1e-6 * peak)
  assert got.max() <= peak * (1 + 1e-6)
  np.testing.assert_array_equal(
    got[warmup + cooling : start + 1], np.float32(constant)
  )
  np.testing.assert_array_equal(
    got[start + annealing :], np.float32(0.1 * constant)
  )
