"""Labels that grow finer: a tree of classes, met from the root down."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import check_steps
from lrcl.streams._plan import make_plan
from lrcl.streams._prepare import Transform, transformed
from lrcl.streams._stream import EvalSet, Stream
from lrcl.streams._tasks import (
  check_labels,
  count_classes,
  make_eval_set,
  read_data,
)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelTree:
  """The nodes of all levels of a hierarchy of labels, numbered in one row.

  Level 0 comes first, the classes of the data last.

  Attributes:
    node: `[levels, classes]` int32: the node of each class on each level.
    level: `[nodes]` int32.
    parent: `[nodes]` int32; -1 on level 0.
    children: `[nodes, nodes]` bool: `children[i, j]` if j is a child of i.
  """

  node: np.ndarray
  level: np.ndarray
  parent: np.ndarray
  children: np.ndarray

  @property
  def num_levels(self) -> int:
    """Levels, that of the classes included."""
    return len(self.node)

  @property
  def num_nodes(self) -> int:
    """Nodes of all levels: the width of a head for all of them."""
    return len(self.level)

  @property
  def level_mask(self) -> np.ndarray:
    """`[levels, nodes]` bool: the nodes of each level."""
    return np.arange(self.num_levels)[:, None] == self.level


def label_tree(
  parents: Sequence[Sequence[int]] | Sequence[int], num_classes: int
) -> LabelTree:
  """Makes the tree of labels from the group of each class on each level.

  Args:
    parents: for each level above the classes, coarse to fine, the group of
      each class (`num_classes` numbers from 0 on). One level may be given
      without the outer list.
    num_classes: number of classes.

  Raises:
    ValueError: if a level has another length or leaves a number out, or a group
      has parts in several groups of the level above.

  Example:
    >>> tree = label_tree([0, 0, 1, 1, 1], 5)
    >>> tree.node.tolist()
    [[0, 0, 1, 1, 1], [2, 3, 4, 5, 6]]
    >>> tree.parent.tolist()
    [-1, -1, 0, 0, 1, 1, 1]
  """
  where = 'label_tree'
  levels = np.asarray(parents, np.int64)
  levels = levels[None] if levels.ndim == 1 else levels
  if levels.ndim != 2 or levels.shape[1] != num_classes:
    raise ValueError(
      f'{where}: parents has shape {np.shape(parents)}; it must be [levels, '
      f'{num_classes}], the group of each class on each level.'
    )
  levels = np.concatenate([levels, np.arange(num_classes)[None]])
  node, offset, parent = [], 0, []
  for depth, groups in enumerate(levels):
    count = int(groups.max()) + 1
    if not np.array_equal(np.unique(groups), np.arange(count)):
      raise ValueError(
        f'{where}: level {depth} is {groups.tolist()}; its groups must be '
        'numbered from 0 on, without a gap.'
      )
    for group in range(count):
      above = {-1}
      if depth:
        above = set(node[-1][groups == group].tolist())
      if len(above) > 1:
        raise ValueError(
          f'{where}: group {group} of level {depth} lies in several groups '
          f'of level {depth - 1}.'
        )
      parent.append(above.pop())
    node.append(groups + offset)
    offset += count
  level = np.concatenate(
    [np.full(len(np.unique(row)), d) for d, row in enumerate(node)]
  )
  parent = np.array(parent, np.int32)
  children = parent[None, :] == np.arange(offset)[:, None]
  node = np.stack(node).astype(np.int32)
  return LabelTree(node, level.astype(np.int32), parent, children)


@dataclasses.dataclass(frozen=True)
class PrepareHierarchy:
  """Labels rows by their node on the level of the task.

  `tables` holds `level [T]`, `node [levels, C]`, `level_mask [levels, nodes]`.
  """

  transform: Transform | None = None

  def __call__(
    self, rows: Mapping[str, jax.Array], tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of one task."""
    level = tables['level'][task_id]
    labels = tables['node'][level][rows['labels']]
    mask = tables['level_mask'][level]
    return {
      'inputs': transformed(rows['inputs'], self.transform),
      'labels': labels,
      'class_mask': jnp.broadcast_to(mask, (*labels.shape, *mask.shape)),
    }


def hierarchical(
  train: Any,
  *,
  parents: Sequence[Sequence[int]] | Sequence[int],
  batch_size: int,
  groups_per_task: int = 1,
  dual: bool = False,
  epochs: int = 1,
  steps_per_task: int | None = None,
  seed: int = 0,
  split_seed: int = 0,
  num_classes: int | None = None,
  test: Any = None,
  transform: Transform | None = None,
) -> Stream:
  """Coarse labels first; then group after group is told apart further.

  Task 0 has all classes, labelled by the coarsest level. Each further task
  expands `groups_per_task` groups of a level: it has the rows of their classes,
  labelled one level finer. Levels follow one another, coarse to fine.

  A row comes in one task and with one label; the rows of a class are dealt out
  evenly to the tasks that have it. With `dual`, every row comes in each of them
  instead, each time with the label of that task.

  All nodes of the tree share one head of `label_tree(...).num_nodes` outputs;
  `class_mask` restricts each batch to the level of its labels, so that it is
  one head per level in effect.

  Args:
    train: as in `split`.
    parents: the group of each class, on each level (`label_tree`).
    batch_size: rows in a batch.
    groups_per_task: how many groups a task expands.
    dual: see above.
    epochs: passes over a task's rows.
    steps_per_task: steps in a task, instead of `epochs`.
    seed: shuffles the rows of each epoch.
    split_seed: deals the rows out to the tasks, and orders the groups within
      their level.
    num_classes: number of classes; None: the largest label + 1.
    test: test data like `train`; there is a test set for each level, of all
      rows.
    transform: as in `split`.

  Returns:
    The stream; `num_classes` is the number of nodes.

  Raises:
    ValueError: as `split` and `label_tree`.

  Example:
    >>> train = {'inputs': np.zeros((40, 2), np.float32),
    ...          'labels': np.arange(40) % 4}
    >>> stream = hierarchical(train, parents=[0, 0, 1, 1], batch_size=4)
    >>> stream.num_classes, stream.num_tasks
    (6, 3)

  References:
    Lee et al., `Online Continual Learning on Hierarchical Label Expansion
    <https://arxiv.org/abs/2308.14374>`_, 2023
  """
  where = 'hierarchical'
  groups_per_task = check_steps(where, 'groups_per_task', groups_per_task, 1)
  source, labels = read_data(where, 'train', train)
  classes = count_classes(where, labels, num_classes)
  check_labels(where, 'train', labels, classes)
  tree = label_tree(parents, classes)
  rng = np.random.default_rng(split_seed)
  stages = _stages(rng, tree, groups_per_task)
  pools = _deal(rng, labels, stages, classes, dual)
  if steps_per_task is None:
    epochs = check_steps(where, 'epochs', epochs, 1)
    steps = [epochs * -(-len(pool) // max(batch_size, 1)) for pool in pools]
  else:
    count = check_steps(where, 'steps_per_task', steps_per_task, 1)
    steps = [count] * len(pools)
  plan = make_plan(
    pools, enumerate(max(s, 1) for s in steps), batch_size=batch_size, seed=seed
  )
  tables = {
    'level': np.array([level for level, _ in stages], np.int32),
    'node': tree.node,
    'level_mask': tree.level_mask,
  }
  prepare = PrepareHierarchy(transform)
  evaluation = _test_sets(where, test, classes, tables, prepare)
  nodes, tasks = tree.num_nodes, len(stages)
  return Stream(source, plan, tables, prepare, evaluation, nodes, tasks)


def _stages(
  rng: np.random.Generator, tree: LabelTree, groups_per_task: int
) -> list[tuple[int, np.ndarray]]:
  """For each task the level of its labels and its classes."""
  everything = np.arange(tree.node.shape[1])
  stages = [(0, everything)]
  for level in range(1, tree.num_levels):
    above = rng.permutation(np.unique(tree.node[level - 1]))
    for start in range(0, len(above), groups_per_task):
      chosen = above[start : start + groups_per_task]
      within = np.isin(tree.node[level - 1], chosen)
      stages.append((level, everything[within]))
  return stages


def _deal(
  rng: np.random.Generator,
  labels: np.ndarray,
  stages: Sequence[tuple[int, np.ndarray]],
  num_classes: int,
  dual: bool,
) -> list[np.ndarray]:
  """The rows of every task."""
  pools: list[list[np.ndarray]] = [[] for _ in stages]
  for label in range(num_classes):
    rows = rng.permutation(np.flatnonzero(labels == label))
    having = [i for i, (_, classes) in enumerate(stages) if label in classes]
    parts = [rows] * len(having) if dual else np.array_split(rows, len(having))
    for task, part in zip(having, parts, strict=True):
      pools[task].append(part)
  return [np.sort(np.concatenate(parts)) for parts in pools]


def _test_sets(
  where: str,
  test: Any,
  classes: int,
  tables: Mapping[str, np.ndarray],
  prepare: PrepareHierarchy,
) -> EvalSet | None:
  """Every test row, once on each level."""
  if test is None:
    return None
  source, labels = read_data(where, 'test', test)
  check_labels(where, 'test', labels, classes)
  levels = len(tables['node'])
  rows = [np.arange(len(labels))] * levels
  tables = {**tables, 'level': np.arange(levels, dtype=np.int32)}
  return make_eval_set(where, source, rows, tables, prepare)
