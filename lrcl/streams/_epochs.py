"""Epochs: every row once in an order of its own, cut into batches."""

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._permutation import permute_indices


def draw_epochs(
  steps: np.ndarray, size: int, batch_size: int, seed: tuple[int, ...] | None
) -> tuple[np.ndarray, np.ndarray | None]:
  """Which of `size` rows each step takes, if epoch follows upon epoch.

  Args:
    steps: `[n]`, counted from the first step of the first epoch.
    size: rows of an epoch.
    batch_size: rows of a step; the last batch of an epoch is filled up.
    seed: shuffles; None keeps the order.

  Returns:
    `[n, batch_size]` numbers below `size`, and where they are padding, or
    None if nowhere.
  """
  epoch, position = np.divmod(steps, -(-size // batch_size))
  rank = position[:, None] * batch_size + np.arange(batch_size)
  padding = rank >= size
  if padding.any():
    rank = np.where(padding, rank % size, rank)
  else:
    padding = None
  if seed is not None:
    rank = permute_indices(rank, size, seed=seed, epoch=epoch[:, None])
  return rank, padding


def pad_to_batches(
  rows: np.ndarray, batch_size: int, num_batches: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts `rows` into batches, padded by repeated rows of weight 0."""
  batch_size = check_steps('pad_to_batches', 'batch_size', batch_size, 1)
  num_batches = num_batches or -(-len(rows) // batch_size)
  rank = np.arange(num_batches * batch_size).reshape(num_batches, batch_size)
  weights = (rank < len(rows)).astype(np.float32)
  return rows[rank % len(rows)].astype(np.int32), weights
