"""What is counted as a detection, and that the claim runs."""

import jax
import numpy as np
import pytest

from experiments.papers import task_free_experts as claim


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def test_detections_are_counted_against_boundaries():
  # Shifts seen by the ends of four tasks of 100 steps, and when the last was.
  shifts = np.array([[0, 1, 2, 3], [1, 1, 3, 4], [0, 1, 1, 2]])
  last = np.array(
    [[-1, 101, 205, 300], [40, 40, 250, 302], [-1, 170, 170, 399]]
  )
  seen = claim.count_shifts((shifts[..., None], last[..., None]), 100)
  assert seen.missed.tolist() == [0, 1, 3]
  assert seen.false.tolist() == [0, 2, 2]
  assert sorted(seen.delays.tolist()) == [0, 1, 2, 5]


def test_the_rate_restarts_in_the_middle_of_a_task():
  setting = {'rate': 0.5, 'floor': 0.02}
  rates = [float(claim.restarting(setting, 100)(s)) for s in range(600)]
  (jump,) = np.flatnonzero(np.diff(rates) > 0)
  assert jump + 1 == 350 and rates[350] == pytest.approx(0.5)
  assert min(rates) == pytest.approx(0.01, rel=1e-3)
  flat = claim.restarting({'rate': 0.5, 'floor': 1.0}, 100)
  assert {float(flat(s)) for s in (0, 200, 349, 350)} == {0.5}


def test_smoke():
  outcome = claim.run('smoke', None)
  table = {row['method']: row for row in outcome.table}
  assert table['TAME']['missed'] == table['TAME']['false alarms'] == 0
  accuracy = {n: float(r['accuracy'].split(' ')[0]) for n, r in table.items()}
  told = accuracy['experts that are told']
  assert accuracy['naive'] + 0.1 < accuracy['TAME'] < told + 0.02
