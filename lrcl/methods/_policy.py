"""Which rows a memory keeps: what every policy is made of."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.methods import _random


class MemoryState(NamedTuple):
  """The memory itself. A file format: checkpoints hold these four fields.

  Attributes:
    items: dict of arrays `[capacity, ...]`, one for each field of a batch and
      each stored extra arg; zeros where nothing is stored yet. The slots in use
      are the first `min(seen, capacity)`.
    seen: int32 scalar, how many examples were offered; padding does not count.
    key: typed PRNG key of the next draw.
    aux: what a policy keeps besides; `()` for the reservoir.
  """

  items: dict[str, Any]
  seen: jax.Array
  key: jax.Array
  aux: Any


class MemoryOffer(NamedTuple):
  """What a policy is told at a step.

  Attributes:
    rows: the batch with the stored extra args.
    valid: bool `[batch]`, which rows are examples and not padding.
    drawn: int32 `[batch_size]`, the slots whose rows the step has shown.
    bits: uint32, as many random words as the policy asked for.
    params: the parameters before the step's update.
    extra_args: the extra args of the step, `batch` included.
  """

  rows: dict[str, Any]
  valid: jax.Array
  drawn: jax.Array
  bits: jax.Array
  params: base.Params
  extra_args: Mapping[str, Any]


class MemoryPolicy(NamedTuple):
  """A policy of `with_memory`: three pure functions.

  While there is room every row is stored, in the order of arrival, so that the
  slots in use are always the first ones.

  Attributes:
    init: `init(specs, capacity, batch_size) -> aux`, with the shapes and dtypes
      of one item. It raises a `ValueError` if the policy needs others; it is
      called once when the transformation is made.
    choose: `choose(memory, offer) -> (slots, seen, aux)`, with int32 slots
      `[batch]`, all different, `capacity` or more for rows that are not stored.
    words: `words(capacity, rows) -> int`, the random words of a step.
  """

  init: Callable[[Any, int, int], Any]
  choose: Callable[[MemoryState, MemoryOffer], tuple[jax.Array, jax.Array, Any]]
  words: Callable[[int, int], int]


def count_seen(seen: jax.Array, valid: jax.Array) -> jax.Array:
  """The new count of examples; it stops before it overflows."""
  seen = jnp.minimum(seen, jnp.iinfo(jnp.int32).max - valid.size)
  return seen + jnp.sum(valid, dtype=jnp.int32)


def draw_slots(bits: jax.Array, seen: jax.Array, capacity: int) -> jax.Array:
  """Slots, uniform over those in use; 0 where there are none."""
  return _random.below(bits, jnp.clip(seen, 1, capacity))


def take(items: Any, slots: jax.Array) -> Any:
  """The rows in slots that exist."""
  rows = lambda x: x.at[slots].get(mode='promise_in_bounds')
  return jax.tree.map(rows, items)


def need(policy: str, offer: MemoryOffer, name: str) -> Any:
  """The extra arg that a policy cannot do without."""
  if name not in offer.extra_args:
    raise TypeError(
      f'with_memory: policy {policy!r} needs the extra arg {name!r}.'
    )
  if offer.params is None:
    raise ValueError(f'with_memory: policy {policy!r} needs params in update.')
  return offer.extra_args[name]
