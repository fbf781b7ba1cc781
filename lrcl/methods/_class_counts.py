"""How many rows of each class a memory holds, slot by slot.

There is no table of classes: what is known of a class is written beside each of
its rows, so neither the number of classes nor the range of labels matters.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_EXACT = jax.lax.Precision.HIGHEST


class Classes(NamedTuple):
  """The classes of a memory's rows.

  Attributes:
    labels: integers `[capacity]`.
    stored: int32 scalar; the first `stored` slots are in use.
    count: int32 `[capacity]`, how many rows in store have the slot's class.
  """

  labels: jax.Array
  stored: jax.Array
  count: jax.Array


def in_use(classes: Classes) -> jax.Array:
  """Which slots hold a row."""
  return jnp.arange(classes.labels.size) < classes.stored


def of_class(classes: Classes, label: jax.Array) -> jax.Array:
  """Which slots hold a row of one class."""
  return in_use(classes) & (classes.labels == label)


def pick(mask: jax.Array, number: jax.Array) -> jax.Array:
  """The place of the True that has `number` others before it."""
  place = mask & (_ranks(mask) == number + 1)
  return jnp.argmax(place).astype(jnp.int32)


def _ranks(mask: jax.Array) -> jax.Array:
  """How many are True up to each place, int32 `[size]`.

  A running sum, in blocks of about the root of the size: as one it would take
  the square of the size on a CPU, where it is most of the work of a row.
  """
  width = math.isqrt(mask.size - 1) + 1
  padded = jnp.pad(mask, (0, -mask.size % width)).astype(jnp.float32)
  blocks = padded.reshape(-1, width)  # exact, up to 2**24 slots
  upper = jnp.triu(jnp.ones((width, width), jnp.float32))
  within = jnp.matmul(blocks, upper, precision=_EXACT)
  count = blocks.shape[0]
  earlier = jnp.tril(jnp.ones((count, count), jnp.float32), -1)
  before = jnp.matmul(earlier, within[:, -1], precision=_EXACT)
  ranks = before[:, None] + within
  return ranks.reshape(-1)[: mask.size].astype(jnp.int32)


def insert(
  classes: Classes, slot: jax.Array, label: jax.Array
) -> tuple[Classes, jax.Array]:
  """Writes a row's class to a slot in use, to the next one, or to none.

  Args:
    classes: before.
    slot: at most `classes.stored`, or the capacity for nothing at all.
    label: of the row.

  Returns:
    The classes, and which slots hold a row of that class now.
  """
  capacity = classes.labels.size
  here = jnp.arange(capacity) == slot
  replaces = slot < jnp.minimum(classes.stored, capacity)
  old = classes.labels[jnp.minimum(slot, capacity - 1)]
  left = replaces & of_class(classes, old)
  grows = (slot < capacity) & ~replaces
  new = Classes(
    labels=jnp.where(here, label, classes.labels),
    stored=classes.stored + grows.astype(jnp.int32),
    count=classes.count - left.astype(jnp.int32),
  )
  same = of_class(new, label)
  number = jnp.sum(same, dtype=jnp.int32)
  return new._replace(count=jnp.where(same, number, new.count)), same


def check_field(policy: str, specs: Any, field: str) -> None:
  """Checks that the rows have one whole number in `field`."""
  spec = specs.get(field)
  if spec is None:
    raise ValueError(
      f'with_memory: policy {policy!r} needs the field {field!r}; example has '
      f'{", ".join(sorted(specs))}.'
    )
  if spec.shape or not jnp.issubdtype(spec.dtype, jnp.integer):
    raise ValueError(
      f'with_memory: policy {policy!r} needs whole numbers [batch] in '
      f'{field!r}; by example they are {spec.dtype}, {spec.shape} in a row.'
    )
