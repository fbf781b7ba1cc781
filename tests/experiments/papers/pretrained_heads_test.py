"""The rule of the verdict, and what is under it."""

import numpy as np

from experiments.papers import feature_sets
from experiments.papers import pretrained_heads as claim
from experiments.papers import pretrained_heads_runs as runs


def _rows(**finals):
  same = (runs.Spread(1e-14, 0), runs.Spread(1e-6, 2))

  def found(final, spread=same):
    noise = np.array([-1e-3, 0, 1e-3])[:, None, None]
    return runs.Found(np.full((3, 5, 5), final) + noise, '', spread)

  good = {
    'nearest class mean': 0.8,
    'streaming LDA': 0.88,
    'ridge': 0.87,
    'G-ACIL': 0.86,
    'naive': 0.3,
    'ER': 0.7,
    'joint': 0.865,
    'nearest class mean, pixels': 0.7,
    'ridge, pixels': 0.8,
    'G-ACIL, pixels': 0.8,
  }
  return {k: found(v) for k, v in (good | finals).items()}


def test_each_part_of_the_rule_can_fail():
  assert all(claim.judge(_rows()).values())
  fails = lambda rows: [k for k, v in claim.judge(rows).items() if not v]
  assert fails(_rows(**{'nearest class mean, pixels': 0.795})) == [
    'features above pixels'
  ]
  assert fails(_rows(ER=0.82)) == ['nearest mean above replay']
  assert fails(_rows(ER=0.865, joint=0.86)) == [
    'nearest mean above replay',
    'closed forms above replay',
  ]
  assert fails(_rows(joint=0.88)) == ['closed forms near joint training']
  rows = _rows()
  odd = (runs.Spread(1e-14, 1), runs.Spread(1e-6, 2))
  rows['ridge'] = rows['ridge']._replace(spread=odd)
  assert fails(rows) == ['any order']


def _sets():
  sizes = dict(per_class=64, choice_per_class=25, test_per_class=30)
  return feature_sets.load('digits', None, **sizes)


def test_heads_are_those_of_all_rows_and_heed_no_order():
  sets = _sets()
  head = runs.HEADS['nearest class mean']
  found = runs.compute(head, sets.features_choice, sets.features, range(2))
  inputs, labels = (sets.features.train[k] for k in ('inputs', 'labels'))
  means = np.stack([inputs[labels == c].mean(0) for c in range(10)])
  gaps = sets.features.test['inputs'][:, None] - means
  said = np.square(gaps).sum(-1).argmin(1)
  wanted = (said == sets.features.test['labels']).mean()
  np.testing.assert_allclose(found.final, wanted, atol=1e-6)
  assert found.spread[0].predictions == 0
  assert found.spread[0].kernel < 1e-12 < found.spread[1].kernel < 1e-4
  # Within its task of two classes a class is easy; with all ten it is not.
  assert (found.matrix[:, 0, 0] >= found.matrix[:, -1, 0]).all()
  assert (found.matrix[:, 0, 1:] == 0).all()


def test_what_is_regularised_is_chosen_on_other_rows():
  sets = _sets()
  head = runs.HEADS['ridge']._replace(values=(1.0, 1e9))
  found = runs.compute(head, sets.choice, sets.pixels, range(2))
  assert found.setting.startswith('value 1 ')
  assert found.final.mean() > 0.85


def test_rows_of_a_set_are_apart_and_balanced():
  sets = _sets()
  rows = [sets.pixels.train, sets.choice.test, sets.pixels.test]
  for part, count in zip(rows, (64, 25, 30), strict=True):
    np.testing.assert_array_equal(np.bincount(part['labels']), count)
  flat = [tuple(x) for part in rows for x in part['inputs'].tolist()]
  assert len(set(flat)) == len(flat)
  assert sets.features.train['inputs'].shape == (640, feature_sets.RANDOM)
