"""A schedule that is given by a few of its values."""

from collections.abc import Sequence
import itertools

import optax

from lrcl.base import check_steps
from lrcl.schedules import _checks
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._families import Value
from lrcl.schedules._segments import Segment, segments


def piecewise_linear_schedule(
  steps: Sequence[int], values: Sequence[Value]
) -> optax.Schedule:
  """Straight lines from knot to knot: any schedule, in a few numbers.

  What a search or a law has found takes this form: the record holds the knots.
  Unlike optax's `piecewise_interpolate_schedule` it takes values and not the
  factors between them, so it can leave a 0 again.

  Args:
    steps: of the knots, increasing; the first is 0.
    values: at the knots, one for each; they may be traced. The last one stays.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if the steps do not begin at 0 and increase, there is not one
      value for each, or a value is negative.

  Example:
    >>> schedule = piecewise_linear_schedule([0, 2, 6], [0.0, 1.0, 0.2])
    >>> [round(float(schedule(step)), 3) for step in range(8)]
    [0.0, 0.5, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]
  """
  where = 'piecewise_linear_schedule'
  steps = _check_knots(where, steps, values)
  row = [
    Segment(after - before, *ends, profiles.linear)
    for (before, after), ends in zip(
      itertools.pairwise(steps), itertools.pairwise(values), strict=True
    )
  ]
  return segments(where, row)


def _check_knots(
  where: str, steps: Sequence[int], values: Sequence[Value]
) -> list[int]:
  """Returns the steps as ints."""
  if len(steps) < 2 or len(steps) != len(values):
    raise ValueError(
      f'{where}: there are {len(steps)} steps and {len(values)} values; there '
      'must be at least 2 of each, as many of one as of the other.'
    )
  checked = []
  for index, step in enumerate(steps):
    least = checked[-1] + 1 if checked else 0
    checked.append(check_steps(where, f'steps[{index}]', step, least))
    _checks.check_values(where, **{f'values[{index}]': values[index]})
  if checked[0] != 0:
    raise ValueError(f'{where}: steps[0] is {checked[0]}; it must be 0.')
  return checked
