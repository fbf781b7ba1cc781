"""Rows that know their number in the data."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import numpy as np

from lrcl.streams._sources import Source, gather
from lrcl.streams._stream import Prepare


@dataclasses.dataclass(frozen=True)
class NumberedRows:
  """A host source with the number of each row as a further column `row`."""

  source: Source

  def __len__(self) -> int:
    return len(self.source)

  def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Columns at `indices`."""
    return gather(self.source, indices) | {'row': indices.astype(np.int32)}


@dataclasses.dataclass(frozen=True)
class PrepareNumbered:
  """Adds the rows' numbers to what `prepare` makes of them."""

  prepare: Prepare

  def __call__(
    self, rows: Mapping[str, jax.Array], tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of one task."""
    return {**self.prepare(rows, tables, task_id), 'row': rows['row']}


def number_rows(source: Source) -> Source:
  """The source with a column `row`, the number of each row."""
  if not isinstance(source, Mapping):
    return NumberedRows(source)
  count = len(source['labels'])
  return {**source, 'row': np.arange(count, dtype=np.int32)}
