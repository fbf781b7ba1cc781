"""A memory in which no class crowds out another."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.methods import _boundary, _class_counts, _policy, _random, _slots
from lrcl.methods._class_counts import Classes
from lrcl.methods._policy import MemoryOffer, MemoryPolicy, MemoryState


class ClassBalancedAux(NamedTuple):
  """What the policy keeps, slot by slot, of the class of the slot's row.

  Attributes:
    count: int32 `[capacity]`, its rows in store.
    met: int32 `[capacity]`, its rows that were offered.
    full: bool `[capacity]`, whether it is or was a largest class.
  """

  count: jax.Array
  met: jax.Array
  full: jax.Array


def class_balanced_policy(field: str = 'labels') -> MemoryPolicy:
  """Class-balancing reservoir sampling, a policy of `with_memory`.

  While there is room every row is stored. Then a row of a class that was never
  a largest one takes the place of a row of a largest class, which is drawn. A
  row of any other class is drawn against its own: of the n rows of its class so
  far, each is in store with the same probability.

  Hence at any time after the memory has filled up a class has either all of its
  rows in store or as many as the largest, less one at most: what the greedy
  balancing of GDumb gives, which however keeps the first rows of each class.

  The number of classes need not be known. A class of which the last row was
  dropped, which takes more classes than slots, counts as never met. Cost: some
  passes over the labels in store for each row of the batch, one after another,
  and 9 bytes a slot.

  Args:
    field: the field of a batch, whole numbers `[batch]`, that balance is over;
      `'task'` gives every task its share.

  Returns:
    A policy, for `with_memory(..., policy=class_balanced_policy())`; for the
    default field its name, `'class_balanced'`, will do.

  Example:
    >>> import optax
    >>> from lrcl import methods
    >>> batch = {'labels': jnp.array([0, 0, 0, 0, 0, 1, 1]),
    ...          'weight': jnp.ones(7)}
    >>> tx = methods.with_memory(
    ...   optax.identity(), 4, batch, 1, policy=class_balanced_policy())
    >>> _, state = tx.update(None, tx.init(None), batch=batch)
    >>> sorted(state.memory.items['labels'].tolist())
    [0, 0, 1, 1]

  References:
    Chrysakis and Moens, `Online continual learning from imbalanced data
    <https://proceedings.mlr.press/v119/chrysakis20a.html>`_, 2020. The paper
    counts a class as full if it ever was the largest; here from the time on
    when the memory is full [M].

    Prabhu et al., `GDumb: a simple approach that questions our progress in
    continual learning <https://doi.org/10.1007/978-3-030-58536-5_31>`_, 2020
  """

  def init(specs: Any, capacity: int, batch_size: int) -> ClassBalancedAux:
    del batch_size
    _class_counts.check_field('class_balanced', specs, field)
    zeros = lambda: jnp.zeros([capacity], jnp.int32)
    return ClassBalancedAux(zeros(), zeros(), jnp.zeros([capacity], bool))

  def choose(
    memory: MemoryState, offer: MemoryOffer
  ) -> tuple[jax.Array, jax.Array, ClassBalancedAux]:
    labels, aux = memory.items[field], memory.aux
    stored = jnp.minimum(memory.seen, labels.size)
    rows = offer.rows[field], offer.valid, offer.bits.reshape(-1, 2)
    classes = Classes(labels, stored, aux.count)
    start = classes, _largest(classes), aux.met, aux.full
    book, slots = jax.lax.scan(_offer_row, start, rows)
    classes, _, met, full = book
    slots = _slots.distinct(slots, labels.size)
    seen = _policy.count_seen(memory.seen, offer.valid)
    return slots, seen, ClassBalancedAux(classes.count, met, full)

  return MemoryPolicy(init, choose, lambda capacity, rows: 2 * rows)


_Book = tuple[Classes, jax.Array, jax.Array, jax.Array]


def _offer_row(book: _Book, row: Any) -> tuple[_Book, jax.Array]:
  """Finds a slot for one row and keeps the books."""
  (classes, largest, met, full), (label, valid, words) = book, row
  capacity = classes.labels.size
  own = _class_counts.of_class(classes, label)
  number = jnp.max(jnp.where(own, met, 0)) + 1
  is_full = jnp.any(own & full)
  # Algorithm R within its own class, of which this is row `number`; or any row
  # of a largest class.
  rivals = jnp.where(is_full, own, largest)
  held = jnp.sum(rivals, dtype=jnp.int32)
  drawn = _random.below(
    jnp.where(is_full, words[0], words[1]), jnp.where(is_full, number, held)
  )
  # Most rows find no slot once the memory is full, and change only `met`.
  found = valid & ((classes.stored < capacity) | (drawn < held))
  classes, largest, full, own, slot = _boundary.run_if(
    found,
    _insert,
    (classes, largest, full, own, jnp.int32(capacity)),
    (label, is_full, rivals, drawn),
  )
  met = jnp.where(own & valid, number, met)
  return (classes, largest, met, full), slot


def _insert(carry: Any, row: Any) -> Any:
  """Writes a row to a slot: the books, which slots have its class, the slot."""
  (classes, _, full, *_), (label, is_full, rivals, drawn) = carry, row
  capacity = classes.labels.size
  slot = _class_counts.pick(rivals, drawn)
  slot = jnp.where(classes.stored < capacity, classes.stored, slot)
  here = jnp.arange(capacity) == slot
  classes, own = _class_counts.insert(classes, slot, label)
  largest = _largest(classes)
  is_filled = classes.stored == capacity
  full = jnp.where(here, is_full, full) | (largest & is_filled)
  return classes, largest, full, own, slot


def _largest(classes: Classes) -> jax.Array:
  """Which slots hold rows of a largest class."""
  count = jnp.where(_class_counts.in_use(classes), classes.count, 0)
  return _class_counts.in_use(classes) & (count == jnp.max(count))
