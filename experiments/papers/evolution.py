"""Evolution strategies: a search direction from pairs of opposite steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Evolved(NamedTuple):
  """Where the search ended, and how it went.

  Attributes:
    params: `[size]`.
    losses: `[generations]`, the mean over the population of each.
  """

  params: jax.Array
  losses: jax.Array


def evolve(
  loss_fn: Callable[[jax.Array, jax.Array], jax.Array],
  params: jax.Array,
  key: jax.Array,
  *,
  generations: int,
  pairs: int,
  sigma: float = 0.1,
  tx: optax.GradientTransformation,
) -> Evolved:
  """Antithetic OpenES in which each pair is scored by its rank alone.

  Both of a pair, `params + sigma * noise` and `params - sigma * noise`, get
  the same key, hence the same problem; the better of the two scores 1, the
  other 0, and equal ones nothing. So a problem's difficulty, its scale, and
  any monotone change of the loss are without effect.

  Args:
    loss_fn: `loss_fn(params, key) -> loss`, lower is better; the population is
      vmapped. A loss that is not a number is the worst.
    params: `[size]`, where to begin.
    key: of the noise and of the problems.
    generations: number of steps of the search.
    pairs: of each generation.
    sigma: deviation of the noise.
    tx: takes the estimate for a gradient; a learning rate included.

  Example:
    >>> loss_fn = lambda x, key: jnp.sum((x - 1.0) ** 2)
    >>> tx = optax.sgd(0.01)
    >>> found = evolve(
    ...   loss_fn, jnp.zeros(2), jax.random.key(0), generations=100, pairs=16,
    ...   tx=tx,
    ... )
    >>> bool(jnp.all(jnp.abs(found.params - 1.0) < 0.1))
    True

  References:
    Salimans et al., 2017, `Evolution Strategies as a Scalable Alternative to
    Reinforcement Learning <https://arxiv.org/abs/1703.03864>`_; Jackson et
    al., 2024, `Discovering Temporally-Aware Reinforcement Learning Algorithms
    <https://arxiv.org/abs/2402.05828>`_ (ranks within the pair).
  """

  def generation(carry: Any, key: jax.Array) -> Any:
    params, state = carry
    keys = jax.random.split(key, pairs + 1)
    noise = jax.random.normal(keys[0], (pairs, params.shape[0]))
    losses = _measure(loss_fn, params[None], sigma * noise, keys[1:])
    forth, back = losses
    # What the scores of both, 1 or 0, say: uphill is where the loss is higher.
    score = jnp.where(forth > back, 1.0, jnp.where(forth < back, -1.0, 0.0))
    gradient = score @ noise / (2.0 * sigma * pairs)
    updates, state = tx.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), jnp.mean(losses)

  start = params, tx.init(params)
  keys = jax.random.split(key, generations)
  (params, _), losses = jax.lax.scan(generation, start, keys)
  return Evolved(params, losses)


def _measure(
  loss_fn: Any, params: jax.Array, steps: jax.Array, keys: jax.Array
) -> jax.Array:
  """Losses `[2, pairs]` of steps forth and back; both have the same key."""
  population = jnp.concatenate([params + steps, params - steps])
  losses = jax.vmap(loss_fn)(population, jnp.concatenate([keys, keys]))
  return jnp.where(jnp.isnan(losses), jnp.inf, losses).reshape(2, -1)
