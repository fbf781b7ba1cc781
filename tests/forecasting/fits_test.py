"""Fits: known parameters come back, and what shows none is refused."""

import jax
import numpy as np
import pytest

from lrcl import forecasting

# The 40 losses of the annealing law's appendix, every 1000 steps.
COSINE = """
3.6696358 3.3254106 3.1908393 3.1158533 3.0604768 3.020384 2.9880967 2.9612265
2.9395165 2.9195616 2.9030452 2.8881907 2.8767889 2.8654318 2.8565135 2.8489892
2.843639 2.8398669 2.8380618 2.8376071
"""
CONSTANT = """
3.6714418 3.325626 3.1884103 3.111947 3.058354 3.0211415 2.9874816 2.96082
2.9406552 2.9241402 2.9054413 2.8942103 2.8807929 2.8702695 2.862175 2.8530996
2.8448784 2.8383856 2.8326995 2.8294308
"""
ANNEALING = forecasting.AnnealingLaw(2.6, 0.43, 0.55, 0.41)
MULTI = forecasting.MultiPowerLaw(2.6, 0.5, 0.5, 400.0, 2.0, 0.58, 0.64)
CONTINUAL = forecasting.ContinualAnnealingLaw(
  2.0, 0.5, 0.5, 0.4, 0.3, 0.2, 1.0, 0.5
)
STEPS = np.arange(99, 2000, 100)


def row(values):
  return np.array(values.split(), float)


def rates(peak=4e-4):
  step = np.arange(2000)
  return {
    'constant': np.full(2000, peak),
    'linear': np.linspace(peak, 0.0, 2000),
    'two_stage': np.where(step < 1000, peak, 0.3 * peak),
  }


def curves_of(law, kinds=('constant', 'linear', 'two_stage'), peak=4e-4):
  with jax.enable_x64(True):
    return [
      forecasting.Curve(lrs, law.predict(lrs, STEPS), STEPS, kind)
      for kind, lrs in rates(peak).items()
      if kind in kinds
    ]


def noisy(curves, scale=2e-3):
  rng = np.random.default_rng(0)
  return [
    forecasting.Curve(
      c.lrs,
      c.losses * np.exp(scale * rng.standard_normal(len(c.losses))),
      c.steps,
      c.name,
    )
    for c in curves
  ]


def test_golden_fit_of_the_annealing_law():
  step = np.arange(20001)
  cosine = 1e-4 * (1 + np.cos(np.pi * np.maximum(step - 500, 0) / 19500))
  constant = np.full(20001, 2e-4)
  for lrs in (cosine, constant):
    lrs[:500] *= step[:500] / 500
  steps = np.arange(1000, 20001, 1000)
  curves = [
    forecasting.Curve(cosine, row(COSINE), steps),
    forecasting.Curve(constant, row(CONSTANT), steps),
  ]
  law = forecasting.fit_annealing_law(curves)
  golden = (2.62779655, 0.42966514, 0.54984562, 0.41077247, 0.999)
  np.testing.assert_allclose(law, golden, rtol=1e-6)
  losses = np.concatenate([curve.losses for curve in curves])
  predicted = np.concatenate([law.predict(c.lrs, steps) for c in curves])
  assert forecasting.score(predicted, losses).r2 == pytest.approx(
    0.9996338369, abs=1e-6
  )


def test_the_annealing_law_comes_back():
  law = forecasting.fit_annealing_law(curves_of(ANNEALING))
  np.testing.assert_allclose(law, ANNEALING, rtol=1e-6)
  assert all(isinstance(x, float) for x in law)


def test_the_decay_comes_back():
  true = ANNEALING._replace(decay=0.99)
  law = forecasting.fit_annealing_law(curves_of(true), decay=None)
  np.testing.assert_allclose(law, true, rtol=1e-3)
  assert 1 - law.decay == pytest.approx(0.01, rel=1e-3)


def test_the_multi_power_law_comes_back_whatever_the_unit_of_the_rates():
  law = forecasting.fit_multi_power_law(curves_of(MULTI))
  np.testing.assert_allclose(law, MULTI, rtol=2e-3)
  unit = 1000.0  # the same curves, had the rates been 1000 times as large
  larger = MULTI._replace(
    scale=MULTI.scale * unit**MULTI.exponent,
    gain=MULTI.gain / unit,
    rate=MULTI.rate * unit ** (MULTI.rate_exponent - 1),
  )
  law = forecasting.fit_multi_power_law(curves_of(larger, peak=4e-4 * unit))
  np.testing.assert_allclose(law, larger, rtol=2e-3)


def test_the_continual_law_comes_back():
  curves = []
  with jax.enable_x64(True):
    for old in ('constant', 'linear'):
      for new in ('constant', 'linear'):
        before, lrs = rates()[old], rates()[new]
        losses = CONTINUAL.predict(lrs, STEPS, pretraining=before)
        curves.append(forecasting.Curve(lrs, losses, STEPS, old, before))
  law = forecasting.fit_continual_annealing_law(curves)
  np.testing.assert_allclose(law, CONTINUAL, rtol=1e-3)
  with pytest.raises(ValueError, match='linear has no pretraining'):
    forecasting.fit_continual_annealing_law(curves_of(ANNEALING)[1:])


def test_one_loss_far_off_moves_the_fit_little():
  curves = curves_of(ANNEALING)
  losses = np.array(curves[0].losses)
  losses[7] *= 1.5
  curves[0] = forecasting.Curve(curves[0].lrs, losses, STEPS)
  law = forecasting.fit_annealing_law(curves)
  np.testing.assert_allclose(law, ANNEALING, rtol=0.02)


FITS = {
  'annealing': forecasting.fit_annealing_law,
  'multi_power': forecasting.fit_multi_power_law,
  'continual': forecasting.fit_continual_annealing_law,
}


@pytest.mark.parametrize('name', FITS)
def test_what_cannot_determine_a_law_is_refused(name):
  fit, where = FITS[name], f'{FITS[name].__name__}: '
  linear, constant = curves_of(ANNEALING, ('linear', 'constant'))[::-1]
  few = [forecasting.Curve(c.lrs, c.losses[:3], c.steps[:3], 'few')
         for c in (linear, constant)]  # fmt: skip
  with pytest.raises(ValueError, match=f'{where}the rates of .* never fall'):
    fit([constant, constant])
  with pytest.raises(ValueError, match=f'{where}the curves have 6 losses'):
    fit(few)
  with pytest.raises(ValueError, match=f'{where}0 curves'):
    fit([])
  with pytest.raises(TypeError, match=f'{where}curves holds a list'):
    fit([[1.0, 2.0]])
  with pytest.raises(ValueError, match=f'{where}weights have shapes'):
    fit([linear, constant], weights=[np.ones(3), np.ones(20)])
  with pytest.raises(ValueError, match=f'{where}the weights of linear'):
    fit([linear, constant], weights=[-np.ones(20), np.ones(20)])
  if name != 'annealing':
    with pytest.raises(ValueError, match=f'{where}1 curves .* at least 2'):
      fit(linear)


def test_a_constant_curve_without_weight_is_as_if_it_were_not_there():
  constant, linear, _ = curves_of(ANNEALING)
  weights = [np.ones(20), np.zeros(20)]
  with pytest.raises(ValueError, match='never fall'):
    forecasting.fit_annealing_law([constant, linear], weights=weights)


def test_jax_is_left_as_it_was():
  forecasting.fit_annealing_law(curves_of(ANNEALING))
  assert not jax.config.read('jax_enable_x64')
