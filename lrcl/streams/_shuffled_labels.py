"""The same inputs under new random labels, task after task, without end."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import check_steps
from lrcl.streams._numbered import number_rows
from lrcl.streams._phase_plan import PhasePlan
from lrcl.streams._phase_samplers import DrawPools
from lrcl.streams._plan import ENDLESS
from lrcl.streams._prepare import Transform, transformed
from lrcl.streams._stream import Stream
from lrcl.streams._tasks import count_classes, read_data


@dataclasses.dataclass(frozen=True)
class PrepareShuffled:
  """Labels that are a hash of the task and the row's number.

  Attributes:
    num_classes: labels are drawn from as many.
    transform: what happens to the inputs.
  """

  num_classes: int
  transform: Transform | None = None

  def __call__(
    self, rows: Mapping[str, jax.Array], tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of one task."""
    key = jax.random.fold_in(jax.random.key(tables['seed']), task_id)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows['row'])
    draw = lambda key: jax.random.randint(key, (), 0, self.num_classes)
    inputs = transformed(rows['inputs'], self.transform)
    return {'inputs': inputs, 'labels': jax.vmap(draw)(keys).astype(jnp.int32)}


def shuffled_labels(
  train: Any,
  *,
  batch_size: int,
  steps_per_task: int,
  num_tasks: int | None = None,
  num_classes: int | None = None,
  seed: int = 0,
  label_seed: int = 0,
  transform: Transform | None = None,
) -> Stream:
  """Random labels that are drawn anew for every task: can it still learn?

  There is nothing to generalise and nothing to keep; the accuracy on the
  training rows at the end of each task measures plasticity. Labels are a hash
  of the seed, the task and the row, computed on the device: none is stored.

  Args:
    train: as in `split`; its labels are not used.
    batch_size: rows in a batch.
    steps_per_task: steps on each labelling.
    num_tasks: how many there are; None: as many as an int32 can count steps.
    num_classes: labels are drawn from as many; None: those of the data.
    seed: shuffles the rows.
    label_seed: draws the labels, apart from `seed`.
    transform: as in `split`.

  Returns:
    The stream. It has no `evaluation`: the training rows are the test.

  Raises:
    ValueError: as `split`.

  Example:
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> stream = shuffled_labels(train, batch_size=4, steps_per_task=10)
    >>> stream.next_boundary(10**9)
    1000000010

  References:
    Lyle et al., `Understanding Plasticity in Neural Networks
    <https://arxiv.org/abs/2303.01486>`_, 2023
  """
  where = 'shuffled_labels'
  batch_size = check_steps(where, 'batch_size', batch_size, 1)
  steps_per_task = check_steps(where, 'steps_per_task', steps_per_task, 1)
  source, labels = read_data(where, 'train', train)
  classes = count_classes(where, labels, num_classes)
  rows = np.arange(len(labels), dtype=np.int32)
  if batch_size > len(rows):
    raise ValueError(
      f'{where}: batch_size is {batch_size}; there are {len(rows)} rows.'
    )
  steps = ENDLESS
  if num_tasks is not None:
    steps = check_steps(where, 'num_tasks', num_tasks, 1) * steps_per_task
  steps = min(steps, ENDLESS)
  everything = DrawPools((1.0,), 1, 0)
  plan = PhasePlan(
    (rows,), everything, steps_per_task, steps, batch_size, int(seed)
  )
  source = number_rows(source)
  tables = {'seed': np.uint32(label_seed)}
  prepare = PrepareShuffled(classes, transform)
  tasks = -(-steps // steps_per_task)
  return Stream(source, plan, tables, prepare, None, classes, tasks)
