"""A memory of rows whose gradients differ."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.methods import _policy, _random, _slots, _stacked
from lrcl.methods._policy import MemoryOffer, MemoryPolicy, MemoryState

_FIRST_SCORE = 0.1


def gss_policy(num_batches: int = 10, batch_size: int = 10) -> MemoryPolicy:
  """Greedy gradient-based sample selection, a policy of `with_memory`.

  The score of a row is its greatest cosine similarity, between its gradient and
  those of `num_batches` batches drawn from the memory, when it was stored: high
  if the memory had its like. While there is room every row is stored; those of
  the first step have the score 0.1. Then, if the gradient of the incoming batch
  has a negative similarity with all of these batches, each of its rows is
  matched with a slot, drawn with probability proportional to
  `score - least score` and without replacement, and takes its place with
  probability `a / (a + b)`, with a and b one more than the slot's score and
  than the row's own. If all scores are equal, slots are drawn uniformly.

  What differs from the published method: batches are drawn with replacement, as
  many as asked for even if few rows are stored, and gradients are at the
  parameters before the step and not after it.

  Gradients of single rows come from `grad_fn`, which knows batches only, as
  gradients of the batch under a weight of 1 for one row: exact unless examples
  of a batch act on each other. Cost: with B rows in a batch,
  `num_batches + B + 1` more gradients a step (B of them over the whole batch),
  and `num_batches` copies of the gradient while it lasts. This is what keeps
  the method to small batches and networks. It needs the extra arg `grad_fn`,
  `params`, and a `weight` in the batch.

  Args:
    num_batches: how many batches of the memory a row is compared with.
    batch_size: of each of them.

  Returns:
    A policy, for `with_memory(..., policy=gss_policy(5))`; for the defaults its
    name, `'gss'`, will do. Its `aux` is the scores, float32 `[capacity]`.

  Raises:
    ValueError: if a number is less than 1.

  Example:
    >>> import optax
    >>> from lrcl import methods
    >>> batch = {'inputs': jnp.array([1.0, -1.0]), 'weight': jnp.ones(2)}
    >>> grad_fn = lambda p, rows: (rows['inputs'] * rows['weight']).sum()[None]
    >>> tx = methods.with_memory(
    ...   optax.identity(), 4, batch, 1, policy=gss_policy(2, 1))
    >>> state, zero = tx.init(None), jnp.zeros(1)
    >>> for _ in range(2):
    ...   _, state = tx.update(
    ...     zero, state, zero, batch=batch, grad_fn=grad_fn)
    >>> print(state.memory.aux[:2])
    [0.1 0.1]

  References:
    Aljundi et al., `Gradient based sample selection for online continual
    learning <https://arxiv.org/abs/1903.08671>`_, 2019 (its greedy variant)

    Code: https://github.com/RaptorMai/online-continual-learning
  """
  num_batches = base.check_steps('gss_policy', 'num_batches', num_batches, 1)
  batch_size = base.check_steps('gss_policy', 'batch_size', batch_size, 1)
  drawn = num_batches * batch_size

  def init(specs: Any, capacity: int, shown: int) -> jax.Array:
    del shown
    if 'weight' not in specs:
      raise ValueError(
        "with_memory: policy 'gss' needs the field 'weight'; example has "
        f'{", ".join(sorted(specs))}.'
      )
    return jnp.zeros([capacity], jnp.float32)

  def choose(
    memory: MemoryState, offer: MemoryOffer
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    capacity, count = memory.aux.size, offer.valid.size
    grad_fn = _policy.need('gss', offer, 'grad_fn')
    slots = _policy.draw_slots(offer.bits[:drawn], memory.seen, capacity)
    batches = _policy.take(memory.items, slots.reshape(num_batches, -1))
    own, whole = _similarities(grad_fn, offer, batches)
    score = jnp.where(memory.seen > 0, own, _FIRST_SCORE)
    stored = jnp.minimum(memory.seen, capacity)
    words = jnp.split(offer.bits[drawn:], [count])
    rivals = _rivals(memory.aux, stored, words[1], count)
    rank = stored + jnp.cumsum(offer.valid, dtype=jnp.int32) - 1
    wins = (whole < 0) & _wins(memory.aux, rivals, score, words[0])
    slot = jnp.where(wins, rivals, capacity)
    slot = jnp.where(rank < capacity, rank, slot)
    slot = jnp.where(offer.valid, slot, capacity)
    slot = _slots.after(own, _slots.distinct(slot, capacity))
    scores = memory.aux.at[slot].set(score, mode='drop', unique_indices=True)
    return slot, _policy.count_seen(memory.seen, offer.valid), scores

  return MemoryPolicy(
    init, choose, lambda capacity, rows: drawn + rows + capacity
  )


def _similarities(
  grad_fn: Any, offer: MemoryOffer, batches: Any
) -> tuple[jax.Array, jax.Array]:
  """Greatest cosines with the memory's batches: of each row, and of all."""
  gradient = lambda rows: grad_fn(offer.params, rows)
  stack = jax.lax.map(gradient, batches)
  lengths = jnp.sqrt(jnp.diagonal(_stacked.products(stack, stack)))

  def greatest(rows: Any) -> jax.Array:
    g = jax.tree.map(lambda x: x[None], gradient(rows))
    length = jnp.sqrt(_stacked.products(g, g))[0, 0]
    norms = lengths * length
    dots = _stacked.products(stack, g)[:, 0]
    return jnp.max(
      jnp.where(norms > 0, dots / jnp.where(norms > 0, norms, 1), 0)
    )

  weight = offer.rows['weight']
  # One weight at a time: a batch of one row may not divide over the devices.
  alone = jnp.eye(weight.size, dtype=weight.dtype)
  own = jax.lax.map(lambda w: greatest({**offer.rows, 'weight': w}), alone)
  return own, greatest(offer.rows)


def _rivals(
  scores: jax.Array, stored: jax.Array, words: jax.Array, count: int
) -> jax.Array:
  """Different slots for `count` rows, drawn by their scores; or none."""
  capacity = scores.size
  used = jnp.arange(capacity) < stored
  least = jnp.min(jnp.where(used, scores, jnp.inf))
  # Adding Gumbel noise and taking the greatest is drawing one after another.
  uniform = jnp.maximum(_random.uniform(words), 1e-7)
  noise = -jnp.log(-jnp.log(uniform))
  keys = jnp.log(jnp.maximum(scores - least, 0.0) + 1e-8) + noise
  keys, slots = jax.lax.top_k(
    jnp.where(used, keys, -jnp.inf), min(count, capacity)
  )
  slots = jnp.where(jnp.isfinite(keys), slots, capacity)
  return jnp.pad(slots, (0, count - slots.size), constant_values=capacity)


def _wins(
  scores: jax.Array, rivals: jax.Array, score: jax.Array, words: jax.Array
) -> jax.Array:
  """Whether each row takes the place of its rival, drawn."""
  theirs = 1.0 + scores.at[rivals].get(mode='fill', fill_value=-1.0)
  return _random.uniform(words) * (theirs + 1.0 + score) < theirs
