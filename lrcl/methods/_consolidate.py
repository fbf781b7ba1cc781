"""What a method keeps of a finished task, under any optax wrapper."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl.base import Params
from lrcl.methods import _boundary


def consolidate(opt_state: Any, params: Params, **kwargs: Any) -> Any:
  """Calls `consolidate(params, **kwargs)` on every state that has it.

  A state with such a method is a `NamedTuple`; it is found wherever optax put
  it: in `chain`, `masked`, `partition`, `inject_hyperparams`, `MultiSteps`,
  `apply_if_finite`, or inside a wrapper that consolidates itself (its inner
  states come first). All other states stay as they are, so that on a chain
  without such a method nothing happens. Every state gets all of `params` and
  takes the leaves it knows.

  It is a pure function and may be jitted and donated as a whole. Batched
  states (seeds along the first axis) work as they are where consolidation is
  elementwise, as for EWC and L2. Cost: one pass over the state; what is
  expensive, such as `fisher_diagonal`, is the caller's.

  Args:
    opt_state: state of an optax transformation.
    params: the parameters, at the end of the task.
    **kwargs: what the states need, by name: `fisher`, `decay` and `merge` for
      `add_ewc_penalty`. Each state ignores the names of others.

  Returns:
    The new `opt_state`, with the same structure, shapes and dtypes.

  Raises:
    TypeError: if a state lacks what it needs.

  Example:
    >>> import jax.numpy as jnp
    >>> from lrcl import methods
    >>> import optax
    >>> tx = optax.chain(methods.add_l2_anchor(1.0), optax.adam(1e-3))
    >>> state = consolidate(tx.init(jnp.ones(2)), jnp.full(2, 3.0))
    >>> print(state[0].anchor)
    [3. 3.]
  """

  def visit(node: Any) -> Any:
    if not _consolidates(node):
      return node
    inner = [consolidate(child, params, **kwargs) for child in node]
    return node._make(inner).consolidate(params, **kwargs)

  return jax.tree.map(visit, opt_state, is_leaf=_consolidates)


def _consolidates(node: Any) -> bool:
  named_tuple = isinstance(node, tuple) and hasattr(node, '_fields')
  return named_tuple and callable(getattr(node, 'consolidate', None))


class ConsolidateAtTaskChangeState(NamedTuple):
  """State of `consolidate_at_task_change`.

  Attributes:
    task_id: int32 scalar, the task of the last update; -1 before the first.
    inner_state: the state of what is wrapped.
  """

  task_id: jax.Array
  inner_state: Any


def consolidate_at_init(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Consolidates at the parameters that `init` is given.

  `consolidate_at_init(add_l2_anchor(s))` is L2-init: it holds the parameters
  near where they started. Nothing changes afterwards, and the state is that of
  `inner`. Only states that consolidate without data will do.

  Args:
    inner: a transformation.

  Returns:
    The transformation with another `init`.

  Example:
    >>> import jax.numpy as jnp
    >>> from lrcl import methods
    >>> tx = consolidate_at_init(methods.add_l2_anchor(0.5))
    >>> state = tx.init(jnp.ones(2))
    >>> updates, _ = tx.update(jnp.zeros(2), state, jnp.array([1.0, 3.0]))
    >>> print(updates)
    [0. 1.]

  References:
    Kumar et al., `Maintaining plasticity in continual learning via
    regenerative regularization <https://arxiv.org/abs/2308.11958>`_, 2023
    (L2-init)
  """
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: Params) -> Any:
    return consolidate(inner.init(params), params)

  return optax.GradientTransformationExtraArgs(init_fn, inner.update)


def consolidate_at_task_change(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Consolidates by itself, where `task_id` is another than before.

  `consolidate_at_task_change(add_l2_anchor(s))` is L2 to the last task, without
  a call from outside. It happens inside the update, before it, at the
  parameters that the last update left, and only states that consolidate
  without data will do: for those that need a Fisher there is `on_task_end`.
  The methods that gather importance along the way do this by themselves.

  Args:
    inner: a transformation.

  Returns:
    A transformation with the state `ConsolidateAtTaskChangeState`. It needs
    `params`, the extra arg `task_id`, and what `inner` needs. A task that is
    returned to is a change, too.

  Raises:
    TypeError: when a step is traced, if a state of `inner` needs data.

  Example:
    >>> import jax.numpy as jnp
    >>> from lrcl import methods
    >>> tx = consolidate_at_task_change(methods.add_l2_anchor(0.5))
    >>> state = tx.init(jnp.zeros(1))
    >>> for task, param in ((0, 1.0), (1, 2.0), (1, 4.0)):
    ...   updates, state = tx.update(
    ...     jnp.zeros(1), state, jnp.full(1, param), task_id=task
    ...   )
    ...   print(updates)
    [0.]
    [0.]
    [1.]

  References:
    Kirkpatrick et al., `Overcoming catastrophic forgetting in neural networks
    <https://arxiv.org/abs/1612.00796>`_, 2017 (L2 to the last task, which EWC
    is compared with)
  """
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: Params) -> ConsolidateAtTaskChangeState:
    return ConsolidateAtTaskChangeState(_boundary.no_task(), inner.init(params))

  def task_update(updates, state, params=None, *, task_id, **extra_args):
    ends = _boundary.begins(task_id, state.task_id)
    inner_state = _boundary.run_if(ends, consolidate, state.inner_state, params)
    extra_args['task_id'] = task_id
    updates, inner_state = inner.update(
      updates, inner_state, params, **extra_args
    )
    task_id = jnp.asarray(task_id, jnp.int32)
    return updates, ConsolidateAtTaskChangeState(task_id, inner_state)

  update_fn: Any = task_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)
