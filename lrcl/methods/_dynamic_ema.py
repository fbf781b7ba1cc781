"""An average of the parameters whose weight follows the gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _averaging, _quadratic

_WHERE = 'dynamic_ema'


class DynamicEmaState(NamedTuple):
  """State of `dynamic_ema`.

  Trees are like the parameters; `optax.MaskedNode` where masked out.

  Attributes:
    average: float32, every point but the newest.
    gradient: float32, the gradient of the last update; 0 before the first.
    reach: a float32 scalar per leaf, :math:`2 (1 + b) / c`: over the distance
      of the newest point from the average it is what that point will weigh.
    fallback_weight: float32 scalar, as given to the link.
    count: int32 scalar, the updates since the start.
  """

  average: base.Params
  gradient: base.Params
  reach: base.Params
  fallback_weight: jax.Array
  count: jax.Array

  def averaged(self, params: base.Params) -> base.Params:
    """The average with the newest point, `params`, in it; float32."""
    params = tree.mask_like(params, self.average)

    def leaf(new, old, reach):
      weight = reach / _length(_quadratic.wide(new) - old)
      is_weight = (weight > 0) & (weight < 1)  # False for a NaN
      weight = jnp.where(is_weight, weight, self.fallback_weight)
      return _averaging.blend(new, old, jnp.where(self.count > 0, weight, 0.0))

    return jax.tree.map(leaf, params, self.average, self.reach)

  def restarted(self, params: base.Params) -> 'DynamicEmaState':
    """The state of a run that starts at `params`."""
    params = tree.mask_like(params, self.average)
    return self._replace(
      average=_quadratic.wide_copy(params), count=jnp.zeros_like(self.count)
    )


def dynamic_ema(
  *, fallback_weight: Any = 0.01, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Keeps an average whose weight follows distance and gradients (DEMA).

  After update :math:`t`, which took the gradient :math:`g_t` and led to
  :math:`\theta_t`, each leaf by itself is averaged as

  .. math::
    a = \lVert \theta_t - \theta^*_{t-1} \rVert_1, \quad
    b = \lVert g_t \rVert_1, \quad c = \lVert g_t - g_{t-1} \rVert_1

  .. math::
    \alpha = \frac{2 (1 + b)}{a c}, \quad
    \theta^*_t = (1 - \alpha) \theta^*_{t-1} + \alpha \theta_t,

  with `fallback_weight` for every :math:`\alpha` that is not between 0 and 1,
  the first update's included, and :math:`\theta^*_0 = \theta_0`. This is the
  rule of the authors' code, in which :math:`\alpha` weighs the new point. The
  paper derives a weight :math:`\beta \approx (L'(\theta) + 1) / ((\theta -
  \theta^*) L'')` for the old one (given from memory and not confirmed): the two
  do not agree, and the code is what was run. The sums are not means, so that
  :math:`\alpha` depends on the size of a leaf: small ones mostly fall back.

  In the authors' runs a task starts from the average of the last one, and the
  average is what is evaluated: `start_from_average` and `averaged_params`.

  Place in the chain: **first**, where updates are gradients of the task; they
  pass unchanged. An update is given the parameters before it, and with them the
  norms of the gradient that led there, which the state kept; so the state lags
  behind by one point, and `averaged_params` counts that one in. Cost: two
  float32 copies, a reduction and a pass over each.

  Args:
    fallback_weight: from 0 to 1; may be traced.
    mask: which leaves are averaged: None for all, a tree of bools, or a
      function such as `lrcl.tree.path_mask('kernel$')`. The others cost
      nothing.

  Returns:
    A transformation with the state `DynamicEmaState`. It needs `params`.

  Raises:
    ValueError: if `fallback_weight` is out of range or the mask selects
      nothing.

  Example:
    >>> tx = dynamic_ema()
    >>> params = jnp.array([0.0, 0.0])
    >>> state = tx.init(params)
    >>> for gradient in (2.0, -1.0):
    ...   updates, state = tx.update(jnp.full(2, gradient), state, params)
    ...   params = params - updates
    >>> print(params, state.average)  # the point -2 fell back to 0.01
    [-1. -1.] [-0.02 -0.02]
    >>> print(state.reach)  # 2 (1 + 2) / 6
    1.0
    >>> from lrcl import methods  # the newest point weighs 1 / 1.96
    >>> print(methods.averaged_params(state, params))
    [-0.52 -0.52]

  References:
    Qiao et al., `Large continual instruction assistant
    <https://arxiv.org/abs/2410.10868>`_, 2025

    Code: https://github.com/JingyangQiao/CoIN
  """
  base.check_value(
    _WHERE, 'fallback_weight', fallback_weight, minimum=0, maximum=1
  )

  def init_fn(params: base.Params) -> DynamicEmaState:
    selected = _quadratic.select(params, mask, _WHERE)
    return DynamicEmaState(
      average=_quadratic.wide_copy(selected),
      gradient=_quadratic.zeros(selected),
      reach=jax.tree.map(lambda _: jnp.float32(0.0), selected),
      fallback_weight=jnp.array(fallback_weight, jnp.float32),
      count=jnp.int32(0),
    )

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    _quadratic.check_params(params, _WHERE)
    gradient = tree.mask_like(updates, state.average)
    gradient = _quadratic.wide_copy(gradient)
    measure = lambda new, old: _reach(new, old, state.count == 0)
    reach = jax.tree.map(measure, gradient, state.gradient)
    # No reach is below 0; that the new gradient waits for it spares XLA a copy
    # of the old one, over which it is written.
    after = lambda new, reach: jnp.where(reach < 0, jnp.zeros_like(new), new)
    return updates, DynamicEmaState(
      average=state.averaged(params),
      gradient=jax.tree.map(after, gradient, reach),
      reach=reach,
      fallback_weight=jnp.array(fallback_weight, jnp.float32),
      count=jnp.asarray(optax.safe_increment(state.count)),
    )

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _reach(new: jax.Array, old: jax.Array, is_first: jax.Array) -> jax.Array:
  """`2 (1 + b) / c`, infinite where there is no change to divide by."""
  change = jnp.where(is_first, 0.0, _length(new - old))
  return 2.0 * (1.0 + _length(new)) / change


def _length(leaf: jax.Array) -> jax.Array:
  return jnp.sum(jnp.abs(leaf))
