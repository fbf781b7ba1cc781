"""Rows of a memory by their slots, written where they are."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec


def distinct(slot: jax.Array, capacity: int) -> jax.Array:
  """Slots that are all different, for rows that come one after another.

  Args:
    slot: int32 `[batch]`, where each row goes; `capacity` or more for a row
      that is not stored.
    capacity: how many slots there are.

  Returns:
    The same, but of several rows with one slot only the last keeps it. Rows
    that are not stored get slots of their own beyond the last one: the scatter
    may then count on different indices, whose order does not matter on any
    device.
  """
  index = jnp.arange(slot.size)
  same = slot[:, None] == slot[None, :]
  overwritten = jnp.any(same & (index[:, None] < index[None, :]), axis=1)
  keep = (slot < capacity) & ~overwritten
  return jnp.where(keep, slot, capacity + index)


def put(
  items: Any, slots: jax.Array, rows: Any, sharding: NamedSharding | None = None
) -> Any:
  """Writes rows to slots that are all different; those out of range drop."""
  if sharding is not None:
    # Every device needs all new rows, not all of the memory.
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    slots, rows = jax.lax.with_sharding_constraint((slots, rows), everywhere)
  write = lambda x, new: x.at[slots].set(new, mode='drop', unique_indices=True)
  return place(jax.tree.map(write, items, rows), sharding)


def place(items: Any, sharding: NamedSharding | None) -> Any:
  """Lays the slots out on a mesh, if there is one."""
  if sharding is None:
    return items
  return jax.lax.with_sharding_constraint(items, sharding)


def after(rows: Any, slots: jax.Array) -> jax.Array:
  """Returns `slots`, made to depend on `rows`.

  A loop that reads the memory and writes to it in no fixed order makes XLA
  copy all of it at every step. Here a number that is always zero, though no
  simplification at that level knows it, puts reading first.
  """
  for x in jax.tree.leaves(rows):
    byte = x.reshape(-1)[:1].view(jnp.uint8)[0]
    slots += (jax.lax.population_count(byte) >> 4).astype(slots.dtype)
  return slots
