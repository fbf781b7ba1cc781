"""Tune on one half of the classes, report on the other, in that order."""

from collections.abc import Mapping, Sequence
import dataclasses

from lrcl.protocols import _leaks
from lrcl.protocols._contenders import Contenders, Runs, Scenario, run_once
from lrcl.protocols._halves import Half, Halves
from lrcl.protocols._report import Report
from lrcl.protocols._search import Searched


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
  """What the first phase has chosen, and on what.

  Attributes:
    found: by contender.
    half: what it was tuned on.
    rows: digests of the rows that the streams of the phase were made of.
    seeds: of the phase.
  """

  found: Mapping[str, Searched]
  half: Half
  rows: frozenset[bytes]
  seeds: tuple[int, ...]


def tune_contenders(
  contenders: Contenders,
  half: Half,
  scenario: Scenario,
  *,
  seeds: Sequence[int],
  budget: int | None = None,
) -> Tuning:
  """The first phase: a search of one budget for each contender.

  Args:
    contenders: by name.
    half: what to tune on.
    scenario: what to run.
    seeds: the best mean over them of the final accuracy is chosen.
    budget: settings that each contender may try, see `search`; None: its grid.

  Returns:
    The settings, for `report_contenders`.

  Raises:
    ValueError: of `search`, `Trials` and the scenario.
    FloatingPointError: if a contender has no setting without a lost run.

  Example:
    >>> import numpy as np, optax
    >>> from lrcl import models, streams, training
    >>> from lrcl.protocols import Contender, halve_classes
    >>> labels = np.arange(80) % 4
    >>> data = {'inputs': np.eye(4, dtype=np.float32)[labels], 'labels': labels}
    >>> halves = halve_classes(data, data, seed=0)
    >>> def make_stream(half, seed, steps_per_task):
    ...   return streams.split(
    ...     half.train, num_tasks=2, batch_size=8, seed=seed, test=half.test,
    ...     steps_per_task=steps_per_task)
    >>> def make(stream):
    ...   init_fn, apply_fn = models.from_module(
    ...     models.MLP((), stream.num_classes), stream.batch_spec['inputs'])
    ...   learner = lambda s: training.Learner(optax.sgd(s['rate']), apply_fn)
    ...   return init_fn, learner
    >>> joint = {'joint': Contender(make, {'rate': [1e-6, 1.0]}, joint=True)}
    >>> tuning = tune_contenders(
    ...   joint, halves.tuning, Scenario(make_stream, 10), seeds=(0,))
    >>> tuning.found['joint'].setting
    {'rate': 1.0}
  """
  runs = Runs(half, scenario, seeds)
  found = {}
  for name, contender in contenders.items():
    found[name] = runs.trials(contender).search(
      contender.axes, seeds, budget=budget
    )
  return Tuning(found, half, runs.rows(), tuple(seeds))


def report_contenders(
  contenders: Contenders,
  tuning: Tuning,
  half: Half,
  scenario: Scenario,
  *,
  seeds: Sequence[int],
  equal_compute: bool = True,
) -> Report:
  """The second phase: each setting that was chosen, once per seed.

  Args:
    contenders: those that were tuned.
    tuning: of the first phase.
    half: what to report on.
    scenario: of the same shape as that of the first phase.
    seeds: to report.
    equal_compute: also run each contender with its steps divided by the
      gradients that it takes in a step (`lrcl.training.step_cost`), with the
      rate that was tuned for all of them.

  Returns:
    The report.

  Raises:
    ValueError: if a class of `half`, or a row of its streams, was tuned on, or
      a contender was not tuned.

  Example:
    >>> import numpy as np  # for a report, see tune_then_report
    >>> from lrcl.protocols import halve_classes
    >>> data = {'inputs': np.zeros((8, 1)), 'labels': np.arange(8) % 4}
    >>> halves = halve_classes(data, data, seed=0)
    >>> tuning = Tuning({}, halves.tuning, (), (0,))
    >>> scenario = Scenario(lambda half, seed, steps: None, 1)
    >>> report_contenders({}, tuning, halves.tuning, scenario, seeds=(1,))
    Traceback (most recent call last):
    ValueError: report_contenders: classes [0, 2] were tuned on; ...
  """
  _leaks.refuse_classes(tuning.half, half)
  missing = sorted(set(contenders) - set(tuning.found))
  if missing:
    raise ValueError(f'report_contenders: {missing} were not tuned.')
  runs = Runs(half, scenario, seeds)
  _leaks.refuse_rows(tuning.rows, runs.rows())
  found, costs, equal = {}, {}, {}
  for name, contender in contenders.items():
    setting = tuning.found[name].setting
    trials = runs.trials(contender)
    found[name], costs[name] = (
      run_once(trials, setting, seeds),
      trials.step_cost(setting),
    )
    if equal_compute:
      fewer = runs.trials(contender, costs[name]['gradient_evaluations'])
      same = fewer is trials
      equal[name] = found[name] if same else run_once(fewer, setting, seeds)
  return Report(tuning.found, found, costs, equal, tuple(seeds))


def tune_then_report(
  contenders: Contenders,
  halves: Halves,
  scenario: Scenario,
  *,
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
  budget: int | None = None,
  equal_compute: bool = True,
) -> Report:
  """Tunes on one half of the classes and reports on the other.

  The learning rate and its schedule are the first hyper-parameters that fit
  the scenario they are tuned on; figures on the classes that were tuned on
  flatter. Here every figure is of classes that no choice has seen.

  Args:
    contenders: by name; add a naive one and a joint one.
    halves: see `halve_classes`.
    scenario: what to run on each of them.
    tuning_seeds: of the first phase.
    seeds: of the second.
    budget: settings that each contender may try; None: its whole grid.
    equal_compute: see `report_contenders`.

  Example:
    >>> import numpy as np, optax
    >>> from lrcl import models, streams, training
    >>> from lrcl.protocols import Contender, halve_classes
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(400) % 4
    >>> inputs = (np.eye(4)[labels] + rng.normal(0, 0.1, (400, 4)))
    >>> data = {'inputs': inputs.astype(np.float32), 'labels': labels}
    >>> halves = halve_classes(data, data, seed=0)
    >>> def make_stream(half, seed, steps_per_task):
    ...   return streams.split(
    ...     half.train, num_tasks=2, batch_size=8, seed=seed, test=half.test,
    ...     steps_per_task=steps_per_task)
    >>> def make(stream):
    ...   module = models.MLP((), stream.num_classes)
    ...   init_fn, apply_fn = models.from_module(
    ...     module, stream.batch_spec['inputs'])
    ...   learner = lambda s: training.Learner(optax.sgd(s['rate']), apply_fn)
    ...   return init_fn, learner
    >>> axes = {'rate': [0.01, 0.1, 1.0]}
    >>> naive = Contender(make, axes)
    >>> joint = Contender(make, axes, joint=True)
    >>> report = tune_then_report(
    ...   {'naive': naive, 'joint': joint},
    ...   halves, Scenario(make_stream, 20), tuning_seeds=(0,), seeds=(1, 2, 3))
    >>> report.ranking().names
    ('joint', 'naive')

  References:
    Cha and Cho, `Hyperparameters in Continual Learning: A Reality Check
    <https://arxiv.org/abs/2403.09066>`_, 2025
  """
  tuning = tune_contenders(
    contenders, halves.tuning, scenario, seeds=tuning_seeds, budget=budget
  )
  return report_contenders(
    contenders,
    tuning,
    halves.reporting,
    scenario,
    seeds=seeds,
    equal_compute=equal_compute,
  )
