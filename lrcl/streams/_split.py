"""Classes split into tasks, and what their labels mean then."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._prepare import PrepareSplit, Transform
from lrcl.streams._stream import Stream
from lrcl.streams._tasks import (
  check_labels,
  consecutive_plan,
  count_classes,
  make_eval_set,
  read_data,
)

Scenario = Literal['class', 'task', 'domain']


def split(
  train: Any,
  *,
  num_tasks: int,
  batch_size: int,
  scenario: Scenario = 'class',
  epochs: int = 1,
  steps_per_task: int | None = None,
  seed: int = 0,
  class_order: Sequence[int] | None = None,
  order_seed: int | None = None,
  num_classes: int | None = None,
  test: Any = None,
  transform: Transform | None = None,
) -> Stream:
  """Splits the classes into tasks that arrive one after the other.

  * `'class'`: labels are global, and no task id is given to the model.
  * `'task'`: labels are global, and every batch carries `class_mask`: the
    classes of its rows' task, which a loss and an evaluation may mask by.
  * `'domain'`: the label is the class's position within its task, so that
    all tasks share one small head.

  Args:
    train: `dict(inputs=[N, ...], labels=[N])` of numpy arrays, or a host
      source (`from_tfds`, `host_source`). Rows keep their dtype until
      `transform`.
    num_tasks: into how many tasks the classes are split, evenly.
    batch_size: rows in a batch.
    scenario: what labels mean, see above.
    epochs: passes over a task's rows. Each takes `ceil(rows / batch_size)`
      steps; the last one is padded with rows of weight 0.
    steps_per_task: steps in a task, instead of `epochs`. Epochs follow one
      another, each with its padded last batch, and the last one is cut.
    seed: shuffles the rows of each epoch.
    class_order: the classes in order of appearance: the first
      `len(class_order) / num_tasks` are task 0. Classes that it leaves out
      do not occur.
    order_seed: draws the class order instead; apart from `seed`, so that the
      order and the shuffling vary one by one. None: ascending.
    num_classes: number of classes; None: the largest label + 1.
    test: test data like `train`; the stream then has an `evaluation`.
    transform: `transform(inputs) -> inputs`, applied on the device to the
      gathered rows, such as uint8 to float and flattening.

  Returns:
    The stream. `num_classes` is that of the data, in the domain scenario the
    classes per task.

  Raises:
    ValueError: if labels lie outside the classes, the classes do not divide
      into tasks, a task is empty or smaller than a batch.

  Example:
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.array([0, 1, 2, 3, 0, 1, 2, 3])}
    >>> stream = split(train, num_tasks=2, batch_size=2)
    >>> stream.num_steps, stream.boundaries
    (4, (2,))

  References:
    van de Ven, Tuytelaars and Tolias, `Three types of incremental learning
    <https://doi.org/10.1038/s42256-022-00568-3>`_, 2022.
  """
  if scenario not in ('class', 'task', 'domain'):
    raise ValueError(
      f"split: scenario is {scenario!r}; it must be 'class', 'task' or "
      "'domain'."
    )
  source, labels = read_data('split', 'train', train)
  classes = count_classes('split', labels, num_classes)
  check_labels('split', 'train', labels, classes)
  groups = _class_groups(classes, num_tasks, class_order, order_seed)
  pools = [np.flatnonzero(np.isin(labels, group)) for group in groups]
  prepare = PrepareSplit(scenario == 'task', transform)
  tables = _split_tables(groups, classes, scenario)
  evaluation = None
  if test is not None:
    test_source, labels = read_data('split', 'test', test)
    check_labels('split', 'test', labels, classes)
    tests = [np.flatnonzero(np.isin(labels, group)) for group in groups]
    evaluation = make_eval_set('split', test_source, tests, tables, prepare)
  plan = consecutive_plan(
    'split', pools, batch_size, epochs, steps_per_task, seed
  )
  outputs = len(groups[0]) if scenario == 'domain' else classes
  return Stream(source, plan, tables, prepare, evaluation, outputs, num_tasks)


def _class_groups(
  num_classes: int,
  num_tasks: int,
  class_order: Sequence[int] | None,
  order_seed: int | None,
) -> list[np.ndarray]:
  """The classes of each task."""
  if class_order is not None and order_seed is not None:
    raise ValueError('split: give class_order or order_seed, not both.')
  order = np.arange(num_classes)
  if order_seed is not None:
    order = np.random.default_rng(order_seed).permutation(num_classes)
  if class_order is not None:
    order = np.asarray(class_order, np.int64)
    known = (order >= 0) & (order < num_classes)
    if order.ndim != 1 or not known.all() or len(set(order)) != len(order):
      raise ValueError(
        f'split: class_order is {list(class_order)}; it must name different '
        f'classes from 0 to {num_classes - 1}.'
      )
  num_tasks = check_steps('split', 'num_tasks', num_tasks, 1)
  if not len(order) or len(order) % num_tasks:
    raise ValueError(
      f'split: {len(order)} classes do not divide into {num_tasks} tasks.'
    )
  return np.split(order, num_tasks)


def _split_tables(
  groups: Sequence[np.ndarray], num_classes: int, scenario: Scenario
) -> dict[str, np.ndarray]:
  task = np.zeros(num_classes, np.int32)
  label = np.arange(num_classes, dtype=np.int32)
  mask = np.zeros((len(groups), num_classes), bool)
  for i, group in enumerate(groups):
    task[group] = i
    mask[i, group] = True
    if scenario == 'domain':
      label[group] = np.arange(len(group))
  tables = {'class_task': task, 'class_label': label}
  return tables | ({'class_mask': mask} if scenario == 'task' else {})
