"""Summaries and sentences, from records and rows whose numbers are known."""

import doctest
import importlib
import math

import numpy as np
import pytest

from lrcl import metrics, reports
from lrcl.reports import _compare, _summary
from tests.reports.made_records import World, make_records

SMALL = World(tasks=3, seeds=(0, 1, 2), task_steps=60, decay_steps=40)


@pytest.fixture(scope='module')
def made():
  return make_records(SMALL)


@pytest.fixture(scope='module')
def rows(made):
  return {row['row']: row for row in reports.summarize(made)}


def test_order_and_marks(made):
  rows = reports.summarize(made)
  names = [row['row'] for row in rows]
  assert names[2:4] == ['ewc', 'joint']
  assert set(names[:2]) == {'replay', 'replay_ewc_nap'}
  marked = {row['row'] for row in rows if row['reference']}
  assert marked == {'naive', 'joint', 'nearest_mean', 'chance'}
  assert all(row['num_seeds'] == 3 and row['finished'] for row in rows)


def test_measures_are_those_of_the_metrics(made, rows):
  row = rows['replay']
  a = reports.accuracy_matrix(made, 'replay')
  b = reports.decayed_matrix(made, 'replay')
  series = reports.continual_series(made, 'replay')
  worst = metrics.worst_case_accuracy(series.accuracy, series.ends)
  for key, values in {
    'average_accuracy': metrics.average_accuracy(a),
    'average_accuracy_decayed': metrics.average_accuracy(b),
    'forgetting': metrics.forgetting(a),
    'forgetting_decayed': metrics.forgetting(b),
    'backward_transfer': metrics.backward_transfer(a),
    'worst_case_accuracy': worst,
  }.items():
    mean, half = metrics.mean_interval(values)
    assert row[key].values == pytest.approx(values.tolist()), key
    assert (row[key].mean, row[key].half) == pytest.approx((mean, half)), key


def test_worst_case_after_the_decay_by_hand(made, rows):
  by_branch = lambda name: [
    np.array(r['metrics']['accuracy'])
    for r in made
    if r['row'] == 'replay' and r['branch'] == name
  ]
  main, decay = by_branch('main'), by_branch('decay-180')
  path = np.stack(main + decay)  # evaluations, seeds, tasks
  lows = [path[3:, :, 0].min(0), path[6:, :, 1].min(0)]
  want = decay[-1][:, 2] / 3 + 2 / 3 * np.mean(lows, 0)
  got = rows['replay']['worst_case_accuracy_decayed'].values
  assert got == pytest.approx(want.tolist())


def test_what_does_not_apply_is_none(rows):
  for name in ('joint', 'nearest_mean', 'chance'):
    for key in ('forgetting', 'worst_case_accuracy', 'forgetting_decayed'):
      assert rows[name][key] is None
    assert rows[name]['average_accuracy'].mean > 0
  assert not rows['chance']['trained']
  assert rows['joint']['trained']
  assert rows['replay']['forward_transfer'] is None  # no evaluation at 0


def test_one_seed_has_no_interval():
  alone = World(tasks=2, seeds=None, task_steps=60, decay_steps=40)
  row = {r['row']: r for r in reports.summarize(make_records(alone))}['replay']
  assert (row['num_seeds'], row['seeds']) == (1, None)
  assert math.isnan(row['average_accuracy'].half)


def test_one_task():
  one = World(tasks=1, seeds=(0, 1), task_steps=60, decay_steps=40)
  rows = reports.summarize(make_records(one))
  row = {r['row']: r for r in rows}['replay']
  assert row['forgetting'] is None
  assert row['min_accuracy'] is None
  assert row['worst_case_accuracy'] == row['average_accuracy']
  assert reports.findings(rows)


def test_an_unfinished_row_is_left_out(made):
  cut = [r for r in made if r['row'] != 'ewc' or r['step'] <= 100]
  rows = {row['row']: row for row in reports.summarize(cut)}
  assert rows['ewc']['tasks_done'] == 1
  assert not rows['ewc']['finished']
  assert rows['ewc']['average_accuracy'] is None
  text = ' '.join(reports.findings(list(rows.values())))
  assert 'ewc has finished 1 of 3 tasks and is left out' in text


def test_recurring_tasks_keep_their_final_accuracy(made):
  twisted = [r | {'task': r['task'] % 2, 'num_tasks': 3} for r in made]
  last = {r['row']: r for r in reports.summarize(twisted)}['replay']
  assert not last['finished']  # two tasks of three
  order = {0: 1, 1: 0, 2: 2}
  moved = [r | {'task': order[r['task']]} for r in made]
  row = {r['row']: r for r in reports.summarize(moved)}['replay']
  assert row['average_accuracy'].mean > 0.5
  assert row['forgetting'] is None


def test_only_the_last_decay(made):
  last = [r for r in made if r['branch'] in ('main', 'decay-180')]
  row = {r['row']: r for r in reports.summarize(last)}['replay']
  assert row['average_accuracy_decayed'] is not None
  assert row['forgetting_decayed'] is None


def made_row(name, before, after=None, **fields):
  """A summary with these accuracies per seed."""
  estimate = lambda v: None if v is None else _summary._estimate(v)
  row = {
    'row': name,
    'reference': name in ('naive', 'joint', 'nearest_mean', 'chance'),
    'trained': name not in ('nearest_mean', 'chance'),
    'seeds': tuple(range(len(before))),
    'num_seeds': len(before),
    'num_tasks': 5,
    'tasks_done': 5,
    'finished': True,
    'plan': 'p',
    **dict.fromkeys(_summary.COSTS),
  }
  measures = dict.fromkeys(_summary.MEASURES)
  measures |= {
    'average_accuracy': estimate(before),
    'average_accuracy_decayed': estimate(after),
  }
  fields = {
    k: estimate(v) if isinstance(v, list) else v for k, v in fields.items()
  }
  return row | measures | fields


NAIVE = made_row('naive', [0.20, 0.21, 0.19])
NEAREST = made_row('nearest_mean', [0.91, 0.91, 0.91])
REPLAY = made_row('replay', [0.88, 0.87, 0.89])


def said(*rows):
  return ' '.join(reports.findings(list(rows)))


@pytest.mark.parametrize(
  ('level', 'sentence'),
  [
    (
      [0.88, 0.87, 0.89],
      'Nearest class mean on raw inputs (0.910), which trains nothing, beats '
      'the best contender here, replay (0.880), by 0.030 ± 0.025.',
    ),
    (
      [0.95, 0.94, 0.96],
      'replay (0.950) beats nearest class mean on raw inputs (0.910), which '
      'trains nothing, by 0.040 ± 0.025.',
    ),
    (
      [0.91, 0.89, 0.95],
      'It is not established that replay (0.917) beats nearest class mean on '
      'raw inputs (0.910), which trains nothing: the difference is '
      '0.007 ± 0.076.',
    ),
  ],
)
def test_against_nearest_mean(level, sentence):
  assert sentence in said(made_row('replay', level), NEAREST)


def test_every_contender_below_nearest_mean_is_named():
  best = made_row('both', [0.95, 0.94, 0.96])
  text = said(best, REPLAY, made_row('ewc', [0.2, 0.2, 0.2]), NEAREST)
  assert (
    'On average nearest class mean on raw inputs (0.910) also stands above '
    'replay (0.880) (difference 0.030 ± 0.025) and ewc (0.200)'
  ) in text
  assert 'also stands above' not in said(best, NEAREST)


@pytest.mark.parametrize(
  ('level', 'sentence'),
  [
    (
      [0.21, 0.20, 0.20],
      'ewc does not measurably help here: 0.203 against naive 0.200, within '
      'the interval (difference 0.003 ± 0.029).',
    ),
    ([0.40, 0.41, 0.39], 'Better than naive (0.200): ewc (0.400).'),
    ([0.10, 0.11, 0.10], 'ewc (0.103) is worse than naive (0.200) by 0.097'),
  ],
)
def test_against_naive(level, sentence):
  assert sentence in said(made_row('ewc', level), NAIVE)


@pytest.mark.parametrize(
  ('level', 'sentence'),
  [
    ([0.97, 0.98, 0.97], 'replay (0.880) stays 0.093 ± 0.038 below joint'),
    ([0.90, 0.84, 0.90], 'are not separated: the difference is 0.000'),
    ([0.80, 0.81, 0.80], 'above joint training (0.803): check that joint'),
  ],
)
def test_against_joint(level, sentence):
  assert sentence in said(REPLAY, made_row('joint', level))


def test_against_chance():
  chance = made_row('chance', [0.1, 0.1, 0.1])
  poor = made_row('si', [0.10, 0.12, 0.09])
  assert 'Every contender is above chance (0.100).' in said(REPLAY, chance)
  text = said(REPLAY, poor, chance)
  assert 'Not shown to be above chance (0.100): si (0.103).' in text


@pytest.mark.parametrize(
  ('after', 'sentence'),
  [
    (
      [0.91, 0.90, 0.92],
      'The decay branches raise the average accuracy of replay '
      '(+0.030 ± 0.000).',
    ),
    ([0.80, 0.80, 0.80], 'lower the average accuracy of replay (-0.080 ±'),
    ([0.90, 0.85, 0.89], 'No effect of the decay branches is established for'),
  ],
)
def test_the_decay(after, sentence):
  row = made_row('replay', [0.88, 0.87, 0.89], after)
  assert sentence in said(row)


@pytest.mark.parametrize(
  ('low', 'sentence'),
  [
    ([0.70, 0.69, 0.71], 'of replay end at 0.850 but fall to 0.700'),
    ([0.845, 0.845, 0.845], 'of replay are not shown to fall below their'),
  ],
)
def test_the_gap(low, sentence):
  row = made_row(
    'replay',
    [0.88, 0.87, 0.89],
    min_accuracy=low,
    old_task_accuracy=[0.85, 0.84, 0.86],
  )
  assert sentence in said(row)


def test_the_two_best():
  near = made_row('der', [0.87, 0.89, 0.885])
  text = said(REPLAY, near)
  assert 'der (0.882) and replay (0.880), are not separated' in text
  text = said(REPLAY, made_row('der', [0.92, 0.91, 0.93]))
  assert 'der (0.920) is the best contender, ahead of replay (0.880)' in text


def test_a_decay_is_left_aside_where_the_other_row_has_none():
  row = made_row('replay', [0.88, 0.87, 0.89], [0.99, 0.99, 0.99])
  joint = made_row('joint', [0.97, 0.97, 0.97])
  text = said(row, joint)
  assert 'replay (0.880) stays 0.090 ± 0.025 below joint' in text
  assert 'below joint training (0.970) before the decay.' in text


def test_one_seed_supports_nothing():
  text = said(made_row('replay', [0.9]), made_row('naive', [0.2]))
  assert 'replay does not measurably help here' in text
  assert 'no interval' in text
  assert 'Fewer than three seeds: replay and naive.' in text


def test_pairing_finds_what_unpaired_seeds_hide():
  a = made_row('replay', [0.50, 0.70, 0.90])
  b = made_row('naive', [0.45, 0.65, 0.86])
  assert _compare.compare(a, b, 'average_accuracy').sign == 1
  other = b | {'seeds': (7, 8, 9)}
  found = _compare.compare(a, other, 'average_accuracy')
  assert found.sign == 0
  from scipy import stats

  want = stats.ttest_ind(
    [0.50, 0.70, 0.90], [0.45, 0.65, 0.86], equal_var=False
  ).confidence_interval(0.95)
  assert found.half == pytest.approx((want.high - want.low) / 2)


def test_a_constant_row_with_one_value_takes_part():
  single = made_row('nearest_mean', [0.5]) | {'seeds': None}
  found = _compare.compare(REPLAY, single, 'average_accuracy')
  assert found.sign == 1
  trained = made_row('naive', [0.5]) | {'seeds': None}
  assert _compare.compare(REPLAY, trained, 'average_accuracy').sign == 0


def test_reservations():
  assert said() == 'There are no rows to compare.'
  text = said(REPLAY, NAIVE)
  assert 'missing: joint, nearest_mean and chance' in text
  assert 'did not see the same stream' not in text
  text = said(REPLAY, NAIVE | {'plan': 'q'})
  assert 'did not see the same stream' in text


@pytest.mark.parametrize(
  ('cost', 'words'), [(2.0, '2.0 times'), (1.0, 'as many')]
)
def test_costs(cost, words):
  row = REPLAY | {'gradient_evaluations': _summary._estimate([cost * 500])}
  naive = NAIVE | {'gradient_evaluations': _summary._estimate([500.0])}
  assert f'replay costs {words}' in said(row, naive)


@pytest.mark.parametrize('name', ['_findings'])
def test_examples(name):
  result = doctest.testmod(importlib.import_module(f'lrcl.reports.{name}'))
  assert result.attempted > 0
  assert result.failed == 0
