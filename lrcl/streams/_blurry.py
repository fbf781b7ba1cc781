"""Tasks with blurred boundaries: some classes stay, some leak into others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrcl.base import check_steps, check_value
from lrcl.streams._plan import make_plan
from lrcl.streams._prepare import PrepareRows, Transform
from lrcl.streams._stream import Stream
from lrcl.streams._tasks import (
  check_labels,
  class_test_sets,
  count_classes,
  read_data,
)


def blurry(
  train: Any,
  *,
  num_tasks: int,
  batch_size: int,
  disjoint: float = 0.5,
  blurred: float = 0.1,
  stochastic: bool = True,
  seed: int = 0,
  split_seed: int = 0,
  num_classes: int | None = None,
  test: Any = None,
  transform: Transform | None = None,
) -> Stream:
  """A single pass over tasks whose classes partly overlap.

  A share `disjoint` of the classes occurs in one task only. Of the rows of the
  others a share `blurred` is taken out of their tasks, shuffled, and given to
  all tasks.

  * `stochastic=False` is i-Blurry: classes and rows are dealt out evenly.
    `disjoint=1` gives disjoint tasks, `disjoint=0` with `blurred=1` i.i.d.
    batches.
  * `stochastic=True` is Si-Blurry: the number of classes of each task, and of
    the rows it gives and is given, is drawn at random.

  Both numbers of classes are rounded down to multiples of `num_tasks`, as the
  authors' code does; what is left over does not occur. Where a task has fewer
  rows than it is to give, it gives them all, and the last tasks are given
  fewer.

  Args:
    train: as in `split`.
    num_tasks: number of tasks.
    batch_size: rows in a batch.
    disjoint: share of the classes that belong to one task each.
    blurred: share of the rows of the other classes that change their task.
    stochastic: see above.
    seed: shuffles the rows within the tasks.
    split_seed: deals classes and rows out to the tasks, apart from `seed`.
    num_classes: number of classes; None: the largest label + 1.
    test: test data like `train`; there is a test set for each class.
    transform: as in `split`.

  Returns:
    The stream: one epoch per task. Labels are global.

  Raises:
    ValueError: as `split`; or if a task is left with fewer rows than a batch.

  Example:
    >>> train = {'inputs': np.zeros((40, 2), np.float32),
    ...          'labels': np.arange(40) % 8}
    >>> stream = blurry(train, num_tasks=2, batch_size=2, split_seed=1)
    >>> sum(len(pool) for pool in stream.plan.pools)
    40

  References:
    Koh et al., `Online Continual Learning on Class Incremental Blurry Task
    Configuration with Anytime Inference <https://arxiv.org/abs/2110.10031>`_,
    2022 (i-Blurry); Moon et al., `Online Class Incremental Learning on
    Stochastic Blurry Task Boundary via Mask and Visual Prompt Tuning
    <https://arxiv.org/abs/2308.09303>`_, 2023 (Si-Blurry)
  """
  where = 'blurry'
  num_tasks = check_steps(where, 'num_tasks', num_tasks, 1)
  check_value(where, 'disjoint', disjoint, minimum=0, maximum=1)
  check_value(where, 'blurred', blurred, minimum=0, maximum=1)
  source, labels = read_data(where, 'train', train)
  classes = count_classes(where, labels, num_classes)
  check_labels(where, 'train', labels, classes)
  rng = np.random.default_rng(split_seed)
  pools = _deal(rng, labels, classes, num_tasks, disjoint, blurred, stochastic)
  _check_pools(pools, batch_size, split_seed)
  phases = [
    (task, -(-len(pool) // batch_size)) for task, pool in enumerate(pools)
  ]
  plan = make_plan(pools, phases, batch_size=batch_size, seed=seed)
  prepare, tables = PrepareRows(transform), {}
  evaluation = class_test_sets(where, test, classes, tables, prepare)
  return Stream(source, plan, tables, prepare, evaluation, classes, num_tasks)


def _deal(
  rng: np.random.Generator,
  labels: np.ndarray,
  classes: int,
  num_tasks: int,
  disjoint: float,
  blurred: float,
  stochastic: bool,
) -> list[np.ndarray]:
  """The rows of every task."""
  order = rng.permutation(classes)
  # Rounded, or 0.3 * 10 would be 2.
  fixed = int(np.floor(round(classes * disjoint, 9))) // num_tasks * num_tasks
  loose = (classes - fixed) // num_tasks * num_tasks
  cuts = lambda total: _cuts(rng, total, num_tasks, stochastic)
  own = np.split(order[:fixed], cuts(fixed))
  shared = np.split(order[fixed : fixed + loose], cuts(loose))
  rows_of = lambda group: np.flatnonzero(np.isin(labels, group))
  stay = [rows_of(group) for group in own]
  leave = [rows_of(group) for group in shared]
  moved = int(round(sum(map(len, leave)) * blurred, 9))
  counts = np.diff([0, *cuts(moved), moved])
  if not stochastic:
    # "Of every task's rows a share", and an equal part for each.
    leave = [rng.permutation(rows) for rows in leave]
    given = [int(round(len(rows) * blurred, 9)) for rows in leave]
  else:
    given = counts
  pool = [rows[:count] for rows, count in zip(leave, given, strict=True)]
  kept = [rows[count:] for rows, count in zip(leave, given, strict=True)]
  pool = rng.permutation(np.concatenate(pool))
  if not stochastic:
    returned = np.array_split(pool, num_tasks)
  else:
    returned = np.split(pool, np.cumsum(counts)[:-1])
  parts = zip(stay, kept, returned, strict=True)
  return [np.sort(np.concatenate(part)) for part in parts]


def _cuts(
  rng: np.random.Generator, total: int, parts: int, stochastic: bool
) -> np.ndarray:
  """Where to cut `total` things into `parts`, evenly or at random."""
  if stochastic:
    return np.sort(rng.integers(0, max(total, 1), parts - 1))
  return (np.arange(1, parts) * total) // parts


def _check_pools(
  pools: Sequence[np.ndarray], batch_size: int, split_seed: int
) -> None:
  for task, pool in enumerate(pools):
    if len(pool) < max(batch_size, 1):
      raise ValueError(
        f'blurry: split_seed {split_seed} leaves task {task} with {len(pool)} '
        f'rows, fewer than a batch of {batch_size}; take another split_seed, '
        'fewer tasks or a smaller batch.'
      )
