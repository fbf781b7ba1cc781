"""The laws against their definitions, written out in numpy; and their edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import forecasting

PEAK = 3e-4
MULTI = forecasting.MultiPowerLaw(
  2.37474466, 0.65421216, 0.42878731, 523.42464371, 2.02462735, 0.59350493,
  0.63472457,
)  # fmt: skip
ANNEALING = forecasting.AnnealingLaw(2.6278, 0.42966, 0.549845, 0.410772)
CONTINUAL = forecasting.ContinualAnnealingLaw(
  2.0, 0.5, 0.5, 0.4, 0.3, 0.2, 1.0, 0.5
)
LAWS = {'annealing': ANNEALING, 'multi_power': MULTI}


def rates(kind, steps=300, warmup=40):
  rise, fall = np.linspace(0, PEAK, warmup), np.linspace(PEAK, 0, steps)
  after = {
    'constant': np.full(steps, PEAK),
    'to_zero': fall,
    'two_stage': np.where(np.arange(steps) < steps // 2, PEAK, 0.1 * PEAK),
    'sawtooth': PEAK * (1.0 - 0.9 * (np.arange(steps) % 50) / 50),
    'rests': np.where(np.arange(steps) % 90 < 60, PEAK, 0.0),
  }
  return np.concatenate([rise, after[kind]])


KINDS = ('constant', 'to_zero', 'two_stage', 'sawtooth', 'rests')


def slow_multi_power(law, lrs):
  """The double sum of the definition."""
  sums, least = np.cumsum(lrs), 1e-8 * lrs.max()
  losses = []
  for t in range(len(lrs)):
    loss = law.floor + law.scale * max(sums[t], least) ** -law.exponent
    for k in range(1, t + 1):
      since = sums[t] - sums[k - 1]
      speed = law.rate * max(lrs[k], least) ** -law.rate_exponent
      paid = 1 - (1 + speed * since) ** -law.gain_exponent
      loss -= law.gain * (lrs[k - 1] - lrs[k]) * paid
    losses.append(loss)
  return np.array(losses)


def slow_areas(lrs, decay):
  lrs = np.array(lrs)
  warmup = 0
  while warmup + 1 < len(lrs) and lrs[warmup + 1] > lrs[warmup]:
    warmup += 1
  lrs[:warmup] = lrs[warmup]
  momentum, total, annealing = 0.0, 0.0, []
  for before, now in zip([lrs[0], *lrs], lrs, strict=False):
    momentum = decay * momentum + before - now
    total += momentum
    annealing.append(total)
  return np.cumsum(lrs), np.array(annealing)


@pytest.mark.parametrize('kind', KINDS)
def test_multi_power_is_the_double_sum(kind):
  lrs = rates(kind)
  slow = slow_multi_power(MULTI, lrs)
  with jax.enable_x64(True):
    np.testing.assert_allclose(MULTI.predict(lrs), slow, rtol=1e-9)
  np.testing.assert_allclose(MULTI.predict(lrs), slow, rtol=2e-6)


@pytest.mark.parametrize('exponent', [0.05, 0.6, 2.0])
@pytest.mark.parametrize('rate', [1e-3, 1.0, 100.0])
def test_multi_power_for_other_speeds(rate, exponent):
  law = MULTI._replace(rate=rate, gain_exponent=exponent)
  lrs = rates('sawtooth')
  slow = slow_multi_power(law, lrs)
  with jax.enable_x64(True):
    np.testing.assert_allclose(law.predict(lrs), slow, rtol=1e-9)
  np.testing.assert_allclose(law.predict(lrs), slow, rtol=1e-5)


def test_multi_power_golden():
  lrs = np.r_[np.full(10, PEAK), np.linspace(PEAK, 0.1 * PEAK, 11)[1:]]
  golden = [23.5722285, 10.2723787, 9.9820952, 9.1776760, 8.9841474]
  steps = np.array([0, 9, 10, 15, 19])
  with jax.enable_x64(True):
    losses = MULTI.predict(lrs, steps)
  np.testing.assert_allclose(losses, golden, atol=5.1e-8)


@pytest.mark.parametrize('kind', KINDS)
def test_areas_are_their_sums(kind):
  lrs = rates(kind)
  forward, annealing = slow_areas(lrs, 0.99)
  with jax.enable_x64(True):
    areas = forecasting.annealing_areas(lrs, decay=0.99)
    np.testing.assert_allclose(areas.forward, forward, rtol=1e-12)
    np.testing.assert_allclose(areas.annealing, annealing, atol=1e-16)


def test_areas_golden():
  areas = forecasting.annealing_areas([1, 1, 0.8, 0.6, 0.4, 0.2], decay=0.9)
  np.testing.assert_allclose(areas.forward, [1, 2, 2.8, 3.4, 3.8, 4], rtol=1e-6)
  golden = [0, 0, 0.2, 0.58, 1.122, 1.8098]
  np.testing.assert_allclose(areas.annealing, golden, rtol=1e-6)
  step = np.arange(20001)
  cosine = 1e-4 * (1 + np.cos(np.pi * np.maximum(step - 500, 0) / 19500))
  cosine[:500] *= step[:500] / 500  # counts at the peak
  with jax.enable_x64(True):
    areas = forecasting.annealing_areas(cosine, np.array([20000]))
  assert areas.forward[0] == pytest.approx(2.0501, abs=1e-9)
  assert areas.annealing[0] == pytest.approx(0.19747384, abs=5e-9)


def test_continual_golden():
  before = forecasting.AnnealingAreas(2.0, 0.1)
  with jax.enable_x64(True):
    loss = CONTINUAL.loss(before, forecasting.AnnealingAreas(1.0, 0.05))
  assert float(loss) == pytest.approx(2.2922537783575, abs=1e-13)


def test_continual_is_made_of_the_areas_of_both_runs():
  old, new = rates('to_zero'), rates('two_stage')
  with jax.enable_x64(True):
    losses = CONTINUAL.predict(new, np.array([7, 99]), pretraining=old)
  forward, annealing = (x[-1] for x in slow_areas(old, 0.999))
  after = [x[[7, 99]] for x in slow_areas(new, 0.999)]
  want = (
    2.0 + 0.5 * (forward + after[0]) ** -0.5 - 0.4 * annealing
    - 0.3 * after[1] + 0.2 * (1 - (1 + after[0]) ** -0.5)
  )  # fmt: skip
  np.testing.assert_allclose(losses, want, rtol=1e-12)


@pytest.mark.parametrize('name', LAWS)
def test_float32_does_not_drift(name):
  law, lrs = LAWS[name], rates('to_zero', 40_000, 2000)
  steps = np.arange(99, len(lrs), 1000)
  single = jax.jit(lambda lrs: law.predict(lrs, steps))(np.float32(lrs))
  with jax.enable_x64(True):
    double = law.predict(np.float32(lrs).astype(np.float64), steps)
  assert single.dtype == jnp.float32 and double.dtype == jnp.float64
  np.testing.assert_allclose(single, double, rtol=2e-6)


@pytest.mark.parametrize('name', LAWS)
@pytest.mark.parametrize('kind', ['sawtooth', 'two_stage'])
def test_gradients_agree_with_finite_differences(name, kind):
  law, lrs = LAWS[name], rates(kind, 150, 20)
  lrs[20:] *= 0.99  # where the warm-up ends must not hang on a small change
  with jax.enable_x64(True):
    steps = jnp.array([90, 169])
    value = jax.jit(lambda law, lrs: jnp.sum(law.predict(lrs, steps)))
    of_law, of_lrs = jax.jit(jax.grad(value, (0, 1)))(law, jnp.asarray(lrs))
    for step in (1, 15, 19, 20, 80, 94, 95, 130, 169):
      h = 1e-4 * PEAK
      bump = np.where(np.arange(len(lrs)) == step, h, 0)
      slope = (value(law, lrs + bump) - value(law, lrs - bump)) / (2 * h)
      assert of_lrs[step] == pytest.approx(float(slope), rel=1e-4, abs=1e-4)
    for name, param in law._asdict().items():
      h = 1e-6 * param
      up, down = (law._replace(**{name: param + s * h}) for s in (1, -1))
      slope = (value(up, lrs) - value(down, lrs)) / (2 * h)
      assert getattr(of_law, name) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.parametrize('name', LAWS)
@pytest.mark.parametrize('kind', KINDS)
def test_no_gradient_is_nan(name, kind):
  law, lrs = LAWS[name], np.float32(rates(kind, 200, 20))
  law = jax.tree.map(jnp.float32, law)
  value = jax.jit(lambda law, lrs: law.predict(lrs)[1:].sum())
  for leaf in jax.tree.leaves(jax.jit(jax.grad(value, (0, 1)))(law, lrs)):
    assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize('name', LAWS)
def test_steps_pick_and_vmap_goes_over_laws_and_rates(name):
  law, lrs = LAWS[name], np.float32([rates('to_zero'), rates('sawtooth')])
  steps = np.array([[3, 70], [200, 339]])
  np.testing.assert_allclose(
    law.predict(lrs[0], steps), law.predict(lrs[0])[steps], rtol=1e-6
  )
  laws = jax.tree.map(lambda x: jnp.float32([x, 0.9 * x]), law)
  both = jax.vmap(lambda law, lrs: law.predict(lrs))(laws, lrs)
  second = jax.tree.map(lambda x: x[1], laws)
  np.testing.assert_allclose(both[1], second.predict(lrs[1]), rtol=1e-6)


@pytest.mark.parametrize('name', LAWS)
@pytest.mark.parametrize(
  'lrs,steps,told',
  [
    ([], None, r'lrs has shape \(0,\)'),
    ([[0.1]], None, 'lrs has shape'),
    ([0.1, -0.1], None, r'lrs\[1\] is -0.1; .* >= 0'),
    ([0.1, np.nan], None, r'lrs\[1\] is nan; .* finite'),
    ([0.0, 0.0], None, 'lrs are all 0'),
    ([0.1, 0.1], [2], 'steps hold 2; .* from 0 to 1'),
    ([0.1, 0.1], [0.5], 'must be whole'),
  ],
)
def test_impossible_rates_are_refused(name, lrs, steps, told):
  with pytest.raises(ValueError, match=told):
    LAWS[name].predict(lrs, steps)
