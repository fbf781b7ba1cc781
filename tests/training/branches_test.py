import json
import logging
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import schedules, training, tree
from lrcl.training import _checkpoints, _lineage
from tests.training import problem

MAIN = {
  'name': 'infinite_schedule',
  'kwargs': {
    'peak_value': 0.1,
    'constant_value': 0.05,
    'warmup_steps': 4,
    'cooldown_steps': 10,
  },
}


def decay_of(start, steps=8):
  kwargs = {'schedule': MAIN, 'start_step': start, 'decay_steps': steps}
  return {'name': 'decay_branch', 'kwargs': kwargs}


def toy(step=0, value=1.0):
  return training.TrainState(
    jnp.int32(step),
    {'w': jnp.full((300,), value), 'b': jnp.zeros(3, jnp.bfloat16)},
    (),
    jax.random.key(step),
  )


@pytest.fixture
def branches(tmp_path):
  with training.Branches(tmp_path / 'run') as branches:
    yield branches


def test_restores_bit_for_bit_with_dtypes_and_keys(branches):
  state = toy(10, 0.1)
  branches.save(state, extra={'trace': None})
  restored = branches.restore()
  assert restored.step == 10 and restored.extra == {'trace': None}
  assert tree.digest(restored.state) == tree.digest(state)
  assert restored.state.params['b'].dtype == jnp.bfloat16
  assert isinstance(restored.state, training.TrainState)


def test_a_new_process_needs_only_the_structure(tmp_path):
  with training.Branches(tmp_path) as branches:
    branches.save(toy(10))
  with training.Branches(tmp_path) as branches:
    with pytest.raises(ValueError, match='pass like=state'):
      branches.restore()
    restored = branches.restore(like=toy())
  assert tree.digest(restored.state) == tree.digest(toy(10))


def test_lineage_of_a_tree(branches):
  branches.create('main', schedule=MAIN, config='c0ffee')
  for step in (10, 20):
    branches.save(toy(step), keep=True)
  branches.fork('main', 10, 'decay-10', schedule=decay_of(10))
  branches.save(toy(18), 'decay-10')
  branches.fork('decay-10', 18, 'again', schedule=MAIN)
  found = branches.tree()
  assert list(found) == ['main', 'decay-10', 'again']
  assert found['decay-10'] == training.Lineage(
    'decay-10', 'main', 10, decay_of(10), 'c0ffee'
  )
  assert (found['again'].parent, found['again'].fork_step) == ('decay-10', 18)
  assert branches.restore('again').step == 18


def test_parents_come_first_where_forks_share_a_step(branches):
  branches.save(toy(10))
  branches.fork('main', 10, 'z')
  branches.fork('z', 10, 'a')
  assert list(branches.tree()) == ['main', 'z', 'a']


def test_a_schedule_with_tuples_and_arrays_is_the_one_on_the_disk(branches):
  record = {
    'name': 'wsd_s_schedule',
    'kwargs': {'peak_value': np.float32(0.1), 'cycle_ends': (10, 20)},
  }
  branches.create('main', schedule=record)
  assert branches.create('main', schedule=record) == branches.tree()['main']
  branches.save(toy(10))
  assert branches.restore('main', schedule=record).step == 10
  branches.fork('main', 10, 'child', schedule=record)
  branches.fork('main', 10, 'child', schedule=record)


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b'])
def test_a_name_that_is_no_directory_is_refused(branches, name):
  with pytest.raises(ValueError, match='cannot name a branch'):
    branches.save(toy(10), name)


def test_the_newest_alone_is_not_enough_to_keep(tmp_path):
  with pytest.raises(ValueError, match='keep_last is 1; it must be >= 2'):
    training.Branches(tmp_path, keep_last=1)


def test_a_fork_copies_no_array(branches):
  branches.save(toy(10))
  branches.fork('main', 10, 'child')
  files = lambda name: {
    p.relative_to(branches.directory(name)): p.stat().st_ino
    for p in pathlib.Path(branches.directory(name)).rglob('*')
    if p.is_file() and '/10/' in str(p)
  }
  assert files('main') and files('main') == files('child')


def test_without_hard_links_the_lineage_finds_the_step(branches, monkeypatch):
  def refuse(*args, **kwargs):
    raise OSError('no links here')

  monkeypatch.setattr(os, 'link', refuse)
  branches.save(toy(10))
  branches.fork('main', 10, 'child')
  assert branches.steps('child') == []
  for step in (20, 30, 40):
    branches.save(toy(step))
  assert branches.steps() == [10, 30, 40]
  assert tree.digest(branches.restore('child').state) == tree.digest(toy(10))


def test_a_fork_outlives_its_parents_step(branches):
  branches.save(toy(10))
  branches.fork('main', 10, 'child')
  shutil.rmtree(branches.directory('main') / 'checkpoints' / '10')
  assert tree.digest(branches.restore('child').state) == tree.digest(toy(10))


def test_clean_up_keeps_ends_of_tasks_and_forks(branches):
  for step in range(1, 9):
    branches.save(toy(step), keep=step == 2)
    if step == 4:
      branches.fork('main', 4, 'child')
  assert branches.steps() == [2, 4, 7, 8]


def test_forking_twice_is_one_fork_and_another_lineage_is_refused(branches):
  branches.save(toy(10))
  first = branches.fork('main', 10, 'child', schedule=MAIN)
  assert branches.fork('main', 10, 'child', schedule=MAIN) == first
  with pytest.raises(ValueError, match=r"'child' exists .* with schedule"):
    branches.fork('main', 10, 'child', schedule=decay_of(10))
  with pytest.raises(training.CheckpointError, match='holds step 11'):
    branches.fork('main', 11, 'other')


def test_another_schedule_is_refused_unless_asked_for(branches):
  branches.create('main', schedule=MAIN)
  branches.save(toy(10))
  assert branches.restore(schedule=MAIN).step == 10
  with pytest.raises(ValueError, match='ran under the schedule'):
    branches.restore(schedule=decay_of(10))
  restored = branches.restore(schedule=decay_of(10), under_other_schedule=True)
  assert restored.step == 10


def test_unknown_branch_and_missing_checkpoint(branches):
  branches.create('main')
  with pytest.raises(ValueError, match=r"no branch 'dev' .* there are: main"):
    branches.restore('dev', like=toy())
  with pytest.raises(training.NoCheckpoint, match='no checkpoint yet'):
    branches.restore('main', like=toy())


def test_an_older_or_equal_step_is_an_error(branches):
  branches.save(toy(10))
  for step in (10, 9):
    with pytest.raises(training.CheckpointError, match=f'step {step} was not'):
      branches.save(toy(step))


def other_dtype(state):
  return state._replace(
    params={**state.params, 'b': state.params['b'].astype(jnp.float32)}
  )


def other_leaf(state):
  return state._replace(params={**state.params, 'c': jnp.zeros(2)})


def other_shape(state):
  return state._replace(params={**state.params, 'w': jnp.zeros(299)})


@pytest.mark.parametrize(
  'change, words',
  [
    (other_dtype, r'params/b is bfloat16\[3\], wanted float32\[3\]'),
    (other_leaf, r'params/c is absent, wanted float32\[2\]'),
    (other_shape, r'params/w is float32\[300\], wanted float32\[299\]'),
  ],
)
def test_another_kind_of_state_is_refused_and_left_alone(
  branches, change, words
):
  branches.save(toy(10))
  with pytest.raises(training.CheckpointError, match=words):
    branches.restore(like=change(toy()))
  assert branches.restore(like=toy()).step == 10


def files_of(branches, step):
  directory = branches.directory('main') / 'checkpoints' / str(step)
  found = [p for p in pathlib.Path(directory).rglob('*') if p.is_file()]
  return sorted(found, key=lambda p: p.stat().st_size)


def flip(path, bit=0):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1 << bit
  path.unlink()  # else the links of a fork would share the damage
  path.write_bytes(bytes(data))


def cut(path):
  data = path.read_bytes()
  path.unlink()
  path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize('damage', [flip, cut, os.remove])
@pytest.mark.parametrize('which', ['bulk', 'small', 'manifest'])
def test_damage_is_found_named_and_stepped_over(
  branches, caplog, damage, which
):
  branches.save(toy(10))
  branches.save(toy(20, 2.0))
  files = files_of(branches, 20)
  pick = {
    'bulk': lambda p: '/d/' in str(p),
    'small': lambda p: p.name == 'metadata',
    'manifest': lambda p: p.name == 'manifest.json',
  }
  damage([p for p in files if pick[which](p)][-1])
  with caplog.at_level(logging.WARNING, logger='absl'):
    restored = branches.restore(like=toy())
  assert restored.step == 10
  assert 'checkpoints/20' in caplog.text and 'broken' in caplog.text
  assert branches.steps() == [10]
  branches.save(toy(20, 2.0))
  assert branches.restore().step == 20


def test_every_single_flip_in_every_file_is_found(branches):
  branches.save(toy(10))
  for number, path in enumerate(files_of(branches, 10)):
    if path.name == 'manifest.json':
      continue
    good = path.read_bytes()
    flip(path, bit=number % 8)
    with pytest.raises(training.CheckpointError, match='sha256'):
      branches.restore(step=10, like=toy())
    path.write_bytes(good)
  assert branches.restore(step=10, like=toy()).step == 10


def test_a_save_that_did_not_end_is_no_checkpoint(branches):
  branches.save(toy(10))
  (files_of(branches, 10)[0].parents[0]).exists()
  manifest = branches.directory('main') / 'checkpoints' / '10' / 'manifest.json'
  os.remove(manifest)
  with pytest.raises(training.NoCheckpoint):
    branches.restore(like=toy())
  branches.save(toy(10))
  assert branches.restore().step == 10


def test_when_all_are_damaged_it_says_so(branches):
  branches.save(toy(10))
  flip(files_of(branches, 10)[0])
  with pytest.raises(training.CheckpointError, match=r'\[10\] are damaged'):
    branches.restore(like=toy())


def test_in_the_background_too(tmp_path):
  with training.Branches(tmp_path, asynchronous=True) as branches:
    for step in (10, 20, 30):
      branches.save(toy(step))
    assert branches.steps() == [20, 30]
    assert branches.restore().step == 30
  with training.Branches(tmp_path) as branches:
    assert tree.digest(branches.restore(like=toy()).state) == tree.digest(
      toy(30)
    )


def test_lineage_is_written_in_one_piece(tmp_path):
  path = _lineage.epath.Path(tmp_path) / 'main' / 'branch.json'
  lineage = training.Lineage('main', schedule=MAIN, keep=(3, 4))
  _lineage.write_lineage(path, lineage)
  assert _lineage.read_lineage(path) == lineage
  assert [p.name for p in path.parent.iterdir()] == ['branch.json']
  assert json.loads(path.read_text())['keep'] == [3, 4]


def test_describe_names_leaves():
  found = _checkpoints.describe({'a': [jnp.zeros(2)], 'k': jax.random.key(0)})
  assert found == {'a/0': 'float32[2]', 'k': 'key<fry>[]'}


class Run:
  """One run of everything at once, its schedule in recordable form."""

  def __init__(self, branches):
    self.branches, self.stream = branches, problem.stream((20, 20))
    self.init_fn, learner = self.learner(MAIN)
    self.start = problem.new_state(self.init_fn, learner)
    branches.create('main', schedule=MAIN)

  def learner(self, record):
    schedule = schedules.build_schedule(record)
    return problem.everything(schedule)

  def train(self, state, record, branch, stop, stream=None):
    _, learner = self.learner(record)
    return training.train_stream(
      learner,
      state,
      stream or self.stream,
      steps=stop,
      branches=self.branches,
      branch=branch,
      chunk_steps=10,
    )


def rates(records):
  return [x for r in records for x in r['trace']['learning_rate']]


def exact(record, start, stop):
  schedule = jax.jit(schedules.build_schedule(record))
  values = [schedule(jnp.int32(s)) for s in range(start, stop)]
  return [float(f'{np.float32(v):.9g}') for v in values]


def test_wsd_main_goes_on_from_the_pre_decay_state(branches):
  run = Run(branches)
  run.train(run.start, MAIN, 'main', 20)
  branches.fork('main', 20, 'decay-20', schedule=decay_of(20))
  fork = branches.restore('decay-20', schedule=decay_of(20), like=run.start)
  decayed, records = run.train(
    fork.state, decay_of(20), 'decay-20', 28, run.stream.hold(20)
  )
  assert rates(records) == exact(decay_of(20), 20, 28)
  assert records[-1]['parent'] == ['main', 20]
  assert records[-1]['task'] == 0
  main = branches.restore('main', schedule=MAIN)
  assert main.step == 20
  end, records = run.train(main.state, MAIN, 'main', 40)
  assert rates(records) == exact(MAIN, 20, 40)
  straight, _ = Run(branches_at(branches, 'straight')).train(
    run.start, MAIN, 'main', 40
  )
  assert tree.digest(end) == tree.digest(straight)
  # and the decay replays bit for bit from its fork
  fork = branches.restore('decay-20', 20, like=run.start)
  branches.fork('main', 20, 'replay', schedule=decay_of(20))
  again, _ = run.train(
    fork.state, decay_of(20), 'replay', 28, run.stream.hold(20)
  )
  assert tree.digest(again) == tree.digest(decayed)


def branches_at(branches, name):
  return training.Branches(branches.workdir / name)


def test_wsd_s_goes_on_from_the_decayed_state(branches):
  run = Run(branches)
  run.train(run.start, MAIN, 'main', 12)
  branches.fork('main', 12, 'decay-12', schedule=decay_of(12))
  fork = branches.restore('decay-12', like=run.start)
  decayed, _ = run.train(fork.state, decay_of(12), 'decay-12', 20)
  branches.fork('decay-12', 20, 'onward', schedule=MAIN)
  onward = branches.restore('onward', schedule=MAIN)
  assert onward.step == 20
  assert tree.digest(onward.state) == tree.digest(decayed)
  _, records = run.train(onward.state, MAIN, 'onward', 40)
  assert rates(records) == exact(MAIN, 20, 40)
  assert branches.tree()['onward'].parent == 'decay-12'


def test_infinite_next_task_starts_from_the_pre_anneal_state(branches):
  annealed = {
    'name': 'infinite_schedule',
    'kwargs': {**MAIN['kwargs'], 'anneal_start': 14, 'anneal_steps': 6},
  }
  run = Run(branches)
  pre, _ = run.train(run.start, MAIN, 'main', 14)
  branches.fork('main', 14, 'anneal', schedule=annealed)
  fork = branches.restore('anneal', like=run.start)
  _, records = run.train(fork.state, annealed, 'anneal', 20)
  assert rates(records) == exact(annealed, 14, 20)
  assert rates(records)[-1] < 0.05
  branches.fork('main', 14, 'task-1', schedule=MAIN)
  state = branches.restore('task-1').state
  assert tree.digest(state) == tree.digest(pre)
  _, records = run.train(state, MAIN, 'task-1', 40)
  assert rates(records) == exact(MAIN, 14, 40)
