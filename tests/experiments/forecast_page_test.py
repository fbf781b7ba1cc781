"""The page on forecasting is of the curves that are kept."""

import pathlib
import re

import numpy as np

from experiments import forecast_page
from experiments.papers import gpt_forecast

_PAGE = pathlib.Path(forecast_page.__file__).parents[1] / 'docs/forecasting.md'


def test_the_table_of_our_run_is_that_of_the_curves():
  runs = forecast_page._gpt()
  text = _PAGE.read_text()
  rows = re.findall(
    r'^\| ([\w ,.:-]+) \|((?: [+-]\d\.\d{3} \|){3})$', text, re.M
  )
  laws = [name for name in runs['WSD'] if name not in ('step', 'lr', 'loss')]
  assert len(rows) == len(laws)
  for law, (_, cells) in zip(laws, rows, strict=True):
    told = [float(cell) for cell in re.findall(r'[+-]\d\.\d{3}', cells)]
    ends = [runs[run] for run in ('WSD', 'WSD-S', 'infinite')]
    wanted = [run[law][-1] - run['loss'][-1] for run in ends]
    np.testing.assert_allclose(told, wanted, atol=6e-4)


def test_the_kept_rates_are_those_of_the_schedules():
  rows = forecast_page._gpt_rows()
  peak = max(float(row['lr']) for row in rows)
  rates = gpt_forecast.make_rates(peak, gpt_forecast.SCALES['default'])
  for row in rows[:: len(rows) // 50]:
    rate = rates[row['run']][int(row['step'])]
    np.testing.assert_allclose(float(row['lr']), rate, rtol=1e-4)


def test_the_picture_is_drawn(tmp_path):
  path = tmp_path / 'gpt.png'
  forecast_page.draw_gpt(path)
  assert path.stat().st_size > 10_000
