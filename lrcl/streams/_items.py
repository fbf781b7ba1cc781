"""Sources that yield one example at a time: TFDS, grain, lists of dicts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import numpy as np

ExampleFn = Callable[[Any], Mapping[str, Any]]
"""From one example to `{'inputs': array, 'labels': whole number, ...}`."""

_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class PickColumns:
  """The usual `ExampleFn`: renames two columns and drops the others."""

  inputs: str = 'image'
  labels: str = 'label'

  def __call__(self, example: Mapping[str, Any]) -> dict[str, Any]:
    """Picks `inputs` and `labels`."""
    return {'inputs': example[self.inputs], 'labels': example[self.labels]}


@dataclasses.dataclass(frozen=True, eq=False)
class ItemSource:
  """A host source over anything with `__len__` and `__getitem__`.

  Such as a `tfds.data_source`, a grain random access source or map dataset,
  or a list of dicts. Examples are read when a chunk needs them, many at once
  where the items have a `__getitems__`.

  Args:
    items: examples by number, each a dict.
    example_fn: makes `inputs` and `labels` of an example; None: its columns
      `image` and `label`. Inputs keep their dtype and must have one shape.
    name: says what the data are, for the stream's digest.
    read_labels: returns all labels at once, where that is cheaper than
      reading every example.

  Example:
    >>> items = [{'image': np.full(2, i, np.uint8), 'label': i % 2}
    ...          for i in range(4)]
    >>> source = ItemSource(items)
    >>> source.rows(np.array([3, 0]))['inputs'].tolist()
    [[3, 3], [0, 0]]
  """

  items: Any
  example_fn: ExampleFn | None = None
  name: str = ''
  read_labels: Callable[[], np.ndarray] | None = None

  def __len__(self) -> int:
    return len(self.items)

  def describe(self) -> str:
    """The name, the length and how examples are read."""
    made_by = self.name or type(self.items).__qualname__
    return f'{made_by}|{len(self)}|{self.example_fn!r}'

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """Labels of all rows, int32; reads everything once."""
    if self.read_labels is not None:
      return np.asarray(self.read_labels(), np.int32)
    parts = [block['labels'] for _, block in self.blocks()]
    return np.concatenate(parts)

  def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Columns at `indices`, each `[*indices.shape, ...]`."""
    pick = self.example_fn or PickColumns()
    numbers = np.asarray(indices).ravel().tolist()
    columns: dict[str, list] = {}
    for number, example in zip(numbers, self._examples(numbers), strict=True):
      if example is None:  # what a filter of a grain MapDataset leaves behind
        raise ValueError(
          f'ItemSource: example {number} is None; every number must have an '
          'example, so filter the data before they are numbered.'
        )
      for name, value in pick(example).items():
        columns.setdefault(name, []).append(value)
    stacked = {name: _stack(name, column) for name, column in columns.items()}
    shape = np.shape(indices)
    return {n: c.reshape(*shape, *c.shape[1:]) for n, c in stacked.items()}

  def arrays(self) -> dict[str, np.ndarray]:
    """Reads everything into memory: the same rows as columns."""
    columns: dict[str, np.ndarray] = {}
    for start, block in self.blocks():
      for name, part in block.items():
        if name not in columns:
          columns[name] = np.empty((len(self), *part.shape[1:]), part.dtype)
        if columns[name].shape[1:] != part.shape[1:]:
          raise ValueError(_ragged(name))
        columns[name][start : start + len(part)] = part
    return columns

  def blocks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """All rows in order, some at a time, with the number of the first."""
    for start in range(0, len(self), _BLOCK):
      yield start, self.rows(np.arange(start, min(start + _BLOCK, len(self))))

  def _examples(self, numbers: Sequence[int]) -> Sequence[Any]:
    if hasattr(self.items, '__getitems__'):
      return self.items.__getitems__(numbers)
    return [self.items[number] for number in numbers]


def _stack(name: str, values: Sequence[Any]) -> np.ndarray:
  arrays = [np.asarray(value) for value in values]
  if len({array.shape for array in arrays}) > 1:
    raise ValueError(_ragged(name))
  return np.stack(arrays).astype(
    np.int32 if name == 'labels' else arrays[0].dtype, copy=False
  )


def _ragged(name: str) -> str:
  return (
    f'ItemSource: the examples differ in the shape of {name}; give an '
    'example_fn that brings them to one shape.'
  )
