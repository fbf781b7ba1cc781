"""Ensembles: what other losses, and fewer curves, would have given."""

import jax
import numpy as np
import pytest

from lrcl import forecasting
from tests.forecasting import fits_test

FIT = forecasting.fit_annealing_law


@pytest.fixture(scope='module')
def curves():
  return fits_test.noisy(fits_test.curves_of(fits_test.ANNEALING))


@pytest.fixture(scope='module')
def ensemble(curves):
  return forecasting.bootstrap_laws(FIT, curves, num_laws=12, block=3)


def test_the_interval_holds_the_truth_and_is_narrow(ensemble):
  lrs = np.linspace(4e-4, 4e-5, 2000)
  low, high = ensemble.interval(lrs, [1000, 1999], level=1.0)
  truth = fits_test.ANNEALING.predict(lrs, [1000, 1999])
  assert np.all((low < truth) & (truth < high))
  assert np.all(high - low < 0.02 * truth)
  inner = ensemble.interval(lrs, [1000, 1999], level=0.5)
  assert np.all((low <= inner[0]) & (inner[1] <= high))


def test_the_same_seed_gives_the_same_laws(ensemble, curves):
  again = forecasting.bootstrap_laws(FIT, curves, num_laws=12, block=3)
  np.testing.assert_array_equal(again.members.floor, ensemble.members.floor)
  assert len(set(ensemble.members.floor.tolist())) == 12
  other = forecasting.bootstrap_laws(FIT, curves, num_laws=2, block=3, seed=1)
  assert other.members.floor[0] != ensemble.members.floor[0]


def test_losses_without_noise_leave_no_doubt():
  curves = fits_test.curves_of(fits_test.ANNEALING)
  ensemble = forecasting.bootstrap_laws(FIT, curves, num_laws=3)
  low, high = ensemble.interval(curves[1].lrs, [1999])
  np.testing.assert_allclose(high, low, rtol=1e-5)


def test_a_member_did_not_see_its_curve(curves):
  ensemble = forecasting.leave_curves_out(FIT, curves)
  for n in range(3):
    rest = [curve for i, curve in enumerate(curves) if i != n]
    member = jax.tree.map(lambda x, n=n: x[n], ensemble.members)
    lrs = curves[0].lrs
    np.testing.assert_allclose(
      member.predict(lrs, [1999]), FIT(rest).predict(lrs, [1999]), rtol=1e-5
    )
  assert ensemble.predict(curves[0].lrs, [1, 2]).shape == (3, 2)


def test_blocks_stay_together_and_keep_the_number_of_losses():
  from lrcl.forecasting import _ensemble

  rng = np.random.default_rng(0)
  for _ in range(20):
    counts = _ensemble._draw(rng, 20, 5)
    assert counts.sum() == 20
    edges = np.count_nonzero(counts != np.roll(counts, 1))
    assert edges <= 8  # four blocks have no more ends
  assert _ensemble._draw(rng, 3, 8).tolist() == [1, 1, 1]


def test_what_makes_no_ensemble_is_refused(curves):
  with pytest.raises(ValueError, match='leave_curves_out: curves holds 1'):
    forecasting.leave_curves_out(FIT, curves[:1])
  with pytest.raises(ValueError, match='never fall'):
    forecasting.leave_curves_out(FIT, curves[:2])
  with pytest.raises(ValueError, match='num_laws is 1'):
    forecasting.bootstrap_laws(FIT, curves, num_laws=1)
  with pytest.raises(ValueError, match='block is 0'):
    forecasting.bootstrap_laws(FIT, curves, block=0)
