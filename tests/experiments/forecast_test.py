"""The tables of forecasts, from one command; and every mistake in one line."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import forecast_tables, published_curves
from lrcl import forecasting

ROOT = pathlib.Path(__file__).parents[2]
LAW = forecasting.AnnealingLaw(2.6, 0.43, 0.55, 0.41)
SHAPES = {'a': 0.1, 'b': 0.0, 'c': 1.0}  # the last rate, in peaks


def launch(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.forecast', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  """Three files of a known law, a line every 50 steps."""
  path = tmp_path_factory.mktemp('curves')
  steps = np.arange(49, 2000, 50)
  for name, end in SHAPES.items():
    lrs = np.linspace(4e-4, end * 4e-4, 2000)
    with jax.enable_x64(True):
      losses = LAW.predict(lrs, steps)
    lines = zip(steps, lrs[steps], np.asarray(losses), strict=True)
    text = ''.join(f'{s},{lr!s},{loss!s}\n' for s, lr, loss in lines)
    (path / f'{name}.csv').write_text(f'step,lr,loss\n{text}')
  return path


def test_prints_the_law_and_the_table_and_draws(directory, tmp_path):
  picture = tmp_path / 'new' / 'picture.png'
  done = launch(
    f'--curves={directory}', '--fit=a.csv,c.csv', '--predict=b.csv,a.csv',
    '--law=annealing', f'--picture={picture}',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  law, head, *rows = done.stdout.splitlines()
  assert law.startswith('AnnealingLaw(floor=2.6')
  assert head.split() == ['curve', 'R2', 'MAE', 'RMSE', 'PredE', 'WorstE']
  assert [line.split()[0] for line in rows] == ['b', 'a', 'mean']
  assert rows[-1].split()[1] == '1.0000'
  assert picture.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
  'flags,told',
  [
    (['--predict=a.csv'], '--fit is missing'),
    (['--fit=a.csv'], '--predict is missing'),
    (['--fit=no.csv', '--predict=a.csv'], 'No such file'),
    (['--fit=bad.csv', '--predict=a.csv'], 'bad.csv, line 2'),
    (['--fit=c.csv,c.csv', '--predict=a.csv'], 'never fall'),
    (['--published'], 'holds none of 25M'),
    (['--law=none'], '--law'),
  ],
)
def test_a_mistake_is_one_line(directory, flags, told):
  (directory / 'bad.csv').write_text('step,lr,loss\n1,x,2\n')
  done = launch(f'--curves={directory}', *flags)
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr.startswith('error: ') and told in done.stderr
  assert done.stderr.count('\n') == 1


def curves(size, names):
  """The published curves, where $LRCL_CURVES says that they are."""
  root = pathlib.Path(os.environ.get('LRCL_CURVES', '')) / size
  if not os.environ.get('LRCL_CURVES') or not root.is_dir():
    pytest.skip(
      f'no published curves of {size}: set LRCL_CURVES to their directory, see '
      'experiments/published_curves.py'
    )
  return [
    forecasting.read_curve(
      root / f'{name}.csv', schedule=published_curves.schedule_of(name)
    )
    for name in names
  ]


def mean_row(law, size):
  table = forecast_tables.table(law, curves(size, published_curves.PREDICT))
  return table.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
  'size,row',
  [
    ('25M', ['0.9988', '0.00376', '0.00465', '0.00110', '0.00409']),
    ('100M', ['0.9983', '0.00435', '0.00592', '0.00142', '0.00583']),
    ('400M', ['0.9978', '0.00484', '0.00730', '0.00168', '0.00995']),
  ],
)
def test_the_published_table_to_its_digits(size, row):
  assert mean_row(published_curves.LAWS[size], size) == row


@pytest.mark.parametrize(
  'size,annealing',
  [
    ('25M', ['0.9933', '0.00732']),
    ('100M', ['0.9959', '0.00622']),
    ('400M', ['0.9964', '0.00658']),
  ],
)
def test_our_fits_of_three_curves(size, annealing):
  fitted = curves(size, published_curves.FIT)
  law = forecasting.fit_annealing_law(fitted)
  assert mean_row(law, size)[:2] == annealing
  law = forecasting.fit_multi_power_law(fitted)
  assert float(mean_row(law, size)[0]) >= 0.997


def test_the_schedules_of_the_published_curves():
  step = np.array([0, 2159, 2160, 7999, 8000, 20000, 22000, 24000])
  cosine = published_curves.schedule_of('cosine_24000')(step)
  np.testing.assert_allclose(cosine[:3], [0, 3e-4, 3e-4], rtol=1e-6)
  np.testing.assert_allclose(cosine[-1], 3e-5, rtol=1e-6)
  two_stage = published_curves.schedule_of('wsdcon_9')(step)
  np.testing.assert_allclose(two_stage[3:5], [3e-4, 9e-5], rtol=1e-6)
  decay = published_curves.schedule_of('wsd_20000_24000')(step)
  np.testing.assert_allclose(decay[5:7], [3e-4, np.sqrt(9e-9)], rtol=1e-5)
  with pytest.raises(ValueError, match='wsdcon_6 is no published curve'):
    published_curves.schedule_of('wsdcon_6')


def test_a_branch_of_a_run_is_a_curve(tmp_path):
  from experiments import forecast
  from lrcl import training

  loss = 3.0 + 1 / np.arange(1, 65)
  file = training.RecordFile(tmp_path / 'row' / 'main' / 'records.jsonl')
  file.append(
    dict(
      step=64, task=0, task_end=True, num_tasks=1, row='row', branch='main',
      metrics={'accuracy': [1.0]}, seeds=None,
      trace=dict(start=0, loss=loss, learning_rate=np.linspace(1, 0.1, 64)),
    )
  )  # fmt: skip
  curve = forecast.curve_of_run(tmp_path / 'row' / 'main', 16)
  assert curve.steps.tolist() == [8, 24, 40, 56] and curve.name == 'main'
  np.testing.assert_allclose(curve.losses, loss.reshape(4, 16).mean(1))
  np.testing.assert_allclose(curve.lrs, np.linspace(1, 0.1, 64), rtol=1e-6)
  with pytest.raises(ValueError, match='no trace of 128 steps'):
    forecast.curve_of_run(tmp_path / 'row' / 'main', 64)
