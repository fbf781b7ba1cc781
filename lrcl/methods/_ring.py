"""A memory of the newest rows."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl.methods import _policy, _slots
from lrcl.methods._policy import MemoryOffer, MemoryPolicy, MemoryState


def ring_policy() -> MemoryPolicy:
  """The oldest row makes room for the newest; `aux` is the next slot."""
  return MemoryPolicy(
    init=lambda specs, capacity, batch_size: jnp.zeros([], jnp.int32),
    choose=_choose,
    words=lambda capacity, rows: 0,
  )


def _choose(
  memory: MemoryState, offer: MemoryOffer
) -> tuple[jax.Array, jax.Array, Any]:
  capacity = jax.tree.leaves(memory.items)[0].shape[0]
  ahead = jnp.cumsum(offer.valid, dtype=jnp.int32)
  slot = (memory.aux + ahead - 1) % capacity
  slot = jnp.where(offer.valid, slot, capacity)
  slots = _slots.distinct(slot, capacity)
  seen = _policy.count_seen(memory.seen, offer.valid)
  return slots, seen, (memory.aux + ahead[-1]) % capacity
