"""What all scenarios share: checks, test sets, tasks one after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._epochs import pad_to_batches
from lrcl.streams._plan import Plan, make_plan
from lrcl.streams._sources import Source, as_source, gather, labels_of
from lrcl.streams._stream import EvalSet, Prepare


def make_eval_set(
  where: str,
  source: Source,
  rows: Sequence[np.ndarray],
  tables: Any,
  prepare: Prepare,
) -> EvalSet:
  """Pads the rows of every test set to the longest of them."""
  for task, found in enumerate(rows):
    if not len(found):
      raise ValueError(f'{where}: task {task} has no test rows.')
  most = max(len(found) for found in rows)
  padded = [pad_to_batches(found, most) for found in rows]
  indices, weights = (np.concatenate(p) for p in zip(*padded, strict=True))
  return EvalSet(source, indices, weights, tables, prepare)


def class_test_sets(
  where: str, test: Any, num_classes: int, tables: Any, prepare: Prepare
) -> EvalSet | None:
  """One test set for each class, for tasks that share classes."""
  if test is None:
    return None
  source, labels = read_data(where, 'test', test)
  check_labels(where, 'test', labels, num_classes)
  rows = [np.flatnonzero(labels == c) for c in range(num_classes)]
  return make_eval_set(where, source, rows, tables, prepare)


def read_data(where: str, name: str, data: Any) -> tuple[Source, np.ndarray]:
  """Checked data and its labels."""
  source = as_source(data, where, name)
  return source, labels_of(source, where, name)


def count_classes(
  where: str, labels: np.ndarray, num_classes: int | None
) -> int:
  """The number of classes, by default the largest label + 1."""
  if num_classes is None:
    return max(int(labels.max()) + 1, 1)
  return check_steps(where, 'num_classes', num_classes, 1)


def check_labels(
  where: str, name: str, labels: np.ndarray, num_classes: int
) -> None:
  """Refuses labels outside the classes."""
  low, high = int(labels.min()), int(labels.max())
  if low < 0 or high >= num_classes:
    raise ValueError(
      f'{where}: the labels of {name} run from {low} to {high}; with '
      f'{num_classes} classes they must lie in 0 to {num_classes - 1}.'
    )


def input_shape(source: Source) -> tuple[int, ...]:
  """Shape of one row's inputs."""
  return gather(source, np.zeros(1, np.int32))['inputs'].shape[1:]


def consecutive_plan(
  where: str,
  pools: Sequence[np.ndarray],
  batch_size: int,
  epochs: int,
  steps_per_task: int | None,
  seed: int,
) -> Plan:
  """Every task once, in order."""
  batch_size = check_steps(where, 'batch_size', batch_size, 1)
  if steps_per_task is None:
    epochs = check_steps(where, 'epochs', epochs, 1)
    steps = [epochs * -(-len(pool) // batch_size) for pool in pools]
  else:
    steps = [check_steps(where, 'steps_per_task', steps_per_task, 1)]
    steps *= len(pools)
  steps = [max(count, 1) for count in steps]  # make_plan names empty tasks
  return make_plan(pools, enumerate(steps), batch_size=batch_size, seed=seed)
