"""Schedules that stay high and decay when a result is wanted."""

from collections.abc import Sequence
import math
from typing import Any, Literal

import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _checks
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._profiles import Decay, Value
from lrcl.schedules._segments import Segment, segments


def wsd_schedule(
  peak_value: Value,
  warmup_steps: int,
  stable_steps: int,
  decay_steps: int,
  *,
  init_value: Value = 0.0,
  end_value: Value = 0.0,
  decay: Decay = 'linear',
) -> optax.Schedule:
  """Warm-up, stable, decay: a trapezoid whose last side may bend.

  With `stable_steps=0` and the linear decay this is warm-up and linear decay
  to zero.

  Args:
    peak_value: the value of the stable phase.
    warmup_steps: steps of the linear rise from `init_value`; may be 0.
    stable_steps: steps at `peak_value`; may be 0.
    decay_steps: steps of the decay, at least 1.
    init_value: the value at step 0.
    end_value: the value at the end of the decay and after it. Greater than 0
      for the decays 'exponential' and 'inverse'.
    decay: 'linear', 'cosine', 'one_minus_sqrt', 'square', 'exponential',
      'inverse' (1 / value is linear), 'mirror_cosine', or a callable of `u` in
      [0, 1] that is 1 at 0, such as `power_profile(1.5)`.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if a phase is too short, a value is negative, or the decay is
      unknown or impossible.

  Example:
    >>> schedule = wsd_schedule(0.1, 2, 4, 4)
    >>> [round(float(schedule(step)), 3) for step in range(11)]
    [0.0, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025, 0.0]

  References:
    Hu et al., 2024, `MiniCPM: Unveiling the Potential of Small Language Models
    with Scalable Training Strategies <https://arxiv.org/abs/2404.06395>`_;
    Hägele et al., 2024, `Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations <https://arxiv.org/abs/2405.18392>`_ (the shapes;
    https://github.com/epfml/schedules-and-scaling).
  """
  where = 'wsd_schedule'
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  stable_steps = check_steps(where, 'stable_steps', stable_steps)
  decay_steps = check_steps(where, 'decay_steps', decay_steps, 1)
  values = {'peak_value': peak_value, 'end_value': end_value}
  _checks.check_values(where, init_value=init_value, **values)
  shape = profiles.resolve_shape(where, 'decay', decay, values)
  row = [
    Segment(warmup_steps, init_value, peak_value, profiles.linear),
    Segment(stable_steps, peak_value, peak_value, profiles.hold),
    Segment(decay_steps, peak_value, end_value, shape),
  ]
  return segments(where, row)


def wsd_s_schedule(
  peak_value: Value,
  warmup_steps: int,
  cycle_ends: Sequence[int],
  *,
  decay_fraction: float = 0.1,
  decay_of: Literal['cycle', 'total'] = 'cycle',
  init_value: Value = 0.0,
  end_value: Value | None = None,
  decay: Decay = 'inverse',
) -> optax.Schedule:
  """WSD, simplified: one run that decays at the end of every cycle.

  After a decay the value is back at the peak in the next step, and training
  goes on from the decayed weights. There is one warm-up, in the first cycle.

  Args:
    peak_value: the value of the stable phases.
    warmup_steps: steps of the linear rise from `init_value`; may be 0.
    cycle_ends: the steps at which the cycles end, increasing. A checkpoint
      taken after that many steps is a decayed one.
    decay_fraction: length of a decay as a fraction, in (0, 1], rounded to
      whole steps.
    decay_of: of what: 'cycle', the cycle's own length, or 'total', all the
      steps up to its end.
    init_value: the value at step 0.
    end_value: the value towards which every cycle decays, and which stays
      after the last. None is a tenth of the peak.
    decay: as for `wsd_schedule`.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if the cycle ends do not increase, a decay or the warm-up does
      not fit in its cycle, a value is negative, or the decay is impossible.

  Example:
    >>> schedule = wsd_s_schedule(1.0, 0, [4, 8], decay_fraction=0.5)
    >>> [round(float(schedule(step)), 3) for step in range(9)]
    [1.0, 1.0, 1.0, 0.182, 1.0, 1.0, 1.0, 0.182, 0.1]

  References:
    Wen et al., 2024, `Understanding Warmup-Stable-Decay Learning Rates: A
    River Valley Loss Landscape Perspective
    <https://arxiv.org/abs/2410.05192>`_. Levanter takes the fraction of the
    cycle, lingua (https://github.com/facebookresearch/lingua) of the total.
  """
  where = 'wsd_s_schedule'
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  cycles = _check_cycles(where, cycle_ends, decay_fraction, decay_of)
  end_value = 0.1 * peak_value if end_value is None else end_value
  values = {'peak_value': peak_value, 'end_value': end_value}
  _checks.check_values(where, init_value=init_value, **values)
  shape = profiles.resolve_shape(where, 'decay', decay, values)
  if warmup_steps > cycles[0][0]:
    raise ValueError(
      f'{where}: warmup_steps is {warmup_steps}; it must be <= '
      f'{cycles[0][0]}, the steps of the first cycle before its decay.'
    )
  row = [Segment(warmup_steps, init_value, peak_value, profiles.linear)]
  for index, (stable, decaying) in enumerate(cycles):
    stable -= warmup_steps if index == 0 else 0
    row.append(Segment(stable, peak_value, peak_value, profiles.hold))
    row.append(Segment(decaying, peak_value, end_value, shape))
  return segments(where, row)


def _check_cycles(
  where: str, cycle_ends: Any, fraction: float, decay_of: str
) -> list[tuple[int, int]]:
  """Checks the cycles and returns the steps before and in each decay."""
  if decay_of not in ('cycle', 'total'):
    raise profiles.unknown_name(where, 'decay_of', decay_of, ('cycle', 'total'))
  check_value(where, 'decay_fraction', fraction, above=0.0, maximum=1.0)
  cycles, begin = [], 0
  for index, end in enumerate(cycle_ends):
    end = check_steps(where, f'cycle_ends[{index}]', end, begin + 1)
    length = end - begin
    whole = length if decay_of == 'cycle' else end
    decaying = math.floor(fraction * whole + 0.5)
    if not 1 <= decaying <= length:
      raise ValueError(
        f'{where}: decay_fraction is {fraction}; it makes the decay before '
        f'step {end} {decaying} steps long, and it must take 1 to {length} '
        'steps, the length of its cycle.'
      )
    cycles.append((length - decaying, decaying))
    begin = end
  if not cycles:
    raise ValueError(f'{where}: cycle_ends is empty; it must name a step.')
  return cycles
