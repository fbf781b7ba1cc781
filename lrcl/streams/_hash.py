"""Random numbers that are looked up: any entry, at once, from a seed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xCA5A826395121157)
HALF = np.uint64(32)


def scramble(number: int) -> int:
  """The mixing function of splitmix64."""
  number = (number + GOLDEN) & MASK
  number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
  number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
  return number ^ (number >> 31)


def hash_keys(seed: Sequence[int], *counters: npt.ArrayLike) -> np.ndarray:
  """64 random bits for every combination of counters.

  Args:
    seed: whole numbers that together are the seed.
    *counters: whole numbers, in arrays that broadcast against each other.

  Returns:
    uint64 in their common shape, at least 1-d.
  """
  base = 0
  for part in seed:
    base = scramble((base + int(part)) & MASK)
  key = np.uint64(base)
  for counter in counters:
    # At least 1-d: numpy warns of overflow in scalars.
    spread = np.atleast_1d(counter).astype(np.uint64) * np.uint64(GOLDEN)
    key = _mix(spread ^ key)
  return np.atleast_1d(key)


def hash_uniforms(seed: Sequence[int], *counters: npt.ArrayLike) -> np.ndarray:
  """Uniform numbers in [0, 1), a pure function of seed and counters.

  Args:
    seed: as `hash_keys`.
    *counters: as `hash_keys`.

  Returns:
    float64 in the common shape of the counters, at least 1-d.
  """
  bits = hash_keys(seed, *counters) >> np.uint64(11)
  return bits.astype(np.float64) * 2.0**-53


def _mix(key: np.ndarray) -> np.ndarray:
  for factor in (FIRST, SECOND):
    key = (key ^ (key >> HALF)) * factor
  return key ^ (key >> HALF)
