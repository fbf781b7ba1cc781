"""Replay: terms of the objective that are taken over a memory."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base


def add_memory_gradient(
  weight: float | jax.Array = 1.0,
) -> optax.GradientTransformationExtraArgs:
  """Adds the gradient of the loss on rows that are drawn from a memory.

  Updates become `g + weight * grad_fn(params, memory)`: with `g` the gradient
  of the batch's loss this is the gradient of `l(B) + weight * l(M)`, experience
  replay as a sum of losses. While the memory is empty, `g` passes unchanged.

  Replay that concatenates both batches minimises their mean weighted by size.
  With `weight = |M| / |B|`, the gradient of that mean is this one times
  `|B| / (|B| + |M|)`; multiply the learning rate by it (Adam does not see it).

  This equality does not hold where examples of one batch act on each other:
  batch normalisation in training mode, contrastive losses, mixing across the
  two batches. There, concatenate before the loss.

  Place in the chain: first, on the raw gradient, inside `with_memory`. Not
  inside `optax.masked`, which hides parameters from `grad_fn`. Cost: one more
  gradient per step, over the memory's batch.

  Args:
    weight: the factor of the memory's loss; may be traced.

  Returns:
    A stateless transformation that needs the extra args `grad_fn`, `memory` and
    `memory_ready`. Outside `with_memory` the last two are missing and `update`
    raises a `TypeError`.

  Raises:
    ValueError: if `weight` is not a finite number.

  Example:
    >>> grad_fn = lambda params, batch: params - batch['inputs'].mean()
    >>> memory = {'inputs': jnp.ones(4)}
    >>> tx = add_memory_gradient(0.5)
    >>> updates, _ = tx.update(jnp.zeros(1), tx.init(None), jnp.zeros(1),
    ...   grad_fn=grad_fn, memory=memory, memory_ready=True)
    >>> print(updates)
    [-0.5]

  References:
    Robins, Catastrophic forgetting, rehearsal and pseudorehearsal, 1995,
    https://doi.org/10.1080/09540099550039318
    Chaudhry et al., On tiny episodic memories in continual learning, 2019,
    https://arxiv.org/abs/1902.10486
  """
  base.check_value('add_memory_gradient', 'weight', weight)

  def add_memory_gradient_update(
    updates: Any,
    state: Any,
    params: Any = None,
    *,
    grad_fn: Any,
    memory: base.Batch,
    memory_ready: Any,
    **extra_args: Any,
  ) -> tuple[Any, Any]:
    del extra_args
    if params is None:
      raise ValueError('add_memory_gradient: pass params to update.')
    gradient = grad_fn(params, memory)
    return add_term(updates, weight, gradient, memory_ready), state

  update_fn: Any = add_memory_gradient_update
  return optax.GradientTransformationExtraArgs(
    optax.init_empty_state, update_fn
  )


def add_term(updates: Any, weight: Any, gradient: Any, ready: Any) -> Any:
  """Adds `weight * gradient` where `ready` holds; dtypes are kept."""

  def add(update: jax.Array, gradient: jax.Array) -> jax.Array:
    dtype = update.dtype if update.dtype.itemsize > 2 else jnp.float32
    term = jnp.asarray(weight, dtype) * gradient.astype(dtype)
    # Not ready * term: the gradient on an empty memory may be NaN.
    term = jnp.where(ready, term, jnp.zeros_like(term))
    return (update.astype(dtype) + term).astype(update.dtype)

  return jax.tree.map(add, updates, gradient)
