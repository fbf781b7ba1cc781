"""A rate at the edge of stability, from the curvature along the step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _hypergradient as _hyper
from lrcl.methods import _rate


class CdatState(NamedTuple):
  """State of `scale_by_cdat`; `applied_rate` reads the first two.

  Attributes:
    learning_rate: float32 scalar, the rate of the last update; 0 before it.
    count: int32 scalar, the updates so far.
    slope: float32 scalar, the moving average of the slope along the direction.
    curvature: float32 scalar, that of the curvature along it.
    inner_state: the state of the preconditioner.
  """

  learning_rate: jax.Array
  count: jax.Array
  slope: jax.Array
  curvature: jax.Array
  inner_state: Any


def scale_by_cdat(
  inner: optax.GradientTransformation,
  scale: Any = 2.0,
  *,
  decay: Any = 0.9,
  eps: float = 1e-8,
  max_value: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Wraps a preconditioner and sets the rate by slope and curvature (CDAT).

  Along the direction :math:`d_t` that leaves `inner`, a step of
  :math:`g \cdot d / d^\top H d` goes to the minimum of the local parabola, and
  one of twice that to its other side, where the loss is what it was: the edge
  of stability. The rate is
  :math:`\sigma \, \bar n_t / (\bar c_t + \epsilon)`, with the moving averages
  of :math:`n_t = \max(g_t \cdot d_t, 0)` and
  :math:`c_t = |d_t^\top H_t d_t|`. As both averages start from 0, the first
  rate needs no correction.

  The Hessian is that of the loss of the batch: `grad_fn` is differentiated
  along the direction. Terms that other links add to the gradient (a penalty, a
  memory) count in the slope and not in the curvature.

  Place in the chain: in the place of the preconditioner and of the rate; after
  terms of the objective, before constraints on the step and on the point. Not
  inside `optax.masked`, which hides parameters from `grad_fn`. Cost: a product
  of the Hessian with a vector a step, about two gradients; two scalars.

  Args:
    inner: what makes a direction out of the gradient, without a rate.
    scale: sigma, at least 0: 1 for the greedy step, 2 for the edge; may be
      traced.
    decay: of the moving averages, in `[0, 1)`; may be traced.
    eps: what the curvature is raised by.
    max_value: the greatest rate; None for no bound.

  Returns:
    A transformation with the state `CdatState`. It needs `params`, the extra
    args `grad_fn` and `batch`, and what `inner` needs. Updates keep dtypes.

  Raises:
    ValueError: if a number is out of range, or `params` is missing.

  Example:
    >>> curvature = jnp.array([1.0, 4.0])
    >>> tx = scale_by_cdat(optax.identity(), 1.0)
    >>> updates, state = tx.update(
    ...   jnp.array([1.0, 2.0]), tx.init(jnp.zeros(2)), jnp.array([1.0, 0.5]),
    ...   grad_fn=lambda params, batch: curvature * params, batch=None)
    >>> print(state.learning_rate)  # 5 / 17
    0.29411766

  References:
    Roulet et al., `Stepping on the edge: curvature aware learning rate tuners
    <https://arxiv.org/abs/2407.06183>`_, 2024. The formula is taken from
    summaries; that the averages are taken of slope and curvature apart was not
    checked against the paper, and its constant of decay is not known here.
  """
  where = 'scale_by_cdat'
  base.check_value(where, 'scale', scale, minimum=0)
  base.check_value(where, 'decay', decay, minimum=0, maximum=1 - 1e-6)
  base.check_value(where, 'eps', eps, minimum=0)
  if max_value is not None:
    base.check_value(where, 'max_value', max_value, above=0)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> CdatState:
    rate, slope, curvature = (jnp.zeros([], jnp.float32) for _ in range(3))
    count = jnp.zeros([], jnp.int32)
    return CdatState(rate, count, slope, curvature, inner.init(params))

  def update_fn(updates, state, params=None, *, grad_fn, batch, **extra_args):
    if params is None:
      raise ValueError(
        f'{where}: params is None; call update(updates, state, params).'
      )
    direction, inner_state = inner.update(
      updates,
      state.inner_state,
      params,
      grad_fn=grad_fn,
      batch=batch,
      **extra_args,
    )
    slope = jnp.maximum(_hyper.inner_product(updates, direction), 0)
    bent = _bend(grad_fn, params, batch, direction)
    curvature = jnp.abs(_hyper.inner_product(direction, bent))
    slope = _average(state.slope, slope, decay)
    curvature = _average(state.curvature, curvature, decay)
    rate = jnp.asarray(scale, jnp.float32) * slope / (curvature + eps)
    rate = _hyper.clip(rate, None, max_value)
    count = jnp.asarray(optax.safe_increment(state.count))
    state = CdatState(rate, count, slope, curvature, inner_state)
    return _rate.apply_rate(direction, rate), state

  update: Any = update_fn
  return optax.GradientTransformationExtraArgs(init_fn, update)


def _bend(grad_fn: Any, params: Any, batch: Any, direction: Any) -> Any:
  """The Hessian of the batch's loss times the direction."""
  tangent = jax.tree.map(lambda d, p: d.astype(p.dtype), direction, params)
  return jax.jvp(lambda p: grad_fn(p, batch), (params,), (tangent,))[1]


def _average(old: jax.Array, new: jax.Array, decay: Any) -> jax.Array:
  decay = jnp.asarray(decay, jnp.float32)
  return decay * old + (1 - decay) * new
