"""Schedules by a few knots: where they lie, and what is varied of them.

How well a run ends depends on the rate of a step the less, the longer ago the
step was. Hence most knots lie at distances from the end that grow by a factor;
the others divide the run evenly, so that no stretch of it goes without.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FARTHEST = 30.0
"""`exp` of minus this part above the lower limit counts as at the limit."""


def place_knots(first: int, last: int, count: int) -> np.ndarray:
  """The steps of about `count` knots from `first` to `last`, both among them.

  A third of them divide the run evenly; the distances of the others from the
  end are a geometric series. Knots that fall together count once.
  """
  length = last - first
  even = np.linspace(0, length, max(2, count // 3))
  near = np.geomspace(1, length, count - count // 3)
  distances = np.concatenate([even, near]).round().astype(np.int64)
  return last - np.unique(distances)[::-1]


def thin(count: int, every: int) -> np.ndarray:
  """Every so many of `count` knots, counted from the last, and the first."""
  return np.union1d(np.arange(count - 1, -1, -every), [0])


class Knots(NamedTuple):
  """What a search varies: numbers in a box, from which the knots follow.

  The first value is fixed. `falls`: a variable says which part, in logarithms,
  of the distance to `low` a value loses to the next one, so that at least 0 is
  never rising. Otherwise it is a value itself, from 0 at `low` to 1 at `high`.

  Attributes:
    first: the value at the first knot.
    low: no value is less.
    high: no value is greater, where they may rise.
    falls: whether the values never rise.
    end: the last value, where it is fixed.
  """

  first: float
  low: float
  high: float
  falls: bool
  end: float | None = None

  def values(self, variables: np.ndarray) -> np.ndarray:
    """The values at the knots, `[variables + 1]`."""
    if self.falls:
      left = np.exp(-np.cumsum(variables))
      later = self.low + (self.first - self.low) * left
    else:
      later = self.low + (self.high - self.low) * variables
    if self.end is not None:
      later = np.append(later[:-1], self.end)
    return np.append(self.first, later)

  def variables(self, values: np.ndarray) -> np.ndarray:
    """What gives these values, or those in reach that are next to them."""
    if not self.falls:
      span = max(self.high - self.low, 1e-30)
      return np.clip((values[1:] - self.low) / span, 0.0, 1.0)
    span = max(self.first - self.low, 1e-30)
    left = np.clip((values - self.low) / span, np.exp(-_FARTHEST), 1.0)
    return np.maximum(-np.diff(np.log(np.append(1.0, left[1:]))), 0.0)

  def pull_back(self, variables: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The gradient by the variables, given that by the values."""
    slope = slope[1:].copy()
    if self.end is not None:
      slope[-1] = 0.0
    if not self.falls:
      return (self.high - self.low) * slope
    above = (self.first - self.low) * np.exp(-np.cumsum(variables))
    return -np.cumsum((slope * above)[::-1])[::-1]

  def box(self, count: int) -> Sequence[tuple[float, float]]:
    """The limits of `count` variables."""
    return [(0.0, _FARTHEST if self.falls else 1.0)] * count
