"""Experts where the task is told, a reference for those where it is not."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _boundary, _expert_bank, _quadratic
from lrcl.methods._expert_bank import ExpertsState


def with_task_experts(
  inner: optax.GradientTransformation,
  max_experts: int,
  *,
  keep: type | tuple[type, ...] = (),
) -> optax.GradientTransformationExtraArgs:
  """Trains the expert of the task, which is told.

  `with_experts` without a detector, as a reference for it. The expert has the
  number of the task, at most `max_experts - 1`. At a change of `task_id` the
  update leads to the task's expert; the gradient of that step, which is another
  expert's, is dropped.

  Args:
    inner: the optimizer of one expert. It keeps no random keys.
    max_experts: how many experts there are.
    keep: classes of states in `inner` that all experts have together.

  Returns:
    A transformation with the state `ExpertsState`. It needs `params`, the extra
    arg `task_id`, and what `inner` needs.

  Raises:
    TypeError: if `keep` is not a class or a tuple of classes.
    ValueError: if `max_experts` is less than 1, or `params` are missing.

  Example:
    >>> tx = with_task_experts(optax.sgd(1.0), 2)
    >>> params = jnp.zeros(())
    >>> state = tx.init(params)
    >>> for task_id in (0, 0, 1, 1, 1, 0):  # the first of a task only leads
    ...   updates, state = tx.update(
    ...     jnp.ones(()), state, params, task_id=task_id)
    ...   params = params + updates
    ...   print(params)
    -1.0
    -2.0
    0.0
    -1.0
    -2.0
    -2.0

  References:
    Zhu et al., `TAME: task agnostic continual learning using multiple experts
    <https://arxiv.org/abs/2210.03869>`_, 2022 (what it is measured against)
  """
  where = 'with_task_experts'
  inner, init, swap = _expert_bank.make_bank(where, inner, max_experts, keep)

  def init_fn(params: base.Params) -> ExpertsState:
    return init(params, _boundary.no_task())

  def task_update(updates, state, params=None, *, task_id, **extra_args):
    _quadratic.check_params(params, where)
    target = jnp.clip(jnp.asarray(task_id, jnp.int32), 0, max_experts - 1)
    begins = target != state.active
    extra_args['task_id'] = task_id

    def learn() -> tuple[Any, Any]:
      return inner.update(updates, state.inner_state, params, **extra_args)

    def rest() -> tuple[Any, Any]:
      return jax.tree.map(jnp.zeros_like, updates), state.inner_state

    updates, inner_state = jax.lax.cond(begins, rest, learn)
    state = state._replace(
      inner_state=inner_state,
      step=state.step + 1,
      shifts=state.shifts + begins.astype(jnp.int32),
      last_shift=jnp.where(begins, state.step, state.last_shift),
      watch=jnp.asarray(task_id, jnp.int32),
    )
    count = jnp.maximum(state.count, target + 1)
    return swap(begins, target, count, updates, state, params)

  update_fn: Any = task_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)
