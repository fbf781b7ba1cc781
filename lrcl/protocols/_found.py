"""What the runs of a comparison gave."""

from typing import Any, NamedTuple

import jax
import numpy as np


class Found(NamedTuple):
  """What runs gave, numpy arrays with the axes `[settings, seeds]` in front.

  There are P phases (tasks in the order of training; one if they are mixed),
  each with N evaluations, the last of them at its end.

  Attributes:
    accuracy: `[..., P, N, T]` on the test set of each of the T tasks.
    loss: `[..., P, N]`, mean over the training steps since the last
      evaluation.
    read: what `read(state)` gave, each leaf `[..., P, N, ...]`.
  """

  accuracy: Any
  loss: Any
  read: Any

  @property
  def matrix(self) -> np.ndarray:
    """`A[..., i, j]`, accuracy on task j after task i, for `lrcl.metrics`."""
    return self.accuracy[..., -1, :]

  @property
  def series(self) -> np.ndarray:
    """All evaluations in a row `[..., P * N, T]`, for the stability gap.

    The ends of tasks are its rows `N - 1, 2 N - 1, ...`.
    """
    *lead, phases, times, tasks = self.accuracy.shape
    return self.accuracy.reshape(*lead, phases * times, tasks)

  @property
  def final(self) -> Any:
    """Mean accuracy over all tasks at the end `[...]`."""
    return self.accuracy[..., -1, -1, :].mean(-1)

  @property
  def errors(self) -> np.ndarray:
    """1 - `final`, in float64, and NaN where a run was lost on the way."""
    lost = ~np.isfinite(self.loss).all((-2, -1))
    return np.where(lost, np.nan, 1.0 - self.final.astype(np.float64))

  def pick(self, index: Any) -> 'Found':
    """The runs at an index of the leading axes."""
    return jax.tree.map(lambda x: x[index], self)
