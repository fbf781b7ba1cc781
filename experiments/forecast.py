"""Forecasts loss curves: fits a law to some, and scores it on others.

python -m experiments.forecast --curves=DIR --fit=a.csv,b.csv,c.csv \
  --predict=d.csv,e.csv [--law=multi_power] [--warmup_steps=2160]
python -m experiments.forecast --curves=DIR --published

A curve is a CSV file with columns step, lr, loss, or a branch of a run of
LRCL's, WORKDIR/ROW/BRANCH, both relative to DIR. Rates between the lines of a
file are interpolated; where it begins after a warm-up, that is taken to have
lasted until then, unless --warmup_steps says how long it was.

The second form takes the nine curves of the multi-power law's paper
(experiments/published_curves.py), whose schedules are known, and prints for
each size three tables: the published parameters, our fit of the same law, and
the annealing law. Time: 15 CPU seconds for each size.

Expected, as the mean R2 of the six curves that nothing is fitted to:

  size  published parameters  our fit  annealing law
  25M   0.9988                0.9976   0.9933
  100M  0.9983                0.9976   0.9959

Ours fits the three curves better than the published parameters do and forecasts
the cosine of 72,000 steps worse: three times as long is where the floor and the
exponent, which three short curves hardly tell apart, decide.
"""

from collections.abc import Sequence
import os
import pathlib
import sys
from typing import Any

from absl import app, flags, logging
import numpy as np

from experiments import command_line, forecast_tables, published_curves
from lrcl import forecasting, reports

_CURVES = flags.DEFINE_string(
  'curves',
  os.environ.get('LRCL_CURVES', '.'),
  'Where the curves are; default: $LRCL_CURVES, or here.',
)
_FIT = flags.DEFINE_list('fit', [], 'The curves to fit the law to.')
_PREDICT = flags.DEFINE_list('predict', [], 'The curves to score it on.')
_LAW = flags.DEFINE_enum(
  'law', 'multi_power', ['multi_power', 'annealing'], 'The law.'
)
_WARMUP_STEPS = flags.DEFINE_integer(
  'warmup_steps',
  None,
  "The warm-up's steps, where files begin after it; default: all before the "
  'first line of a file that begins late.',
)
_EVERY = flags.DEFINE_integer(
  'every', 16, 'Over so many steps the losses of a run are averaged.'
)
_PICTURE = flags.DEFINE_string(
  'picture', 'runs/forecast.png', 'Where to draw predicted and measured.'
)
_PUBLISHED = flags.DEFINE_bool('published', False, "Print the paper's tables.")

_FITS = {
  'multi_power': forecasting.fit_multi_power_law,
  'annealing': forecasting.fit_annealing_law,
}


def main(argv: list[str]) -> None:
  """Prints the tables; an error of the user's is one line and exit code 1."""
  logging.set_verbosity(logging.ERROR)  # JAX tells of the devices it lacks
  try:
    if len(argv) > 1:
      raise ValueError(f'unexpected argument {argv[1]!r}; flags begin with --.')
    root = pathlib.Path(_CURVES.value)
    if _PUBLISHED.value:
      print_published(root)
    else:
      _forecast(root)
  except (ValueError, TypeError, OSError, KeyError) as error:
    sys.exit(f'error: {command_line.one_line(error)}')


def _forecast(root: pathlib.Path) -> None:
  """Fits, and prints the law and the table of its forecasts."""
  for flag in (_FIT, _PREDICT):
    if not flag.value:
      raise ValueError(
        f'--{flag.name} is missing: names of curves in --curves.'
      )
  fitted, held_out = (
    [_read(root / name) for name in flag.value] for flag in (_FIT, _PREDICT)
  )
  law = _FITS[_LAW.value](fitted)
  print(forecast_tables.describe(law))
  print(forecast_tables.table(law, held_out), flush=True)
  _draw(law, held_out)


def _read(path: pathlib.Path) -> forecasting.Curve:
  """The curve of a file, or of a branch of a run."""
  if path.is_dir():
    return curve_of_run(path, _EVERY.value)
  return forecasting.read_curve(path, warmup_steps=_WARMUP_STEPS.value)


def curve_of_run(path: pathlib.Path, every: int) -> forecasting.Curve:
  """The losses of a branch and its ancestors, as means over seeds and steps.

  Args:
    path: `workdir/row/branch`.
    every: over how many steps a mean is; it stands at their middle.
  """
  records = reports.read_records(path.parent)
  trace = reports.branch_trace(records, records[0]['row'], path.name)
  if trace is None or len(trace.steps) < 2 * every:
    raise ValueError(f'{path}: it has no trace of {2 * every} steps or more.')
  count = len(trace.steps) // every
  losses = trace.loss.mean(axis=0)[: count * every].reshape(count, every)
  steps = trace.steps[every // 2 : count * every : every]
  lrs = np.interp(
    np.arange(trace.steps[-1] + 1), trace.steps, trace.learning_rate.mean(0)
  )
  return forecasting.Curve(lrs, losses.mean(axis=1), steps, path.name)


def print_published(root: pathlib.Path) -> None:
  """The tables of every size that is there."""
  sizes = [size for size in published_curves.LAWS if (root / size).is_dir()]
  if not sizes:
    raise ValueError(
      f'--curves={root} holds none of {", ".join(published_curves.LAWS)}; see '
      'experiments/published_curves.py for where the curves come from.'
    )
  for size in sizes:
    fitted, held_out = (
      _published(root / size, names)
      for names in (published_curves.FIT, published_curves.PREDICT)
    )
    laws = {
      'published parameters': published_curves.LAWS[size],
      'our fit': forecasting.fit_multi_power_law(fitted),
      'annealing law': forecasting.fit_annealing_law(fitted),
    }
    for name, law in laws.items():
      print(f'\n{size}, {name}: {forecast_tables.describe(law)}')
      print(forecast_tables.table(law, held_out), flush=True)
    _draw(laws['our fit'], held_out, f'-{size}')


def _published(
  root: pathlib.Path, names: Sequence[str]
) -> list[forecasting.Curve]:
  return [
    forecasting.read_curve(
      root / f'{name}.csv', schedule=published_curves.schedule_of(name)
    )
    for name in names
  ]


def _draw(
  law: Any, curves: Sequence[forecasting.Curve], suffix: str = ''
) -> None:
  path = pathlib.Path(_PICTURE.value)
  path = path.with_stem(path.stem + suffix)
  forecast_tables.draw(law, curves, path)
  print(f'drawn: {path}', file=sys.stderr)


if __name__ == '__main__':
  app.run(main, flags_parser=command_line.parse)
