"""Reading records: layouts, cut lines, errors, and the arrays out of them."""

import json

import numpy as np
import pytest

from lrcl import reports
from lrcl.reports import _records, _series
from tests.reports import made_records
from tests.reports.made_records import World, make_records, write_records

SMALL = World(tasks=3, seeds=(0, 1), task_steps=40, every=20, decay_steps=20)


@pytest.fixture(scope='module')
def made():
  return make_records(SMALL)


def key(record):
  return record['row'], record['branch'], record['step']


def test_a_comparison_a_run_and_a_branch(tmp_path, made):
  write_records(made, tmp_path)
  assert reports.read_records(tmp_path) == sorted(made, key=key)
  run = reports.read_records(tmp_path / 'replay')
  assert {r['branch'] for r in run} == {
    'main',
    'decay-40',
    'decay-80',
    'decay-120',
  }
  branch = reports.read_records(str(tmp_path / 'replay' / 'decay-80'))
  assert [r['step'] for r in branch] == [100]


def test_a_cut_last_line_is_left_out(tmp_path, made):
  write_records(made, tmp_path)
  path = tmp_path / 'ewc' / 'main' / 'records.jsonl'
  whole = path.read_text()
  lines = whole.splitlines(keepends=True)
  for cut in (1, 30, len(lines[-1]) - 3):
    path.write_text(''.join(lines[:-1]) + lines[-1][:cut])
    found = reports.read_records(tmp_path / 'ewc' / 'main')
    assert len(found) == len(lines) - 1
  path.write_text(whole.rstrip('\n'))  # whole, but for its newline
  assert len(reports.read_records(tmp_path / 'ewc' / 'main')) == len(lines)


def test_a_step_written_twice_counts_once(tmp_path, made):
  write_records(made, tmp_path)
  again = [r for r in made if r['row'] == 'ewc' and r['branch'] == 'main']
  late = again[3] | {'learning_rate': 7.0}
  write_records([late, *again[4:]], tmp_path)
  found = reports.read_records(tmp_path / 'ewc' / 'main')
  assert len(found) == len(again)
  assert found[3]['learning_rate'] == 7.0


@pytest.mark.parametrize('make', [False, True])
def test_nothing_there(tmp_path, make):
  path = tmp_path / 'runs'
  if make:
    (path / 'replay' / 'main').mkdir(parents=True)
    (path / 'replay' / 'main' / 'records.jsonl').write_text('{"cut": ')
  with pytest.raises(FileNotFoundError, match='read_records: no records under'):
    reports.read_records(path)


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    ('{"step": 1,\n', 'records.jsonl:2 is not JSON'),
    ('[1]\n', 'records.jsonl:2 holds no JSON object'),
    ('{"step": 1}\n', 'lacks task, task_end, num_tasks, row, branch, metrics'),
    ({'metrics': {'accuracy': [0.5]}}, r'must be numbers of shape \(2, 3\)'),
    ({'metrics': {'accuracy': [[1], [1, 2]]}}, r'of shape \(2, 3\)'),
    ({'seeds': None}, r'must be numbers of shape \(1, 3\)'),
  ],
)
def test_malformed_lines(tmp_path, made, change, text):
  if isinstance(change, dict):
    change = json.dumps(made[1] | change) + '\n'
  path = tmp_path / 'records.jsonl'
  path.write_text(json.dumps(made[0]) + '\n' + change + json.dumps(made[2]))
  with pytest.raises(ValueError, match=f'read_records: .*{text}') as error:
    reports.read_records(tmp_path)
  assert '\n' not in str(error.value)


def test_null_is_nan_and_no_accuracy_is_nan(made):
  record = made[0] | {'metrics': {'accuracy': [[None, 1, 1], [0, 1, 1]]}}
  assert np.isnan(_records.accuracies(record)[0, 0])
  assert np.isnan(_records.accuracies(made[0] | {'metrics': {}})).all()


def test_accuracy_matrix_and_series(made):
  main = _records.select(made, 'replay')
  want = [r['metrics']['accuracy'] for r in main if r['task_end']]
  got = reports.accuracy_matrix(made, 'replay')
  np.testing.assert_array_equal(got, np.moveaxis(np.array(want), 0, 1))
  series = reports.continual_series(made, 'replay')
  assert series.steps.tolist() == [20, 40, 60, 80, 100, 120]
  assert series.accuracy.shape == (2, 6, 3)
  assert (series.ends, series.tasks) == ((1, 3, 5), (0, 1, 2))


def test_an_unfinished_run_has_nan_rows(made):
  early = [r for r in made if r['step'] <= 80]
  got = reports.accuracy_matrix(early, 'replay')
  assert np.isfinite(got[:, :2]).all()
  assert np.isnan(got[:, 2]).all()


def test_decayed_matrix_has_the_last_evaluation_of_each_branch(made):
  got = reports.decayed_matrix(made, 'replay')
  for task, fork in enumerate((40, 80, 120)):
    last = _records.select(made, 'replay', f'decay-{fork}')[-1]
    np.testing.assert_array_equal(got[:, task], last['metrics']['accuracy'])
  some = [r for r in made if r['branch'] != 'decay-80']
  assert np.isnan(reports.decayed_matrix(some, 'replay')[:, 1]).all()
  assert np.isnan(reports.decayed_matrix(made, 'joint')).all()


def test_one_of_several_decays_is_chosen(made):
  of = lambda fork: [r for r in made if r['branch'] == f'decay-{fork}']
  longer = [
    r | {'branch': 'a', 'step': r['step'] + 20} for r in of(80) + of(120)
  ]
  longer = [r | {'branch': f'a-{r["parent"][1]}'} for r in longer]
  stray = [r | {'branch': 'b', 'parent': ['main', 70]} for r in of(80)]
  chosen = _series.decay_branches(made + longer + stray, 'ewc')
  assert chosen == {0: 'decay-40', 1: 'decay-80', 2: 'decay-120'}
  twin = [r | {'branch': 'again'} for r in of(80)]
  assert _series.decay_branches(made + twin, 'ewc')[1] == 'again'


def test_recurring_tasks_have_no_matrix(made):
  twisted = [r | {'task': r['task'] % 2} for r in made]
  with pytest.raises(ValueError, match=r"'ewc' end in the order \[0, 1, 0\]"):
    reports.accuracy_matrix(twisted, 'ewc')


def test_traces_are_joined_at_the_fork(made):
  own = reports.branch_trace(made, 'replay', 'decay-80', joined=False)
  assert own.steps.tolist() == list(range(80, 100))
  whole = reports.branch_trace(made, 'replay', 'decay-80')
  assert whole.steps.tolist() == list(range(100))
  main = reports.branch_trace(made, 'replay')
  np.testing.assert_array_equal(whole.loss[:, :80], main.loss[:, :80])
  np.testing.assert_array_equal(whole.loss[:, 80:], own.loss)
  assert whole.learning_rate[0, 80] == made_records.CONSTANT
  assert whole.learning_rate.shape == (1, 100)
  assert reports.branch_trace(made, 'chance') is None


def test_a_fork_inside_a_chunk_cuts_the_trace(made):
  moved = [
    r | {'parent': ['main', 70]} if r['branch'] == 'decay-80' else r
    for r in made
  ]
  whole = reports.branch_trace(moved, 'replay', 'decay-80')
  assert whole.steps.tolist() == [*range(70), *range(80, 100)]


def test_a_branch_of_a_branch(made):
  child = [
    r | {'branch': 'again', 'parent': ['decay-80', 100], 'step': 120}
    for r in made
    if r['branch'] == 'decay-80'
  ]
  records = made + child
  assert _series.lineage(records, 'ewc', 'again') == [
    ('main', 80),
    ('decay-80', 100),
    ('again', None),
  ]
  series = reports.continual_series(records, 'ewc', 'again')
  assert series.steps.tolist() == [20, 40, 60, 80, 100, 120]
  assert series.tasks == (0, 1)
  own = reports.continual_series(records, 'ewc', 'again', joined=False)
  assert own.steps.tolist() == [120]


def test_a_circle_of_branches_is_refused(made):
  bad = [
    r | {'parent': ['decay-80', 80]} for r in made if r['branch'] == 'decay-80'
  ]
  with pytest.raises(ValueError, match="'decay-80' of 'ewc' has a circle"):
    reports.continual_series(bad, 'ewc', 'decay-80')


def test_a_missing_branch_is_named(made):
  with pytest.raises(KeyError, match="no records of branch 'b' of row 'ewc'"):
    reports.continual_series(made, 'ewc', 'b')
