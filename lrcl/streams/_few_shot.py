"""A few rows of a few classes at a time, and single rows as classes."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import check_steps
from lrcl.streams._prepare import Transform, transformed
from lrcl.streams._sources import gather
from lrcl.streams._split import split
from lrcl.streams._stream import Stream
from lrcl.streams._tasks import (
  check_labels,
  consecutive_plan,
  count_classes,
  make_eval_set,
  read_data,
)

Corrupt = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""`corrupt(inputs [n, ...], rng) -> inputs`, on the host."""


@dataclasses.dataclass(frozen=True)
class PrepareSupport:
  """Labels rows by `tables['label'] [T, C]`, the labels of the task's set."""

  transform: Transform | None = None

  def __call__(
    self, rows: Mapping[str, jax.Array], tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of one support set."""
    labels = jnp.asarray(tables['label'])[task_id][rows['labels']]
    inputs = transformed(rows['inputs'], self.transform)
    return {'inputs': inputs, 'labels': labels}


def few_shot(
  train: Any,
  *,
  num_sets: int,
  ways: int,
  shots: int,
  batch_size: int | None = None,
  steps_per_set: int = 1,
  change_interval: int = 1,
  overwrite: bool = False,
  queries: int = 15,
  seed: int = 0,
  draw_seed: int = 0,
  transform: Transform | None = None,
) -> Stream:
  """Support sets of a few rows of a few classes, one after the other.

  Every set is a task of `ways` classes with `shots` rows each, which no other
  set has. After `change_interval` sets the classes change:

  * new samples: `change_interval=num_sets`, the classes stay and rows are new;
  * new classes: `change_interval=1`, every set has classes of its own, whose
    labels follow on those before;
  * new classes that overwrite: `overwrite=True`, labels start at 0 again;
  * new classes and samples: `change_interval` in between.

  The test set of a task has `queries` rows of each of its classes that are in
  no support set, under the labels of that task.

  Args:
    train: as in `split`; classes are drawn from it, and rows from each.
    num_sets: how many support sets there are.
    ways: classes in a set.
    shots: rows per class in a set.
    batch_size: rows in a batch; None: the whole set.
    steps_per_set: steps on a set.
    change_interval: after how many sets the classes change.
    overwrite: whether new classes take the labels of old ones.
    queries: test rows per class and group of classes.
    seed: shuffles the rows of a set.
    draw_seed: draws classes and rows, apart from `seed`.
    transform: as in `split`.

  Returns:
    The stream; `num_classes` is the number of labels, `tables['label']`
    `[num_sets, C]` the label of each class of the data in each set, -1 for
    classes that the set does not have.

  Raises:
    ValueError: if there are not enough classes, or a class has too few rows.

  Example:
    >>> train = {'inputs': np.zeros((60, 2), np.float32),
    ...          'labels': np.arange(60) % 6}
    >>> stream = few_shot(train, num_sets=3, ways=2, shots=1, queries=4)
    >>> stream.num_classes, stream.num_steps, stream.batch_size
    (6, 3, 2)

  References:
    Antoniou et al., `Defining Benchmarks for Continual Few-Shot Learning
    <https://arxiv.org/abs/2004.11967>`_, 2020
  """
  where = 'few_shot'
  num_sets = check_steps(where, 'num_sets', num_sets, 1)
  ways = check_steps(where, 'ways', ways, 1)
  shots = check_steps(where, 'shots', shots, 1)
  queries = check_steps(where, 'queries', queries, 1)
  interval = check_steps(where, 'change_interval', change_interval, 1)
  source, labels = read_data(where, 'train', train)
  classes = count_classes(where, labels, None)
  check_labels(where, 'train', labels, classes)
  groups = -(-num_sets // interval)
  if groups * ways > classes:
    raise ValueError(
      f'{where}: {num_sets} sets of {ways} classes that change after '
      f'{interval} need {groups * ways} classes; the data has {classes}.'
    )
  rng = np.random.default_rng(draw_seed)
  members = rng.permutation(classes)[: groups * ways].reshape(groups, ways)
  needed = min(interval, num_sets) * shots + queries
  drawn = {c: _draw_rows(rng, labels, int(c), needed) for c in members.ravel()}
  table = np.full((num_sets, classes), -1, np.int32)
  supports, tests = [], []
  for i in range(num_sets):
    group, turn = divmod(i, interval)
    begin = queries + turn * shots
    table[i, members[group]] = np.arange(ways)
    table[i, members[group]] += 0 if overwrite else group * ways
    chosen = [drawn[c] for c in members[group]]
    supports.append(np.concatenate([c[begin : begin + shots] for c in chosen]))
    tests.append(np.concatenate([c[:queries] for c in chosen]))
  prepare, tables = PrepareSupport(transform), {'label': table}
  batch_size = ways * shots if batch_size is None else batch_size
  plan = consecutive_plan(
    where,
    supports,
    batch_size,
    1,
    check_steps(where, 'steps_per_set', steps_per_set, 1),
    seed,
  )
  evaluation = make_eval_set(where, source, tests, tables, prepare)
  outputs = ways if overwrite else groups * ways
  return Stream(source, plan, tables, prepare, evaluation, outputs, num_sets)


def _draw_rows(
  rng: np.random.Generator, labels: np.ndarray, label: int, needed: int
) -> np.ndarray:
  """Rows of one class: those of queries first, then set after set."""
  rows = np.flatnonzero(labels == label)
  if len(rows) < needed:
    raise ValueError(
      f'few_shot: class {label} has {len(rows)} rows; its sets and queries '
      f'need {needed}. Take fewer shots, sets or queries.'
    )
  return rng.permutation(rows)[:needed]


def instance_test(
  train: Any,
  *,
  num_sets: int,
  ways: int,
  batch_size: int | None = None,
  steps_per_set: int = 1,
  label: int | None = None,
  corrupt: Corrupt | None = None,
  seed: int = 0,
  draw_seed: int = 0,
  transform: Transform | None = None,
) -> Stream:
  """Is a single row known again? Every row is a class of its own.

  All rows are of one class of the data, so that what tells them apart is the
  instance. The test rows are the training rows themselves, or what `corrupt`
  makes of them.

  Args:
    train: as in `split`.
    num_sets: how many sets of instances follow one another.
    ways: instances in a set.
    batch_size: rows in a batch; None: the whole set.
    steps_per_set: steps on a set.
    label: the class of the data whose rows are taken; None: that with most.
    corrupt: `corrupt(inputs [n, ...], rng) -> inputs`, such as `occlude` or
      `add_noise` with their strength bound; None: the rows as they are.
    seed: shuffles the rows of a set.
    draw_seed: draws the instances and what corrupts them.
    transform: as in `split`.

  Returns:
    The stream; labels are the instances, `num_sets * ways` of them.

  Raises:
    ValueError: if the class has too few rows.

  Example:
    >>> train = {'inputs': np.random.rand(60, 4).astype(np.float32),
    ...          'labels': np.arange(60) % 3}
    >>> stream = instance_test(train, num_sets=2, ways=5)
    >>> stream.num_classes, stream.num_tasks
    (10, 2)

  References:
    Kowadlo et al., `Expanding continual few-shot learning benchmarks to include
    recognition of specific instances <https://arxiv.org/abs/2209.07863>`_, 2022
  """
  where = 'instance_test'
  num_sets = check_steps(where, 'num_sets', num_sets, 1)
  ways = check_steps(where, 'ways', ways, 1)
  steps = check_steps(where, 'steps_per_set', steps_per_set, 1)
  source, labels = read_data(where, 'train', train)
  if label is None:
    label = int(np.bincount(labels).argmax())
  rows, wanted = np.flatnonzero(labels == label), num_sets * ways
  if len(rows) < wanted:
    raise ValueError(
      f'{where}: class {label} has {len(rows)} rows; {num_sets} sets of {ways} '
      f'instances need {wanted}.'
    )
  rng = np.random.default_rng(draw_seed)
  chosen = rng.permutation(rows)[:wanted].astype(np.int32)
  inputs = gather(source, chosen)['inputs']
  shown = inputs if corrupt is None else corrupt(inputs, rng)
  numbers = np.arange(wanted, dtype=np.int32)
  return split(
    {'inputs': inputs, 'labels': numbers},
    num_tasks=num_sets,
    batch_size=ways if batch_size is None else batch_size,
    steps_per_task=steps,
    seed=seed,
    test={'inputs': np.asarray(shown, inputs.dtype), 'labels': numbers},
    transform=transform,
  )


def add_noise(
  inputs: np.ndarray, rng: np.random.Generator, *, scale: float = 0.3
) -> np.ndarray:
  """Gaussian noise on every feature; for `instance_test`.

  Args:
    inputs: `[n, ...]`, floating point.
    rng: draws the noise.
    scale: its standard deviation, in the units of the inputs.

  Example:
    >>> noisy = add_noise(np.zeros((1, 3)), np.random.default_rng(0))
    >>> print(noisy.round(2))
    [[ 0.04 -0.04  0.19]]
  """
  return inputs + scale * rng.standard_normal(inputs.shape)


def occlude(
  inputs: np.ndarray, rng: np.random.Generator, *, share: float = 0.3
) -> np.ndarray:
  """Sets a share of the features of each row to zero; for `instance_test`.

  Images lose a square of that share of their area, flat inputs a run of
  features, each row at a place of its own.

  Args:
    inputs: `[n, height, width, ...]` or `[n, features]`.
    rng: draws the places.
    share: from 0 to 1.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> print(occlude(np.ones((1, 4)), rng, share=0.5))
    [[1. 1. 0. 0.]]
  """
  shown = np.array(inputs)
  sides = inputs.shape[1:3] if inputs.ndim > 2 else inputs.shape[1:2]
  lengths = [round(side * share ** (1 / len(sides))) for side in sides]
  for row in shown:
    starts = [
      int(rng.integers(0, side - length + 1))
      for side, length in zip(sides, lengths, strict=True)
    ]
    window = zip(starts, lengths, strict=True)
    row[tuple(slice(start, start + length) for start, length in window)] = 0
  return shown
