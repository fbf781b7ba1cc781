"""Rows and their decay branches, on a problem smaller than any config's."""

import pytest

from experiments import build, run
from lrcl import training
from tests.training import problem

TRUNK = {
  'name': 'wsd_schedule',
  'kwargs': {
    'peak_value': 0.1,
    'warmup_steps': 2,
    'stable_steps': 60,
    'decay_steps': 0,
  },
}
CONFIG = {
  'decay': {'steps': 6, 'end_value': 0.0, 'shape': 'linear'},
  'digest': 'd',
  'seeds': [0],
  'evaluate_every': 4,
  'save_every': 5,
}


@pytest.fixture
def contender():
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  return build.Contender('row', problem.stream((12, 12)), learner, state, TRUNK)


def test_a_decay_inside_a_task_records_none_of_its_parents_steps(
  contender, tmp_path
):
  with training.Branches(tmp_path, keep_last=9) as branches:
    evaluate = lambda state: {}
    branches.create('main', schedule=TRUNK, config='d')
    run.train_branch(contender, CONFIG, branches, evaluate, stop=10)
    run.fork_decay(contender, CONFIG, branches, evaluate, 10)
    path = branches.directory('decay-10-6') / 'records.jsonl'
    records = training.RecordFile(path).read()
  covered = [
    (r['trace']['start'], r['trace']['start'] + len(r['trace']['loss']))
    for r in records
  ]
  assert covered == [(10, 12), (12, 16)]
