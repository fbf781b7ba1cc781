import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.papers import problems, sweeps
from lrcl import schedules

RATES = (0.01, 0.1, 0.5)
MADE = {
  'linear': schedules.wsd_schedule(1.0, 0, 0, 7),
  'constant': optax.constant_schedule(1.0),
}
# All sweeps here have twelve runs: one compilation.
GRID = np.tile(np.float32(RATES), (2, 1))


@pytest.fixture(scope='module')
def setup():
  """Least squares on a few rows that are fitted badly, two set aside."""
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(12, 3)).astype(np.float32)
  targets = rng.normal(size=12).astype(np.float32)

  def measure_fn(params, data):
    inputs, targets = data
    residuals = inputs @ params - targets
    return {'loss': 0.5 * jnp.square(residuals).mean()}

  problem = sweeps.Problem(
    init_fn=lambda key: jax.random.normal(key, (3,)),
    measure_fn=measure_fn,
    pool=(inputs, targets),
    validation=2,
    test=(inputs[:4], targets[:4]),
  )
  return sweeps.Setup(problem, optax.trace(0.5), 4, 10)


def twin(setup, schedule, rate, seed, steps):
  """The same run in a loop of numpy; the draws alone are shared."""
  problem = setup.problem
  init, split, order = jax.random.split(jax.random.key(seed), 3)
  rows = np.asarray(jax.random.permutation(split, 12))
  held, kept = rows[:2], rows[2:]
  inputs, targets = (np.float64(x) for x in problem.pool)
  order = np.asarray(sweeps._order(setup, order, 10))
  params = np.float64(problem.init_fn(init))
  loss = lambda rows: np.mean((inputs[rows] @ params - targets[rows]) ** 2) / 2
  momentum, norms = np.zeros(3), []
  for step in range(steps):
    rows = kept[order[step]]
    grad = inputs[rows].T @ (inputs[rows] @ params - targets[rows]) / 4
    norms.append(np.linalg.norm(grad))
    momentum = grad + 0.5 * momentum
    params = params - rate * float(schedule(step)) * momentum
  return {
    'train_loss': loss(kept),
    'validation_loss': loss(held),
    'test_loss': loss(np.arange(4)),
    'gradient_norms': norms,
  }


def test_every_run_is_that_of_a_plain_loop(setup):
  seeds = [3, 4]
  measured = sweeps.run_all(setup, MADE, GRID, seeds, steps=7)
  for n, schedule in enumerate(MADE.values()):
    for r, rate in enumerate(RATES):
      for s, seed in enumerate(seeds):
        want = twin(setup, schedule, rate, seed, 7)
        assert set(want) == set(measured)
        for key, value in want.items():
          np.testing.assert_allclose(
            measured[key][n, r, s], value, rtol=1e-4, err_msg=key
          )


def test_runs_together_are_the_runs_alone(setup):
  alone = sweeps.run_all(setup, MADE, GRID, [3, 4])
  together = sweeps.run_all(
    dataclasses.replace(setup, at_once=4), MADE, GRID, [3, 4]
  )
  for key, value in alone.items():
    np.testing.assert_allclose(together[key], value, rtol=1e-4)


def test_an_epoch_is_a_permutation(setup):
  order = sweeps._order(setup, jax.random.key(0), 10)
  assert order.shape == (10, 4)
  for epoch in np.asarray(order).reshape(4, 10):
    assert sorted(epoch) == list(range(10))


def test_tuning_finds_the_best_rate_and_notices_an_edge(setup):
  made = {'linear': MADE['linear'], 'diverges': lambda n: 1e9}
  tuned = sweeps.tune(setup, made, RATES, [7, 8], by='validation_loss')
  scores = sweeps.run_all(setup, made, GRID, [7, 8])['validation_loss']
  best = np.argmin(scores[0].mean(-1))
  assert tuned.rates['linear'] == RATES[best]
  assert ('linear' in tuned.at_edge) == (best in (0, 2))
  assert np.all(np.isinf(tuned.scores[1])) and 'diverges' in tuned.at_edge
  found = sweeps.report(setup, made, tuned, range(6))
  assert found['linear']['test_loss'].shape == (6,)
  assert found['linear']['gradient_norms'].shape == (6, 10)


def test_ranks_are_averaged_over_cells_and_ties_shared():
  values = np.array([[[1.0], [5.0]], [[2.0], [5.0]], [[np.nan], [1.0]]])
  np.testing.assert_allclose(
    sweeps.rank(values)[:, 0], [(1 + 2.5) / 2, (2 + 2.5) / 2, (3 + 1) / 2]
  )


def test_problems_keep_their_test_rows_apart():
  digits = problems.digits_network((8,))
  rows = np.concatenate([digits.pool[0], digits.test[0]])
  assert rows.shape == (1797, 64) and len(digits.test[0]) == 500
  assert rows.max() == 1.0
  for problem in (
    problems.logistic_regression('breast_cancer'),
    problems.least_squares(),
  ):
    inputs, targets = problem.pool
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-5)
    params = problem.init_fn(jax.random.key(0))
    start = problem.measure_fn(params, problem.pool)['loss']
    expected = np.log(2) if targets.dtype == np.int32 else 0.5
    np.testing.assert_allclose(start, expected, rtol=1e-5)
