"""FedHyper: the server's rates in federated averaging follow hypergradients.

Three places have a rate: the server's step along the mean of the clients'
changes, the rate that the server sends to the clients (both here), and the rate
within a client. Each grows while changes point the same way.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _hypergradient as _hyper
from lrcl.methods import _rate

Form = Literal['paper', 'official']
Normalize = Literal['none', 'cosine']

_GLOBAL_BOUNDS = {'paper': (1 / 3, 3.0), 'official': (0.2, 5.0)}
_CLIENT_BOUND = 10.0  # either way, in units of the initial rate

_PRODUCTS: dict[str, Callable[[Any, Any], jax.Array]] = {
  'none': _hyper.inner_product,
  'cosine': _hyper.cosine,
}


class FedHyperState(NamedTuple):
  """State of the server's two schedulers; `applied_rate` reads the first two.

  Attributes:
    learning_rate: float32 scalar, the rate that the last round led to.
    count: int32 scalar, the rounds so far.
    total: float32 scalar, the sum of the products so far.
    direction: the pseudo-gradient of the last round (with momentum: their
      running sum), a tree like the parameters and in their dtypes; zero before
      the first round.
  """

  learning_rate: jax.Array
  count: jax.Array
  total: jax.Array
  direction: base.Params


def scale_by_fedhyper_global(
  init_value: Any = 1.0,
  *,
  form: Form = 'paper',
  momentum: float = 0.0,
  hyper_rate: Any = 1.0,
  min_value: Any = None,
  max_value: Any = None,
  normalize: Normalize = 'none',
) -> optax.GradientTransformationExtraArgs:
  r"""The server's step (FedHyper-G), for its pseudo-gradient.

  The update that enters is :math:`\Delta_t`, the server's parameters minus the
  mean of what the clients made of them. With
  :math:`h_t = \langle \Delta_t, \Delta_{t-1} \rangle` the rate becomes
  :math:`\alpha_t = \mathrm{clip}(\alpha_{t-1} + h_t)`, and
  :math:`-\alpha_t \Delta_t` leaves. Paper and code differ in the bounds:
  1/3 to 3, and 1/5 to 5. The variant that the code recommends (GM) is
  `form='official', momentum=0.9, min_value=0.8`: there
  :math:`m_t = \Delta_t + 0.9 m_{t-1}` is in the place of
  :math:`\Delta_t` in the next product, and
  :math:`0.9 (\alpha_t - \alpha_0) m_{t-1}` is added to the step.

  The product has the scale of the squared change of one round: a small model
  with small steps hardly moves the rate, a large one drives it to its bounds.
  `normalize='cosine'` takes the cosine instead, `hyper_rate` scales either.

  Place in the chain: the server's whole optimizer. Cost: one copy of the
  parameters, one inner product a round, summed in float32.

  Args:
    init_value: the rate of the first round; may be traced.
    form: whose bounds are taken, `'paper'` or `'official'`.
    momentum: from 0, the plain rule, to 1; not traced.
    hyper_rate: factor of the product, at least 0. 1 in paper and code.
    min_value: the least rate, in place of the form's.
    max_value: the greatest rate, in place of the form's.
    normalize: `'none'`, or `'cosine'`: the product of unit vectors.

  Returns:
    A transformation with the state `FedHyperState`; updates keep their dtype.

  Raises:
    ValueError: if a name is unknown or a value is out of range.

  Example:
    >>> tx = scale_by_fedhyper_global()
    >>> state = tx.init(jnp.zeros(2))
    >>> for delta in ([1.0, 0.0], [0.5, 0.5], [-4.0, 0.0]):
    ...   updates, state = tx.update(jnp.array(delta), state)
    ...   print(f'{float(state.learning_rate):.4f} {float(updates[0]):.4f}')
    1.0000 -1.0000
    1.5000 -0.7500
    0.3333 1.3333

  References:
    Wang et al., `FedHyper: a universal and robust learning rate scheduler for
    federated learning with hypergradient descent
    <https://arxiv.org/abs/2310.03156>`_, 2024; code,
    https://github.com/ATP-1010/FedHyper. The paper's bounds are quoted from a
    secondary source.
  """
  where = 'scale_by_fedhyper_global'
  product = check(where, form, normalize, hyper_rate)
  base.check_value(where, 'momentum', momentum, minimum=0, maximum=1)
  low, high = _GLOBAL_BOUNDS[form]
  low, high = _or(min_value, low), _or(max_value, high)
  _hyper.check_bounds(where, init_value, low, high)

  def update_fn(updates, state, params=None, **extra_args):
    del params, extra_args
    change = as_float32(hyper_rate) * product(updates, state.direction)
    start = as_float32(init_value)
    total = clip_total(state.total + change, start, low, high)
    rate, before = start + total, state.direction
    if not momentum:
      state = _next(state, rate, total, updates)
      return _rate.apply_rate(updates, rate), state
    state = _next(state, rate, total, _add(updates, before, 1.0, momentum))
    return _add(updates, before, -rate, -momentum * total), state

  init_fn = lambda params: init_state(params, init_value)
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def track_fedhyper_client_rate(
  init_value: Any,
  *,
  form: Form = 'paper',
  hyper_rate: Any = 1.0,
  min_value: Any = None,
  max_value: Any = None,
  normalize: Normalize = 'none',
) -> optax.GradientTransformationExtraArgs:
  r"""The rate that the server sends to its clients (FedHyper-SL).

  It passes the server's pseudo-gradient :math:`\Delta_t` through unchanged, so
  the step is another link's, and keeps in its state the rate with which the
  clients of the next round train:
  :math:`\beta_t = \mathrm{clip}(\beta_{t-1} + h_t)` with
  :math:`h_t = \langle \Delta_t, \Delta_{t-1} \rangle`. The official form is
  :math:`\beta_t = \mathrm{clip}(\beta_0 (1 + \sum_{s \le t} h_s))`, where the
  sum itself is not clipped. (The published code sets all rates back at the
  start of a round, before they are used; here they are used.)

  The bounds are a tenth and ten times the initial rate in both forms, which
  are those of the code at its default rate of 0.01.

  Place in the chain: the first link of the server's,
  `chain(track_fedhyper_client_rate(0.01), scale(-1.0))`; `applied_rate` of that
  state is what the clients are given, see `lrcl.training.federated_averaging`.
  Cost: one copy of the parameters, one inner product a round.

  Args:
    init_value: the clients' rate in the first round, above 0; may be traced.
    form: `'paper'` or `'official'`.
    hyper_rate: factor of the product, at least 0. 1 in paper and code.
    min_value: the least rate; None for a tenth of `init_value`.
    max_value: the greatest rate; None for ten times `init_value`.
    normalize: `'none'`, or `'cosine'`: the product of unit vectors.

  Returns:
    A transformation with the state `FedHyperState` that changes no update.

  Raises:
    ValueError: if a name is unknown or a value is out of range.

  Example:
    >>> from lrcl import methods
    >>> tx = optax.chain(track_fedhyper_client_rate(0.5), optax.scale(-1.0))
    >>> state = tx.init(jnp.zeros(2))
    >>> for delta in ([1.0, 0.0], [0.5, 0.5]):
    ...   _, state = tx.update(jnp.array(delta), state)
    ...   print(methods.applied_rate(state)[0])
    0.5
    1.0

  References:
    Wang et al., `FedHyper <https://arxiv.org/abs/2310.03156>`_, 2024; see
    `scale_by_fedhyper_global`.
  """
  where = 'track_fedhyper_client_rate'
  product = check(where, form, normalize, hyper_rate)
  low, high = client_bounds(where, init_value, min_value, max_value)

  def update_fn(updates, state, params=None, **extra_args):
    del params, extra_args
    change = as_float32(hyper_rate) * product(updates, state.direction)
    start, total = as_float32(init_value), state.total + change
    if form == 'paper':
      total = clip_total(total, start, low, high)
      rate = start + total
    else:
      rate = _hyper.clip(start * (1 + total), low, high)
    return updates, _next(state, rate, total, updates)

  init_fn = lambda params: init_state(params, init_value)
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def init_state(params: Any, init_value: Any) -> FedHyperState:
  zeros = jax.tree.map(jnp.zeros_like, params)
  rate = jnp.array(init_value, jnp.float32)
  return FedHyperState(rate, jnp.int32(0), jnp.float32(0), zeros)


def _next(
  state: FedHyperState, rate: jax.Array, total: jax.Array, direction: Any
) -> FedHyperState:
  count = jnp.asarray(optax.safe_increment(state.count))
  kept = _hyper.keep_as(direction, state.direction)
  return FedHyperState(rate, count, total, kept)


def clip_total(total: jax.Array, start: Any, low: Any, high: Any) -> jax.Array:
  """Clips the sum of products so that `start + total` is within bounds."""
  return jnp.clip(total, as_float32(low) - start, as_float32(high) - start)


def _add(updates: Any, before: Any, weight: Any, weight_before: Any) -> Any:
  """The weighted sum of two trees, in float32; dtypes are kept."""

  def leaf(update, old):
    total = as_float32(weight) * update.astype(jnp.float32)
    total += as_float32(weight_before) * old.astype(jnp.float32)
    return total.astype(update.dtype)

  return jax.tree.map(leaf, updates, before)


def check(
  where: str, form: str, normalize: str, hyper_rate: Any
) -> Callable[[Any, Any], jax.Array]:
  """Checks what all three have; returns the product of two trees."""
  if form not in _GLOBAL_BOUNDS:
    raise ValueError(
      f"{where}: form is {form!r}; it must be 'paper' or 'official'."
    )
  if normalize not in _PRODUCTS:
    raise ValueError(
      f"{where}: normalize is {normalize!r}; it must be 'none' or 'cosine'."
    )
  base.check_value(where, 'hyper_rate', hyper_rate, minimum=0)
  return _PRODUCTS[normalize]


def client_bounds(
  where: str, init_value: Any, min_value: Any, max_value: Any
) -> tuple[Any, Any]:
  """Checks and returns the bounds of a rate that clients use."""
  base.check_value(where, 'init_value', init_value, above=0)
  low = _or(min_value, init_value / _CLIENT_BOUND)
  high = _or(max_value, init_value * _CLIENT_BOUND)
  _hyper.check_bounds(where, init_value, low, high)
  return low, high


def _or(value: Any, default: Any) -> Any:
  return default if value is None else value


def as_float32(value: Any) -> jax.Array:
  return jnp.asarray(value, jnp.float32)
