"""Schedules that warm up again."""

from collections.abc import Sequence
from typing import Any

import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _checks
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._profiles import Decay, Value
from lrcl.schedules._segments import Segment, segments


def repeated_cosine_schedule(
  peak_value: Value,
  cycle_steps: int,
  warmup_steps: int,
  *,
  end_value: Value = 0.0,
  init_value: Value = 0.0,
) -> optax.Schedule:
  """Warm-up and cosine decay, again and again, for ever.

  The first warm-up rises from `init_value`, every later one from `end_value`.

  Args:
    peak_value: the value at the end of each warm-up.
    cycle_steps: steps of a cycle, warm-up included.
    warmup_steps: steps of the linear rise, fewer than `cycle_steps`. With 0
      the value jumps back to the peak.
    end_value: the value at which a cycle ends and the next starts.
    init_value: the value at step 0.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if the warm-up leaves no step for the decay, or a value is
      negative.

  Example:
    >>> schedule = repeated_cosine_schedule(1.0, 4, 2, end_value=0.5)
    >>> [float(schedule(step)) for step in range(9)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.75, 1.0, 0.75, 0.5]

  References:
    Gupta et al., 2023, `Continual Pre-Training of Large Language Models: How
    to (re)warm your model? <https://arxiv.org/abs/2308.04014>`_; Ibrahim et
    al., 2024, `Simple and Scalable Strategies to Continually Pre-train Large
    Language Models <https://arxiv.org/abs/2403.08763>`_.
  """
  where = 'repeated_cosine_schedule'
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  cycle_steps = check_steps(where, 'cycle_steps', cycle_steps, 1)
  if warmup_steps >= cycle_steps:
    raise ValueError(
      f'{where}: warmup_steps is {warmup_steps}; it must be < cycle_steps, '
      f'which is {cycle_steps}.'
    )
  _checks.check_values(
    where, peak_value=peak_value, end_value=end_value, init_value=init_value
  )
  decay_steps = cycle_steps - warmup_steps
  decay = Segment(decay_steps, peak_value, end_value, profiles.cosine)
  row = [
    Segment(warmup_steps, init_value, peak_value, profiles.linear),
    decay,
    Segment(warmup_steps, end_value, peak_value, profiles.linear),
    decay,
  ]
  return segments(where, row, repeat_from=cycle_steps)


def rewarmed_schedule(
  peak_value: Value,
  task_steps: Sequence[int],
  warmup_steps: int,
  *,
  end_value: Value = 0.0,
  init_value: Value = 0.0,
  peak_decay: Value = 1.0,
  decay: Decay = 'cosine',
) -> optax.Schedule:
  """Warm-up and decay once for every task of a stream; tasks may differ.

  A function of the step of the whole run. Task `t`, from 0, rises to
  `peak_value * peak_decay ** t`. The first warm-up rises from `init_value`,
  every later one from `end_value`. After the last task the value stays at
  `end_value`.

  Where the boundaries are not known beforehand, or tasks return, take
  `per_task` around a schedule of one task; for equal tasks without an end,
  `repeated_cosine_schedule`.

  Args:
    peak_value: the value at the end of the first task's warm-up.
    task_steps: the steps of each task, warm-up included.
    warmup_steps: steps of each linear rise, fewer than those of the shortest
      task. With 0 the value jumps to the peak.
    end_value: the value at which a task ends and the next starts. Greater than
      0 for the decays 'exponential' and 'inverse'.
    init_value: the value at step 0.
    peak_decay: the factor from one task's peak to the next one's, greater
      than 0.
    decay: as for `wsd_schedule`.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if there is no task, the warm-up leaves a task no step for its
      decay, or a value or the decay is impossible.

  Example:
    >>> schedule = rewarmed_schedule(1.0, [3, 4], 1, peak_decay=0.5,
    ...                              decay='linear')
    >>> [round(float(schedule(step)), 3) for step in range(9)]
    [0.0, 1.0, 0.5, 0.0, 0.5, 0.333, 0.167, 0.0, 0.0]

  References:
    Gupta et al., 2023, `Continual Pre-Training of Large Language Models: How
    to (re)warm your model? <https://arxiv.org/abs/2308.04014>`_; Mirzadeh et
    al., 2020, `Understanding the Role of Training Regimes in Continual
    Learning <https://arxiv.org/abs/2006.06958>`_ (a rate that shrinks from
    task to task; cited from memory).
  """
  where = 'rewarmed_schedule'
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  lengths = _check_tasks(where, task_steps, warmup_steps)
  values = {'peak_value': peak_value, 'end_value': end_value}
  _checks.check_values(where, init_value=init_value, **values)
  check_value(where, 'peak_decay', peak_decay, above=0.0)
  shape = profiles.resolve_shape(where, 'decay', decay, values)
  row = []
  for task, length in enumerate(lengths):
    start = end_value if task else init_value
    peak = peak_value * peak_decay**task
    row.append(Segment(warmup_steps, start, peak, profiles.linear))
    row.append(Segment(length - warmup_steps, peak, end_value, shape))
  return segments(where, row)


def _check_tasks(where: str, task_steps: Any, warmup_steps: int) -> list[int]:
  """Checks that there are tasks and that each has room for a decay."""
  lengths = []
  for index, steps in enumerate(task_steps):
    steps = check_steps(where, f'task_steps[{index}]', steps, 1)
    if steps <= warmup_steps:
      raise ValueError(
        f'{where}: task_steps[{index}] is {steps}; it must be > warmup_steps, '
        f'which is {warmup_steps}.'
      )
    lengths.append(steps)
  if not lengths:
    raise ValueError(
      f'{where}: task_steps is empty; it must hold one per task.'
    )
  return lengths
