"""The app as a user meets it: every mistake is one line, and writes nothing."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '--config=experiments/configs/quickstart.py:smoke'
ONLY = "--config.only=('replay_ewc_nap',)"


def launch(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.main', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """One row of the smoke configuration, trained to its end."""
  workdir = tmp_path_factory.mktemp('app') / 'run'
  done = launch(CONFIG, ONLY, f'--workdir={workdir}')
  assert done.returncode == 0, done.stderr
  return workdir, done.stdout


def contents(workdir):
  return {
    str(p.relative_to(workdir)): p.read_bytes()
    for p in pathlib.Path(workdir).rglob('*')
    if p.is_file() and p.suffix != '.html'
  }


def test_trains_branches_and_reports(finished):
  workdir, printed = finished
  assert 'average accuracy' in printed and 'nearest_mean' in printed
  page = (workdir / 'report.html').read_text()
  assert '<svg' in page and 'http' not in page.replace('http://www.w3', '')
  branches = sorted(p.parent.name for p in workdir.glob('*/*/branch.json'))
  decays = [f'decay-{end}-4' for end in (16, 24, 32, 40, 8)]
  assert branches == [*decays, 'main']


def test_a_second_start_does_nothing_again(finished):
  workdir, _ = finished
  before = contents(workdir)
  done = launch(CONFIG, ONLY, f'--workdir={workdir}')
  assert done.returncode == 0 and 'finished already' in done.stdout
  assert contents(workdir) == before


def test_rates_of_all_branches_are_those_of_their_schedules(finished):
  import jax
  import jax.numpy as jnp
  import numpy as np

  from lrcl import schedules

  workdir, _ = finished
  for path in workdir.glob('replay_ewc_nap/*/records.jsonl'):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    schedule = jax.jit(schedules.build_schedule(records[0]['schedule']))
    for record in records:
      start = record['trace']['start']
      rates = np.float32(record['trace']['learning_rate'])
      steps = jnp.arange(start, start + len(rates))
      np.testing.assert_array_equal(rates, schedule(steps))
      assert start + len(rates) == record['step'] == record['schedule_count']


def test_the_effective_rate_of_a_projected_row_is_that_of_its_schedule(
  finished,
):
  import numpy as np

  workdir, _ = finished
  ratios = []
  for path in workdir.glob('replay_ewc_nap/*/records.jsonl'):
    for line in path.read_text().splitlines():
      record = json.loads(line)
      found = record['effective_learning_rate']
      assert set(found) == {'Dense_0/kernel', 'Dense_1/kernel'}
      if record['learning_rate']:
        ratios.append(np.array(list(found.values())) / record['learning_rate'])
  assert len(ratios) > 10 and ratios[0].shape == (2, 2)  # layers, seeds
  np.testing.assert_allclose(ratios, [ratios[0]] * len(ratios), rtol=1e-5)


def test_decay_and_tree_modes(finished):
  workdir, _ = finished
  done = launch(
    CONFIG,
    f'--workdir={workdir}',
    '--mode=decay',
    '--config.branch.row=replay_ewc_nap',
    '--config.branch.at=24',
    '--config.branch.steps=3',
  )
  assert done.returncode == 0, done.stderr
  assert 'decay-24-3' in done.stdout
  done = launch(f'--workdir={workdir}', '--mode=tree')
  assert done.returncode == 0 and 'decay-24-3' in done.stdout


MISTAKES = {
  'an unknown field': (
    ['--config.shedule=1'],
    "no field 'shedule'; did you mean 'schedule'?",
  ),
  'an unknown field inside': (
    ['--config.stream.order_sede=1'],
    "'stream' has no field 'order_sede'; did you mean 'order_seed'?",
  ),
  'a field of a number': (
    ['--config.evaluate_every.x=1'],
    "'evaluate_every' is 4 and has no fields",
  ),
  'a wrong type inside a tuple': (
    ["--config.seeds=('x',)"],
    "seeds holds 'x'",
  ),
  'one seed twice': (['--config.seeds=(1,1)'], 'seeds holds 1 twice'),
  'no seeds': (['--config.seeds=()'], 'seeds is empty'),
  'a wrong type': (['--config.stream.batch_size=many'], 'batch_size'),
  'a negative phase': (
    ['--config.schedule.warmup_steps=-1'],
    'warmup_steps is -1',
  ),
  'a warm-up longer than the run': (
    ['--config.schedule.warmup_steps=4000'],
    'warmup_steps is 4000, but the run has only 40 steps',
  ),
  'an unknown schedule': (
    ['--config.schedule.name=infinit_schedule'],
    'infinite_schedule',
  ),
  'an unknown data set': (['--config.data.name=digts'], "data.name is 'digts'"),
  'a batch larger than the data': (
    ['--config.stream.batch_size=4000'],
    'batch_size is 4000',
  ),
  'classes that do not divide': (['--config.stream.num_tasks=3'], '3'),
  'an unknown row': (["--config.only=('replya',)"], 'replya'),
  'an unknown reference': (
    ["--config.references=('chanse',)"],
    "references names 'chanse'",
  ),
  'a negative interval': (['--config.save_every=-5'], 'save_every is -5'),
  'a decay of no run': (['--mode=decay'], "no run of the row 'replay'"),
  'a decay of no steps': (
    ['--mode=decay', '--config.branch.steps=0'],
    'branch.steps is 0',
  ),
  'a stray argument': (['extra'], "unexpected argument 'extra'"),
  'an unknown flag': (['--wordkir=x'], 'wordkir'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, mistake):
  flags, words = MISTAKES[mistake]
  workdir = tmp_path / 'run'
  done = launch(CONFIG, f'--workdir={workdir}', *flags)
  assert done.returncode == 1
  lines = [line for line in done.stderr.splitlines() if line.strip()]
  assert len(lines) == 1, done.stderr
  assert lines[0].startswith('error: ') and words in lines[0]
  assert not workdir.exists()


def test_missing_flags_and_files():
  assert launch(CONFIG).stderr.startswith('error: --workdir is missing')
  done = launch('--workdir=/tmp/never')
  assert done.stderr.startswith('error: --config is missing')
  done = launch('--config=experiments/configs/none.py', '--workdir=x')
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  assert 'configs/none.py is not there' in done.stderr
  done = launch(CONFIG.replace(':smoke', ':smok'), '--workdir=/tmp/never')
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  assert 'smok: the argument is smoke or nothing' in done.stderr


def test_a_config_may_name_its_directory(tmp_path):
  workdir = tmp_path / 'gallery'
  config = '--config=experiments/configs/schedule_gallery.py'
  done = launch(config, f'--config.workdir={workdir}')
  assert done.returncode == 0, done.stderr
  assert (workdir / 'schedule_gallery.md').exists()


def test_a_directory_of_another_run_is_left_alone(finished):
  workdir, _ = finished
  before = contents(workdir)
  done = launch(
    CONFIG,
    ONLY,
    f'--workdir={workdir}',
    '--config.rows.replay.schedule.peak_value=0.2',
  )
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  assert 'rows.replay.schedule.peak_value is 0.3, now 0.2' in done.stderr
  assert contents(workdir) == before


def test_a_directory_with_other_files_is_left_alone(tmp_path):
  (tmp_path / 'thesis.tex').write_text('mine')
  done = launch(CONFIG, ONLY, f'--workdir={tmp_path}')
  assert done.returncode == 1 and 'thesis.tex' in done.stderr
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']


def test_a_missing_data_set_names_both_ways_to_get_it(tmp_path):
  workdir = tmp_path / 'run'
  done = launch(
    '--config=experiments/configs/split_images.py:smoke',
    f'--config.data.data_dir={tmp_path / "none"}',
    f'--workdir={workdir}',
  )
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  assert 'experiments.fetch_data' in done.stderr
  assert 'download_and_prepare' in done.stderr
  assert not workdir.exists()
