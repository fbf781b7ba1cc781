"""The rows of many clients in one shape."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrcl import base


class FederatedData(NamedTuple):
  """Rows of all clients, padded to one shape; see `federated_data`.

  Attributes:
    arrays: columns such as `inputs` and `labels`, each `[rows, ...]`.
    rows: int32 `[clients, longest]`, the rows of each; padding repeats them.
    sizes: int32 `[clients]`, how many of them count.
  """

  arrays: Mapping[str, Any]
  rows: Any
  sizes: Any


def federated_data(
  arrays: Mapping[str, Any],
  pools: Sequence[np.ndarray],
  longest: int | None = None,
) -> FederatedData:
  """Pads the clients' rows to one shape.

  Args:
    arrays: columns `[rows, ...]`, as from `lrcl.streams.digits`.
    pools: for each client its rows, as from
      `lrcl.streams.dirichlet_partition`.
    longest: rows after padding; None for those of the largest client. Equal
      shapes let several partitions share one program.

  Raises:
    ValueError: if a client has no rows, or more than `longest`.

  Example:
    >>> data = federated_data(
    ...   {'labels': np.zeros(5)}, [np.array([0, 4]), np.array([1, 2, 3])]
    ... )
    >>> data.rows.tolist(), data.sizes.tolist()
    ([[0, 4, 0], [1, 2, 3]], [2, 3])
  """
  sizes = np.array([len(pool) for pool in pools], np.int32)
  if not len(sizes) or sizes.min() < 1:
    raise ValueError('federated_data: every client must have rows.')
  longest = int(sizes.max()) if longest is None else longest
  longest = base.check_steps('federated_data', 'longest', longest, 1)
  if sizes.max() > longest:
    raise ValueError(
      f'federated_data: longest is {longest}; it must be >= {sizes.max()}, the '
      'rows of the largest client.'
    )
  rows = np.stack([np.resize(pool, longest) for pool in pools])
  return FederatedData(dict(arrays), rows.astype(np.int32), sizes)
