"""A permutation that is never stored: any entry of any epoch, at once."""

from collections.abc import Sequence
import functools
import math

import numpy as np
import numpy.typing as npt

from lrcl.streams._hash import FIRST, HALF, SECOND, hash_keys, scramble

_ROUNDS, _ROUNDS_SMALL, _SMALL = 6, 24, 256


def permute_indices(
  indices: npt.ArrayLike,
  size: int,
  *,
  seed: int | Sequence[int],
  epoch: npt.ArrayLike = 0,
) -> np.ndarray:
  """Looks up entries of a random permutation of `range(size)`.

  The permutation is a pure function of `(seed, epoch)` and is computed entry
  by entry: time and memory are O(len(indices)), whatever `size` is, so a run
  can resume in the middle of an epoch from its step alone.

  A number below `rows * columns` (a near-square grid that hardly exceeds
  `size`) is a pair; the rounds of a Feistel network shift each half by a
  hash of the other one. The few entries that land outside `range(size)` go
  through the network again.

  Args:
    indices: whole numbers in `[0, size)`, of any shape.
    size: how many things are permuted, from 1 to `2**31`.
    seed: a whole number, or several that together are the seed.
    epoch: a whole number, or an array that broadcasts against `indices`;
      every epoch is another permutation.

  Returns:
    int64 array in the shape of `indices` broadcast against `epoch`.

  Raises:
    ValueError: if `size` or an index is out of range.

  Example:
    >>> order = permute_indices(range(5), 5, seed=0)
    >>> sorted(order.tolist())
    [0, 1, 2, 3, 4]
    >>> bool(permute_indices(3, 5, seed=0) == order[3])
    True

  References:
    Black and Rogaway, `Ciphers with Arbitrary Finite Domains
    <https://www.cs.ucdavis.edu/~rogaway/papers/subset.pdf>`_, 2002: the
    generalised Feistel network and cycle walking.
  """
  if not 1 <= size <= 2**31:
    raise ValueError(
      f'permute_indices: size is {size}; it must be from 1 to 2**31.'
    )
  entries, epochs = np.asarray(indices), np.asarray(epoch)
  if entries.size and not 0 <= entries.min() <= entries.max() < size:
    raise ValueError(
      f'permute_indices: indices run from {entries.min()} to '
      f'{entries.max()}; they must lie in 0 to {size - 1}.'
    )
  key = hash_keys(seed if isinstance(seed, Sequence) else (seed,), epochs)
  shape = np.broadcast_shapes(entries.shape, epochs.shape)
  entries = np.broadcast_to(entries.astype(np.uint64), shape)
  if size == 1:
    return np.zeros(shape, np.int64)
  grid = _grid(size)
  result = _network(entries, key, grid)
  outside = np.nonzero(result >= size)
  while outside[0].size:
    keys = np.broadcast_to(key, result.shape)[outside]
    walked = _network(result[outside], keys, grid)
    result[outside] = walked
    outside = tuple(axis[walked >= size] for axis in outside)
  return result.reshape(shape).astype(np.int64)


_ROUND_KEYS = tuple(np.uint64(scramble(i)) for i in range(_ROUNDS_SMALL))


@functools.lru_cache(maxsize=1024)
def _grid(size: int) -> tuple[int, int]:
  """Rows and columns that hold `size` with the fewest cells to spare."""
  root = math.isqrt(size - 1) + 1
  rows = np.arange(root, max(root // 2, root - 512, 1), -1)
  columns = -(-size // rows)
  best = int(np.argmin(rows * columns))
  return int(rows[best]), int(columns[best])


def _network(
  entries: np.ndarray, key: np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
  """Permutes `range(rows * columns)`; `key` broadcasts against `entries`."""
  rows, columns = (np.uint64(side) for side in grid)
  halves = list(np.divmod(np.atleast_1d(entries), columns))
  # Halves of a few values mix slowly, and cost next to nothing.
  rounds = _ROUNDS_SMALL if grid[0] * grid[1] <= _SMALL else _ROUNDS
  for i, round_key in enumerate(_ROUND_KEYS[:rounds]):
    side = i % 2
    other = halves[1 - side] + (key ^ round_key)
    halves[side] = _shift(halves[side], other, (rows, columns)[side])
  return halves[0] * columns + halves[1]


def _shift(
  value: np.ndarray, hashed: np.ndarray, modulus: np.uint64
) -> np.ndarray:
  """`(value + hash) % modulus`, in place on `hashed`; no division."""
  hashed *= FIRST
  hashed ^= hashed >> HALF
  hashed *= SECOND
  hashed >>= HALF
  hashed *= modulus  # 32 random bits times the modulus: the high half is
  hashed >>= HALF  # uniform below the modulus
  hashed += value
  # Below the modulus the difference wraps to a huge number.
  return np.minimum(hashed, hashed - modulus)
