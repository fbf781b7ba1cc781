"""Runs that fork: what is shared, and that sharing changes no bit."""

import jax
import numpy as np
import pytest

from experiments.papers import gpt_fits, gpt_forecast, gpt_runs
from lrcl.forecasting import AnnealingLaw


def test_forks():
  one, short = np.ones(8), np.ones(4)
  rates = {
    'a': one,
    'b': np.append(np.ones(5), np.zeros(3)),
    'c': np.append(np.ones(5), [0.0, 0.0, 1.0]),
    'd': short,
    'e': 2 * one,
  }
  assert gpt_runs.plan_forks(rates, 2) == {
    'a': (None, 0),
    'b': ('a', 4),
    'c': ('b', 6),
    'd': ('a', 4),
    'e': (None, 0),
  }


@jax.numpy_dtype_promotion('standard')  # Adam's bias correction needs it
def test_what_is_shared_is_bit_for_bit_what_was_not():
  tokens = np.random.default_rng(0).integers(0, 128, 40_000).astype(np.uint8)
  trainer = gpt_runs.Trainer(tokens, width=8, layers=1)
  constant = np.full(6, 0.01, np.float32)
  rates = {
    'constant': constant,
    'decayed': np.append(constant[:4], np.float32([0.005, 0.0])),
  }
  shared = gpt_runs.train_runs(trainer, rates, seed=1, every=2)
  for name, row in rates.items():
    alone = gpt_runs.train_runs(trainer, {name: row}, seed=1, every=2)
    np.testing.assert_array_equal(shared[name], alone[name])
  assert shared['constant'][-1] != shared['decayed'][-1]
  other = gpt_runs.train_runs(trainer, rates, seed=2, every=2)
  assert other['constant'][0] != shared['constant'][0]


def test_the_runs_of_the_claim_part_where_their_schedules_do():
  scale = gpt_forecast.SCALES['default']
  rates = gpt_forecast.make_rates(0.01, scale)
  assert {name: len(row) for name, row in rates.items()} == {
    'constant': 2000,
    'cosine': 2000,
    'two rates': 2000,
    'WSD': 6000,
    'WSD-S': 6000,
    'infinite': 6000,
  }
  plan = gpt_runs.plan_forks(rates, scale.every)
  assert plan['WSD'] == ('constant', 2000)
  assert plan['WSD-S'] == ('constant', 1800)
  assert plan['two rates'] == ('constant', 1000)
  assert plan['cosine'][1] == plan['infinite'][1] == scale.warmup
  np.testing.assert_allclose(rates['two rates'][[1000, 1001]], [0.01, 0.003])


def test_a_law_of_the_area_alone_is_found():
  true = AnnealingLaw(2.0, 0.5, 0.4, 0.0)
  lrs, steps = np.full(1000, 0.01), np.arange(99, 1000, 50)
  curve = gpt_fits.Curve(lrs, true.predict(lrs, steps), steps)
  found = gpt_fits.fit_area([curve])
  np.testing.assert_allclose(found[:3], true[:3], rtol=1e-2)
  assert found.gain == 0


@pytest.mark.parametrize('told,right', [(0.2, True), (-0.2, False)])
def test_the_order_of_the_ends(told, right):
  ends = {
    'WSD': np.array([1.0, 1.01, 0.99]),
    'WSD-S': np.array([1.1, 1.11, 1.09]),
    'infinite': np.array([1.1, 1.11, 1.08]),
  }
  errors = {
    ('law', run): gpt_fits.Errors(np.zeros(3), np.zeros(3)) for run in ends
  }
  errors['law', 'WSD-S'] = gpt_fits.Errors(np.full(3, told), np.zeros(3))
  assert gpt_fits.same_order('law', ends, errors) is right
