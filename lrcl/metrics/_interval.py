"""Means over seeds, and how far they can be trusted."""

from typing import Any

import numpy as np


def mean_interval(
  values: Any, *, axis: int = 0, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """Mean over seeds and the half width of its Student t interval.

  The interval is `mean +- t * s / sqrt(n)` with n - 1 degrees of freedom and
  the sample deviation s. It assumes independent, roughly normal seeds; with
  three seeds t is 4.3, so an interval is wide by right. Runs on the host.

  Args:
    values: numbers, one per seed along `axis`.
    axis: the axis of the seeds.
    confidence: the probability that the interval covers the true mean.

  Returns:
    `(mean, half_width)`, float64 without `axis`. The half width is NaN for
    one seed, which says nothing about the spread.

  Raises:
    ValueError: if there is no seed or `confidence` is not inside (0, 1).

  Example:
    >>> mean, half = mean_interval([0.8, 0.9, 1.0])
    >>> print(f'{mean:.3f} +- {half:.3f}')
    0.900 +- 0.248
  """
  from scipy import stats

  x = np.asarray(values, np.float64)
  if x.ndim == 0 or x.shape[axis] == 0:
    raise ValueError(
      f'mean_interval: values has shape {x.shape}; it must hold at least one '
      'seed along its axis.'
    )
  if not 0 < confidence < 1:
    raise ValueError(
      f'mean_interval: confidence is {confidence}; it must lie inside (0, 1).'
    )
  seeds, mean = x.shape[axis], x.mean(axis)
  if seeds == 1:
    return mean, np.full_like(mean, np.nan)
  quantile = stats.t.ppf((1 + confidence) / 2, seeds - 1)
  return mean, quantile * x.std(axis, ddof=1) / np.sqrt(seeds)
