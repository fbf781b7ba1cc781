"""Where rows come from: arrays in memory, or anything with random access."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

RESIDENT_BYTES = 2**30
"""Arrays up to this size are kept on the device (1 GiB)."""


@runtime_checkable
class HostSource(Protocol):
  """Data that is gathered on the host, one chunk ahead of the device."""

  def __len__(self) -> int:
    """Number of rows."""
    ...

  def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Columns at `indices` (of any shape), each `[*indices.shape, ...]`."""
    ...


Source = Mapping[str, np.ndarray] | HostSource
"""Columns in memory, or something that gathers them on the host."""


def gather(source: Source, indices: np.ndarray) -> dict[str, np.ndarray]:
  """Reads rows on the host: `[*indices.shape, ...]` for each column."""
  if isinstance(source, Mapping):
    # A memory map's rows are plain arrays.
    return {n: np.asarray(column[indices]) for n, column in source.items()}
  return source.rows(indices)


def is_resident(source: Source, resident_bytes: int = RESIDENT_BYTES) -> bool:
  """Whether `source` is arrays in memory that may be kept on the device.

  Example:
    >>> arrays = {'inputs': np.zeros((8, 2), np.float32)}  # 64 bytes
    >>> is_resident(arrays), is_resident(arrays, resident_bytes=32)
    (True, False)
  """
  if not isinstance(source, Mapping):
    return False
  mapped = any(isinstance(c, np.memmap) for c in source.values())
  return not mapped and sum(c.nbytes for c in source.values()) <= resident_bytes


def as_source(data: Any, where: str, name: str) -> Source:
  """Checks training or test data and brings labels to int32.

  Raises:
    ValueError: if columns are missing, empty or of different lengths.
  """
  if not isinstance(data, Mapping):
    if isinstance(data, HostSource) and 0 < len(data) < 2**31:
      return data
    rows = f' of {len(data)} rows' if isinstance(data, HostSource) else ''
    raise ValueError(
      f'{where}: {name} is {type(data).__name__}{rows}; it must be a dict of '
      'numpy arrays with inputs and labels, or a host source of 1 to 2**31 - 1 '
      'rows, such as an ItemSource.'
    )
  missing = {'inputs', 'labels'} - set(data)
  if missing:
    raise ValueError(
      f'{where}: {name} lacks {sorted(missing)}; it has {sorted(data)}.'
    )
  source = {key: np.asanyarray(column) for key, column in data.items()}
  lengths = {key: len(column) for key, column in source.items()}
  if len(set(lengths.values())) > 1 or not lengths['labels']:
    raise ValueError(
      f'{where}: the columns of {name} must be equally long and not empty; '
      f'their lengths are {lengths}.'
    )
  if not np.issubdtype(source['labels'].dtype, np.integer):
    raise ValueError(
      f'{where}: the labels of {name} are {source["labels"].dtype}; they '
      'must be whole numbers.'
    )
  # In memory even where the inputs are mapped: every scenario reads them all.
  source['labels'] = np.asarray(source['labels']).astype(np.int32, copy=False)
  return source


def labels_of(source: Source, where: str, name: str) -> np.ndarray:
  """The labels of all rows, `[N]`.

  Raises:
    ValueError: if there is not one whole number per row.
  """
  if isinstance(source, Mapping):
    labels = source['labels']
  else:
    labels = np.asarray(getattr(source, 'labels', None))
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'{where}: the labels of {name} have shape {labels.shape}; there must '
      'be one whole number per row.'
    )
  return labels
