"""A step that does not raise the loss on a memory, to first order."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _hypergradient, _quadratic


def project_on_memory(
  sign: float = 1.0, *, past_only: bool = False
) -> optax.GradientTransformationExtraArgs:
  r"""Removes from a step what would raise the loss on a memory (A-GEM).

  With :math:`r` the gradient of the loss on rows that are drawn from a memory,
  an update :math:`u` that descends on the batch but not on the memory,
  :math:`s \langle u, r \rangle < 0`, becomes the nearest one that leaves the
  memory's loss as it is to first order,

  .. math:: u - \frac{\langle u, r \rangle}{\langle r, r \rangle} r .

  All leaves together are one vector; inner products are in float32. Any other
  update passes unchanged, and so does every update while the memory is empty
  or where :math:`r` is 0.

  Place in the chain: after everything that bends the step, with `sign=-1`: what
  comes out of the rate is added to the parameters and must not ascend on the
  memory. In front of the preconditioner, where it sees a gradient (`sign=1`),
  it is the published algorithm, which is used with plain SGD; behind it Adam
  may turn the step again, and then the memory's loss may rise. Inside
  `with_memory`, and not inside `optax.masked`, which hides parameters from
  `grad_fn`. Cost: one more gradient, over the memory's batch, two inner
  products and a pass.

  In the paper the memory holds finished tasks only, while that of
  `with_memory` also holds rows of the task in training. `past_only=True` leaves
  those out: it gives weight 0 to rows whose `task` is the present `task_id`, so
  that during the first task nothing is projected.

  Args:
    sign: 1 where updates are gradients (in front of the rate), -1 where they
      are steps (behind it).
    past_only: whether only rows of other tasks than the present one count.

  Returns:
    A stateless transformation that needs `params` and the extra args `grad_fn`,
    `memory`, `memory_ready` and, with `past_only`, `task_id`. Outside
    `with_memory` two of them are missing and `update` raises a `TypeError`.
    Updates keep their dtype; in bfloat16 the result meets the constraint up to
    rounding.

  Raises:
    ValueError: if `sign` is neither 1 nor -1, `params` are missing, or
      `past_only` meets a memory whose rows have no `task` or no `weight`.

  Example:
    >>> grad_fn = lambda params, memory: memory['inputs'].mean(0)
    >>> memory = {'inputs': jnp.array([[0.0, 2.0]])}
    >>> tx = project_on_memory()
    >>> for gradient in ([1.0, -1.0], [1.0, 1.0]):
    ...   updates, _ = tx.update(jnp.array(gradient), tx.init(None),
    ...     jnp.zeros(2), grad_fn=grad_fn, memory=memory, memory_ready=True)
    ...   print(updates)
    [1. 0.]
    [1. 1.]

  References:
    Chaudhry et al., `Efficient lifelong learning with A-GEM
    <https://arxiv.org/abs/1812.00420>`_, 2019
  """
  where = 'project_on_memory'
  check_sign(where, sign)

  def project_on_memory_update(
    updates: Any,
    state: Any,
    params: Any = None,
    *,
    grad_fn: Any,
    memory: base.Batch,
    memory_ready: Any,
    **extra_args: Any,
  ) -> tuple[Any, Any]:
    _quadratic.check_params(params, where)
    if past_only:
      memory = _past_rows(where, memory, extra_args)
    reference = grad_fn(params, memory)
    return _project(updates, reference, sign, memory_ready), state

  update_fn: Any = project_on_memory_update
  return optax.GradientTransformationExtraArgs(
    optax.init_empty_state, update_fn
  )


def check_sign(where: str, sign: Any) -> None:
  """Checks that `sign` says which way updates point."""
  if not base.is_concrete(sign) or sign not in (1, -1):
    raise ValueError(
      f'{where}: sign is {sign!r}; it must be 1, where updates are gradients, '
      'or -1, where they are steps.'
    )


def _project(updates: Any, reference: Any, sign: float, ready: Any) -> Any:
  """The nearest updates within the half-space that `reference` bounds."""
  dot = _hypergradient.inner_product(updates, reference)
  square = _hypergradient.inner_product(reference, reference)
  conflict = jnp.asarray(ready) & (sign * dot < 0) & (square > 0)
  share = dot / jnp.where(conflict, square, 1.0)

  def leaf(update: jax.Array, r: jax.Array) -> jax.Array:
    dtype = update.dtype if update.dtype.itemsize > 2 else jnp.float32
    moved = update.astype(dtype) - share.astype(dtype) * r.astype(dtype)
    # Not conflict * share: the gradient on an empty memory may be NaN.
    return jnp.where(conflict, moved.astype(update.dtype), update)

  return jax.tree.map(leaf, updates, reference)


def _past_rows(
  where: str, memory: base.Batch, extra_args: Mapping[str, Any]
) -> base.Batch:
  """The memory with weight 0 for rows of the present task."""
  if 'task_id' not in extra_args:
    raise TypeError(f"{where}: past_only=True needs the extra arg 'task_id'.")
  for name in ('task', 'weight'):
    if name not in memory:
      raise ValueError(
        f'{where}: past_only=True needs a memory with the field {name!r}; it '
        f'has {", ".join(sorted(memory))}.'
      )
  present = memory['task'] == extra_args['task_id']
  weight = memory['weight']
  return {
    **memory,
    'weight': jnp.where(present, jnp.zeros_like(weight), weight),
  }
