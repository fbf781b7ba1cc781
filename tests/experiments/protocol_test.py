"""A grid under the protocol, from one command; mistakes in one line."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments import contenders, references
from lrcl import protocols, streams

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
  '--methods=ER', '--schedules=constant', '--rates=0.1', '--scenarios=class',
  '--steps_per_task=5', '--budget=1', '--tuning_seeds=1', '--seeds=2',
  '--train_rows=300', '--noequal_compute',
)  # fmt: skip


def launch(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.protocol', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )


def test_prints_the_rank_table_and_does_not_run_twice(tmp_path):
  done = launch(*SMALL, f'--workdir={tmp_path}')
  assert done.returncode == 0, done.stderr
  assert 'tuned on classes [2, 3, 4, 6, 7] of digits' in done.stdout
  for name in ('ER, constant', 'naive, constant', 'joint, constant', 'chance'):
    assert name in done.stdout
  (path,) = tmp_path.glob('class-*.json')
  record = json.loads(path.read_text())
  assert len(record['accuracy']['ER, constant']) == 2
  assert record['report']['contenders']['ER, constant']['settings_tried'] == 1
  again = launch(*SMALL, f'--workdir={tmp_path}')
  assert f'(from {path})' in again.stdout
  assert again.stdout.splitlines()[3:] == done.stdout.splitlines()[3:]


@pytest.mark.parametrize(
  ('flags', 'says'),
  [
    (('--methods=ER,EWK',), "--methods names 'EWK'; it must be some of naive"),
    (('--schedules=wsd',), "--schedules names 'wsd'; it must be some of const"),
    (('--scenarios=',), '--scenarios is empty'),
    (('--rates=0.1,x',), "--rates has 'x'; rates must be above 0"),
    (('--budget=1', '--rates=1,2'), 'search: budget is 1, but the first axis'),
    (('--seeds=0',), '--seeds is 0; it must be 1 at least'),
    (('--data=mnist',), 'load_images: mnist needs a data_dir'),
    (('grid',), "unexpected argument 'grid'"),
  ],
)
def test_a_mistake_is_one_line(flags, says, tmp_path):
  done = launch('--scenarios=class', f'--workdir={tmp_path}', *flags)
  assert done.returncode == 1
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: ') and says in done.stderr


@pytest.mark.parametrize('name', contenders.SCENARIOS)
def test_every_scenario_makes_streams_of_its_half(name):
  train, test = streams.digits()
  halves = protocols.halve_classes(train, test)
  scenario = contenders.make_scenario(name, 20, contenders.Size())
  for joint in (False, True):
    stack = scenario.stack(halves.tuning, [0, 1], 20, joint)
    assert stack.replicas == 2
    assert stack.num_classes == 5
    assert stack.num_steps == 100
    rows = stack.chunk(0, 100).indices
    assert not np.array_equal(rows[:, 0], rows[:, 1])
  few = scenario.stack(halves.tuning, [0, 1], 10, False)
  assert few.num_steps == 50
  accuracy = references.nearest_mean(stack)
  assert accuracy.shape == (2, 5) and accuracy.mean() > 0.5
  assert (references.chance(stack) == 0.2).all()


def test_a_row_of_schedules_has_the_peak_1():
  values = contenders._values((0,) * 10 + (1,) * 10, 10)
  assert values.shape == (len(contenders.SCHEDULES), 20)
  assert values.max() == 1.0
  assert (values[0] == 1.0).all()


def test_naive_and_joint_are_in_every_grid():
  made = contenders.make_contenders(['ER'], ['WSD'], [0.1])
  assert list(made) == ['naive, constant', 'joint, constant', 'ER, WSD']
  naive, joint, _ = made.values()
  assert naive.make is joint.make and joint.joint
  both = contenders.make_contenders(['naive'], ['constant', 'WSD'], [0.1])
  assert len({id(c.make) for c in both.values()}) == 1
