"""A grid of scenarios, methods and schedules under the two-phase protocol.

python -m experiments.protocol [--data=digits] [--scenarios=class,permuted] \
  [--methods=ER,EWC] [--schedules=constant,WSD,infinite] [--workdir=DIR]

The classes of the data are dealt out in two halves. On one of them every method
under every schedule tries as many settings, the learning rate first; on the
other the best one is run once per seed, and its figures are printed: the rank
table of each scenario, then that over all scenarios. Rows of naive SGD, joint
training, the nearest class mean and chance are always there.

Time: a minute on 2 CPU cores as it stands. Expected: of what is trained task by
task, replay first in both scenarios under all three schedules, with 0.93 to
0.95 (class) and 0.86 to 0.89 (permuted) of joint training's 0.97 and 0.91. EWC
comes behind the nearest class mean in the first (0.3 to 0.4, naive SGD 0.3) and
beats it in the second under one schedule only (infinite, 0.79 to 0.69). Naive
SGD takes the smallest rate where all fails: 'edge of the grid'.

A scenario is written to --workdir when it is done, and a second start of the
same grid does not run it again. MNIST and Fashion-MNIST take --data_dir, which
`python -m experiments.fetch_data DEST mnist fashion_mnist` makes.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
import sys
from typing import Any, cast, get_args

from absl import app, flags, logging
import numpy as np

from experiments import command_line, contenders, references
from experiments.papers import images
from lrcl import protocols, training

_DATA = flags.DEFINE_enum(
  'data', 'digits', get_args(images.Name), 'The images.'
)
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Where TFDS data sets are.')
_TRAIN_ROWS = flags.DEFINE_integer(
  'train_rows', None, 'How many of the images to train on; default: all.'
)
_SCENARIOS = flags.DEFINE_list(
  'scenarios',
  ['class', 'permuted'],
  f'Of {", ".join(contenders.SCENARIOS)}.',
)
_METHODS = flags.DEFINE_list(
  'methods', ['naive', 'ER', 'EWC'], f'Of {", ".join(contenders.METHODS)}.'
)
_SCHEDULES = flags.DEFINE_list(
  'schedules',
  ['constant', 'WSD', 'infinite'],
  f'Of {", ".join(contenders.SCHEDULES)}.',
)
_RATES = flags.DEFINE_list(
  'rates',
  ['0.001', '0.003', '0.01', '0.03', '0.1', '0.3', '1', '3'],
  'Peaks of the rate to try.',
)
_STEPS = flags.DEFINE_integer('steps_per_task', 60, 'Steps in each task.')
_NUM_TASKS = flags.DEFINE_integer('num_tasks', 5, 'Tasks, where it is free.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 16, 'Rows in a batch.')
_BUDGET = flags.DEFINE_integer('budget', 12, 'Settings each contender may try.')
_TUNING_SEEDS = flags.DEFINE_integer('tuning_seeds', 2, 'Seeds to tune on.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Seeds to report.')
_HALF_SEED = flags.DEFINE_integer('half_seed', 0, 'Deals the classes out.')
_EQUAL = flags.DEFINE_bool('equal_compute', True, 'Also at equal compute.')
_WORKDIR = flags.DEFINE_string('workdir', 'runs/protocol', 'Where to write.')


def main(argv: list[str]) -> None:
  """Runs the grid; an error of the user's is one line and exit code 1."""
  logging.set_verbosity(logging.ERROR)  # JAX tells of the devices it lacks
  try:
    if len(argv) > 1:
      raise ValueError(f'unexpected argument {argv[1]!r}; flags begin with --.')
    run()
  except (ValueError, FloatingPointError, OSError) as error:
    sys.exit(f'error: {command_line.one_line(error)}')
  except KeyboardInterrupt:
    sys.exit(
      f'interrupted; finished scenarios are in {_WORKDIR.value}, and the same '
      'command goes on from there.'
    )


def run() -> None:
  """Measures every scenario, and prints the tables."""
  _check()
  data = images.load_images(
    cast(images.Name, _DATA.value),
    _DATA_DIR.value,
    train_rows=_TRAIN_ROWS.value,
  )
  halves = protocols.halve_classes(data.train, data.test, seed=_HALF_SEED.value)
  print(
    f'tuned on classes {list(halves.tuning.classes)} of {_DATA.value}, '
    f'reported on {list(halves.reporting.classes)}'
  )
  found = [_scenario(name, halves) for name in _SCENARIOS.value]
  if len(found) > 1:
    scores = {name: [f[name] for f in found] for name in found[0]}
    print(f'\nall {len(found)} scenarios')
    print(protocols.format_ranking(protocols.rank_contenders(scores)))


def _check() -> None:
  """Refuses names that are in no table, and figures that are none."""
  tables: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    'scenarios': (_SCENARIOS.value, list(contenders.SCENARIOS)),
    'methods': (_METHODS.value, list(contenders.METHODS)),
    'schedules': (_SCHEDULES.value, contenders.SCHEDULES),
  }
  for flag, (given, known) in tables.items():
    for name in given:
      if name not in known:
        raise ValueError(
          f'--{flag} names {name!r}; it must be some of {", ".join(known)}.'
        )
    if not given:
      raise ValueError(f'--{flag} is empty; it must name one at least.')
  for flag in (_STEPS, _NUM_TASKS, _BATCH_SIZE, _TUNING_SEEDS, _SEEDS):
    if flag.value < 1:
      raise ValueError(f'--{flag.name} is {flag.value}; it must be 1 at least.')


def _scenario(name: str, halves: protocols.Halves) -> dict[str, list[float]]:
  """Runs and prints a scenario, or prints what is there of it."""
  settings = {'scenario': name, **_settings()}
  digest = training.digest_config(settings)[:8]
  path = pathlib.Path(_WORKDIR.value) / f'{name}-{digest}.json'
  if path.exists():
    kept = json.loads(path.read_text())
    print(f'\n{name} (from {path})\n{kept["table"]}')
    return kept['accuracy']
  report, extra = _measure(name, halves)
  accuracy = {n: np.asarray(x).tolist() for n, x in extra.items()}
  accuracy = {n: x.tolist() for n, x in report.accuracy.items()} | accuracy
  table = report.format(extra)
  table += (
    '\norder of the contenders on the two halves: Kendall tau '
    f'{report.transfer():.2f}'
  )
  record = {'settings': settings, 'accuracy': accuracy, 'table': table}
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_suffix('.part')  # a name that a second start passes over
  part.write_text(json.dumps(record | {'report': report.record()}, indent=1))
  part.replace(path)
  print(f'\n{name} ({path})\n{table}')
  return accuracy


def _measure(
  name: str, halves: protocols.Halves
) -> tuple[protocols.Report, dict[str, np.ndarray]]:
  """The report, and the rows that nothing was trained for."""
  size = contenders.Size(_NUM_TASKS.value, _BATCH_SIZE.value)
  scenario = contenders.make_scenario(name, _STEPS.value, size)
  rates = [_rate(text) for text in _RATES.value]
  made = contenders.make_contenders(_METHODS.value, _SCHEDULES.value, rates)
  seeds = range(_SEEDS.value)
  report = protocols.tune_then_report(
    made,
    halves,
    scenario,
    tuning_seeds=[100 + seed for seed in range(_TUNING_SEEDS.value)],
    seeds=list(seeds),
    budget=_BUDGET.value,
    equal_compute=_EQUAL.value,
  )
  stack = scenario.stack(halves.reporting, list(seeds), _STEPS.value, False)
  return report, {
    'nearest class mean': references.nearest_mean(stack).mean(1),
    'chance': references.chance(stack).mean(1),
  }


def _rate(text: str) -> float:
  try:
    rate = float(text)
  except ValueError:
    rate = -1.0
  if not 0 < rate < float('inf'):
    raise ValueError(f'--rates has {text!r}; rates must be above 0.')
  return rate


def _settings() -> dict[str, Any]:
  """Everything that a scenario's figures depend on."""
  flags_ = flags.FLAGS.flags_by_module_dict()[sys.argv[0]]
  skipped = ('workdir', 'scenarios', 'data_dir')
  return {f.name: f.value for f in flags_ if f.name not in skipped}


if __name__ == '__main__':
  app.run(main, flags_parser=command_line.parse)
