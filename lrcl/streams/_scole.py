"""Classes that come back without end, a few at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrcl.base import check_steps, check_value
from lrcl.streams._phase_plan import PhasePlan
from lrcl.streams._phase_samplers import CyclePools, DrawPools
from lrcl.streams._plan import ENDLESS
from lrcl.streams._prepare import PrepareSplit, Transform
from lrcl.streams._stream import Stream
from lrcl.streams._tasks import (
  check_labels,
  class_test_sets,
  count_classes,
  read_data,
)


def scole(
  train: Any,
  *,
  batch_size: int,
  steps_per_task: int,
  classes_per_task: int = 2,
  num_tasks: int | None = None,
  class_weights: Sequence[float] | None = None,
  cycle: Sequence[int] | None = None,
  randomness: float = 0.0,
  removed: Sequence[int] = (),
  removed_from: int | None = None,
  seed: int = 0,
  draw_seed: int = 0,
  num_classes: int | None = None,
  test: Any = None,
  transform: Transform | None = None,
) -> Stream:
  """Endless tasks of a few classes each, which all return time and again.

  Task after task draws `classes_per_task` classes and trains on their rows. A
  task id is the number of a task and never returns; that classes do is not said
  to the learner. Evaluation has one test set for each class, so that the mean
  over them is the accuracy on all classes, and `class_mask` is not in the
  batches: losses that mask by the classes of a batch find them in its labels
  (`lrcl.losses.local_cross_entropy`).

  Args:
    train: as in `split`.
    batch_size: rows in a batch.
    steps_per_task: steps in a task. Where this is more than an epoch of its
      rows, epoch follows upon epoch.
    classes_per_task: how many classes make a task.
    num_tasks: after how many tasks the stream ends; None: as many as an int32
      can count steps. The plan takes the same memory either way.
    class_weights: chances of the classes (`unbalanced_weights`); None: equal.
    cycle: the classes in an order that repeats itself, instead of draws.
    randomness: how often a task leaves `cycle` and draws, from 0 to 1.
    removed: classes that no longer occur from task `removed_from` on.
    removed_from: see `removed`.
    seed: shuffles the rows of each task.
    draw_seed: draws the classes, apart from `seed`.
    num_classes: number of classes; None: the largest label + 1.
    test: test data like `train`.
    transform: as in `split`.

  Returns:
    The stream, with a test set for each class.

  Raises:
    ValueError: as `split`; or if weights, cycle or removed classes do not fit
      the classes, or leave too few of them for a task.

  Example:
    >>> train = {'inputs': np.zeros((12, 2), np.float32),
    ...          'labels': np.arange(12) % 4}
    >>> stream = scole(train, batch_size=2, steps_per_task=3)
    >>> stream.chunk(3 * 10**8, 4).task_ids.tolist()
    [100000000, 100000000, 100000000, 100000001]

  References:
    Lesort et al., `Challenging Common Assumptions about Catastrophic
    Forgetting and Knowledge Accumulation <https://arxiv.org/abs/2207.04543>`_,
    2022
  """
  where = 'scole'
  batch_size = check_steps(where, 'batch_size', batch_size, 1)
  steps_per_task = check_steps(where, 'steps_per_task', steps_per_task, 1)
  source, labels = read_data(where, 'train', train)
  classes = count_classes(where, labels, num_classes)
  check_labels(where, 'train', labels, classes)
  pools = tuple(np.flatnonzero(labels == c) for c in range(classes))
  _check_pools(pools, batch_size, classes_per_task)
  draws = DrawPools(
    _check_weights(class_weights, classes),
    check_steps(where, 'classes_per_task', classes_per_task, 1),
    draw_seed,
    *_check_removed(removed, removed_from, classes, classes_per_task),
  )
  sampler = draws
  if cycle is not None:
    check_value(where, 'randomness', randomness, minimum=0, maximum=1)
    order = _check_cycle(cycle, classes, classes_per_task)
    sampler = CyclePools(order, classes_per_task, draws, float(randomness))
  steps = ENDLESS
  if num_tasks is not None:
    steps = check_steps(where, 'num_tasks', num_tasks, 1) * steps_per_task
  plan = PhasePlan(
    tuple(pool.astype(np.int32) for pool in pools),
    sampler,
    steps_per_task,
    min(steps, ENDLESS),
    batch_size,
    int(seed),
  )
  prepare = PrepareSplit(False, transform)
  numbers = np.arange(classes, dtype=np.int32)
  tables = {'class_task': numbers, 'class_label': numbers}
  evaluation = class_test_sets(where, test, classes, tables, prepare)
  tasks = -(-plan.num_steps // steps_per_task)
  return Stream(source, plan, tables, prepare, evaluation, classes, tasks)


def unbalanced_weights(
  num_classes: int,
  *,
  slope: float = 0.05,
  exponent: float = 1.0,
  seed: int | None = 0,
) -> tuple[float, ...]:
  """Chances of classes that fall from the first to the last one.

  `(1 / C - i * slope / C) ** exponent`, normalised, and dealt out to the
  classes at random.

  Args:
    num_classes: number of classes, `C`.
    slope: of the fall, above 0; `slope * (C - 1)` must be below 1.
    exponent: the larger, the more unequal.
    seed: deals the chances out; None keeps them in order.

  Raises:
    ValueError: if a chance would not be above 0.

  Example:
    >>> unbalanced_weights(2, slope=0.5, seed=None)
    (0.6666666666666666, 0.3333333333333333)
  """
  where = 'unbalanced_weights'
  num_classes = check_steps(where, 'num_classes', num_classes, 1)
  check_value(where, 'slope', slope, minimum=0)
  check_value(where, 'exponent', exponent, minimum=0)
  if slope * (num_classes - 1) >= 1:
    raise ValueError(
      f'{where}: slope is {slope}; with {num_classes} classes it must be below '
      f'{1 / (num_classes - 1):.6g}, or the last class never occurs.'
    )
  chances = (1 - slope * np.arange(num_classes)) ** exponent
  if seed is not None:
    chances = np.random.default_rng(seed).permutation(chances)
  return tuple(float(chance) for chance in chances / chances.sum())


def _check_pools(pools: tuple, batch_size: int, classes_per_task: int) -> None:
  for label, pool in enumerate(pools):
    if not len(pool):
      raise ValueError(f'scole: class {label} has no training rows.')
  least = sum(sorted(len(pool) for pool in pools)[:classes_per_task])
  if classes_per_task > len(pools) or batch_size > least:
    raise ValueError(
      f'scole: a task has {classes_per_task} of {len(pools)} classes and at '
      f'least {least} rows; batch_size is {batch_size}. Take fewer classes per '
      'task or a smaller batch.'
    )


def _check_weights(
  weights: Sequence[float] | None, classes: int
) -> tuple[float, ...]:
  weights = (1.0,) * classes if weights is None else tuple(map(float, weights))
  valid = np.isfinite(weights).all() and min(weights, default=0.0) > 0
  if len(weights) != classes or not valid:
    raise ValueError(
      f'scole: class_weights is {weights}; it must be {classes} numbers above '
      '0, one per class.'
    )
  return weights


def _check_removed(
  removed: Sequence[int],
  removed_from: int | None,
  classes: int,
  classes_per_task: int,
) -> tuple[tuple[int, ...], int]:
  removed = tuple(sorted({int(label) for label in removed}))
  if not removed and removed_from is None:
    return (), ENDLESS
  if removed_from is None or not removed:
    raise ValueError('scole: give removed and removed_from together.')
  if not 0 <= removed[0] <= removed[-1] < classes:
    raise ValueError(
      f'scole: removed is {removed}; classes run from 0 to {classes - 1}.'
    )
  if classes - len(removed) < classes_per_task:
    raise ValueError(
      f'scole: without the removed classes {classes - len(removed)} are left, '
      f'fewer than the {classes_per_task} of a task.'
    )
  return removed, check_steps('scole', 'removed_from', removed_from)


def _check_cycle(
  cycle: Sequence[int], classes: int, classes_per_task: int
) -> tuple[int, ...]:
  order = tuple(int(label) for label in cycle)
  known = all(0 <= label < classes for label in order)
  groups = [order[i:][:classes_per_task] for i in range(len(order))]
  groups = groups[::classes_per_task]
  distinct = all(len({*group}) == classes_per_task for group in groups)
  if not order or not known or not distinct:
    raise ValueError(
      f'scole: cycle is {order}; it must be classes from 0 to {classes - 1} '
      f'that fall into tasks of {classes_per_task} different ones.'
    )
  return order
