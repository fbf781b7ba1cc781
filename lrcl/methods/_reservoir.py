"""Algorithm R for batches."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl.methods import _random, _slots
from lrcl.methods._policy import MemoryOffer, MemoryPolicy, MemoryState


def slots(
  seen: jax.Array, valid: jax.Array, bits: jax.Array, capacity: int
) -> tuple[jax.Array, jax.Array]:
  """Algorithm R for a whole batch.

  The n-th example (from 0) goes to slot n while there is room, and then to a
  slot drawn from 0 .. n if there is such a slot. Of several rows of one batch
  that are given the same slot, the last stays, as if they came one by one.

  Returns:
    Slots `[batch]`, all different, out of range where a row is not stored; and
    the new count.
  """
  size = valid.size
  seen = jnp.minimum(seen, jnp.iinfo(jnp.int32).max - size)
  rank = seen + jnp.cumsum(valid, dtype=jnp.int32) - 1
  drawn = _random.below(bits, rank + 1)
  slot = jnp.where(rank < capacity, rank, drawn)
  slot = jnp.where(valid, slot, capacity)
  slot = _slots.distinct(slot, capacity)
  return slot, seen + jnp.sum(valid, dtype=jnp.int32)


def _choose(
  memory: MemoryState, offer: MemoryOffer
) -> tuple[jax.Array, jax.Array, Any]:
  capacity = jax.tree.leaves(memory.items)[0].shape[0]
  chosen = slots(memory.seen, offer.valid, offer.bits, capacity)
  return (*chosen, memory.aux)


def reservoir_policy() -> MemoryPolicy:
  """Every example offered so far is kept with the same probability."""
  return MemoryPolicy(
    init=lambda specs, capacity, batch_size: (),
    choose=_choose,
    words=lambda capacity, rows: rows,
  )
