"""How far an accuracy falls, and how far it rises, within a few evaluations."""

from typing import Any

from lrcl.base import check_steps
from lrcl.metrics._arrays import Array, as_float, namespace


def windowed_forgetting(accuracy: Any, window: int) -> Array:
  """The largest fall of an accuracy within `window` evaluations.

  `max over m < n with n - m < window of a(m) - a(n)`, at least 0: how far a
  task can drop in a short time, which evaluations at the ends of tasks do not
  see.

  Args:
    accuracy: `[..., n, T]`, accuracy on every task at every evaluation.
    window: evaluations, at least 2.

  Returns:
    An array `[..., T]` of the same kind, at least float32; the paper averages
    it over tasks.

  Raises:
    ValueError: if there are less than two axes or the window is too short.

  Example:
    >>> print(windowed_forgetting([[0.9], [0.5], [0.2]], 2)[0].round(6))
    0.4

  References:
    De Lange et al., `Continual evaluation for lifelong learning: identifying
    the stability gap <https://arxiv.org/abs/2205.13452>`_, 2023. Formula
    unconfirmed (from memory of the paper).
  """
  return _largest('windowed_forgetting', accuracy, window, -1)


def windowed_plasticity(
  accuracy: Any, window: int, *, as_code: bool = False
) -> Array:
  """The largest rise of an accuracy within `window` evaluations.

  `max over m < n with n - m < window of a(n) - a(m)`, at least 0.

  Args:
    accuracy: `[..., n, T]`, accuracy on every task at every evaluation.
    window: evaluations, at least 2.
    as_code: instead, what the authors' public code gives: it skips starts
      below an earlier value of the window, which leaves the rise from the first
      evaluation of each full window; it may be negative. For comparison with
      its numbers only.

  Returns:
    An array `[..., T]` of the same kind, at least float32.

  Raises:
    ValueError: if there are less than two axes or the window is too short.

  Example:
    >>> print(windowed_plasticity([[0.9], [0.2], [0.8]], 3)[0].round(6))
    0.6

  References:
    As `windowed_forgetting`; the variant is from the repository
    Mattdl/ContinualEvaluation.
  """
  if as_code:
    return _as_code(accuracy, window)
  return _largest('windowed_plasticity', accuracy, window, 1)


def _largest(where: str, accuracy: Any, window: int, sign: int) -> Array:
  """The largest change in one direction over all distances in the window."""
  a = _series(where, accuracy, window)
  xp = namespace(a)
  best = xp.zeros((*a.shape[:-2], a.shape[-1]), a.dtype)
  for distance in range(1, min(window, a.shape[-2])):
    change = sign * (a[..., distance:, :] - a[..., :-distance, :])
    best = xp.maximum(best, change.max(-2))
  return best


def _as_code(accuracy: Any, window: int) -> Array:
  a = _series('windowed_plasticity', accuracy, window)
  xp, length = namespace(a), a.shape[-2]
  best = xp.full((*a.shape[:-2], a.shape[-1]), -xp.inf, a.dtype)
  starts = max(length - window, 0) + 1  # each begins a window
  for distance in range(1, min(window, length)):
    count = min(starts, length - distance)
    change = a[..., distance : distance + count, :] - a[..., :count, :]
    best = xp.maximum(best, change.max(-2))
  return best


def _series(where: str, accuracy: Any, window: int) -> Any:
  check_steps(where, 'window', window, 2)
  a = as_float(accuracy)
  if a.ndim < 2 or not a.shape[-2]:
    raise ValueError(
      f'{where}: accuracy has shape {a.shape}; it must be [..., n, T]: '
      'evaluations by tasks.'
    )
  return a
