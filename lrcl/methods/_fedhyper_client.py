"""FedHyper within a client: a rate of its own for its local steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _fedhyper as _server
from lrcl.methods import _hypergradient as _hyper
from lrcl.methods import _rate

_GREATEST_FACTOR = 1.1  # of the official rule, in one step


class FedHyperClientState(NamedTuple):
  """State of `scale_by_fedhyper_client`; `applied_rate` reads the first two.

  Attributes:
    learning_rate: float32 scalar, the rate of the last local step.
    count: int32 scalar, the local steps so far.
    next_rate: float32 scalar, the rate from which the next step sets out.
    direction: the last gradient (official form: the last step), a tree like
      the parameters and in their dtypes; zero before the first step.
  """

  learning_rate: jax.Array
  count: jax.Array
  next_rate: jax.Array
  direction: base.Params


def scale_by_fedhyper_client(
  init_value: Any,
  global_update: base.Params,
  global_weight: Any,
  *,
  form: _server.Form = 'paper',
  hyper_rate: Any = 1.0,
  min_value: Any = None,
  max_value: Any = None,
  normalize: _server.Normalize = 'none',
) -> optax.GradientTransformationExtraArgs:
  r"""A rate of the client's own, within its local steps (FedHyper-CL).

  In the paper's form the gradient :math:`g_k` of local step :math:`k` enters,
  :math:`\beta_k = \mathrm{clip}(\beta_{k-1} + \langle g_k, g_{k-1} \rangle +
  w \langle g_k, \Delta \rangle)`, and :math:`-\beta_k g_k` leaves.
  :math:`\Delta` is the server's last pseudo-gradient, which the client was
  sent. In the official form the steps :math:`s_k` that leave take the place of
  the gradients, the rate is multiplied by
  :math:`\min(1.1, 1 + \langle s_k, s_{k-1} \rangle +
  w \langle s_k, \Delta \rangle)` and used from the next step on. The first step
  changes nothing in either form. (The published code takes :math:`\Delta` for
  :math:`s_0` and leaves the rate alone at the first step of every local epoch;
  neither is done here.)

  The bounds are a tenth and ten times the initial rate in both forms.

  Place in the chain: last in a client's, in the place of the rate; momentum
  (`optax.trace(0.5)` in the code) before it. A client's chain is made anew in
  each round, with that round's `global_update`, inside the compiled round; see
  `lrcl.training.federated_averaging`. Cost: one copy of the parameters, two
  inner products a local step, summed in float32.

  Args:
    init_value: the rate of the first local step, above 0; may be traced.
    global_update: the pseudo-gradient of the last round, a tree like the
      parameters; zeros in the first round. May be traced.
    global_weight: its weight, at least 0: one over the number of local steps
      in the paper, 0.1 over the number of clients in a round in the code.
    form: `'paper'` or `'official'`.
    hyper_rate: factor of both products, at least 0. 1 in paper and code.
    min_value: the least rate; None for a tenth of `init_value`.
    max_value: the greatest rate; None for ten times `init_value`.
    normalize: `'none'`, or `'cosine'`: the products of unit vectors.

  Returns:
    A transformation with the state `FedHyperClientState`; updates keep their
    dtype.

  Raises:
    ValueError: if a name is unknown or a value is out of range.

  Example:
    >>> delta = jnp.array([0.5, 0.5])
    >>> tx = scale_by_fedhyper_client(0.1, delta, 0.01, hyper_rate=0.1)
    >>> state = tx.init(jnp.zeros(2))
    >>> for gradient in ([1.0, 2.0], [2.0, 2.0]):
    ...   updates, state = tx.update(jnp.array(gradient), state)
    ...   print(f'{float(state.learning_rate):.3f}')
    0.100
    0.702

  References:
    Wang et al., `FedHyper <https://arxiv.org/abs/2310.03156>`_, 2024; see
    `scale_by_fedhyper_global`.
  """
  where = 'scale_by_fedhyper_client'
  product = _server.check(where, form, normalize, hyper_rate)
  base.check_value(where, 'global_weight', global_weight, minimum=0)
  low, high = _server.client_bounds(where, init_value, min_value, max_value)

  def change(state, vector):
    sent = tree.mask_like(global_update, vector)
    change = product(vector, state.direction)
    change += _server.as_float32(global_weight) * product(vector, sent)
    return jnp.where(
      state.count > 0, _server.as_float32(hyper_rate) * change, 0.0
    )

  def update_fn(updates, state, params=None, **extra_args):
    del params, extra_args
    rate, direction = state.next_rate, updates
    if form == 'paper':
      rate = next_rate = _hyper.clip(rate + change(state, updates), low, high)
    else:
      direction = _rate.apply_rate(updates, -rate)
      factor = jnp.minimum(1 + change(state, direction), _GREATEST_FACTOR)
      next_rate = _hyper.clip(rate * factor, low, high)
    count = jnp.asarray(optax.safe_increment(state.count))
    kept = _hyper.keep_as(direction, state.direction)
    state = FedHyperClientState(rate, count, next_rate, kept)
    return _rate.apply_rate(updates, rate), state

  def init_fn(params):
    rate, count, _, direction = _server.init_state(params, init_value)
    return FedHyperClientState(rate, count, jnp.copy(rate), direction)

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)
