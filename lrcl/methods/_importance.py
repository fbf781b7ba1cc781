"""A memory that drops what helps the rest of it least."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.methods import _class_counts, _policy, _slots
from lrcl.methods._class_counts import Classes
from lrcl.methods._policy import MemoryOffer, MemoryPolicy, MemoryState


class ImportanceAux(NamedTuple):
  """What the policy keeps. A slot that is `capacity` stands for no slot.

  Attributes:
    importance: float32 `[capacity]`, the average decrease of the memory's loss
      in steps that have shown the slot's row.
    count: int32 `[capacity]`, the rows in store of the class of the slot's row.
    drawn: int32 `[batch_size]`, the slots that the last step has shown.
    probe: int32 `[probe_size]`, the slots that were measured before that step.
    losses: float32 `[probe_size]`, their losses then.
  """

  importance: jax.Array
  count: jax.Array
  drawn: jax.Array
  probe: jax.Array
  losses: jax.Array


def importance_policy(
  probe_size: int = 64, *, decay: float = 0.9, field: str = 'labels'
) -> MemoryPolicy:
  """Keeps rows by what training on them does for the others (CLIB).

  The importance of a row is a moving average: of how much the mean loss on the
  memory fell in those steps that have shown this row. Every new row is stored.
  Once the memory is full it takes the place of the least important row of a
  class that, with the new row, has most. A new row starts with the mean
  importance of its class, or of all if its class is new.

  What differs from the published method: the loss is taken over `probe_size`
  drawn rows, at the parameters before and after a step, and not over the whole
  memory (the larger, the less noise); ties between classes go to the least
  important row, ties between rows, up to rounding, to the first slot; and old
  decreases decay, while the published code adds a share of them. A step that
  shows rows but does not move the parameters, as under `accumulate`, counts as
  one that was of no use. The method trains on the memory alone, which is a
  chain whose first link drops the gradient: `chain(set_to_zero(),
  add_memory_gradient(), ...)`.

  Cost: a pass forward over `2 * probe_size` rows a step, for each row of the
  batch some passes over the labels in store, one after another, and 8 bytes a
  slot. It needs the extra arg `value_fn`, and `params`.

  Args:
    probe_size: how many rows are measured.
    decay: of the moving average, in [0, 1).
    field: whole numbers `[batch]`, the classes.

  Returns:
    A policy, for `with_memory(..., policy=importance_policy(256))`; for the
    defaults its name, `'importance'`, will do.

  Raises:
    ValueError: if a number is impossible.

  Example:
    >>> import optax
    >>> from lrcl import methods
    >>> batch = {'labels': jnp.array([0, 0, 0]), 'weight': jnp.ones(3)}
    >>> tx = methods.with_memory(
    ...   optax.identity(), 2, batch, 1, policy=importance_policy(4))
    >>> _, state = tx.update(jnp.zeros(1), tx.init(None), jnp.zeros(1),
    ...   batch=batch, value_fn=lambda params, rows: rows['weight'])
    >>> state.memory.aux.count.tolist()
    [2, 2]

  References:
    Koh et al., `Online continual learning on class incremental blurry task
    configuration with anytime inference <https://arxiv.org/abs/2110.10031>`_,
    2022

    Code: https://github.com/naver-ai/i-Blurry
  """
  where = 'importance_policy'
  probe_size = base.check_steps(where, 'probe_size', probe_size, 1)
  base.check_value(where, 'decay', decay, minimum=0.0, maximum=1.0)
  if decay == 1:
    raise ValueError(f'{where}: decay is {decay}; it must be < 1.')

  def init(specs: Any, capacity: int, batch_size: int) -> ImportanceAux:
    _class_counts.check_field('importance', specs, field)
    no_slots = lambda size: jnp.full([size], capacity, jnp.int32)
    return ImportanceAux(
      importance=jnp.zeros([capacity], jnp.float32),
      count=jnp.zeros([capacity], jnp.int32),
      drawn=no_slots(batch_size),
      probe=no_slots(probe_size),
      losses=jnp.zeros([probe_size], jnp.float32),
    )

  def choose(
    memory: MemoryState, offer: MemoryOffer
  ) -> tuple[jax.Array, jax.Array, ImportanceAux]:
    labels, aux = memory.items[field], memory.aux
    capacity, none = labels.size, memory.seen == 0
    probe = _policy.draw_slots(offer.bits, memory.seen, capacity)
    probe, drawn = (jnp.where(none, capacity, s) for s in (probe, offer.drawn))
    before, after = _measure(memory, offer, jnp.concatenate([aux.probe, probe]))
    importance = _learn(aux, before, decay)
    stored = jnp.minimum(memory.seen, capacity)
    start = Classes(labels, stored, aux.count), importance
    rows = offer.rows[field], offer.valid
    (classes, importance), slots = jax.lax.scan(_offer_row, start, rows)
    slots = _slots.after(after, _slots.distinct(slots, capacity))
    left = jnp.zeros([capacity], bool).at[slots].set(True, mode='drop')
    keep = lambda s: jnp.where(left.at[s].get(mode='clip'), capacity, s)
    aux = ImportanceAux(
      importance, classes.count, keep(drawn), keep(probe), after
    )
    return slots, _policy.count_seen(memory.seen, offer.valid), aux

  return MemoryPolicy(init, choose, lambda capacity, rows: probe_size)


def _measure(
  memory: MemoryState, offer: MemoryOffer, slots: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Losses of the rows in `slots` now: of the first half and the second."""
  value_fn = _policy.need('importance', offer, 'value_fn')
  capacity = jax.tree.leaves(memory.items)[0].shape[0]
  rows = _policy.take(memory.items, jnp.minimum(slots, capacity - 1))
  losses = value_fn(offer.params, rows).astype(jnp.float32)
  return losses[: slots.size // 2], losses[slots.size // 2 :]


def _learn(aux: ImportanceAux, now: jax.Array, decay: float) -> jax.Array:
  """Credits the rows of the last step with the decrease of the loss."""
  capacity = aux.importance.size
  known = aux.probe < capacity
  number = jnp.sum(known.astype(jnp.float32))
  total = jnp.sum(jnp.where(known, aux.losses - now, 0.0))
  decrease = total / jnp.maximum(number, 1.0)
  moved = aux.importance + (1.0 - decay) * (decrease - aux.importance)
  shown = jnp.zeros([capacity], bool).at[aux.drawn].set(True, mode='drop')
  return jnp.where(shown & (number > 0), moved, aux.importance)


_Book = tuple[Classes, jax.Array]


def _offer_row(book: _Book, row: Any) -> tuple[_Book, jax.Array]:
  """Finds a slot for one row and keeps the books."""
  (classes, importance), (label, valid) = book, row
  capacity = classes.labels.size
  room = classes.stored < capacity
  slot = jnp.where(room, classes.stored, _least(classes, importance, label))
  slot = jnp.where(valid, slot, capacity)
  classes, same = _class_counts.insert(classes, slot, label)
  here = jnp.arange(capacity) == slot
  others = _class_counts.in_use(classes) & ~here
  # The books have the counts: a sum less for each row.
  alike = classes.count[jnp.minimum(slot, capacity - 1)] - 1
  like = others & (same | (alike == 0))
  number = jnp.where(alike == 0, classes.stored - 1, alike)
  total = jnp.sum(jnp.where(like, importance, 0.0))
  start = total / jnp.maximum(number, 1).astype(jnp.float32)
  return (classes, jnp.where(here, start, importance)), slot


def _least(
  classes: Classes, importance: jax.Array, label: jax.Array
) -> jax.Array:
  """The least important row of what is a largest class with the new row."""
  own = _class_counts.of_class(classes, label)
  count = classes.count + own.astype(jnp.int32)
  count = jnp.where(_class_counts.in_use(classes), count, 0)
  worth = jnp.where(count == jnp.max(count), importance, jnp.inf)
  # Averages of equal numbers are equal up to rounding, which must not decide:
  # the order of a sum differs from device to device.
  slack = 1e-5 * jnp.max(jnp.abs(importance))
  return jnp.argmax(worth <= jnp.min(worth) + slack).astype(jnp.int32)
