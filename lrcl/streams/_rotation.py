"""Rotations of images as tables of pixels and weights."""

from collections.abc import Sequence

import numpy as np


def rotation_tables(
  shape: Sequence[int], angles: Sequence[float]
) -> dict[str, np.ndarray]:
  """The four pixels, and their weights, that make each pixel of each angle.

  Args:
    shape: `(height, width, ...)`.
    angles: degrees.

  Returns:
    `corners` int32 and `mix` float32, both `[angles, 4, height * width]`.
    Pixels beyond the border weigh 0.
  """
  pairs = [_one(shape[0], shape[1], angle) for angle in angles]
  corners, mix = (np.stack(parts) for parts in zip(*pairs, strict=True))
  return {'corners': corners, 'mix': mix}


def _one(
  height: int, width: int, angle: float
) -> tuple[np.ndarray, np.ndarray]:
  sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
  middle = (height - 1) / 2, (width - 1) / 2
  row, column = np.mgrid[:height, :width]
  row, column = row - middle[0], column - middle[1]
  # Where the value of each pixel comes from.
  source_row = np.round(cosine * row + sine * column + middle[0], 9)
  source_column = np.round(cosine * column - sine * row + middle[1], 9)
  top, left = np.floor(source_row), np.floor(source_column)
  corners, mix = [], []
  for down in (0, 1):
    for right in (0, 1):
      y, x = top + down, left + right
      weight = (1 - abs(source_row - y)) * (1 - abs(source_column - x))
      inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
      mix.append(np.where(inside, weight, 0.0))
      corners.append(np.where(inside, y * width + x, 0))
  flat = (4, height * width)
  return (
    np.stack(corners).reshape(flat).astype(np.int32),
    np.stack(mix).reshape(flat).astype(np.float32),
  )
