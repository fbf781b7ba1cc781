"""Profiles against their formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import schedules

STEPS = 1000
FORMULAS = {
  'linear': lambda u: 1 - u,
  'cosine': lambda u: (1 + np.cos(np.pi * u)) / 2,
  'one_minus_sqrt': lambda u: 1 - np.sqrt(u),
  'square': lambda u: 1 - u**2,
  'mirror_cosine': lambda u: 2 * (1 - u) - (1 + np.cos(np.pi * u)) / 2,
}
ENDS = {
  'exponential': lambda u, f: f**u,
  'inverse': lambda u, f: 1 / (u / f + 1 - u),
}
FAMILIES = {
  'power': (
    schedules.power_profile,
    (0.3, 1.5, 4.0),
    lambda u, exponent: 1 - u**exponent,
  ),
  'half_life': (
    schedules.half_life_profile,
    (0.1, 1.0),
    lambda u, half_life: 0.5 ** (u / half_life),
  ),
  'inverse_sqrt': (
    schedules.inverse_sqrt_profile,
    (1.0, 10.0, 1e4),
    lambda u, scale: (
      1 - (1 - (1 + scale * u) ** -0.5) / (1 - (1 + scale) ** -0.5)
    ),
  ),
  'rex': (
    schedules.rex_profile,
    (0.0, 0.5, 0.9),
    lambda u, beta: (1 - u) / (1 - beta * u),
  ),
  'uba': (
    schedules.uba_profile,
    (0.1, 0.5, 2.0, 5.0, 50.0),
    lambda u, phi: (
      2
      * (1 + np.cos(np.pi * u))
      / (2 * phi + (2 - phi) * (1 + np.cos(np.pi * u)))
    ),
  ),
}


def decay(name, offset=0, steps=STEPS, **kwargs):
  """The values of a decay from 1, at each of its steps and after it."""
  schedule = schedules.wsd_schedule(1.0, 0, offset, steps, decay=name, **kwargs)
  return np.asarray(schedule(offset + np.arange(steps + 1)))


@pytest.mark.parametrize('name', FORMULAS)
@pytest.mark.parametrize('end', [0.0, 0.05])
def test_additive_profiles(name, end):
  want = end + (1 - end) * FORMULAS[name](np.arange(STEPS + 1) / STEPS)
  got = decay(name, end_value=end)
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-12)
  assert got[0] == 1.0 and got[-1] == np.float32(end)


@pytest.mark.parametrize('name', ENDS)
@pytest.mark.parametrize('end', [0.5, 0.003])
def test_multiplicative_profiles(name, end):
  want = ENDS[name](np.arange(STEPS + 1) / STEPS, end)
  got = decay(name, end_value=end)
  np.testing.assert_allclose(got, want, rtol=2e-6)
  assert got[0] == 1.0 and got[-1] == np.float32(end)


@pytest.mark.parametrize(
  ('name', 'parameter'),
  [(name, at) for name, (_, ats, _) in FAMILIES.items() for at in ats],
)
def test_families_of_profiles_falling_and_rising(name, parameter):
  family, _, formula = FAMILIES[name]
  u = np.arange(STEPS + 1) / STEPS
  want = formula(u, parameter)
  profile = family(parameter)
  falling = decay(profile)
  np.testing.assert_allclose(falling, want, rtol=2e-6, atol=1e-12)
  assert falling[0] == 1.0 and (name == 'half_life' or falling[-1] == 0.0)
  rising = schedules.infinite_schedule(0.25, 1.0, 0, STEPS, cooldown=profile)
  got = np.asarray(rising(np.arange(STEPS)))
  np.testing.assert_allclose(got, 0.25 + 0.75 * (1 - want[:-1]), rtol=2e-6)
  assert got[0] == 0.25
  np.testing.assert_allclose(profile(u), want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('name', [*FORMULAS, *ENDS, 'power', 'callable'])
def test_exact_however_late_the_decay_starts(name):
  profiles = {
    'power': schedules.power_profile(1.5),
    'callable': lambda u: 1 - u,
  }
  kwargs = {'end_value': 0.01} if name in ENDS else {}
  early = decay(profiles.get(name, name), **kwargs)
  late = decay(profiles.get(name, name), offset=2**30, **kwargs)
  assert np.unique(late[:-1]).size == STEPS
  np.testing.assert_allclose(early, late, rtol=3e-7)


@pytest.mark.parametrize('steps', [10**7, 10**8, 10**9])
def test_no_cancellation_at_the_end(steps):
  left = np.arange(1, 100)
  for name, want in (
    ('linear', left / steps),
    ('cosine', np.sin(np.pi / 2 * left / steps) ** 2),
  ):
    schedule = schedules.wsd_schedule(1.0, 0, 0, steps, decay=name)
    np.testing.assert_allclose(schedule(steps - left), want, rtol=4e-7)


def test_power_profiles_pass_through_the_named_ones():
  for exponent, name in (
    (1.0, 'linear'),
    (0.5, 'one_minus_sqrt'),
    (2, 'square'),
  ):
    got = decay(schedules.power_profile(exponent))
    np.testing.assert_allclose(got, decay(name), rtol=2e-6, atol=1e-7)


def test_a_profile_may_be_any_callable_and_may_overshoot():
  got = decay(lambda u: 1 - u + 0.5 * jnp.sin(np.pi * u), steps=4)
  want = [1, 0.75 + 0.25 * 2**0.5, 1.0, 0.25 + 0.25 * 2**0.5, 0]
  np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'parameter'),
  [(name, at) for name, (_, ats, _) in FAMILIES.items() for at in ats[:1]]
  + [('uba', 0.0), ('inverse_sqrt', 0.0), ('rex', 0.999)],
)
def test_gradients_by_the_parameters_of_profiles_are_finite(name, parameter):
  def value(parameter, step):
    profile = FAMILIES[name][0](parameter)
    falls = schedules.wsd_schedule(1.0, 2, 2, 4, decay=profile)
    rises = schedules.infinite_schedule(0.5, 1.0, 2, 4, cooldown=profile)
    return falls(step) + 3.0 * rises(step)

  grads = jax.jit(jax.vmap(jax.grad(value), (None, 0)))
  for steps in (jnp.arange(20), jnp.linspace(0.0, 20.0, 41)):
    grad = grads(parameter, steps)
    assert np.all(np.isfinite(grad)) and np.any(grad != 0)


def test_gradients_by_a_float_step_are_finite():
  families = [family(ats[0]) for family, ats, _ in FAMILIES.values()]
  for name in (*FORMULAS, *ENDS, *families):
    schedule = schedules.wsd_schedule(1.0, 2, 2, 4, end_value=0.1, decay=name)
    grads = jax.jit(jax.vmap(jax.grad(schedule)))(jnp.arange(12.0))
    assert np.all(np.isfinite(grads)), name


def test_profiles_are_callables_of_the_fraction():
  u = np.array([-1.0, 0.0, 0.25, 1.0, 2.0])
  got = schedules.power_profile(2)(u)
  np.testing.assert_allclose(got, [1, 1, 0.9375, 0, 0], rtol=1e-6)
  got = schedules.half_life_profile(0.5)(u)
  np.testing.assert_allclose(got, [1, 1, 0.5**0.5, 0.25, 0.25], rtol=1e-6)
