"""Schedules of scalars that are not learning rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import schedules


def slow_sizes(low, high, factor, epochs):
  """The published loop: the fractions of the data, one after the other."""
  sizes, n, rises = [], low, True
  while sum(sizes) < epochs:
    sizes.append(n)
    if n == low or (rises and n != high):
      n, rises = min(n / factor, high), True
    else:
      n, rises = max(n * factor, low), False
  return sizes


@pytest.mark.parametrize(
  ('low', 'high', 'factor'),
  [(0.25, 1.0, 0.5), (0.3, 1.0, 0.5), (0.5, 1.0, 0.5), (0.1, 0.8, 0.7)],
)
def test_the_ladder_is_the_published_loop(low, high, factor):
  schedule = schedules.cyclical_fraction_schedule(
    1000, min_fraction=low, max_fraction=high, factor=factor
  )
  sizes, step = [], 0
  while sum(sizes) < 10:
    sizes.append(float(schedule(step)))
    step += round(1000 * sizes[-1])
  np.testing.assert_allclose(
    sizes, slow_sizes(low, high, factor, 10), rtol=1e-6
  )
  if (low, factor) == (0.25, 0.5):
    assert len(sizes) == 19 and sizes[:6] == [0.25, 0.5, 1, 0.5, 0.25, 0.5]


def test_a_ladder_of_one_rung():
  schedule = schedules.cyclical_fraction_schedule(3, min_fraction=1.0)
  np.testing.assert_array_equal(schedule(np.arange(7)), np.ones(7))


def test_whole_budgets_are_hit():
  # Products that are whole in real numbers, though not in float32.
  ten = schedules.geometric_budget_schedule(1e6, 7, 0.1)
  steps = np.arange(0, 49, 7)
  np.testing.assert_array_equal(ten(steps), 10.0 ** np.arange(6, -1, -1))
  np.testing.assert_array_equal(ten(steps[1:] - 1), 10.0 ** np.arange(6, 0, -1))


def test_transitions_are_counted_exactly():
  for every in (3, 49, 50, 1000):
    budget = schedules.geometric_budget_schedule(2.0**20, every, 0.5)
    steps = every * np.arange(20)
    np.testing.assert_array_equal(budget(steps), 2.0 ** np.arange(20, 0, -1))


def test_token_temperatures_of_the_reference():
  formula = schedules.token_temperature_schedule(
    init_scale=500.0, stretch=1.0, warmup_tokens=0
  )
  tokens = np.array([0, 100, 250, 394])
  want = [1.2, 0.9785972, 0.5512787, 0.1]
  np.testing.assert_allclose(formula(tokens, 0), want, rtol=1e-6)
  coded = schedules.token_temperature_schedule()
  tokens = np.array([0, 9, 10, 100, 200, 300, 400, 10**6])
  want = [1, 1, 1.1797987, 0.9785972, 0.7081753, 0.3778812, 0.1, 0.1]
  np.testing.assert_allclose(coded(tokens, 0), want, rtol=1e-6)
  # Step 15: d is 25 + 75, four times that of step 0; later ones are capped.
  np.testing.assert_allclose(
    coded(4 * tokens[3:7], 15), coded(tokens[3:7], 0), rtol=1e-6
  )
  assert coded(10_000, 10**4) == coded(10_000, 10**6) > 1.0


def test_token_temperatures_broadcast_and_have_finite_gradients():
  tokens, steps = np.arange(0, 900, 50)[:, None], np.arange(3)[None]
  names = ('peak_value', 'end_value', 'init_scale', 'scale_growth')
  names += ('max_scale', 'stretch')
  values = dict(zip(names, (1.2, 0.1, 25.0, 5.0, 30.0, 20.0), strict=True))

  def of(values):
    return schedules.token_temperature_schedule(**values)(tokens, steps)

  assert of(values).shape == (18, 3) and of(values).dtype == jnp.float32
  slopes = jax.jit(jax.jacfwd(of))(values)
  for name, slope in slopes.items():
    assert np.all(np.isfinite(slope)) and np.any(slope != 0), name


def test_sampler_and_correction_share_one_temperature():
  logits = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
  tokens, step = np.array([0, 150, 300]), 0
  temperature = schedules.token_temperature_schedule()

  def log_policy(temperature):
    return jax.nn.log_softmax(logits / temperature(tokens, step)[:, None])

  draw = lambda key: jax.random.categorical(key, log_policy(temperature))
  keys = jax.random.split(jax.random.key(0), 20_000)
  drawn = jax.vmap(draw)(keys)
  often = np.mean(np.asarray(drawn)[..., None] == np.arange(4), axis=0)
  # Five standard errors of a frequency are less than 0.018.
  np.testing.assert_allclose(often, np.exp(log_policy(temperature)), atol=0.018)
  # The correction of the published code forgets the factor 20.
  other = schedules.token_temperature_schedule(stretch=1.0)
  assert np.max(np.abs(often - np.exp(log_policy(other)))) > 0.1


def test_features_of_the_horizon():
  steps, totals = np.arange(4), np.array([1, 10, 100, 2**20])
  fraction, length = jax.jit(schedules.horizon_features)(steps, totals)
  np.testing.assert_array_equal(fraction, (steps / totals).astype(np.float32))
  np.testing.assert_allclose(length, np.log(totals), rtol=1e-6)
  fraction, length = schedules.horizon_features(steps, 8)
  assert fraction.shape == length.shape == (4,)
  with pytest.raises(ValueError, match='horizon_features: total_steps is 0'):
    schedules.horizon_features(0, 0)


CYCLE = {'epoch_steps': 4}
BUDGET = {'init_value': 8.0, 'transition_steps': 2, 'decay_rate': 0.5}
WRONG = [
  ('cyclical_fraction_schedule', CYCLE, {'epoch_steps': 0}, 'epoch_steps is 0'),
  ('cyclical_fraction_schedule', CYCLE, {'min_fraction': 0.0}, 'min_fraction'),
  (
    'cyclical_fraction_schedule',
    CYCLE,
    {'max_fraction': 0.2},
    'max_fraction is 0.2.*>= 0.25',
  ),
  ('cyclical_fraction_schedule', CYCLE, {'factor': 1.0}, 'factor is 1.0'),
  ('geometric_budget_schedule', BUDGET, {'decay_rate': 1.5}, 'is 1.5.*<= 1'),
  ('geometric_budget_schedule', BUDGET, {'init_value': -1.0}, 'init_value'),
  ('geometric_budget_schedule', BUDGET, {'transition_steps': 0}, 'is 0.*>= 1'),
  ('token_temperature_schedule', {}, {'end_value': 0.0}, 'end_value is 0.0'),
  ('token_temperature_schedule', {}, {'stretch': 0.0}, 'stretch is 0.0'),
  ('token_temperature_schedule', {}, {'warmup_tokens': -1}, 'warmup_tokens'),
]


@pytest.mark.parametrize(('name', 'good', 'wrong', 'message'), WRONG)
def test_refused(name, good, wrong, message):
  with pytest.raises(ValueError, match=f'^{name}: .*{message}'):
    getattr(schedules, name)(**{**good, **wrong})
