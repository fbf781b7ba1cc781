"""What the metrics share: numpy in, numpy out; jax in, jax out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray
"""A numpy or a jax array."""


def namespace(array: Any) -> Any:
  """`jax.numpy` for a jax array, traced or not, and `numpy` otherwise."""
  return jnp if isinstance(array, jax.Array) else np


def as_float(values: Any) -> Any:
  """`values` as an array of at least float32; wider floats stay as they are."""
  array = values if isinstance(values, jax.Array) else np.asarray(values)
  if array.dtype == object:
    array = np.asarray(array, np.float64)  # None, from JSON, turns into NaN
  wide = array.dtype in (np.dtype('float32'), np.dtype('float64'))
  return array if wide else array.astype('float32')


def undefined(array: Any, drop: int) -> Any:
  """NaN in the shape of `array` without its last `drop` axes."""
  shape = array.shape[: array.ndim - drop]
  return namespace(array).full(shape, np.nan, array.dtype)
