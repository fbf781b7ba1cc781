"""Checks that several schedules share."""

from typing import Any

import optax

from lrcl.base import check_value, is_concrete
from lrcl.schedules._profiles import Value


def check_values(where: str, **values: Value) -> None:
  """Checks that every concrete value is finite and not negative."""
  for name, value in values.items():
    check_value(where, name, value, minimum=0.0)


def check_schedule(where: str, argument: str, schedule: Any) -> None:
  """Checks that `schedule` is a function of the step and of nothing else.

  Raises:
    ValueError: if it is not.
  """
  if isinstance(schedule, optax.schedules.StatefulSchedule):
    raise ValueError(
      f'{where}: {argument} has a state of its own; it must be a function of '
      'the step. Put the state outermost: per_task(decay_branch(...)).'
    )
  if not callable(schedule):
    raise ValueError(
      f'{where}: {argument} is {schedule!r}; it must be a function of the '
      'step, such as optax.constant_schedule(0.1).'
    )


def check_between_0_and_1(where: str, name: str, value: Value) -> None:
  """Checks that a concrete value is greater than 0 and less than 1."""
  check_value(where, name, value, above=0.0, maximum=1.0)
  if is_concrete(value) and value == 1:
    raise ValueError(f'{where}: {name} is {value}; it must be < 1.')
