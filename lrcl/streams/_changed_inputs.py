"""All classes in every task, their features in another order or turned."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._prepare import PreparePermuted, PrepareRotated, Transform
from lrcl.streams._rotation import rotation_tables
from lrcl.streams._stream import Prepare, Stream
from lrcl.streams._tasks import (
  check_labels,
  consecutive_plan,
  count_classes,
  input_shape,
  make_eval_set,
  read_data,
)


def permuted(
  train: Any,
  *,
  num_tasks: int,
  batch_size: int,
  epochs: int = 1,
  steps_per_task: int | None = None,
  seed: int = 0,
  permutation_seed: int = 0,
  num_classes: int | None = None,
  test: Any = None,
  transform: Transform | None = None,
) -> Stream:
  """All classes in every task, under another order of the features.

  Task 0 leaves the features as they are. The permutation is applied on the
  device, before `transform`.

  Args:
    train: as in `split`.
    num_tasks: number of tasks.
    batch_size: rows in a batch.
    epochs: passes over all rows in each task.
    steps_per_task: steps in a task, instead of `epochs`.
    seed: shuffles the rows of each epoch.
    permutation_seed: draws the permutations.
    num_classes: number of classes; None: the largest label + 1.
    test: test data like `train`.
    transform: as in `split`.

  Returns:
    The stream; `tables['features']` is `[num_tasks, features]` int32.

  Raises:
    ValueError: as `split`.

  Example:
    >>> train = {'inputs': np.arange(12, dtype=np.float32).reshape(4, 3),
    ...          'labels': np.array([0, 1, 0, 1])}
    >>> stream = permuted(train, num_tasks=2, batch_size=2)
    >>> stream.num_steps, stream.boundaries
    (4, (2,))
    >>> print(stream.tables['features'][0])
    [0 1 2]
    >>> sorted(stream.tables['features'][1].tolist())
    [0, 1, 2]

  References:
    Goodfellow et al., `An Empirical Investigation of Catastrophic Forgetting
    <https://arxiv.org/abs/1312.6211>`_, 2013.
  """
  num_tasks = check_steps('permuted', 'num_tasks', num_tasks, 1)
  source, labels = read_data('permuted', 'train', train)
  size = int(np.prod(input_shape(source)))
  rng = np.random.default_rng(permutation_seed)
  orders = [np.arange(size)]
  orders += [rng.permutation(size) for _ in range(num_tasks - 1)]
  tables = {'features': np.stack(orders).astype(np.int32)}
  return _same_rows(
    'permuted',
    (source, labels, test, num_classes),
    tables,
    PreparePermuted(transform),
    (num_tasks, batch_size, epochs, steps_per_task, seed),
  )


def rotated(
  train: Any,
  *,
  num_tasks: int,
  batch_size: int,
  max_angle: float = 90.0,
  angles: Sequence[float] | None = None,
  image_shape: Sequence[int] | None = None,
  epochs: int = 1,
  steps_per_task: int | None = None,
  seed: int = 0,
  num_classes: int | None = None,
  test: Any = None,
  transform: Transform | None = None,
) -> Stream:
  """All classes in every task, with the images turned further each time.

  Images turn about their centre, bilinearly, and are zero beyond their
  border; `scipy.ndimage.rotate(image, angle, reshape=False, order=1,
  mode='grid-constant')` gives the same. It happens on the device, before
  `transform`, in float32 in the range of the inputs.

  Args:
    train: as in `split`.
    num_tasks: number of tasks.
    batch_size: rows in a batch.
    max_angle: degrees of the last task; the first has 0, those between lie
      at equal distances.
    angles: the degrees of every task, instead of `max_angle`.
    image_shape: `(height, width)` or `(height, width, channels)`; None: the
      shape of the inputs, which then must be images.
    epochs: passes over all rows in each task.
    steps_per_task: steps in a task, instead of `epochs`.
    seed: shuffles the rows of each epoch.
    num_classes: number of classes; None: the largest label + 1.
    test: test data like `train`.
    transform: as in `split`.

  Returns:
    The stream; `tables` has `corners` and `mix`, `[num_tasks, 4, pixels]`.

  Raises:
    ValueError: as `split`, or if the shape or the angles do not fit.

  Example:
    >>> images = np.zeros((2, 3, 3), np.float32)
    >>> images[:, 0, 1] = 1.0  # one pixel, at the top
    >>> train = {'inputs': images, 'labels': np.array([0, 1])}
    >>> stream = rotated(train, num_tasks=2, batch_size=2)
    >>> for task in (0, 1):  # turned by 0 and by 90 degrees
    ...   batch = stream.prepare(train, stream.tables, task)
    ...   print(batch['inputs'][0].round().astype(int).ravel())
    [0 1 0 0 0 0 0 0 0]
    [0 0 0 1 0 0 0 0 0]

  References:
    Lopez-Paz and Ranzato, `Gradient Episodic Memory
    <https://arxiv.org/abs/1706.08840>`_, 2017.
  """
  num_tasks = check_steps('rotated', 'num_tasks', num_tasks, 1)
  if angles is None:
    angles = [float(a) for a in np.linspace(0.0, max_angle, num_tasks)]
  if len(angles) != num_tasks:
    raise ValueError(
      f'rotated: there are {len(angles)} angles for {num_tasks} tasks.'
    )
  source, labels = read_data('rotated', 'train', train)
  shape = _image_shape(input_shape(source), image_shape)
  return _same_rows(
    'rotated',
    (source, labels, test, num_classes),
    rotation_tables(shape, angles),
    PrepareRotated(transform),
    (num_tasks, batch_size, epochs, steps_per_task, seed),
  )


def _same_rows(
  where: str, data: tuple, tables: Any, prepare: Prepare, schedule: tuple
) -> Stream:
  """A stream whose tasks share all rows and differ in what is done to them."""
  source, labels, test, num_classes = data
  num_tasks, *rest = schedule
  classes = count_classes(where, labels, num_classes)
  check_labels(where, 'train', labels, classes)
  rows = np.arange(len(labels), dtype=np.int32)
  evaluation = None
  if test is not None:
    test_source, labels = read_data(where, 'test', test)
    check_labels(where, 'test', labels, classes)
    tests = [np.arange(len(labels))] * num_tasks
    evaluation = make_eval_set(where, test_source, tests, tables, prepare)
  plan = consecutive_plan(where, [rows] * num_tasks, *rest)
  return Stream(source, plan, tables, prepare, evaluation, classes, num_tasks)


def _image_shape(
  inputs: tuple[int, ...], image_shape: Sequence[int] | None
) -> tuple[int, ...]:
  shape = tuple(inputs if image_shape is None else image_shape)
  if len(shape) not in (2, 3) or np.prod(shape) != np.prod(inputs):
    raise ValueError(
      f'rotated: image_shape is {image_shape}, the inputs are {inputs}; give '
      '(height, width) or (height, width, channels) of the same size.'
    )
  return shape
