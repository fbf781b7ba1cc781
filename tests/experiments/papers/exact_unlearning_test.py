"""The stream of requests, both forms on it, and the rule of the verdict."""

import numpy as np
import pytest

from experiments.papers import exact_unlearning as claim
from experiments.papers import exact_unlearning_runs as runs
from experiments.papers.images import Images

rng = np.random.default_rng(0)
LABELS = rng.integers(0, runs.CLASSES, 900).astype(np.int32)
FEATURES = rng.normal(size=(900, 12)).astype(np.float32)
SETS = Images(
  {'inputs': FEATURES, 'labels': LABELS},
  {'inputs': FEATURES[:50] + 0.1, 'labels': LABELS[:50]},
)


@pytest.mark.parametrize('seed', range(4))
def test_what_is_left_is_what_came_and_was_not_asked_back(seed):
  plan = runs.arrivals(LABELS, seed)
  present = np.zeros(len(LABELS))
  for rows, weight, sign in zip(plan.rows, plan.weight, plan.sign, strict=True):
    taken = rows[weight > 0]
    assert len(set(taken)) == len(taken)
    present[taken] += sign
    assert set(present) <= {0, 1}  # nobody leaves who did not come
  np.testing.assert_array_equal(present, plan.left)
  assert len(set(LABELS[plan.left > 0])) == runs.CLASSES - 1
  assert (plan.sign < 0).sum() > 1  # the whole class was not the only request


@pytest.mark.parametrize('form', runs.FORMS)
def test_both_forms_are_exact_and_foreign_rows_are_not(form, monkeypatch):
  gaps = runs.measure(form, SETS, 1.0, range(2), double=True)
  assert max(gap.kernel for gap in gaps) < 1e-11
  assert not any(gap.predictions for gap in gaps)
  assert all(gap.accuracy == gap.retrained for gap in gaps)
  retrain = runs.retrain
  keep_all = lambda x, labels, left, ridge: retrain(
    x, labels, np.ones_like(left), ridge
  )
  monkeypatch.setattr(runs, 'retrain', keep_all)
  gaps = runs.measure(form, SETS, 1.0, range(2), double=True)
  assert min(gap.kernel for gap in gaps) > 1e-2


def test_the_rule_takes_the_worst_seed():
  def found(double, single, differ, ratio):
    gap = lambda kernel, n: runs.Gap(kernel, n, 0.9, 0.9)
    gaps = {
      ('sums', True, 1.0): [gap(1e-12, 0), gap(double, differ)],
      ('sums', False, 1.0): [gap(single, 3), gap(1e-6, 0)],
    }
    return claim.Found(1.0, gaps, ratio, 0.2)

  assert all(claim.judge(found(1e-9, 1e-4, 0, 0.4)).values())
  for bad in ((1e-7, 1e-4, 0, 0.4), (1e-9, 0.01, 0, 0.4)):
    assert not all(claim.judge(found(*bad)).values())
  assert not claim.judge(found(1e-9, 1e-4, 1, 0.4))['equal predictions']
  assert not claim.judge(found(1e-9, 1e-4, 0, 0.6))['cheaper']


def test_the_table_has_both_forms_in_both_precisions():
  found = claim.measure(SETS, SETS, range(2))
  rows = claim._table('made', found)
  assert {(row['form'], row['precision']) for row in rows} == {
    (form, kind) for form in runs.FORMS for kind in ('float32', 'float64')
  }
  assert 0.1 < found.forgotten < 0.6 and found.ratio > 0
