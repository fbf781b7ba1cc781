"""A learning rate that follows its own gradient."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _rate

_KINDS = ('additive', 'multiplicative')


class HypergradientState(NamedTuple):
  """State of `scale_by_hypergradient`; `applied_rate` reads the first two.

  Attributes:
    learning_rate: float32 scalar, the rate of the last update.
    count: int32 scalar, the updates so far.
    direction: what the last rate was multiplied by, a tree like the
      parameters and in their dtypes; zero before the first update.
    inner_state: the state of the preconditioner.
  """

  learning_rate: jax.Array
  count: jax.Array
  direction: base.Params
  inner_state: Any


def scale_by_hypergradient(
  inner: optax.GradientTransformation,
  init_value: Any,
  hyper_rate: Any,
  *,
  kind: Literal['additive', 'multiplicative'] = 'additive',
  min_value: Any = 0.0,
  max_value: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Wraps a preconditioner and learns the rate while it applies it.

  With the step :math:`\theta_t = \theta_{t-1} - \alpha_t u_t`, the loss of the
  next batch changes with the rate by :math:`-g_{t+1} \cdot u_t`. One step of
  gradient descent on the rate, with the rate `hyper_rate` (:math:`\beta`), is

  * `'additive'`: :math:`\alpha_t = \alpha_{t-1} + \beta \, g_t \cdot u_{t-1}`,
  * `'multiplicative'`:
    :math:`\alpha_t = \alpha_{t-1} (1 + \beta \cos(g_t, u_{t-1}))`.

  The gradient :math:`g_t` is what enters this link and the direction
  :math:`u_t` what leaves `inner`: SGD is `inner=optax.identity()`, SGD with
  momentum `optax.trace(0.9)`, Adam `optax.scale_by_adam()`, AdamW a chain of
  `scale_by_adam` and `add_decayed_weights`. The inner product has the scale of
  a squared gradient, so a good `hyper_rate` of the additive rule depends on the
  problem; that of the multiplicative one does not: at most a share of
  `hyper_rate` is added or taken away at each update.

  The first update has no direction before it and applies `init_value`. The
  rate is clipped after every update and its next change starts from the clipped
  value. A rate of 0 is left again by the additive rule only.

  Place in the chain: in the place of the preconditioner and of the rate; after
  terms of the objective and clipping, before constraints on the step and on the
  point. No other rate follows it. Cost: one copy of the parameters in the
  state, one inner product a step, which is summed in float32.

  Args:
    inner: what makes a direction out of the gradient, without a rate. Extra
      args are passed on to it.
    init_value: the rate of the first update, at least 0 (above 0 for the
      multiplicative rule); may be traced.
    hyper_rate: the rate of the rate, at least 0; may be traced. 0 is a constant
      rate.
    kind: the rule, `'additive'` or `'multiplicative'`.
    min_value: the least rate, at least 0. The paper has no bound; a negative
      rate would climb.
    max_value: the greatest rate; None for no bound.

  Returns:
    A transformation with the state `HypergradientState`. It needs what `inner`
    needs. Updates keep their dtype.

  Raises:
    ValueError: if the kind is unknown, a value is negative or not finite, or
      `init_value` lies outside the bounds.

  Example:
    >>> tx = scale_by_hypergradient(optax.identity(), 0.1, 0.01)
    >>> x, state = jnp.float32(1.0), tx.init(jnp.float32(1.0))
    >>> for _ in range(3):  # the gradient of x^2 / 2 is x
    ...   updates, state = tx.update(x, state, x)
    ...   x = optax.apply_updates(x, updates)
    ...   print(f'{float(state.learning_rate):.4f} {float(x):.4f}')
    0.1000 0.9000
    0.1090 0.8019
    0.1162 0.7087

  References:
    Baydin et al., `Online learning rate adaptation with hypergradient descent
    <https://arxiv.org/abs/1703.04782>`_, 2018. The additive rule is that of
    the authors' code for SGD and Adam,
    https://github.com/gbaydin/hypergradient-descent; the multiplicative one is
    not in that code, and was not checked against the paper.
  """
  where = 'scale_by_hypergradient'
  if kind not in _KINDS:
    raise ValueError(f'{where}: kind is {kind!r}; it must be one of {_KINDS}.')
  base.check_value(where, 'hyper_rate', hyper_rate, minimum=0)
  above = 0 if kind == 'multiplicative' else None
  check_bounds(where, init_value, min_value, max_value, above)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> HypergradientState:
    return HypergradientState(
      jnp.array(init_value, jnp.float32),
      jnp.zeros([], jnp.int32),
      jax.tree.map(jnp.zeros_like, params),
      inner.init(params),
    )

  def update_fn(updates, state, params=None, **extra_args):
    # Before the first update the direction is 0, and so is the change.
    rate, factor = state.learning_rate, jnp.asarray(hyper_rate, jnp.float32)
    if kind == 'additive':
      rate += factor * inner_product(updates, state.direction)
    else:
      rate *= 1 + factor * cosine(updates, state.direction)
    rate = clip(rate, min_value, max_value)
    direction, inner_state = inner.update(
      updates, state.inner_state, params, **extra_args
    )
    count = jnp.asarray(optax.safe_increment(state.count))
    kept = keep_as(direction, state.direction)
    state = HypergradientState(rate, count, kept, inner_state)
    return _rate.apply_rate(direction, rate), state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def inner_product(a: Any, b: Any) -> jax.Array:
  """The inner product of two trees, summed in float32."""
  wide = lambda t: jax.tree.map(lambda x: x.astype(jnp.float32), t)
  return jnp.asarray(optax.tree.vdot(wide(a), wide(b)), jnp.float32)


def cosine(a: Any, b: Any) -> jax.Array:
  """The cosine of the angle between two trees; 0 where one of them is 0."""
  norms = jnp.sqrt(inner_product(a, a)) * jnp.sqrt(inner_product(b, b))
  some = norms > 0
  return jnp.where(some, inner_product(a, b) / jnp.where(some, norms, 1), 0)


def clip(rate: jax.Array, min_value: Any, max_value: Any) -> jax.Array:
  """The float32 `rate` within bounds; None is no bound."""
  if min_value is not None:
    rate = jnp.maximum(rate, jnp.asarray(min_value, jnp.float32))
  if max_value is not None:
    rate = jnp.minimum(rate, jnp.asarray(max_value, jnp.float32))
  return rate


def keep_as(updates: Any, like: Any) -> Any:
  """A copy of `updates` in the dtypes of `like`: it shares no buffer."""
  return tree.copy(jax.tree.map(lambda u, k: u.astype(k.dtype), updates, like))


def check_bounds(
  where: str, init_value: Any, min_value: Any, max_value: Any, above: Any = None
) -> None:
  """Checks that `0 <= min_value <= init_value <= max_value` where concrete."""
  base.check_value(where, 'init_value', init_value, minimum=0, above=above)
  if min_value is not None:
    base.check_value(where, 'min_value', min_value, minimum=0)
    if base.is_concrete(min_value):
      base.check_value(where, 'init_value', init_value, minimum=min_value)
  if max_value is not None:
    base.check_value(where, 'max_value', max_value, above=0)
    if base.is_concrete(max_value):
      base.check_value(where, 'init_value', init_value, maximum=max_value)
