"""The schedule without an end: it rests at a constant between anneals."""

import optax

from lrcl.base import check_steps
from lrcl.schedules import _checks
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._profiles import Decay, Value
from lrcl.schedules._segments import Segment, segments


def infinite_schedule(
  peak_value: Value,
  constant_value: Value,
  warmup_steps: int,
  cooldown_steps: int,
  *,
  anneal_start: int | None = None,
  anneal_steps: int = 0,
  end_value: Value | None = None,
  init_value: Value = 0.0,
  cooldown: Decay = 'cosine',
) -> optax.Schedule:
  """Warm-up, cool-down to a constant, and from there on no end.

  The constant phase lasts until `anneal_start`. An anneal, exponential, gives
  the result of a task; the next task goes on from the state before it.

  Published settings come in fractions: `infinite_run_schedule` takes those of a
  run, `infinite_task_schedule` those of one task.

  Args:
    peak_value: the value at the end of the warm-up.
    constant_value: the value at the end of the cool-down.
    warmup_steps: steps of the linear rise from `init_value`; may be 0.
    cooldown_steps: steps from the peak to the constant; may be 0.
    anneal_start: the step, counted from 0, at which the anneal starts; None
      never anneals.
    anneal_steps: steps of the anneal.
    end_value: the value at the end of the anneal and after it, greater than 0.
      None is a tenth of the constant. Unused without an anneal.
    init_value: the value at step 0.
    cooldown: 'cosine', 'inverse_sqrt' (time scale 10), 'linear', or a callable
      of `u` in [0, 1] that is 1 at 0.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if a phase is too short, the anneal starts before the end of
      the cool-down, or a value is impossible.

  Example:
    >>> schedule = infinite_schedule(1.0, 0.5, 2, 2)
    >>> [float(schedule(step)) for step in (0, 1, 2, 3, 4, 10**9)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]

  References:
    Ibrahim et al., 2024, `Simple and Scalable Strategies to Continually
    Pre-train Large Language Models <https://arxiv.org/abs/2403.08763>`_
    (https://github.com/EleutherAI/gpt-neox/pull/1194); Singh et al., 2025,
    `Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate
    Schedule for Continual Pre-training <https://arxiv.org/abs/2503.02844>`_.
  """
  return make(
    'infinite_schedule',
    peak_value,
    constant_value,
    warmup_steps,
    cooldown_steps,
    anneal_start=anneal_start,
    anneal_steps=anneal_steps,
    end_value=end_value,
    init_value=init_value,
    cooldown=cooldown,
  )


def make(
  where: str,
  peak_value: Value,
  constant_value: Value,
  warmup_steps: int,
  cooldown_steps: int,
  *,
  anneal_start: int | None,
  anneal_steps: int,
  end_value: Value | None,
  init_value: Value,
  cooldown: Decay,
) -> optax.Schedule:
  """Makes `infinite_schedule`; its messages name `where`."""
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  cooldown_steps = check_steps(where, 'cooldown_steps', cooldown_steps)
  end_value = 0.1 * constant_value if end_value is None else end_value
  _checks.check_values(
    where,
    peak_value=peak_value,
    constant_value=constant_value,
    end_value=end_value,
    init_value=init_value,
  )
  shape = profiles.resolve_shape(
    where, 'cooldown', cooldown, {}, profiles.COOLDOWNS
  )
  before = warmup_steps + cooldown_steps
  constant_steps = _check_anneal(where, before, anneal_start, anneal_steps)
  row = [
    Segment(warmup_steps, init_value, peak_value, profiles.linear),
    Segment(cooldown_steps, peak_value, constant_value, shape),
    Segment(constant_steps, constant_value, constant_value, profiles.hold),
  ]
  if anneal_start is not None:
    ends = {'constant_value': constant_value, 'end_value': end_value}
    anneal = profiles.resolve_shape(where, 'anneal', 'exponential', ends)
    row.append(Segment(anneal_steps, constant_value, end_value, anneal))
  return segments(where, row)


def _check_anneal(
  where: str, before: int, anneal_start: int | None, anneal_steps: int
) -> int:
  """Checks the anneal and returns the steps of the constant phase."""
  if anneal_start is None:
    if check_steps(where, 'anneal_steps', anneal_steps):
      raise ValueError(
        f'{where}: anneal_steps is {anneal_steps} and anneal_start is None; '
        'they must be given together.'
      )
    return 1
  check_steps(where, 'anneal_steps', anneal_steps, 1)
  start = check_steps(where, 'anneal_start', anneal_start)
  if start < before:
    raise ValueError(
      f'{where}: anneal_start is {start}; it must be >= {before}, where the '
      'cool-down ends.'
    )
  return start - before
