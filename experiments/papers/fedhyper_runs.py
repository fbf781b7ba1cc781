"""FedHyper and federated averaging on digits: contenders, data, one run."""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import losses, methods, models, streams, training

CLIENTS, DRAWN, EPOCHS, BATCH, CONCENTRATION = 100, 10, 10, 8, 0.5
ROWS, LONGEST = 1402, 160  # of all clients; of one, padding included


class Contender(NamedTuple):
  """Both sides of federated averaging, from the first rate of the clients."""

  client: Callable[[Any], training.ClientTx]
  server: Callable[[Any], optax.GradientTransformation]


def _sent(rate: Any) -> training.ClientTx:
  """Clients that train with the rate that the server's state holds."""
  del rate
  return lambda server: _fixed(methods.applied_rate(server.opt_state)[0])


def _decayed(rate: Any) -> training.ClientTx:
  power = lambda server: server.round.astype(jnp.float32)
  return lambda server: _fixed(rate * 0.995 ** power(server))


def _own(weight: float, form: Any) -> Callable[[Any], training.ClientTx]:
  """Clients with a rate of their own."""
  return lambda rate: (
    lambda server: methods.scale_by_fedhyper_client(
      rate, server.global_update, weight, form=form
    )
  )


def _tracked(form: Any) -> Callable[[Any], optax.GradientTransformation]:
  return lambda rate: optax.chain(
    methods.track_fedhyper_client_rate(rate, form=form), optax.scale(-1.0)
  )


_fixed: Callable[[Any], Any] = methods.scale_by_schedule_value
_mean = lambda rate: optax.sgd(1.0)  # the clients' mean is the new model
_local_steps = EPOCHS * math.ceil(ROWS / CLIENTS / BATCH)  # of a mean client

CONTENDERS = {
  'FedAvg': Contender(_fixed, _mean),
  'FedAvg with decay': Contender(_decayed, _mean),
  'G': Contender(_fixed, lambda rate: methods.scale_by_fedhyper_global()),
  'SL': Contender(_sent, _tracked('paper')),
  'CL': Contender(_own(1 / _local_steps, 'paper'), _mean),
  'G with momentum (code)': Contender(
    _fixed,
    lambda rate: methods.scale_by_fedhyper_global(
      form='official', momentum=0.9, min_value=0.8
    ),
  ),
  'SL (code)': Contender(_sent, _tracked('official')),
  'CL (code)': Contender(_own(0.1 / DRAWN, 'official'), _mean),
}


@functools.cache
def make_data(seed: int) -> tuple[training.FederatedData, dict[str, Any]]:
  """The clients' rows, and the test rows."""
  train, test = streams.digits(seed)
  pools = streams.dirichlet_partition(
    train['labels'], CLIENTS, CONCENTRATION, seed
  )
  return training.federated_data(train, pools, LONGEST), test


def make_run(
  contender: Contender, features: Sequence[int], rounds: int
) -> Callable[[float, int], np.ndarray]:
  """Makes `run(rate, seed) -> test accuracies [rounds]`, compiled once."""
  example = make_data(0)[1]['inputs'][:1]
  init_fn, apply_fn = models.from_module(models.MLP(features, 10), example)

  @jax.jit
  def train(rate, data, test, key):
    algorithm = training.federated_averaging(
      apply_fn,
      contender.client(rate),
      contender.server(rate),
      clients_per_round=DRAWN,
      batch_size=BATCH,
      local_epochs=EPOCHS,
    )
    init_key, run_key = jax.random.split(key)
    params, model_state = init_fn(init_key)

    def body(state, _):
      state, _ = algorithm.update(state, data)
      logits, _ = apply_fn(
        state.params, test['inputs'], rng=None, model_state={}, train=False
      )
      right = losses.argmax(logits, test) == test['labels']
      return state, jnp.mean(right.astype(jnp.float32))

    state = algorithm.init(params, run_key, model_state)
    return jax.lax.scan(body, state, length=rounds)[1]

  return lambda rate, seed: np.asarray(
    train(jnp.float32(rate), *make_data(seed), jax.random.key(seed))
  )
