"""From gathered rows to a batch, on the device: one small class a scenario."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

Transform = Callable[[jax.Array], jax.Array]
"""`transform(inputs) -> inputs` for rows `[B, ...]` in their own dtype."""

Rows = Mapping[str, jax.Array]


def transformed(inputs: jax.Array, transform: Transform | None) -> jax.Array:
  """The inputs, after `transform` where there is one."""
  return inputs if transform is None else transform(inputs)


@dataclasses.dataclass(frozen=True)
class PrepareRows:
  """Takes rows as they are."""

  transform: Transform | None = None

  def __call__(
    self, rows: Rows, tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of one task."""
    inputs = transformed(rows['inputs'], self.transform)
    return {'inputs': inputs, 'labels': rows['labels']}


@dataclasses.dataclass(frozen=True)
class PrepareSplit:
  """Labels of a task split; equal fields make an equal function.

  `tables` holds `class_task [C]`, `class_label [C]` and, where batches are
  masked, `class_mask [T, C]`.

  Attributes:
    masked: whether batches carry `class_mask`.
    transform: what happens to the inputs.
  """

  masked: bool = False
  transform: Transform | None = None

  def __call__(
    self, rows: Rows, tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch; the task is read off each row's label."""
    labels = rows['labels']
    task = tables['class_task'][labels]
    batch = {
      'inputs': transformed(rows['inputs'], self.transform),
      'labels': tables['class_label'][labels],
      'task': task,
    }
    if self.masked:
      batch['class_mask'] = tables['class_mask'][task]
    return batch


@dataclasses.dataclass(frozen=True)
class PrepareTokens:
  """Takes windows of tokens, int32, and the task of each from its row."""

  def __call__(
    self, rows: Rows, tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of windows of any tasks."""
    return {name: rows[name].astype(jnp.int32) for name in _OF_TOKENS}


_OF_TOKENS = ('inputs', 'labels', 'task')


@dataclasses.dataclass(frozen=True)
class PreparePermuted:
  """Permutes the features by `tables['features'] [T, F]` for the task."""

  transform: Transform | None = None

  def __call__(
    self, rows: Rows, tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of one task."""
    inputs = rows['inputs']
    flat = inputs.reshape(inputs.shape[0], -1)
    flat = jnp.take(flat, tables['features'][task_id], axis=1, mode='clip')
    inputs = transformed(flat.reshape(inputs.shape), self.transform)
    return {'inputs': inputs, 'labels': rows['labels']}


@dataclasses.dataclass(frozen=True)
class PrepareRotated:
  """Rotates images: each pixel is a weighted sum of four.

  `tables` holds `corners` `[T, 4, H * W]` int32 (which pixels) and `mix`
  `[T, 4, H * W]` float32 (their weights). The result is float32 in the
  range of the inputs.
  """

  transform: Transform | None = None

  def __call__(
    self, rows: Rows, tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of one task."""
    inputs = rows['inputs']
    corners, mix = tables['corners'][task_id], tables['mix'][task_id]
    flat = inputs.reshape(inputs.shape[0], corners.shape[1], -1)
    flat = flat.astype(jnp.float32)
    take = lambda i: jnp.take(flat, corners[i], axis=1, mode='clip')
    turned = sum(take(i) * mix[i][None, :, None] for i in range(4))
    turned = jnp.asarray(turned).reshape(inputs.shape)
    inputs = transformed(turned, self.transform)
    return {'inputs': inputs, 'labels': rows['labels']}


@dataclasses.dataclass(frozen=True)
class PreparePerRow:
  """Lets rows of several tasks meet in one batch.

  Applies `prepare` to each row by itself, in the task that the column `task`
  of the source gives it.
  """

  prepare: Callable[[Rows, Any, jax.Array], Mapping]

  def __call__(
    self, rows: Rows, tables: Any, task_id: jax.Array
  ) -> dict[str, jax.Array]:
    """Makes a batch of rows of any tasks."""
    rows = dict(rows)
    tasks = rows.pop('task')

    def one(row: Rows, task: jax.Array) -> dict[str, jax.Array]:
      single = {name: value[None] for name, value in row.items()}
      batch = dict(self.prepare(single, tables, task))
      return {name: value[0] for name, value in batch.items()}

    return {'task': tasks, **jax.vmap(one)(rows, tasks)}
