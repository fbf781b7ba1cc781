import jax
import numpy as np
import pytest

from experiments.papers import (
  budgets,
  linear_decay,
  problems,
  rex_budgets,
  uba_budgets,
)


@pytest.fixture(autouse=True)
def optax_promotes():
  """Optax divides floats by integers, in its Adam and its schedules."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def make_cells(errors):
  """A cell for every optimizer at 1% and at 100%, all with the same errors."""
  return [
    budgets.Cell('digits', optimizer, percent, errors, ())
    for optimizer in budgets.OPTIMIZERS
    for percent in (1, 100)
  ]


def test_schedules_fit_the_shortest_budget():
  for steps in (15, 1500):
    for name, schedule in uba_budgets.contenders(steps).items():
      values = np.array(
        [schedule(step) for step in range(0, steps, steps // 15)]
      )
      assert np.all((values >= 0) & (values <= 1 + 1e-6)), name
      assert name == 'cyclic' or name == 'OneCycle' or values[0] == 1, name
      if name not in ('constant', 'cyclic'):
        assert values[-1] < 0.5, name


def test_ranks_by_the_phi_of_the_optimizer():
  errors = {'linear': [2.0, 2.0], 'UBA 0.5': [1.0, 3.0], 'UBA 5': [3.0, 1.0]}
  cells = make_cells(errors)
  ranks = uba_budgets.rank_with(cells, uba_budgets.RECOMMENDED)
  assert ranks == {'linear': [1.5, 1.5], 'UBA': [1.5, 1.5]}
  ranks = uba_budgets.rank_with(cells, dict.fromkeys(budgets.OPTIMIZERS, 5.0))
  assert ranks == {'linear': [1.0, 2.0], 'UBA': [2.0, 1.0]}


def test_table_has_the_best_schedule_first():
  cells = make_cells({'linear': [2.0, 2.1, 2.2], 'REX': [1.0, 1.1, 1.2]})
  ranks = budgets.average_ranks(cells, ['linear', 'REX'])
  table = budgets.make_table(
    cells, dict.fromkeys(('digits, SGD', 'digits, Adam'), ranks)
  )
  assert [row['schedule'] for row in table] == ['REX', 'linear'] * 2
  assert table[0]['average rank'] == '1.00 +- 0.00'
  assert table[0]['error % at 1%'] == '1.10 +- 0.25'


def test_rex_must_be_ahead_by_more_than_chance():
  ranks = {'REX': [1.0, 1.1, 1.0], 'far': [2.0, 2.1, 2.2]}
  assert rex_budgets.rivals_of(ranks) == []
  ranks['near'] = [1.1, 1.0, 1.2]
  assert rex_budgets.rivals_of(ranks) == ['near']


def test_linear_decay_is_compared_seed_by_seed():
  values = {
    'linear': [1.0, 2.0, 3.0],
    'cosine': [1.1, 2.1, 3.1],
    'step': [0.5, 2.5, 3.0],
    'refined': [0.9, 1.9, 2.9],
  }
  result = linear_decay.Result(values, dict.fromkeys(values, 0.1), ())
  compare = lambda tolerance: linear_decay.compare(
    {'a task': result}, tolerance=tolerance
  )
  below, above = compare(0.01)
  assert below == [('refined', 'a task')]
  assert above == [('cosine', 'a task')]
  assert compare(0.06) == ([], [])  # 6% of 2 are more than 0.1
  assert linear_decay.split_pairs([*above, *below]) == (above, below)


def test_rex_smoke(monkeypatch):
  only = {'Adam': budgets.OPTIMIZERS['Adam']}  # a compilation each
  monkeypatch.setattr(budgets, 'OPTIMIZERS', only)
  monkeypatch.setattr(budgets, 'PROBLEMS', {'digits': problems.digits_network})
  monkeypatch.setattr(rex_budgets, 'PERCENTS', (10, 100))
  outcome = rex_budgets.run('smoke')
  assert len(outcome.table) == 7
  for percent, most in ((10, 95), (100, 30)):
    errors = [row[f'error % at {percent}%'] for row in outcome.table]
    errors = [float(error.split()[0]) for error in errors]
    assert 0 < min(errors) < max(errors) < most
