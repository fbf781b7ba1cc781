"""The loss and the applied rate of every step since the last record."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrcl.training._step import StepInfo


class Trace:
  """Collects what the chunks report, until a record takes it.

  Args:
    start: the step at which the trace begins.
    saved: a trace that a checkpoint holds, to go on from.
  """

  def __init__(self, start: int, saved: Mapping[str, Any] | None = None):
    self.start = start
    self.count = -1
    self._losses: list[np.ndarray] = []
    self._rates: list[np.ndarray] = []
    if saved and saved['loss']:
      self.start = saved['start']
      self._losses = [np.asarray(saved['loss'], np.float32)]
      self._rates = [np.asarray(saved['learning_rate'], np.float32)]

  def add(self, infos: StepInfo, steps: int) -> None:
    """Adds the first `steps` columns of a chunk's reports."""
    losses, rates, counts = map(np.asarray, infos)
    self._losses.append(losses[..., :steps])
    rates = rates[..., :steps]
    self._rates.append(_shared(rates))
    self.count = int(counts[..., steps - 1].reshape(-1)[0])

  @property
  def last_rate(self) -> float:
    """The rate of the newest step (of the first replica)."""
    if not self._rates:
      return float('nan')
    return float(self._rates[-1][..., -1].reshape(-1)[0])

  @property
  def last_loss(self) -> float:
    """The loss of the newest step, the mean over replicas."""
    return float(np.mean(self._losses[-1][..., -1]))

  def as_dict(self) -> dict[str, Any]:
    """`start`, `loss` and `learning_rate`, as a record holds them."""
    join = lambda parts: np.concatenate(_alike(parts), -1) if parts else []
    return dict(
      start=self.start, loss=join(self._losses), learning_rate=join(self._rates)
    )


def _shared(rates: np.ndarray) -> np.ndarray:
  """`[steps]` where all replicas have the same rates."""
  if rates.ndim > 1 and (rates == rates[:1]).all():
    return rates[0]
  return rates


def _alike(parts: list[np.ndarray]) -> list[np.ndarray]:
  """Gives every part the replica axis that any part has."""
  replicas = max((p.shape[0] for p in parts if p.ndim > 1), default=None)
  if replicas is None:
    return parts
  spread = lambda p: np.broadcast_to(p, (replicas, p.shape[-1]))
  return [spread(p) for p in parts]
