"""Runs that are evaluated every few steps: schedules, tuning, what is read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import stability_gap_methods
from lrcl import base, metrics, protocols, schedules
from lrcl.streams import Stream

CHANCE = 0.1
"""Accuracy of a guess among all classes."""

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def make_schedules(task_steps: int) -> dict[str, base.ScheduleLike]:
  """Five schedules with the peak 1; what they differ in is the task's start.

  The first and the last one know of no tasks. Warm-ups take a fifth of a task,
  the decay of WSD another, the cool-down of the infinite schedule two, down to
  half of the peak, where it stays.
  """
  fifth = task_steps // 5
  rest = task_steps - 2 * fifth
  return {
    'constant': optax.constant_schedule(1.0),
    're-warm': schedules.per_task(
      optax.warmup_constant_schedule(0.0, 1.0, fifth)
    ),
    'cosine restart': schedules.per_task(
      schedules.repeated_cosine_schedule(1.0, task_steps, 0)
    ),
    'WSD': schedules.per_task(schedules.wsd_schedule(1.0, fifth, rest, fifth)),
    'infinite': schedules.infinite_schedule(1.0, 0.5, fifth, 2 * fifth),
  }


QUARTER = 'constant, a quarter'
"""A row without tuning: a quarter of the rate that is best for constant."""


def values_of(schedule: Any, task_ids: np.ndarray) -> np.ndarray:
  """The values of a schedule, with a state or without, at every step."""
  if not isinstance(schedule, optax.schedules.StatefulSchedule):
    return np.array([schedule(n) for n in range(len(task_ids))], np.float32)
  state, values = schedule.init(), []
  for task in task_ids:
    values.append(schedule(state, task_id=task))
    state = schedule.update(state, task_id=task)
  return np.array(values, np.float32)


class Gap(NamedTuple):
  """What a method gave under one schedule, arrays `[seeds]`.

  Attributes:
    setting: the tuned values, in words.
    final: mean accuracy over all tasks at the end.
    old: the same over all tasks but the last.
    lowest: min-ACC.
    worst: WC-ACC.
    depth: of the gap, mean over the switches.
    recovery: steps until the gap has closed, mean over the switches.
    late: the dip that the second half of a task has by itself, see `late_dip`.
  """

  setting: str
  final: Any
  old: Any
  lowest: Any
  worst: Any
  depth: Any
  recovery: Any
  late: Any

  @property
  def retains(self) -> bool:
    """Whether more than chance is left of the old tasks."""
    return bool(self.old.mean() > CHANCE)


class Scale(NamedTuple):
  """How much is done.

  Attributes:
    task_steps: steps of a task.
    every: steps between two evaluations.
    rates: to choose from.
    strengths: how many of a method's strengths to choose from.
    tuning_seeds: seeds on which to choose.
    seeds: seeds to report.
  """

  task_steps: int
  every: int
  rates: Sequence[float]
  strengths: int
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]


def measure(
  method: stability_gap_methods.Method,
  make_stream: Callable[..., Stream],
  features: Sequence[int],
  scale: Scale,
) -> dict[str, Gap]:
  """Tunes a method for every schedule and follows the old tasks.

  The strength is chosen together with the rate of the constant schedule and
  kept; every schedule has a rate of its own, from the same grid. A method that
  has lost the old tasks under the constant one is not tried under others.
  """
  every_seed = [*scale.tuning_seeds, *scale.seeds]
  stream = make_stream(every_seed, steps_per_task=scale.task_steps)
  made = make_schedules(scale.task_steps)
  task_ids = stream.chunk(0, stream.num_steps).task_ids
  table = jnp.stack([values_of(s, task_ids) for s in made.values()])
  # Values are data of the program: schedules cost no compilation.
  rates = lambda setting: (
    lambda count: setting['rate'] * table[jnp.int32(setting['which']), count]
  )
  model = method.build(stream, features, rates)
  quick = protocols.Trials(stream, every_seed, *model)
  close = protocols.Trials(
    stream, every_seed, *model, evaluate_every=scale.every
  )
  strengths = method.strengths[: scale.strengths]
  gaps = {}
  for which, name in enumerate(made):
    axes = {'rate': scale.rates, 'strength': strengths, 'which': [which]}
    setting, edges, *_ = quick.search(axes, scale.tuning_seeds)
    strengths = [setting['strength']]
    words = _words(setting, edges)
    gaps[name] = _follow(close, setting, words, scale)
    if name == 'constant':
      less = {**setting, 'rate': setting['rate'] / 4}
      if not gaps[name].retains:
        break
      gaps[QUARTER] = _follow(close, less, _words(less, ()), scale)
  return gaps


def late_dip(found: protocols.Found) -> np.ndarray:
  """How far old tasks dip in second halves of tasks `[seeds]`.

  From the lower one of the levels at the half and at the end of a task down to
  the lowest point between, for the mean over all earlier tasks, then the mean
  over the tasks but the first: what the noise of training does to a minimum,
  with no switch around.
  """
  times = found.accuracy.shape[-2]
  dips = []
  for task in range(1, found.accuracy.shape[-3]):
    level = found.accuracy[..., task, times // 2 :, :task].mean(-1)
    ends = np.minimum(level[..., 0], level[..., -1])
    dips.append(ends - level.min(-1))
  return np.mean(dips, axis=0)


def _follow(
  trials: protocols.Trials,
  setting: Mapping[str, float],
  words: str,
  scale: Scale,
) -> Gap:
  """Runs one setting on the seeds to report."""
  alone = protocols.grid({name: [value] for name, value in setting.items()})
  found = trials.sweep(alone, scale.seeds).pick(0)
  times, tasks = found.accuracy.shape[-2], found.accuracy.shape[-3]
  ends = [times * (task + 1) - 1 for task in range(tasks)]
  steps = scale.every * (1 + np.arange(times * tasks))
  gap = metrics.stability_gap(found.series, ends, steps=steps)
  return Gap(
    setting=words,
    final=found.final,
    old=found.matrix[..., -1, :-1].mean(-1),
    lowest=np.asarray(metrics.min_accuracy(found.series, ends)),
    worst=np.asarray(metrics.worst_case_accuracy(found.series, ends)),
    depth=np.asarray(gap.depth).mean(-1),
    recovery=np.asarray(gap.recovery_steps).mean(-1),
    late=late_dip(found),
  )


def _words(setting: Mapping[str, float], edges: Sequence[str]) -> str:
  """Rate and strength in a line."""
  shown = {n: setting[n] for n in ('rate', 'strength')}
  return protocols.format_setting(
    protocols.Tuned(shown, tuple(edges), np.zeros(1))
  )
