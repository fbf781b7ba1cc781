"""How well predicted losses meet measured ones."""

from typing import Any, NamedTuple

import numpy as np


class Scores(NamedTuple):
  """Errors of a forecast.

  Attributes:
    r2: the part of the measured variance that is explained.
    mae: mean absolute error.
    rmse: root of the mean squared error.
    mean_relative: mean of the absolute error over the loss.
    worst_relative: the largest of it.
  """

  r2: float
  mae: float
  rmse: float
  mean_relative: float
  worst_relative: float


def score(predicted: Any, measured: Any) -> Scores:
  """Scores predicted losses against measured ones, in float64.

  Args:
    predicted: `[readings]`.
    measured: `[readings]`, greater than 0 and not all alike.

  Returns:
    `Scores` of Python floats.

  Raises:
    ValueError: if the shapes differ, or the measured losses are all alike or
      not greater than 0.

  Example:
    >>> result = score([2.0, 1.5, 1.0], [2.0, 1.5, 1.25])
    >>> f'{result.r2:.4f} {result.worst_relative:.2f}'
    '0.7857 0.20'
  """
  predicted, measured = (
    np.asarray(row, np.float64) for row in (predicted, measured)
  )
  if predicted.shape != measured.shape or predicted.ndim != 1:
    raise ValueError(
      f'score: predicted has shape {predicted.shape} and measured '
      f'{measured.shape}; both must be [readings].'
    )
  if not np.all(measured > 0) or np.ptp(measured) == 0:
    raise ValueError('score: measured must be > 0 and not all alike.')
  error = np.abs(predicted - measured)
  spread = np.sum((measured - measured.mean()) ** 2)
  relative = error / measured
  values = (
    1 - np.sum(error**2) / spread,
    error.mean(),
    np.sqrt(np.mean(error**2)),
    relative.mean(),
    relative.max(),
  )
  return Scores(*map(float, values))
