"""Federated averaging: clients train apart, a server averages what they did."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.losses import cross_entropy
from lrcl.methods import applied_rate
from lrcl.training import _federated_clients as _clients
from lrcl.training._federated_data import FederatedData
from lrcl.training._step import make_train_step


class FederatedState(NamedTuple):
  """Everything that the next round depends on, and a checkpoint holds.

  Attributes:
    round: int32 scalar, the rounds so far.
    params: the server's parameters.
    opt_state: the state of the server's transformation.
    global_update: the last pseudo-gradient: the parameters before the round
      minus the mean of the clients'; zero before the first round.
    rng: typed PRNG key; round `n` draws from `fold_in(rng, n)`.
    model_state: what the model keeps besides parameters, averaged likewise.
  """

  round: jax.Array
  params: base.Params
  opt_state: Any
  global_update: base.Params
  rng: jax.Array
  model_state: Any = ()


class RoundInfo(NamedTuple):
  """What a round reports: float32 scalars.

  Attributes:
    loss: mean over the round's clients of their mean loss while training.
    client_rate: mean over them of the rate of their last step; NaN where
      `applied_rate` finds none.
    server_rate: the same of the server's transformation.
  """

  loss: jax.Array
  client_rate: jax.Array
  server_rate: jax.Array


class FederatedAlgorithm(NamedTuple):
  """A pair of pure functions, as `optax.GradientTransformation` is one.

  Attributes:
    init: `init(params, key, model_state=()) -> FederatedState`.
    update: `update(state, data) -> (state, RoundInfo)`, compiled: one round.
  """

  init: Callable[..., FederatedState]
  update: Callable[
    [FederatedState, FederatedData], tuple[FederatedState, RoundInfo]
  ]


ClientTx = (
  optax.GradientTransformation
  | Callable[[FederatedState], optax.GradientTransformation]
)


def federated_averaging(
  apply_fn: Any,
  client_tx: ClientTx,
  server_tx: optax.GradientTransformation,
  *,
  clients_per_round: int,
  batch_size: int,
  local_epochs: int = 1,
  loss_fn: base.LossFn = cross_entropy,
  weighting: Literal['examples', 'clients'] = 'examples',
  use_vmap: bool | None = None,
) -> FederatedAlgorithm:
  """Federated averaging with any optax transformation on both sides.

  In a round some clients are drawn without replacement. Each starts from the
  server's parameters with a fresh state of `client_tx` and trains for
  `local_epochs` passes over its rows, shuffled anew in each; the last batch of
  a pass is filled up with rows of weight 0. The server takes its own parameters
  minus the mean of the clients' as a gradient: `optax.sgd(1.0)` puts the mean
  in their place (FedAvg), `optax.adam` is FedAdam, and
  `lrcl.methods.scale_by_fedhyper_global` is FedHyper-G.

  What the server sends besides its parameters is up to `client_tx`, which may
  be a function of the server's `FederatedState`: a rate that decays is
  `lambda server: optax.sgd(0.1 * 0.995**server.round)`, FedHyper-SL
  `lambda server: scale_by_schedule_value(applied_rate(server.opt_state)[0])`,
  FedHyper-CL `lambda server: scale_by_fedhyper_client(0.1,
  server.global_update, weight)`. It is traced inside the round.

  Every round is the same program, and a pure function of the state: a run that
  goes on from a saved state equals one that was never stopped. A client's draws
  depend on the key, the round and the client alone. Cost: clients run one after
  another on a CPU, each for as many steps as its rows need.

  Args:
    apply_fn: the model, see `lrcl.base.ApplyFn`.
    client_tx: the clients' transformation, or a function that makes it. It is
      given the extra args of `lrcl.base.EXTRA_ARGS`; `task_id` is the client.
    server_tx: the server's, for the pseudo-gradient; it is given `value`, the
      round's loss.
    clients_per_round: how many clients take part.
    batch_size: rows in a client's batch.
    local_epochs: passes over a client's rows.
    loss_fn: `loss_fn(logits, batch) -> losses[batch]`.
    weighting: of the mean over clients: by `'examples'`, or all `'clients'`
      alike.
    use_vmap: whether the clients of a round run side by side; None: not on a
      CPU. Side by side all take as many steps as the largest.

  Returns:
    `(init, update)`.

  Raises:
    ValueError: if a number is below 1, the weighting is unknown, or, when a
      round is traced, there are fewer clients than take part.

  Example:
    >>> import numpy as np
    >>> from lrcl.training import federated_data
    >>> arrays = {'inputs': jnp.ones((4, 1)), 'labels': jnp.zeros(4, int)}
    >>> data = federated_data(arrays, [np.arange(3), np.array([3])])
    >>> algorithm = federated_averaging(
    ...   lambda p, x, **_: (x @ p, ()), optax.sgd(0.1), optax.sgd(1.0),
    ...   clients_per_round=2, batch_size=2)
    >>> state = algorithm.init(jnp.zeros((1, 2)), jax.random.key(0))
    >>> state, info = algorithm.update(state, data)
    >>> int(state.round), bool(state.params[0, 0] > 0)
    (1, True)

  References:
    McMahan et al., `Communication-efficient learning of deep networks from
    decentralized data <https://arxiv.org/abs/1602.05629>`_, 2017; the server's
    step as an optimizer's: Reddi et al., `Adaptive federated optimization
    <https://arxiv.org/abs/2003.00295>`_, 2021
  """
  _check(clients_per_round, batch_size, local_epochs, weighting)
  server_tx = optax.with_extra_args_support(server_tx)

  def init(params, key, model_state=()):
    zeros = jax.tree.map(jnp.zeros_like, params)
    opt_state = server_tx.init(params)
    return FederatedState(
      jnp.int32(0), params, opt_state, zeros, key, model_state
    )

  def update(state, data):
    key = jax.random.fold_in(state.rng, state.round)
    sample_key, train_key = jax.random.split(key)
    clients = _clients.draw(sample_key, data, clients_per_round)
    tx = client_tx(state) if callable(client_tx) else client_tx
    step = make_train_step(apply_fn, loss_fn, tx)
    train = _clients.make_training(
      step, tx, state, data, batch_size, local_epochs
    )
    run = lambda client: train(client, jax.random.fold_in(train_key, client))
    ends, losses, rates = _clients.over_clients(run, clients, use_vmap)
    shares = _shares(data, clients, weighting)
    change, model_state = _average(state, ends, shares)
    state = state._replace(model_state=model_state)
    loss = jnp.mean(losses)
    state = _serve(server_tx, state, change, loss)
    server_rate, _ = applied_rate(state.opt_state)
    return state, RoundInfo(loss, jnp.mean(rates), server_rate)

  return FederatedAlgorithm(init, jax.jit(update))


def _check(clients_per_round, batch_size, local_epochs, weighting):
  where = 'federated_averaging'
  base.check_steps(where, 'clients_per_round', clients_per_round, 1)
  base.check_steps(where, 'batch_size', batch_size, 1)
  base.check_steps(where, 'local_epochs', local_epochs, 1)
  if weighting not in ('examples', 'clients'):
    raise ValueError(
      f"{where}: weighting is {weighting!r}; it must be 'examples' or "
      "'clients'."
    )


def _shares(data, clients, weighting):
  """The weight of each client in the mean."""
  sizes = jnp.asarray(data.sizes)[clients].astype(jnp.float32)
  sizes = sizes if weighting == 'examples' else jnp.ones_like(sizes)
  return sizes / jnp.sum(sizes)


def _average(server, ends, shares):
  """The server's parameters minus the clients' mean; and the mean states."""
  wide = lambda x: x.astype(jnp.float32)
  mean = lambda stack: jnp.tensordot(shares, wide(stack), axes=1)
  state = jax.tree.map(lambda x: mean(x).astype(x.dtype), ends.model_state)
  change = lambda p, stack: mean(wide(p)[None] - wide(stack)).astype(p.dtype)
  return jax.tree.map(change, server.params, ends.params), state


def _serve(tx, state, change, loss):
  """The server's step along the pseudo-gradient."""
  updates, opt_state = tx.update(
    change, state.opt_state, state.params, value=loss
  )
  return state._replace(
    round=state.round + 1,
    params=optax.apply_updates(state.params, updates),
    opt_state=opt_state,
    global_update=change,
  )
