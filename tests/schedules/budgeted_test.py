"""Schedules over a budget, and schedules that are read now and then."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import schedules


@pytest.mark.parametrize('steps', [10**7, 10**9])
@pytest.mark.parametrize('beta', [0.0, 0.5, 0.9])
def test_rex_has_no_cancellation_at_the_end(steps, beta):
  left = np.arange(1, 100)
  z = left / steps
  got = schedules.rex_schedule(1.0, steps, beta=beta)(steps - left)
  np.testing.assert_allclose(got, z / (1 - beta + beta * z), rtol=4e-7)


@pytest.mark.parametrize('steps', [10**5, 10**7, 10**9])
@pytest.mark.parametrize('phi', [0.1, 0.5, 2.0, 5.0])
def test_uba_has_no_cancellation_at_the_end(steps, phi):
  left = np.arange(1, 100)
  half = np.sin(np.pi / 2 * left / steps) ** 2  # (1 + cos) / 2
  want = 4 * half / (2 * phi + 2 * (2 - phi) * half)
  got = schedules.uba_schedule(1.0, steps, phi)(steps - left)
  np.testing.assert_allclose(got, want, rtol=6e-7)


def test_uba_is_a_family_that_contains_the_cosine():
  steps = np.arange(120)
  cosine = schedules.wsd_schedule(0.3, 0, 0, 100, decay='cosine')(steps)
  uba = schedules.uba_schedule(0.3, 100, 2.0)(steps)
  np.testing.assert_allclose(uba, cosine, rtol=3e-7)
  for phi in (0.0, 0.5, 1.0, 5.0, 10.0):
    middle = schedules.uba_schedule(1.0, 100, phi)(50)
    np.testing.assert_allclose(middle, 2 / (2 + phi), rtol=1e-6)


def test_towards_phi_zero_uba_is_constant_and_has_a_slope():
  steps = jnp.arange(0, 2 * 10**6 + 1, 10**4)
  value = lambda phi, step: schedules.uba_schedule(1.0, 10**6, phi)(step)
  both = jax.jit(jax.vmap(jax.value_and_grad(value), (None, 0)))
  for phi in (0.0, 1e-30, 1e-6):
    values, grads = both(phi, steps)
    assert np.all(np.isfinite(grads))
    np.testing.assert_allclose(values[steps < 10**6], 1.0, atol=0.02)
  np.testing.assert_array_equal(both(0.0, steps)[0], 1.0)
  # At phi = 0 the slope is -tan(pi u / 2) ** 2 / 2.
  want = -(np.tan(np.pi / 2 * 0.25) ** 2) / 2
  np.testing.assert_allclose(both(0.0, steps)[1][25], want, rtol=1e-5)


@pytest.mark.parametrize('every', [1, 7, 1000, 2**31 - 1])
def test_sampled_reads_whole_numbers_exactly(every):
  echo = lambda step: (step % 1000).astype(jnp.float32)
  steps = np.array([0, 1, 6, 7, 8, 999, 1000, 2**24 + 1, 2**31 - 1])
  want = (steps // every * every) % 1000
  sampled = schedules.sampled(echo, every)
  np.testing.assert_array_equal(sampled(steps), want)
  np.testing.assert_array_equal(jax.jit(jax.vmap(sampled))(steps), want)


def test_sampled_takes_any_schedule_of_optax():
  exponential = optax.exponential_decay(1.0, 100, float(np.exp(-4)))
  with jax.numpy_dtype_promotion('standard'):  # that one is not strict
    got = schedules.sampled(exponential, 25)(np.array([24, 25, 49, 50, 100]))
  want = np.exp([0, -1, -1, -2, -4])
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_coarse_profile_is_a_step_decay():
  halves = schedules.sampled(schedules.wsd_schedule(1.0, 0, 0, 4), 2)
  got = [float(halves(step)) for step in range(6)]
  assert got == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]
