"""Quadratic penalties that hold parameters near where they were."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _quadratic


class AnchorState(NamedTuple):
  """State of `add_l2_anchor`; its fields are a file format.

  Attributes:
    anchor: where the parameters are held, a float32 tree like them; `inf`
      until the first consolidation, `optax.MaskedNode` where masked out.
  """

  anchor: base.Params

  def consolidate(self, params: base.Params, **kwargs: Any) -> 'AnchorState':
    """Moves the anchor to `params`; other arguments are not for this state."""
    del kwargs
    return AnchorState(
      _quadratic.wide_copy(tree.mask_like(params, self.anchor))
    )


class EwcState(NamedTuple):
  """State of `add_ewc_penalty`; its fields are a file format.

  Attributes:
    fisher: importance of each parameter, a float32 tree like the parameters;
      zero until the first consolidation, `optax.MaskedNode` where masked out.
    anchor: where the parameters are held; same structure, float32.
  """

  fisher: base.Params
  anchor: base.Params

  def consolidate(
    self,
    params: base.Params,
    *,
    fisher: base.Params = None,
    decay: Any = 1.0,
    merge: str = 'sum',
    **kwargs: Any,
  ) -> 'EwcState':
    """Adds the penalty of the task that ends at `params`.

    Args:
      params: the parameters at the task's end.
      fisher: their importance for that task, a tree like `params`, as
        `lrcl.methods.fisher_diagonal` returns it.
      decay: factor on the importance of all earlier tasks, at least 0; may be
        traced.
      merge: `'sum'` keeps the one quadratic that equals the sum of all tasks'
        penalties up to a constant; `'online'` keeps the same importance but
        moves the anchor to `params`.
      **kwargs: arguments for other states, not used.

    Returns:
      The new state; it shares no buffer with the arguments.

    Raises:
      TypeError: if `fisher` is missing.
      ValueError: if `decay` is negative, `merge` is not known, or `fisher`
        does not fit the parameters.
    """
    del kwargs
    _check_merge(fisher, decay, merge)
    params = tree.mask_like(params, self.anchor)
    fisher = tree.mask_like(fisher, self.fisher)
    fisher = check_fisher('EwcState.consolidate', fisher, self.fisher)
    decay = jnp.asarray(decay, jnp.float32)
    kept = jax.tree.map(lambda f: decay * f, self.fisher)
    total = jax.tree.map(lambda k, f: k + _quadratic.wide(f), kept, fisher)
    if merge == 'online':
      return EwcState(total, _quadratic.wide_copy(params))
    anchor = jax.tree.map(_center, kept, total, self.anchor, params)
    return EwcState(total, anchor)


def add_l2_anchor(
  strength: Any, *, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Holds the parameters near those of the last consolidation.

  Adds the gradient of
  :math:`\frac{s}{2} \sum_i (\theta_i - \theta^*_i)^2`, that is
  :math:`s (\theta - \theta^*)`. A paper that writes the penalty without the
  half has `strength` twice its constant. Before the first call of
  `lrcl.methods.consolidate` it is the identity; each call moves the anchor to
  the parameters of that moment. A call right after `init` therefore gives
  L2-init, a call at each task's end gives L2 to the last task;
  `consolidate_at_init` and `consolidate_at_task_change` make these calls.

  Place in the chain: first, before clipping and preconditioner, where it is
  exactly a term of the loss; between preconditioner and learning rate it is
  the decoupled form, another method; `with_l2_anchor` has an implicit form,
  which cannot overshoot. Cost: one float32 copy of the selected parameters, one
  pass over them a step.

  Args:
    strength: factor of the penalty, at least 0; may be traced.
    mask: which leaves are held: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`. The others cost nothing.

  Returns:
    A transformation with the state `AnchorState`. It needs `params`. Updates
    keep their dtype, the sum is formed in float32.

  Raises:
    ValueError: if `strength` is negative or the mask selects nothing.

  Example:
    >>> from lrcl import methods
    >>> tx = add_l2_anchor(0.5)
    >>> state = methods.consolidate(tx.init(jnp.zeros(2)), jnp.ones(2))
    >>> updates, _ = tx.update(jnp.zeros(2), state, jnp.array([1.0, 3.0]))
    >>> print(updates)
    [0. 1.]

  References:
    Kumar et al., `Maintaining plasticity in continual learning via
    regenerative regularization <https://arxiv.org/abs/2308.11958>`_, 2023
    (L2-init)
  """
  base.check_value('add_l2_anchor', 'strength', strength, minimum=0)

  def init_fn(params: base.Params) -> AnchorState:
    return init_anchor(_quadratic.select(params, mask, 'add_l2_anchor'))

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    _quadratic.check_params(params, 'add_l2_anchor')
    penalty = _quadratic.Quadratic(strength, state.anchor)
    return _quadratic.add_gradient(penalty, updates, params), state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def add_ewc_penalty(
  strength: Any, *, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Elastic weight consolidation: holds what earlier tasks depend on.

  Adds the gradient of
  :math:`\frac{s}{2} \sum_i F_i (\theta_i - \theta^*_i)^2`, that is
  :math:`s F (\theta - \theta^*)`. The importance comes from outside, at a
  task's end: `consolidate(opt_state, params, fisher=fisher_diagonal(...))`
  of `lrcl.methods`. Until then it is the identity. `strength` is the lambda
  of Kirkpatrick et al. and of van de Ven's code; it is twice the lambda of
  code that leaves the half out (Mammoth's online EWC). Schwarz et al.
  multiply the kept importance by gamma once more in the penalty: here the
  decay is applied once, at consolidation. `mas_importance` in place of the
  Fisher makes it memory-aware synapses; `ewc_plus_plus` needs no look back.

  The state has a fixed size, however many tasks there are; by default one
  quadratic stands for the sum of all of them, exactly. Plain SGD diverges
  where `strength * learning_rate * max(F) > 2`: take the implicit form of
  `with_ewc_penalty` then, or clip the Fisher. The head of a network that still
  grows classes is best masked out.

  Place in the chain: first, before clipping and preconditioner: there it is
  exactly the gradient of (loss + penalty). After Adam it is another method.
  Cost: two float32 trees like the selected parameters, one pass over them a
  step; the Fisher pass at a task's end is `fisher_diagonal`'s.

  Args:
    strength: factor of the penalty, at least 0; may be traced.
    mask: which leaves are held: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`. The others cost nothing.

  Returns:
    A transformation with the state `EwcState`. It needs `params`. Updates
    keep their dtype, the sum is formed in float32.

  Raises:
    ValueError: if `strength` is negative or the mask selects nothing.

  Example:
    >>> from lrcl import methods
    >>> tx = optax.chain(add_ewc_penalty(2.0), optax.sgd(0.1))
    >>> params = jnp.array([1.0, 1.0])
    >>> state = methods.consolidate(
    ...   tx.init(params), params, fisher=jnp.array([0.0, 3.0])
    ... )
    >>> updates, _ = tx.update(jnp.zeros(2), state, params + 1.0)
    >>> print(updates)
    [-0.  -0.6]

  References:
    Kirkpatrick et al., `Overcoming catastrophic forgetting in neural networks
    <https://arxiv.org/abs/1612.00796>`_, 2017; code of van de Ven,
    https://github.com/GMvandeVen/continual-learning

    Schwarz et al., `Progress & compress <https://arxiv.org/abs/1805.06370>`_,
    2018 (online EWC)

    Huszár, `On quadratic penalties in elastic weight consolidation
    <https://arxiv.org/abs/1712.03847>`_, 2017
  """
  base.check_value('add_ewc_penalty', 'strength', strength, minimum=0)

  def init_fn(params: base.Params) -> EwcState:
    return init_ewc(_quadratic.select(params, mask, 'add_ewc_penalty'))

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    _quadratic.check_params(params, 'add_ewc_penalty')
    penalty = _quadratic.Quadratic(strength, state.anchor, state.fisher)
    return _quadratic.add_gradient(penalty, updates, params), state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def init_anchor(params: base.Params) -> AnchorState:
  """The state that holds nothing yet."""
  unset = lambda p: jnp.full_like(p, jnp.inf, dtype=jnp.float32)
  return AnchorState(jax.tree.map(unset, params))


def init_ewc(params: base.Params) -> EwcState:
  """The state before any task has ended."""
  return EwcState(_quadratic.zeros(params), _quadratic.wide_copy(params))


def _center(kept: Any, total: Any, anchor: Any, param: Any) -> jax.Array:
  """Minimum of the sum of two quadratics; `param` where both are flat.

  Written as a step from `param`, so that it is `param` exactly where nothing
  was kept.
  """
  share = jnp.where(total > 0, kept / jnp.where(total > 0, total, 1.0), 0.0)
  return _quadratic.wide(param) + share * (anchor - _quadratic.wide(param))


def _check_merge(fisher: Any, decay: Any, merge: str) -> None:
  if fisher is None:
    raise TypeError(
      'EwcState.consolidate: fisher is missing; pass '
      'consolidate(opt_state, params, fisher=fisher_diagonal(...)).'
    )
  if merge not in ('sum', 'online'):
    raise ValueError(
      f"EwcState.consolidate: merge is {merge!r}; use 'sum' or 'online'."
    )
  base.check_value('EwcState.consolidate', 'decay', decay, minimum=0)


def check_fisher(where: str, fisher: Any, like: Any) -> Any:
  """Returns `fisher`; it must have an array for each that the state holds."""

  def check(path, ours, theirs):
    shape = None if tree.is_masked(theirs) else jnp.shape(theirs)
    if shape != ours.shape:
      raise ValueError(
        f'{where}: fisher has shape {shape} at {tree.leaf_name(path)!r}, the '
        f'state {ours.shape}; compute it for the same parameters, with a mask '
        'that is not narrower.'
      )

  jax.tree_util.tree_map_with_path(check, like, fisher)
  return fisher
