"""Updates that reach one task's part of parameters with an axis of tasks."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import tree

_WHERE = 'update_task_rows'


def update_task_rows(
  *, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  """Leaves the parameters of every task but the present one alone.

  Of leaves with a leading axis of tasks only the row `task_id` is updated. The
  gradient of the other rows is 0 in any case, but momenta, Adam and weight
  decay would go on moving them: with this link they stay, to the bit. Momenta
  themselves rest with their task's row only as far as its gradients decide.

  Place in the chain: last, behind the rate. Cost: one pass over the leaves.

  Args:
    mask: which leaves have an axis of tasks: None for all, a tree of bools, or
      a function such as `lrcl.tree.path_mask('^tasks/')`.

  Returns:
    A transformation without state. It needs the extra arg `task_id`. A task
    beyond the axis updates nothing.

  Raises:
    ValueError: if the mask selects nothing, or a selected leaf is a scalar.

  Example:
    >>> tx = update_task_rows()
    >>> updates, _ = tx.update(jnp.ones((3, 2)), tx.init(None), task_id=1)
    >>> print(updates)
    [[0. 0.]
     [1. 1.]
     [0. 0.]]

  References:
    Ge et al., `CLR: channel-wise lightweight reprogramming for continual
    learning <https://arxiv.org/abs/2307.11386>`_, 2023 (parts of a network that
    belong to tasks)
  """

  def task_update(updates, state, params=None, *, task_id, **extra_args):
    del params, extra_args
    selected = tree.resolve_mask(mask, updates, _WHERE)

    def leaf(path: Any, update: Any, chosen: bool) -> Any:
      if not chosen:
        return update
      if not jnp.ndim(update):
        raise ValueError(
          f'{_WHERE}: {tree.leaf_name(path)!r} is a scalar; it must have a '
          'leading axis of tasks, or be outside of the mask.'
        )
      mine = jnp.arange(update.shape[0]) == jnp.asarray(task_id, jnp.int32)
      mine = mine.reshape(-1, *(1,) * (update.ndim - 1))
      return jnp.where(mine, update, jnp.zeros_like(update))

    return jax.tree_util.tree_map_with_path(leaf, updates, selected), state

  update_fn: Any = task_update
  return optax.GradientTransformationExtraArgs(
    optax.init_empty_state, update_fn
  )
