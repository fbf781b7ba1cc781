"""What a method keeps of a finished task, under any optax wrapper."""

from typing import Any

import jax

from lrcl.base import Params


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
