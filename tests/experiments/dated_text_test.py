"""The config on texts, as a user meets it: made-up speeches, a few steps."""

import numpy as np
import pytest

from experiments import build
from lrcl import reports
from tests.experiments.app_test import launch

CONFIG = '--config=experiments/configs/dated_text.py:smoke'


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The row `replay`, trained to its end on speeches of ten years."""
  root = tmp_path_factory.mktemp('text')
  (root / 'state_of_the_union').mkdir()
  for year in range(1800, 1810):
    path = root / 'state_of_the_union' / f'{year}_a_president_x.txt'
    path.write_text(f'My fellow citizens, it is the year {year}. ' * 5)
  done = launch(
    CONFIG,
    f'--config.data.data_dir={root}',
    "--config.only=('replay',)",
    f'--workdir={root / "run"}',
  )
  assert done.returncode == 0, done.stderr
  return root / 'run', done.stdout


def test_every_period_is_evaluated_after_every_period(finished):
  workdir, printed = finished
  assert 'chance' in printed and (workdir / 'report.html').exists()
  records = reports.read_records(workdir)
  losses = reports.loss_matrix(records, 'replay')
  assert losses.shape == (1, 2, 2) and np.isfinite(losses).all()
  # An untrained model of 257 tokens is at log 257, and the steps are few.
  assert (losses < np.log(257) + 0.3).all() and (
    losses[:, 1] < losses[:, 0]
  ).all()
  branches = sorted(
    p.name for p in (workdir / 'replay').iterdir() if p.is_dir()
  )
  assert branches == ['decay-4-2', 'decay-8-2', 'main']
  assert records[-1]['schedule']['name'] == 'infinite_schedule'


def test_the_mode_that_shows_losses(finished):
  workdir, _ = finished
  done = launch(f'--workdir={workdir}', '--mode=losses')
  assert done.returncode == 0, done.stderr
  records = reports.read_records(workdir)
  assert done.stdout.strip() == reports.format_losses(records, 'replay').strip()


def test_missing_texts_are_one_line(tmp_path):
  workdir = tmp_path / 'run'
  done = launch(
    CONFIG, f'--config.data.data_dir={tmp_path}', f'--workdir={workdir}'
  )
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  assert f'experiments.fetch_data {tmp_path} state_of_the_union' in done.stderr
  assert not workdir.exists()


def test_texts_and_images_do_not_mix():
  config = {'data': {'name': 'digits'}, 'stream': {'name': 'dated_text'}}
  with pytest.raises(ValueError, match="goes with 'texts' alone"):
    build.make_stream(config, {})
