"""Three sets of small images, as the claims on task sequences take them."""

import os
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from experiments.papers import claims
from lrcl import streams

Name = Literal['digits', 'mnist', 'fashion_mnist']

_DIGITS, _DIGITS_TEST = 1797, 397


class Images(NamedTuple):
  """A set of images with ten classes, ready for `lrcl.streams`.

  Attributes:
    train: `inputs` `[n, pixels]` float32 in `[0, 1]` and `labels` `[n]` int32.
    test: the same of other images.
  """

  train: dict[str, np.ndarray]
  test: dict[str, np.ndarray]

  @property
  def num_pixels(self) -> int:
    """Length of a row."""
    return self.train['inputs'].shape[1]


def load_images(
  name: Name,
  data_dir: str | os.PathLike | None = None,
  *,
  train_rows: int | None = None,
  test_rows: int | None = None,
  seed: int = 0,
) -> Images:
  """Loads images, or as many of them as are asked for.

  Args:
    name: `'digits'` (8 x 8, 1,400 and 397 of them, from scikit-learn),
      `'mnist'` or `'fashion_mnist'` (28 x 28, 60,000 and 10,000).
    data_dir: where `python -m experiments.fetch_data` left the latter two;
      unused for digits.
    train_rows: how many to train on; None: all.
    test_rows: how many to test on; None: all.
    seed: draws these rows, and which of the digits are for testing.

  Raises:
    ValueError: for another name, or for more rows than there are.
    FileNotFoundError: if the data are not there; says how to fetch them.

  Example:
    >>> images = load_images('digits', train_rows=100)
    >>> images.train['inputs'].shape, images.test['labels'].shape
    ((100, 64), (397,))
  """
  if name not in get_args(Name):
    raise ValueError(
      f'load_images: name is {name!r}; it must be one of '
      f'{", ".join(get_args(Name))}.'
    )
  if name == 'digits':
    train, test = streams.digits(seed, _DIGITS_TEST / _DIGITS)
  else:
    train, test = (_read(name, split, data_dir) for split in ('train', 'test'))
  rng = np.random.default_rng(seed)
  train = _some(train, 'train_rows', train_rows, rng)
  return Images(train, _some(test, 'test_rows', test_rows, rng))


def shrink(images: Images, factor: int) -> Images:
  """Square images at a lower resolution: means of blocks of pixels.

  Args:
    images: flat rows of square images.
    factor: side of a block; it divides the side of an image.

  Raises:
    ValueError: if it does not.

  Example:
    >>> rows = {'inputs': np.eye(4, 16, dtype='f4'), 'labels': np.arange(4)}
    >>> shrink(Images(rows, rows), 2).train['inputs'].tolist()[2]
    [0.0, 0.25, 0.0, 0.0]
  """
  side = round(images.num_pixels**0.5)
  if factor < 1 or side % factor or side**2 != images.num_pixels:
    raise ValueError(
      f'shrink: factor is {factor}; it must divide the side of a square image '
      f'of {images.num_pixels} pixels.'
    )
  shape = (-1, side // factor, factor, side // factor, factor)

  def part(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    blocks = rows['inputs'].reshape(shape).mean((2, 4))
    return rows | {'inputs': blocks.reshape(len(blocks), -1)}

  return Images(part(images.train), part(images.test))


def _read(name: str, split: str, data_dir: str | os.PathLike | None) -> Any:
  """All rows of a split, as they are on disk."""
  if data_dir is None:
    raise FileNotFoundError(
      f'load_images: {name} needs a data_dir; run: {claims.FETCH}'
    )
  try:
    return streams.from_tfds(name, split, data_dir=data_dir)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'load_images: {name} is not in {os.fspath(data_dir)}; run: '
      f'{claims.FETCH}'
    ) from error


def _some(
  rows: dict[str, np.ndarray],
  argument: str,
  count: int | None,
  rng: np.random.Generator,
) -> dict[str, np.ndarray]:
  """`count` rows drawn without replacement, flat, in float32."""
  inputs, labels = rows['inputs'], rows['labels']
  if count is not None:
    if not 0 < count <= len(labels):
      raise ValueError(
        f'load_images: {argument} is {count}; it must lie in 1 to '
        f'{len(labels)}.'
      )
    kept = rng.permutation(len(labels))[:count]
    inputs, labels = inputs[kept], labels[kept]
  inputs = inputs.reshape(len(labels), -1)
  if inputs.dtype == np.uint8:
    inputs = inputs.astype(np.float32) / 255
  return {'inputs': inputs, 'labels': labels.astype(np.int32)}
