"""Schedules that warm up again."""

import optax

from lrcl.base import check_steps
from lrcl.schedules import _checks
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._profiles import Value
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
