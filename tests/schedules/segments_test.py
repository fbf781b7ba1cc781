"""The primitive's steps, lengths and roundings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import schedules


@pytest.fixture(scope='module')
def ramp():
  return schedules.wsd_schedule(1.0, 4, 2, 4)


@pytest.mark.parametrize(
  'dtype', ['int8', 'uint8', 'int16', 'uint32', 'bfloat16', 'float16']
)
def test_steps_of_any_width(ramp, dtype):
  steps = jnp.arange(12).astype(dtype)
  np.testing.assert_array_equal(ramp(steps), ramp(np.arange(12)))


def test_fractional_steps_lie_between(ramp):
  np.testing.assert_array_equal(ramp(np.array([0.5, 6.5])), [0.125, 0.875])


def test_negative_steps_count_as_zero(ramp):
  assert ramp(-3) == ramp(-1.5) == ramp(jnp.int32(-(2**31))) == 0.0


def test_arrays_of_steps(ramp):
  assert ramp(jnp.zeros((2, 3), jnp.int32)).shape == (2, 3)


@pytest.mark.parametrize(
  'step', [2**31, 10**30, -(2**40), np.int64(2**40), np.array([0, 2**31])]
)
def test_steps_beyond_int32_are_refused(ramp, step):
  with pytest.raises(ValueError, match=r'wsd_schedule: the step is .*int32'):
    ramp(step)


def test_steps_beyond_int32_that_are_traced_stay_at_the_end():
  schedule = schedules.wsd_schedule(1.0, 0, 2, 2, end_value=0.25)
  assert schedule(jnp.uint32(2**32 - 1)) == 0.25
  with jax.enable_x64(True):
    assert jax.jit(schedule)(jnp.int64(2**40)) == 0.25


@pytest.mark.parametrize('step', [True, 1j])
def test_what_is_no_number_is_refused(ramp, step):
  with pytest.raises(TypeError, match='wsd_schedule: the step is of type'):
    ramp(step)


def test_a_row_ends_within_int32():
  last = schedules.wsd_schedule(1.0, 0, 2**31 - 2, 1)
  assert last(2**31 - 2) == 1.0 and last(2**31 - 1) == 0.0
  with pytest.raises(ValueError, match='take 2147483648 steps'):
    schedules.wsd_schedule(1.0, 0, 2**31 - 2, 2)
  with pytest.raises(ValueError, match=r'decay_branch: .* 2147483648 steps'):
    schedules.decay_branch(last, 2**31 - 1, 1)


def test_wide_floats_still_give_float32(ramp):
  with jax.enable_x64(True):
    schedule = schedules.wsd_schedule(1.0, 4, 2, 4)
    for step in (3, 3.0, jnp.int64(3), jnp.float64(3)):
      assert schedule(step).dtype == jnp.float32 and schedule(step) == 0.75


def test_values_may_be_traced_under_jit_vmap_and_grad():
  @jax.jit
  def value(peak, step):
    return schedules.wsd_schedule(peak, 4, 2, 4, end_value=0.1)(step)

  peaks = jnp.array([0.5, 1.0])
  np.testing.assert_allclose(
    jax.vmap(value, (0, None))(peaks, 8), [0.3, 0.55], rtol=1e-6
  )
  assert jax.grad(value)(1.0, 8) == 0.5


def test_one_value_for_all_steps_keeps_its_bits():
  for value in np.random.default_rng(0).uniform(0, 1, 5).astype(np.float32):
    schedule = schedules.infinite_schedule(
      value, value, 3, 7, init_value=value, cooldown='linear'
    )
    np.testing.assert_array_equal(schedule(np.arange(12)), value)


@pytest.mark.parametrize('count', [3, 64, 65])
def test_rows_of_any_length_against_a_slow_twin(count):
  rng = np.random.default_rng(count)
  ends = np.cumsum(rng.integers(20, 60, count)).tolist()
  schedule = schedules.wsd_s_schedule(
    1.0, 5, ends, decay_fraction=0.3, end_value=0.2, decay='linear'
  )

  def slow(step):
    if step < 5:
      return step / 5
    begin = 0
    for end in ends:
      steps = math.floor(0.3 * (end - begin) + 0.5)
      if step < end:
        return 1.0 - 0.8 * max(step - (end - steps), 0) / steps
      begin = end
    return 0.2

  steps = np.arange(ends[-1] + 20)
  want = [slow(int(step)) for step in steps]
  got = np.asarray(jax.jit(jax.vmap(schedule))(steps))
  np.testing.assert_allclose(got, want, rtol=1e-6)
  np.testing.assert_array_equal(schedule(steps), got)
  scan = lambda: jax.lax.map(schedule, jnp.asarray(steps))
  np.testing.assert_array_equal(jax.jit(scan)(), got)
  peak = lambda peak, step: schedules.rewarmed_schedule(
    peak, [20] * count, 2, end_value=0.2, peak_decay=0.9
  )(step)
  grads = jax.jit(jax.vmap(jax.grad(peak), (None, 0)))(1.0, steps)
  assert np.all(np.isfinite(grads))
  tops = np.arange(2, 20 * count, 20)  # the ends of the warm-ups
  np.testing.assert_allclose(
    grads[tops], 0.9 ** np.arange(tops.size), rtol=1e-5
  )


def test_a_foreign_profile_is_not_asked_outside_its_phase():
  """Its slope is infinite where it starts; elsewhere nothing may come of it."""
  steep = lambda u: 1.0 - jnp.sqrt(u)
  schedule = schedules.wsd_schedule(1.0, 2, 4, 4, decay=steep)
  steps = jnp.array([0.5, 1.0, 3.0, 5.5, 7.0, 9.0])
  grads = jax.vmap(jax.grad(schedule))(steps)
  np.testing.assert_allclose(
    grads, [0.5, 0.5, 0, 0, -0.25, -0.25 / 3**0.5], rtol=1e-6
  )


def test_a_profile_that_starts_below_its_phase_leaves_the_hold_alone():
  schedule = schedules.wsd_schedule(1.0, 0, 4, 4, decay=lambda u: 0.5 - 0.5 * u)
  got = schedule(np.arange(9))
  np.testing.assert_allclose(got, [1, 1, 1, 1, 0.5, 0.375, 0.25, 0.125, 0])


@pytest.mark.parametrize('decay', ['linear', 'cosine', 'inverse'])
def test_both_ends_are_exact_where_the_sum_of_the_parts_is_not(decay):
  pairs = (
    np.random.default_rng(0).uniform(0.001, 1, (1000, 2)).astype(np.float32)
  )
  low, high = pairs.min(1), pairs.max(1)
  odd = low + (high - low) != high
  assert odd.sum() > 10

  def value(high, low, step):
    return schedules.wsd_schedule(high, 0, 3, 7, end_value=low, decay=decay)(
      step
    )

  steps = np.array([0, 3, 10, 20])
  every = jax.vmap(jax.vmap(value, (None, None, 0)), (0, 0, None))
  want = np.stack([high, high, low, low], 1)
  np.testing.assert_array_equal(jax.jit(every)(high, low, steps), want)
  for index in np.flatnonzero(odd)[:3]:  # and where nothing is traced
    got = value(high[index], low[index], steps)
    np.testing.assert_array_equal(got, want[index])
