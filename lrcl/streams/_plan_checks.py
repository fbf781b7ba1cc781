"""What every plan refuses, in the same words."""

from lrcl.base import check_steps


def check_chunk(
  where: str, start: int, steps: int, num_steps: int
) -> tuple[int, int]:
  """The first step and the number of steps of a chunk, checked.

  Args:
    where: the name of the plan's type.
    start: the first step.
    steps: how many.
    num_steps: the length of the plan.

  Raises:
    ValueError: if a step lies outside the plan.
  """
  start = check_steps(f'{where}.chunk', 'start', start)
  steps = check_steps(f'{where}.chunk', 'steps', steps)
  if start + steps > num_steps:
    raise ValueError(
      f'{where}.chunk: steps {start} to {start + steps} go past the end of '
      f'the plan, which has {num_steps} steps.'
    )
  return start, steps


def check_hold(step: int, num_steps: int) -> int:
  """The step from which on a plan is held, checked.

  Raises:
    ValueError: if it is not in `[1, num_steps]`.
  """
  if not 1 <= check_steps('hold', 'step', step) <= num_steps:
    raise ValueError(
      f'hold: step is {step}; it must be from 1 to {num_steps}, the length of '
      'the stream.'
    )
  return step
