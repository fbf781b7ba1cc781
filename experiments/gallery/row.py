"""The form of a row of the gallery."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = dict[str, Any]


def record(name: str, **kwargs: Any) -> Record:
  """A schedule or a profile in its recordable form."""
  return {'name': name, 'kwargs': kwargs}


def make_row(
  says: str,
  call: Record,
  *,
  steps: int = 1000,
  axis: str = 'step',
  vary: Mapping[str, Sequence[Any]] | None = None,
  feed: Mapping[str, Sequence[tuple[float, float, int]]] | None = None,
) -> dict[str, Any]:
  """One plot, in plain JSON.

  Args:
    says: what the schedule does, in a sentence.
    call: its record.
    steps: how many are drawn of a schedule without a state.
    axis: what they count.
    vary: an argument and the values it takes, a line of the plot for each. A
      kwarg of the call, whose own value comes first; or one that the schedule
      takes besides the step.
    feed: what a schedule with a state is given: for an extra arg its pieces
      `(first, last, steps)`, straight lines one after another; whole numbers
      stay whole.
  """
  return {
    'says': says,
    'call': call,
    'steps': steps,
    'axis': axis,
    'vary': dict(vary or {}),
    'feed': dict(feed or {}),
  }
