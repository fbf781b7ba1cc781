"""Runs in environments whose tasks return, the less the older they are."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.contenders import METHODS, Method
from experiments.papers.stability_gap_runs import (
  Scale,
  make_schedules,
  values_of,
)
from lrcl import protocols, streams

FEATURES, SHARE, GOAL = (64, 64), 0.15, 0.8
_SCHEDULES = ('constant', 're-warm', 'cosine restart', 'infinite')


class Environment(NamedTuple):
  """How earlier tasks return, as `lrcl.streams.reoccurring` takes it.

  Attributes:
    law: of their age.
    share: of each batch for them; None: the law decides over the current task,
      too.
  """

  law: Any
  share: float | None = SHARE

  def change(self, stream: streams.Stream) -> streams.Stream:
    """Makes earlier tasks of a stream return."""
    return streams.reoccurring(stream, law=self.law, share=self.share)


ENVIRONMENTS = {
  'none': Environment('none'),
  'recency': Environment('recency'),
  'exponential': Environment('exponential'),
  'power': Environment('power'),
  'uniform': Environment('uniform'),
  'power, no share': Environment('power', None),
  'exponential, no share': Environment('exponential', None),
  'uniform, no share': Environment('uniform', None),
}

GRID = ('none', 'power', 'uniform')
"""The environments that all schedules meet."""


SGD = METHODS['naive']
REGULARIZERS = {
  'EWC': Method(METHODS['EWC'].build, (0.1, 1.0, 10.0, 100.0, 1000.0)),
  'SI': Method(METHODS['SI'].build, (0.01, 0.1, 1.0, 10.0, 100.0)),
  'LwF': Method(METHODS['LwF'].build, (0.1, 0.3, 1.0, 3.0, 10.0)),
}
"""Methods that rehearse nothing; they run in the environment `'none'`."""


class Run(NamedTuple):
  """What a learner gave in an environment, arrays with the seeds in front.

  Attributes:
    setting: the tuned values, in words.
    matrix: accuracy on each task after each task `[seeds, tasks, tasks]`.
    steps: until the accuracy on a task is 0.8, `[seeds, tasks]`.
  """

  setting: str
  matrix: Any
  steps: Any

  @property
  def final(self) -> Any:
    """Accuracy over all tasks at the end `[seeds]`."""
    return self.matrix[:, -1].mean(-1)

  @property
  def oldest(self) -> Any:
    """The same over the oldest third of the tasks `[seeds]`."""
    return self.matrix[:, -1, : self._third].mean(-1)

  @property
  def learned(self) -> Any:
    """Accuracy on each task at its end, mean over tasks `[seeds]`."""
    return np.diagonal(self.matrix, axis1=1, axis2=2).mean(-1)

  @property
  def first_steps(self) -> Any:
    """Steps until the first task is learnt `[seeds]`."""
    return self.steps[:, 0]

  @property
  def late_steps(self) -> Any:
    """Steps until a task is learnt, mean over the last third `[seeds]`."""
    return self.steps[:, -self._third :].mean(-1)

  @property
  def _third(self) -> int:
    return -(-self.steps.shape[1] // 3)


MakeStream = Callable[..., streams.Stream]
"""`make_stream(seeds, steps_per_task=..., change=...)`, a stack."""


def steps_to_goal(accuracy: Any, every: int) -> np.ndarray:
  """Steps in which a task is learnt, counted from its start.

  Args:
    accuracy: `[..., tasks, evaluations, tasks]`, after which evaluation in
      which task, on which task.
    every: steps between two evaluations.

  Returns:
    `[..., tasks]`; all steps of a task that does not reach the goal.
  """
  own = np.diagonal(accuracy, axis1=-3, axis2=-1)  # [..., evaluations, tasks]
  reached = np.concatenate(
    [own >= GOAL, np.ones_like(own[..., :1, :], bool)], axis=-2
  )
  return every * np.minimum(reached.argmax(-2) + 1, own.shape[-2])


def measure(
  make_stream: MakeStream, scale: Scale
) -> tuple[dict[str, Run], dict[str, dict[str, Run]]]:
  """Tunes SGD in every environment, and the methods without rehearsal.

  Returns:
    The contenders at a constant rate; and for every other schedule the runs of
    SGD in the environments of `GRID`.
  """
  stack = functools.partial(
    make_stream,
    [*scale.tuning_seeds, *scale.seeds],
    steps_per_task=scale.task_steps,
  )
  plain = stack(change=ENVIRONMENTS['none'].change)
  trials = make_trials(SGD, plain, scale)
  runs, other = {}, {name: {} for name in _SCHEDULES[1:]}
  for name, environment in ENVIRONMENTS.items():
    here = trials.on(stack(change=environment.change))
    runs[name] = _tune(here, SGD, scale)
    for schedule in other if name in GRID else ():
      other[schedule][name] = _tune(here, SGD, scale, schedule)
  for name, method in REGULARIZERS.items():
    runs[name] = _tune(make_trials(method, plain, scale), method, scale)
  return runs, other


def make_trials(
  method: Method, stream: streams.Stream, scale: Scale
) -> protocols.Trials:
  """The program of a method, under any schedule."""
  made = make_schedules(scale.task_steps)
  task_ids = stream.chunk(0, stream.num_steps).task_ids
  # Values are data of the program: schedules cost no compilation.
  table = jnp.stack([values_of(made[name], task_ids) for name in _SCHEDULES])
  rates = lambda setting: (
    lambda count: setting['rate'] * table[jnp.int32(setting['which']), count]
  )
  return protocols.Trials(
    stream,
    [*scale.tuning_seeds, *scale.seeds],
    *method.build(stream, FEATURES, rates),
    evaluate_every=scale.every,
  )


def _tune(
  trials: protocols.Trials,
  method: Method,
  scale: Scale,
  schedule: str = 'constant',
) -> Run:
  axes: Mapping[str, Sequence[float]] = {
    'rate': scale.rates,
    'strength': method.strengths[: scale.strengths],
    'which': [_SCHEDULES.index(schedule)],
  }
  tuned, found = trials.tune(
    axes, tuning_seeds=scale.tuning_seeds, seeds=scale.seeds
  )
  names = ('rate', 'strength') if len(method.strengths) > 1 else ('rate',)
  shown = tuned._replace(setting={n: tuned.setting[n] for n in names})
  return Run(
    protocols.format_setting(shown),
    found.matrix,
    steps_to_goal(found.accuracy, scale.every),
  )
