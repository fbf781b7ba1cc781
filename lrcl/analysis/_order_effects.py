"""What another order of the same batches would have done, from one run."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import base

GradFn = Callable[[Any, Any], Any]
"""`grad_fn(params, batch) -> gradient`, of the shape of `params`."""


class OrderEffects(NamedTuple):
  """The estimated ends of training in other orders.

  Attributes:
    params: for each order, a leading axis `[orders]` on every leaf.
    distance: `[orders]` float32, the largest distance along the way between an
      estimated point and the point of the run that it was expanded at, over the
      norm of that point: how far the estimate was taken.
  """

  params: Any
  distance: jax.Array


def order_effects(
  tx: optax.GradientTransformation,
  grad_fn: GradFn,
  params: base.Params,
  batches: Any,
  orders: Any,
  *,
  expansion: Literal[0, 1] = 1,
) -> OrderEffects:
  r"""Estimates where training would have ended, had the batches come otherwise.

  The run that was made gives the points :math:`\theta_t`. In another order
  :math:`l`, the gradient at the estimated point :math:`\phi_t` is expanded at
  the point that the run had at the same step,

  .. math:: \hat g_t = g(\theta_t, B_{l_t}) + H(\theta_t, B_{l_t})
    (\phi_t - \theta_t),

  and the optimizer itself, with its moments and its schedule, takes the step.
  Exact for a quadratic loss, under any optimizer. With `expansion=0` the second
  term is left out.

  The estimate holds as far as the two runs stay together, and how far apart
  they go is decided by the learning rate; `distance` tells.

  Everything but `expansion` may be traced, so that rates, seeds and orders can
  be mapped over in one program; then only the shape of `orders` is checked.

  Cost: the run, and for each order and step one gradient (`expansion=0`) or a
  Jacobian-vector product of it, some three gradients. That is no less than to
  retrain, which `retrain` does: the estimate is for what retraining does not
  give, the part of an order's effect that is of first order along one run. No
  pair of point and batch is kept; memory is that of the run's points, `steps`
  times the parameters.

  Args:
    tx: the optimizer of the run. Transformations that ask for extra args get
      none.
    grad_fn: `grad_fn(params, batch)`.
    params: where training begins.
    batches: pytree of arrays `[steps, ...]`, in the order of the run.
    orders: `[orders, steps]` int, for each order which batch each step takes.
      It may repeat batches and leave some out.
    expansion: 0 or 1, see above.

  Returns:
    The estimated parameters at the end, for every order.

  Raises:
    ValueError: if `orders` has another number of steps than `batches`, or names
      a batch that does not exist.

  Example:
    >>> grad_fn = jax.grad(lambda w, x: jnp.sum((w - x) ** 2))
    >>> batches = jnp.array([[0.0], [1.0], [4.0]])
    >>> found = order_effects(
    ...   optax.sgd(0.1), grad_fn, jnp.zeros(1), batches, [[0, 1, 2], [2, 1, 0]]
    ... )
    >>> [round(float(end[0]), 3) for end in found.params]
    [0.96, 0.672]

  References:
    Yang et al., `Estimating the Effects of Sample Training Orders for Large
    Language Models without Retraining <https://arxiv.org/abs/2505.22042>`_,
    2025 (FUT; there the optimizer's whole update is expanded and all pairs of
    point and batch are kept, compressed; here the gradient is expanded, the
    optimizer is exact, and no pairs are kept)
  """
  batches, orders = _checked(batches, orders)
  if expansion not in (0, 1):
    raise ValueError(
      f'order_effects: expansion is {expansion!r}; it must be 0 or 1.'
    )
  return _estimate(tx, grad_fn, expansion, params, batches, orders)


def retrain(
  tx: optax.GradientTransformation,
  grad_fn: GradFn,
  params: base.Params,
  batches: Any,
  orders: Any,
) -> Any:
  """Trains anew in every order: what `order_effects` estimates.

  Args:
    tx: as `order_effects`.
    grad_fn: as `order_effects`.
    params: as `order_effects`.
    batches: as `order_effects`.
    orders: as `order_effects`.

  Returns:
    The parameters at the end, a leading axis `[orders]` on every leaf.

  Raises:
    ValueError: as `order_effects`.

  Example:
    >>> grad_fn = jax.grad(lambda w, x: jnp.sum((w - x) ** 2))
    >>> batches = jnp.array([[0.0], [1.0], [4.0]])
    >>> ends = retrain(
    ...   optax.sgd(0.1), grad_fn, jnp.zeros(1), batches, [[2, 1, 0]]
    ... )
    >>> round(float(ends[0, 0]), 3)
    0.672

  References:
    As `order_effects`.
  """
  batches, orders = _checked(batches, orders)

  def run(order: jax.Array) -> Any:
    def step(state: Any, which: jax.Array) -> Any:
      point, opt_state = state
      batch = jax.tree.map(lambda x: x[which], batches)
      return _step(tx, grad_fn(point, batch), point, opt_state), None

    return jax.lax.scan(step, (params, tx.init(params)), order)[0][0]

  return jax.jit(lambda orders: jax.lax.map(run, orders))(orders)


def _estimate(
  tx: optax.GradientTransformation,
  grad_fn: GradFn,
  expansion: int,
  params: Any,
  batches: Any,
  orders: jax.Array,
) -> OrderEffects:
  def reference(state: Any, batch: Any) -> Any:
    point, opt_state = state
    gradient = grad_fn(point, batch)
    return _step(tx, gradient, point, opt_state), point

  def expand(point: Any, base_point: Any, batch: Any) -> Any:
    at = lambda p: grad_fn(p, batch)
    if not expansion:
      return at(base_point)
    away = jax.tree.map(jnp.subtract, point, base_point)
    gradient, change = jax.jvp(at, (base_point,), (away,))
    return jax.tree.map(jnp.add, gradient, change)

  @jax.jit
  def run(params: Any, batches: Any, orders: jax.Array) -> OrderEffects:
    start = (params, tx.init(params))
    _, points = jax.lax.scan(reference, start, batches)

    def one(order: jax.Array) -> OrderEffects:
      def step(state: Any, inputs: Any) -> Any:
        (point, opt_state), farthest = state
        which, base_point = inputs
        batch = jax.tree.map(lambda x: x[which], batches)
        gradient = expand(point, base_point, batch)
        farthest = jnp.maximum(farthest, _distance(point, base_point))
        return (_step(tx, gradient, point, opt_state), farthest), None

      begin = (start, jnp.float32(0))
      (end, farthest), _ = jax.lax.scan(step, begin, (order, points))
      return OrderEffects(end[0], farthest)

    return jax.lax.map(one, orders)

  return run(params, batches, orders)


def _step(
  tx: optax.GradientTransformation, gradient: Any, point: Any, opt_state: Any
) -> tuple[Any, Any]:
  updates, opt_state = tx.update(gradient, opt_state, point)
  return optax.apply_updates(point, updates), opt_state


def _distance(point: Any, base_point: Any) -> jax.Array:
  away = jax.tree.map(jnp.subtract, point, base_point)
  size = jnp.maximum(optax.tree.norm(base_point), 1e-30)
  return (optax.tree.norm(away) / size).astype(jnp.float32)


def _checked(batches: Any, orders: Any) -> tuple[Any, jax.Array]:
  concrete = base.is_concrete(orders)
  found = np.asarray(orders) if concrete else orders
  steps = {leaf.shape[0] for leaf in jax.tree.leaves(batches)}
  if len(steps) != 1:
    raise ValueError(
      f'order_effects: batches have {sorted(steps)} steps; every array must '
      'have as many.'
    )
  count = steps.pop()
  whole = jnp.issubdtype(found.dtype, jnp.integer)
  if found.ndim != 2 or found.shape[1] != count or not whole:
    raise ValueError(
      f'order_effects: orders has shape {found.shape} and dtype {found.dtype}; '
      f'it must be [orders, {count}] whole numbers, a batch for every step.'
    )
  if concrete and found.size and not 0 <= found.min() <= found.max() < count:
    raise ValueError(
      f'order_effects: orders runs from {found.min()} to {found.max()}; there '
      f'are batches 0 to {count - 1}.'
    )
  batches = jax.tree.map(jnp.asarray, batches)
  return batches, jnp.asarray(found, jnp.int32)
