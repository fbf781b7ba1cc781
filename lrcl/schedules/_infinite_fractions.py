"""The infinite schedule by fractions, as two lines of work publish it."""

import itertools
import math

import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _infinite
from lrcl.schedules._profiles import Decay, Value


def infinite_run_schedule(
  peak_value: Value,
  constant_value: Value,
  total_steps: int,
  *,
  warmup_fraction: float = 0.01,
  cooldown_fraction: float = 0.6,
  constant_fraction: float = 0.85,
  end_value: Value | None = None,
  cooldown: Decay = 'cosine',
) -> optax.Schedule:
  """The infinite schedule by fractions of a run, the form of GPT-NeoX.

  The cool-down and the constant phase are both counted from the end of the
  warm-up: `warmup_steps + cooldown_fraction * total_steps` is the last step of
  the cool-down, `warmup_steps + constant_fraction * total_steps` the first of
  the anneal, which is exponential and fills the rest of the run. Fractions are
  rounded to whole steps.

  A run that goes on after `total_steps` starts from the state before the
  anneal: see `infinite_task_schedule`.

  Args:
    peak_value: the value at the end of the warm-up, which rises from 0.
    constant_value: the value at the end of the cool-down.
    total_steps: steps of the run.
    warmup_fraction: length of the warm-up.
    cooldown_fraction: length of the cool-down.
    constant_fraction: length of the cool-down and the constant phase together.
    end_value: the value at the end of the anneal and after it, greater than 0.
      None is a tenth of the constant.
    cooldown: as for `infinite_schedule`.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if a fraction is outside of [0, 1], the phases are out of order
      or leave no step for the anneal, or a value is impossible.

  Example:
    >>> schedule = infinite_run_schedule(1.0, 0.5, 100, end_value=0.125)
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 61, 86, 93, 100)]
    [0.0, 1.0, 0.5, 0.5, 0.25, 0.125]

  References:
    Ibrahim et al., 2024, `Simple and Scalable Strategies to Continually
    Pre-train Large Language Models <https://arxiv.org/abs/2403.08763>`_
    (https://github.com/EleutherAI/gpt-neox/pull/1194).
  """
  where = 'infinite_run_schedule'
  total = check_steps(where, 'total_steps', total_steps, 1)
  warmup, cooling, constant = _to_steps(
    where,
    total,
    warmup_fraction=warmup_fraction,
    cooldown_fraction=cooldown_fraction,
    constant_fraction=constant_fraction,
  )
  _check_order(where, cooldown_fraction=cooling, constant_fraction=constant)
  start = warmup + constant
  _check_anneal(where, 'warmup_fraction + constant_fraction', start, total)
  return _infinite.make(
    where,
    peak_value,
    constant_value,
    warmup,
    cooling,
    anneal_start=start,
    anneal_steps=total - start,
    end_value=end_value,
    init_value=0.0,
    cooldown=cooldown,
  )


def infinite_task_schedule(
  peak_value: Value,
  constant_value: Value,
  task_steps: int,
  *,
  is_first: bool = True,
  warmup_end: float = 0.05,
  cooldown_end: float = 0.5,
  constant_end: float = 0.8,
  end_value: Value | None = None,
  cooldown: Decay = 'cosine',
) -> optax.Schedule:
  """The infinite schedule of one task, the form of masked-autoencoder runs.

  The first task warms up, cools down, rests and anneals; its phases end at
  these fractions of the task, rounded to whole steps. A later task has no
  warm-up and no cool-down: it stays at the constant until `constant_end` and
  anneals.

  The anneal is for the result of its task alone. The next task starts from the
  state at `constant_end`, before the anneal, where it left the constant. So
  weights and rate go on without a jump, and what the anneal did to either is
  not carried over. Whoever restores that state as a whole carries Adam's
  moments on, too. The public code of the paper reloads the weights alone: the
  moments start at zero, and without a warm-up the first updates, which bias
  correction makes as large as the rate in every coordinate, are taken at the
  full constant. To repeat that, use `tx.init(params)` in the restored state;
  its clock starts at 0, as this schedule's does. `by_task` alone forks nothing:
  there the next task starts from the annealed weights.

  Args:
    peak_value: the value at the end of the warm-up, which rises from 0. Unused
      in a later task.
    constant_value: the value at the end of the cool-down.
    task_steps: steps of the task.
    is_first: whether this is the first task of the stream.
    warmup_end: where the warm-up ends, as a fraction of the task.
    cooldown_end: where the cool-down ends.
    constant_end: where the anneal starts; it ends with the task.
    end_value: the value at the end of the anneal and after it, greater than 0.
      None is a tenth of the constant.
    cooldown: as for `infinite_schedule`.

  Returns:
    A schedule of the step within the task: int or float steps to float32.

  Raises:
    ValueError: if a fraction is outside of [0, 1], the phases are out of order
      or leave no step for the anneal, or a value is impossible.

  Example:
    >>> later = infinite_task_schedule(1.0, 0.5, 100, is_first=False)
    >>> [round(float(later(step)), 3) for step in (0, 80, 90, 100)]
    [0.5, 0.5, 0.158, 0.05]

  References:
    Singh et al., 2025, `Beyond Cosine Decay: On the effectiveness of Infinite
    Learning Rate Schedule for Continual Pre-training
    <https://arxiv.org/abs/2503.02844>`_.
  """
  where = 'infinite_task_schedule'
  total = check_steps(where, 'task_steps', task_steps, 1)
  ends = {
    'warmup_end': warmup_end,
    'cooldown_end': cooldown_end,
    'constant_end': constant_end,
  }
  warmup, cooled, start = steps = _to_steps(where, total, **ends)
  _check_order(where, **dict(zip(ends, steps, strict=True)))
  _check_anneal(where, 'constant_end', start, total)
  return _infinite.make(
    where,
    peak_value,
    constant_value,
    warmup if is_first else 0,
    cooled - warmup if is_first else 0,
    anneal_start=start,
    anneal_steps=total - start,
    end_value=end_value,
    init_value=0.0,
    cooldown=cooldown,
  )


def _to_steps(where: str, total: int, **fractions: float) -> list[int]:
  """The fractions of `total`, checked and rounded to whole steps."""
  for name, fraction in fractions.items():
    check_value(where, name, fraction, minimum=0.0, maximum=1.0)
  return [math.floor(f * total + 0.5) for f in fractions.values()]


def _check_order(where: str, **ends: int) -> None:
  """Checks that each phase ends no earlier than the one before it."""
  names = list(ends)
  for before, after in itertools.pairwise(names):
    if ends[after] < ends[before]:
      raise ValueError(
        f'{where}: {after} is {ends[after]} steps; it must be >= {before}, '
        f'which is {ends[before]} steps.'
      )


def _check_anneal(where: str, name: str, start: int, total: int) -> None:
  """Checks that the anneal has a step."""
  if start >= total:
    raise ValueError(
      f'{where}: {name} is {start} steps; it must be < {total}, so that the '
      'anneal has a step.'
    )
