"""Linear decay against the usual schedules, and against its refinement.

Command: python -m experiments.papers.linear_decay
Time: 3 CPU minutes

Three convex problems and two networks. The refined schedule comes from the
gradient norms of one run with linear decay, and has a peak tuned of its own.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import optax

from experiments.papers import claims, problems, sweeps
from lrcl import schedules

CLAIM = claims.Claim(
  name='linear_decay',
  title='Linear decay and its refinement',
  paper=(
    'Defazio, Cutkosky, Mehta and Mishchenko, 2023, Optimal Linear Decay '
    'Learning Rate Schedules and Further Refinements, '
    'https://arxiv.org/abs/2310.07831'
  ),
  says=(
    'Linear decay matches or beats all common schedules, cosine included, on '
    'logistic regression and on networks; a schedule refined from the gradient '
    'norms of a first run improves on it further (abstract).'
  ),
)

_MATCH = 0.01
"""Means that differ by less than this part of linear decay's match."""

_Pair = tuple[str, str]
"""A schedule and a task."""


@dataclasses.dataclass(frozen=True)
class Task:
  """A problem, its grid of rates, and the measures to tune and report by."""

  setup: sweeps.Setup
  rates: Sequence[float]
  tune_by: str
  report_by: str


@dataclasses.dataclass(frozen=True)
class Result:
  """Of a task: what the seeds gave, and the tuned rate, by schedule."""

  values: Mapping[str, list[float]]
  rates: Mapping[str, float]
  at_edge: tuple[str, ...]


def make_tasks(size: claims.Size) -> dict[str, Task]:
  """Three convex problems and two networks."""
  steps = 50 if size == 'smoke' else 2000
  convex = {
    'logistic regression, breast cancer': problems.logistic_regression(
      'breast_cancer'
    ),
    'logistic regression, digits, 8 or not': problems.logistic_regression(
      'digits', positive=8
    ),
    'least squares, diabetes': problems.least_squares('diabetes'),
  }
  grid = tuple(2.0**k for k in range(-10, 10))
  make = lambda problem: sweeps.Setup(
    problem, optax.identity(), 16, steps, at_once=20
  )
  tasks = {
    name: Task(make(problem), grid, 'train_loss', 'train_loss')
    for name, problem in convex.items()
  }
  momentum = optax.chain(optax.add_decayed_weights(1e-4), optax.trace(0.9))
  networks = {
    'network, digits': problems.digits_network(),
    'network, teacher': problems.teacher_network(),
  }
  for name, network in networks.items():
    setup = sweeps.Setup(network, momentum, 32, steps // 2)
    rates = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
    tasks[name] = Task(setup, rates, 'validation_error', 'test_error')
  return tasks


def common_schedules(steps: int) -> dict[str, optax.Schedule]:
  """Linear decay and the schedules that it is compared with."""
  drops = {steps * part // 10: 0.1 for part in (3, 6, 9)}
  return {
    'linear': schedules.wsd_schedule(1.0, 0, 0, steps),
    'cosine': optax.cosine_decay_schedule(1.0, steps),
    'step': optax.piecewise_constant_schedule(1.0, drops),
    'constant': optax.constant_schedule(1.0),
    '1/sqrt': schedules.inverse_sqrt_schedule(1.0, 0, timescale=1),
  }


def measure(task: Task, size: claims.Size) -> Result:
  """Tunes and reports the common schedules, then the refined one."""
  tuning, seeds = _seeds(size)
  setup = task.setup
  made = common_schedules(setup.max_steps)
  tune = lambda made: sweeps.tune(
    setup, made, task.rates, tuning, by=task.tune_by
  )
  tuned = tune(made)
  refined = {'refined': refine(setup, tuned.rates['linear'], tuning[0])}
  refined_tuned = tune(refined)
  found = sweeps.report(setup, made, tuned, seeds)
  found |= sweeps.report(setup, refined, refined_tuned, seeds)
  return Result(
    values={
      name: value[task.report_by].tolist() for name, value in found.items()
    },
    rates={**tuned.rates, **refined_tuned.rates},
    at_edge=tuned.at_edge + refined_tuned.at_edge,
  )


def refine(setup: sweeps.Setup, rate: float, seed: int) -> optax.Schedule:
  """The schedule that follows from one run with linear decay."""
  linear = {'linear': common_schedules(setup.max_steps)['linear']}
  measured = sweeps.run_all(
    setup, linear, np.asarray([[rate]], np.float32), [seed]
  )
  return schedules.refined_schedule(measured['gradient_norms'][0, 0, 0], 1.0)


def run(size: claims.Size) -> claims.Outcome:
  """Compares on every task.

  The claim has two parts. Linear decay: on no task does a common schedule lie
  below it. Refinement: on some task it lies below linear decay, and on none
  above. Below means by more than chance and by more than 1% of linear decay's
  value; the 1% came after a first look at the results, so what lies below
  without it is listed, too.
  """
  tasks = make_tasks(size)
  results = {name: measure(task, size) for name, task in tasks.items()}
  beaten, improved = split_pairs(compare(results, tolerance=_MATCH)[0])
  wins, worsened = split_pairs(compare(results, tolerance=_MATCH)[1])
  slightly, _ = split_pairs(compare(results, tolerance=0.0)[0])
  parts = {
    'no common schedule is below linear decay': not beaten,
    'refinement improves on it': bool(improved) and not worsened,
  }
  rivals = len(common_schedules(10)) - 1
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=(
      f'{claims.format_parts(parts)}. By more than chance and '
      f'{_MATCH:.0%}, linear decay beats a common schedule in {len(wins)} of '
      f'{rivals * len(tasks)} comparisons and loses in {len(beaten)} '
      f'({_listed(beaten)}); by more than chance alone it loses in '
      f'{len(slightly)} ({_listed(slightly)}). Refinement makes it better in '
      f'{len(improved)} of {len(tasks)} ({_listed(improved)}) and worse in '
      f'{len(worsened)} ({_listed(worsened)}).'
    ),
    table=make_table(tasks, results),
    setting=describe(tasks, results, size),
  )


def compare(
  results: Mapping[str, Result], *, tolerance: float
) -> tuple[list[_Pair], list[_Pair]]:
  """Who lies below linear decay on which task, and who above."""
  below, above = [], []
  for task, result in results.items():
    linear = result.values['linear']
    margin = tolerance * float(np.mean(linear))
    for rival, values in result.values.items():
      if claims.is_below(values, linear, margin):
        below.append((rival, task))
      if claims.is_below(linear, values, margin):
        above.append((rival, task))
  return below, above


def split_pairs(pairs: Sequence[_Pair]) -> tuple[list[_Pair], list[_Pair]]:
  """Those of common schedules, and those of the refined one."""
  refined = [pair for pair in pairs if pair[0] == 'refined']
  return [pair for pair in pairs if pair not in refined], refined


def _listed(pairs: Sequence[_Pair]) -> str:
  listed = (f'{schedule} on {task}' for schedule, task in pairs)
  return ', '.join(listed) or 'none'


def make_table(
  tasks: Mapping[str, Task], results: Mapping[str, Result]
) -> list[dict[str, Any]]:
  """A row per task and schedule, the best schedule of a task first."""
  rows = []
  for name, result in results.items():
    order = sorted(result.values.items(), key=lambda item: np.mean(item[1]))
    for schedule, values in order:
      rows.append(
        {
          'task': name,
          'measure': tasks[name].report_by.replace('_', ' '),
          'schedule': schedule,
          'mean': claims.format_interval(values, 5),
          'tuned rate': f'{result.rates[schedule]:.4g}',
        }
      )
  return rows


def describe(
  tasks: Mapping[str, Task], results: Mapping[str, Result], size: claims.Size
) -> str:
  """Everything that it takes to judge the numbers."""
  tuning, seeds = _seeds(size)
  parts = []
  for name, task in tasks.items():
    first, *_, last = task.rates
    parts.append(
      f'{name}: {task.setup.max_steps} steps of {task.setup.batch_size} rows, '
      f'{len(task.rates)} rates from {first:.3g} to {last:.3g} by '
      f'{task.tune_by.replace("_", " ")}'
    )
  edges = [
    f'{x} on {n}' for n, result in results.items() for x in result.at_edge
  ]
  return (
    'SGD, with momentum 0.9 and weight decay 1e-4 for the networks; losses '
    f'are those of the last iterate on all rows. {"; ".join(parts)}. Rates are '
    f'tuned on {len(tuning)} seeds, {len(seeds)} others are reported. The '
    'refined schedule follows from one linear run (power 2, smoothing 0.1) at '
    'its best rate on a tuning seed, and is tuned as they are. Best rates at '
    f'an end of the grid: {", ".join(edges) or "none"}.'
  )


def _seeds(size: claims.Size) -> tuple[Sequence[int], Sequence[int]]:
  """Seeds to tune on, and to report."""
  tuning, reported = {'smoke': (1, 2), 'default': (4, 8), 'full': (8, 16)}[size]
  return range(100, 100 + tuning), range(reported)


if __name__ == '__main__':
  claims.main(CLAIM, run)
