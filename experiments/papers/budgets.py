"""Schedules at fractions of a budget of steps: what two claims share.

Every contender is tuned anew for every budget, as its authors ask for.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np
import optax

from experiments.papers import claims, problems, sweeps
from lrcl import schedules

Contenders = Callable[[int], sweeps.Schedules]
"""The contenders for a run of so many steps."""

_TUNING_SEEDS = range(100, 103)
_BATCH = 32

PROBLEMS = {
  'digits': problems.digits_network,
  'teacher': problems.teacher_network,
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """What stands before the learning rate, and the grid of the rates."""

  transform: optax.GradientTransformation
  rates: Sequence[float]


OPTIMIZERS = {
  'SGD': Optimizer(
    optax.chain(optax.add_decayed_weights(1e-4), optax.trace(0.9)),
    (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
  ),
  'Adam': Optimizer(
    optax.scale_by_adam(),
    (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
  ),
}


def common_schedules(steps: int) -> dict[str, optax.Schedule]:
  """The schedules that both claims compare with, for a run of `steps`."""
  last_fifth = max(1, steps // 5)
  drops = {steps // 2: 0.1, 3 * steps // 4: 0.1}
  return {
    'linear': schedules.wsd_schedule(1.0, 0, 0, steps),
    'REX': schedules.rex_schedule(1.0, steps),
    'cosine': optax.cosine_decay_schedule(1.0, steps),
    'step': optax.piecewise_constant_schedule(1.0, drops),
    'exponential': optax.exponential_decay(1.0, steps, math.exp(-4)),
    'constant': optax.constant_schedule(1.0),
    'WSD': schedules.wsd_schedule(1.0, 0, steps - last_fifth, last_fifth),
  }


@dataclasses.dataclass(frozen=True)
class Cell:
  """One problem and optimizer at one budget.

  Attributes:
    problem: its name.
    optimizer: its name.
    percent: of the full budget.
    errors: of the test rows in percent, one per seed, by contender.
    at_edge: contenders whose rate is the first or the last of the grid.
  """

  problem: str
  optimizer: str
  percent: int
  errors: Mapping[str, list[float]]
  at_edge: tuple[str, ...]

  @property
  def task(self) -> str:
    """Problem and optimizer."""
    return f'{self.problem}, {self.optimizer}'


def measure(
  contenders: Contenders, percents: Sequence[int], size: claims.Size
) -> list[Cell]:
  """Tunes and trains every contender in every cell."""
  cells = []
  for problem, make in PROBLEMS.items():
    made = make()
    for name, optimizer in OPTIMIZERS.items():
      setup = sweeps.Setup(made, optimizer.transform, _BATCH, _scale(size)[0])
      for percent in percents:
        errors, edges = _fill(setup, contenders, optimizer.rates, percent, size)
        cells.append(Cell(problem, name, percent, errors, edges))
  return cells


def _fill(
  setup: sweeps.Setup,
  contenders: Contenders,
  rates: Sequence[float],
  percent: int,
  size: claims.Size,
) -> tuple[dict[str, list[float]], tuple[str, ...]]:
  """Errors of a cell in percent, and who is at an edge of the grid."""
  _, tuning, reported = _scale(size)
  steps = setup.max_steps * percent // 100
  made = contenders(steps)
  tuned = sweeps.tune(
    setup,
    made,
    rates,
    _TUNING_SEEDS[:tuning],
    by='validation_error',
    steps=steps,
  )
  found = sweeps.report(setup, made, tuned, range(reported), steps=steps)
  errors = {k: (100 * v['test_error']).tolist() for k, v in found.items()}
  return errors, tuned.at_edge


def _scale(size: claims.Size) -> tuple[int, int, int]:
  """Steps of the full budget, tuning seeds, reported seeds."""
  return {
    'smoke': (100, 1, 8),
    'default': (1500, 3, 10),
    'full': (6000, 3, 20),
  }[size]


def average_ranks(
  cells: Sequence[Cell], names: Sequence[str]
) -> dict[str, list[float]]:
  """Ranks among `names`, averaged over the cells: one per seed, by name."""
  values = np.stack([[cell.errors[name] for cell in cells] for name in names])
  return dict(zip(names, sweeps.rank(values).tolist(), strict=True))


def make_table(
  cells: Sequence[Cell], ranks: Mapping[str, Mapping[str, list[float]]]
) -> list[dict[str, Any]]:
  """A row per task and contender; `ranks` by task, then contender."""
  rows = []
  for task, by_name in ranks.items():
    for name, rank in sorted(by_name.items(), key=lambda x: np.mean(x[1])):
      row = {'problem, optimizer': task, 'schedule': name}
      row['average rank'] = claims.format_interval(rank, 2)
      for cell in cells:
        if cell.task == task:
          error = claims.format_interval(cell.errors[name], 2)
          row[f'error % at {cell.percent}%'] = error
      rows.append(row)
  return rows


def describe(size: claims.Size, cells: Sequence[Cell]) -> str:
  """Everything that it takes to judge the numbers."""
  full, tuning, reported = _scale(size)
  grids = '; '.join(
    f'{name}: {", ".join(f"{rate:g}" for rate in optimizer.rates)}'
    for name, optimizer in OPTIMIZERS.items()
  )
  edges = [
    f'{name} ({cell.task}, {cell.percent}%)'
    for cell in cells
    for name in cell.at_edge
  ]
  return (
    'Perceptrons with two hidden layers of 64. Digits of scikit-learn: 1,000 '
    'rows to train, 297 to tune, 500 to test. Answers of a random perceptron '
    'to 20 normal inputs, ten classes: 19,000, 1,000 and 4,000 rows. SGD with '
    f'momentum 0.9 and weight decay 1e-4, and Adam; batches of {_BATCH}; the '
    f'full budget is {full} steps. For every problem, optimizer and budget '
    'each schedule has the rate of the lowest validation error over '
    f'{tuning} seeds, of one grid ({grids}); {reported} other seeds are '
    'reported, and their intervals leave out the choice of the rate. '
    f'Best rates at an end of the grid: {", ".join(edges) or "none"}.'
  )
