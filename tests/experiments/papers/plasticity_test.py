"""How the claim on plasticity is counted and judged, and one run of it."""

import jax
import numpy as np
import pytest

from experiments.papers import plasticity
from experiments.papers import plasticity_runs as runs

STILL = {'NaP': np.full(5, 0.90), 'LayerNorm': np.full(5, 0.905)}


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def result(first, last, tasks=20):
  """Accuracies that fall at half of the time, with a little noise."""
  train = np.where(np.arange(tasks) < tasks // 2, first, last)
  train = train - np.linspace(0, 1e-3, 5)[:, None]
  return plasticity.Result(
    {'rate': 0.1, 'strength': 0.0}, (), runs.Found(*[train] * 5)
  )


def test_what_is_kept():
  kept = result(0.8, 0.4).kept
  np.testing.assert_allclose(kept, 0.5, rtol=2e-3)
  assert kept.shape == (5,)


def test_judgement():
  good = {
    'plain': result(0.9, 0.2),
    'LayerNorm': result(1.0, 0.8),
    'NaP': result(0.99, 0.98),
  }
  assert all(plasticity.judge(good, STILL).values())
  bad = {
    'plain': result(0.9, 0.5),
    'LayerNorm': result(1.0, 0.95),
    'NaP': result(0.99, 0.90),
  }
  worse = STILL | {'NaP': np.full(5, 0.89)}
  assert not any(plasticity.judge(bad, worse).values())


def test_order_is_of_whole_epochs():
  order = np.asarray(runs._order(jax.random.key(0), 2 * runs.BATCH, 5))
  assert order.shape == (5, runs.BATCH)
  first, second = order[:2].ravel(), order[2:4].ravel()
  assert sorted(first) == sorted(second) == list(range(2 * runs.BATCH))
  assert list(first) != list(second)


def test_a_run_keeps_norms_and_fits_what_does_not_change():
  data = runs.load(runs.BATCH)
  np.testing.assert_allclose(data.train['inputs'].mean(0), 0, atol=1e-6)
  run = runs.make_run(runs.CONTENDERS['NaP'], data, steps=60, max_tasks=4)
  found = run(0.01, 0.0, 0, 3)
  assert found.train.shape == (3,) and np.all(found.train > 0.9)
  np.testing.assert_allclose(found.norm, found.norm[0], rtol=1e-5)
  assert np.all(found.test < 0.4)  # labels at random
  again = run(0.01, 0.0, 0, 2)
  np.testing.assert_array_equal(again.train, found.train[:2])
  still = run(0.01, 0.0, 0, 2, stationary=True)
  assert still.test[-1] > 0.7 and still.train[-1] == 1.0
