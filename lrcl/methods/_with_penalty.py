"""Penalties around the optimizer, where the rate is known: stable ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from lrcl import base
from lrcl.methods import _anchor, _quadratic
from lrcl.methods._quadratic import Form


class WithPenaltyState(NamedTuple):
  """State of `with_l2_anchor` and `with_ewc_penalty`.

  Attributes:
    penalty: an `AnchorState` or an `EwcState`; `consolidate` finds it.
    inner_state: the state of what is wrapped.
  """

  penalty: Any
  inner_state: Any


def with_l2_anchor(
  inner: optax.GradientTransformation,
  strength: Any,
  *,
  form: Form = 'implicit',
  mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""The penalty of `add_l2_anchor` around an optimizer, in three forms.

  It holds the parameters near those of the last consolidation, as
  `with_ewc_penalty` does with an importance of 1 everywhere; forms, place and
  cost are the same. Without an anchor (before the first consolidation) it is
  `inner`.

  Args:
    inner: the optimizer, which ends with the link that applies the rate.
    strength: factor of the penalty, at least 0; may be traced.
    form: `'coupled'`, `'decoupled'` or `'implicit'`, see `with_ewc_penalty`.
    mask: which leaves are held: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`.

  Returns:
    A transformation with the state `WithPenaltyState`. It needs `params`, and
    what `inner` needs.

  Raises:
    ValueError: if `strength` is negative, the form is unknown, the mask
      selects nothing, or `inner` keeps no rate that the form could read.

  Example:
    >>> import jax.numpy as jnp
    >>> from lrcl import methods
    >>> sgd = methods.scale_by_schedule_value(0.1)
    >>> tx = with_l2_anchor(sgd, 1e6)
    >>> state = methods.consolidate(tx.init(jnp.zeros(1)), jnp.ones(1))
    >>> updates, _ = tx.update(jnp.zeros(1), state, jnp.full(1, 3.0))
    >>> print(updates.round(3))
    [-2.]

  References:
    Kumar et al., `Maintaining plasticity in continual learning via
    regenerative regularization <https://arxiv.org/abs/2308.11958>`_, 2023
    (L2-init, coupled)

    Loshchilov and Hutter, `Decoupled weight decay regularization
    <https://arxiv.org/abs/1711.05101>`_, 2019 (the decoupled form, to 0)
  """
  base.check_value('with_l2_anchor', 'strength', strength, minimum=0)

  def init_fn(params: base.Params) -> _anchor.AnchorState:
    selected = _quadratic.select(params, mask, 'with_l2_anchor')
    return _anchor.init_anchor(selected)

  def penalty(state: _anchor.AnchorState) -> _quadratic.Quadratic:
    return _quadratic.Quadratic(strength, state.anchor)

  return _wrap('with_l2_anchor', inner, form, init_fn, penalty)


def with_ewc_penalty(
  inner: optax.GradientTransformation,
  strength: Any,
  *,
  form: Form = 'implicit',
  mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""The penalty of `add_ewc_penalty` around an optimizer, in three forms.

  With :math:`k = s F` (strength times importance), :math:`u` the step of
  `inner`, which is what it adds to the parameters, and :math:`\eta` the rate
  that it has just applied:

  * `'coupled'`: `inner` is given :math:`g + k (\theta - \theta^*)`: a term of
    the loss, as papers have it. The same as `add_ewc_penalty` at the start of
    `inner`.
  * `'decoupled'`: the step is
    :math:`u - \eta k (\theta - \theta^*)`: neither clipped nor
    preconditioned, as AdamW does with its decay. The same as `add_ewc_penalty`
    between preconditioner and rate.
  * `'implicit'`: the step ends at
    :math:`(\theta + u + \eta k \theta^*) / (1 + \eta k)`, the proximal step
    of the same penalty. To first order in :math:`\eta` it is the decoupled
    form, and it cannot overshoot: under SGD the other two diverge where
    :math:`\eta k > 2`; this one converges, to the minimum of loss and penalty,
    however large :math:`k` is.

  The rate is read from the state of the link that applied it (see
  `applied_rate`), so there is one clock: schedules with a state, rates that
  react and branches under another schedule need nothing more.

  Place in the chain: around clipping, preconditioner and rate. Terms of the
  objective go inside; `accumulate`, `with_memory` and constraints on the point
  go around it or behind it: `chain(with_ewc_penalty(...),
  normalize_and_project())`. Cost: as `add_ewc_penalty`: two float32 trees, one
  pass over them a step.

  Args:
    inner: the optimizer, which ends with the link that applies the rate.
    strength: factor of the penalty, at least 0; may be traced.
    form: which of the three, see above.
    mask: which leaves are held: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`. The others cost nothing.

  Returns:
    A transformation with the state `WithPenaltyState`, whose `penalty` is the
    same `EwcState`, consolidated in the same way. It needs `params`, and what
    `inner` needs. Updates keep their dtype, sums are formed in float32.

  Raises:
    ValueError: if `strength` is negative, the form is unknown, the mask
      selects nothing, or, from `init`, if the form needs a rate and `inner`
      keeps none: a bare `optax.sgd(0.1)` does not, `scale_by_schedule_value`
      and `optax.inject_hyperparams` do.

  Example:
    >>> import jax.numpy as jnp
    >>> from lrcl import methods
    >>> sgd = methods.scale_by_schedule_value(0.1)
    >>> for form in ('decoupled', 'implicit'):
    ...   tx = with_ewc_penalty(sgd, 30.0, form=form)
    ...   state = methods.consolidate(
    ...     tx.init(jnp.zeros(1)), jnp.zeros(1), fisher=jnp.ones(1)
    ...   )
    ...   updates, _ = tx.update(jnp.zeros(1), state, jnp.ones(1))
    ...   print(1.0 + updates)
    [-2.]
    [0.25]

  References:
    Kirkpatrick et al., `Overcoming catastrophic forgetting in neural networks
    <https://arxiv.org/abs/1612.00796>`_, 2017

    Loshchilov and Hutter, `Decoupled weight decay regularization
    <https://arxiv.org/abs/1711.05101>`_, 2019

    Parikh and Boyd, Proximal algorithms, 2014,
    https://doi.org/10.1561/2400000003 (the implicit form)
  """
  base.check_value('with_ewc_penalty', 'strength', strength, minimum=0)

  def init_fn(params: base.Params) -> _anchor.EwcState:
    selected = _quadratic.select(params, mask, 'with_ewc_penalty')
    return _anchor.init_ewc(selected)

  def penalty(state: _anchor.EwcState) -> _quadratic.Quadratic:
    return _quadratic.Quadratic(strength, state.anchor, state.fisher)

  return _wrap('with_ewc_penalty', inner, form, init_fn, penalty)


def _wrap(
  where: str,
  inner: optax.GradientTransformation,
  form: Form,
  init_penalty: Callable[[base.Params], Any],
  penalty: Callable[[Any], _quadratic.Quadratic],
) -> optax.GradientTransformationExtraArgs:
  """`inner` under the penalty that `penalty` reads from its state."""
  _quadratic.check_form(where, form)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> WithPenaltyState:
    inner_state = inner.init(params)
    _quadratic.check_rate(where, form, inner_state)
    return WithPenaltyState(init_penalty(params), inner_state)

  def update_fn(updates, state, params=None, **extra_args):
    _quadratic.check_params(params, where)
    updates, inner_state = _quadratic.update_penalized(
      inner,
      form,
      penalty(state.penalty),
      updates,
      state.inner_state,
      params,
      extra_args,
    )
    return updates, state._replace(inner_state=inner_state)

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)
