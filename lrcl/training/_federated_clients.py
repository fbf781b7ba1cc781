"""What the clients of a round of federated averaging do."""

import jax
import jax.numpy as jnp

from lrcl.training._federated_data import FederatedData
from lrcl.training._state import TrainState


def draw(key: jax.Array, data: FederatedData, count: int) -> jax.Array:
  """The clients of a round."""
  num_clients = data.sizes.shape[0]
  if count > num_clients:
    raise ValueError(
      f'federated_averaging: clients_per_round is {count}; the data have '
      f'{num_clients} clients.'
    )
  order = jax.random.permutation(key, num_clients)
  return order[:count].astype(jnp.int32)


def make_training(step, tx, server, data, batch_size, local_epochs):
  """Makes `train(client, key) -> (TrainState, mean loss, last rate)`."""
  rows, sizes = jnp.asarray(data.rows), jnp.asarray(data.sizes)
  arrays = jax.tree.map(jnp.asarray, dict(data.arrays))
  places, slots = jnp.arange(rows.shape[1]), jnp.arange(batch_size)

  def make_batch(client, order, index):
    rank = index * batch_size + slots
    taken = rows[client][order[rank % sizes[client]]]
    batch = {name: column[taken] for name, column in arrays.items()}
    weight = (rank < sizes[client]).astype(jnp.float32)
    return batch | {'weight': weight, 'task': jnp.full_like(slots, client)}

  def train(client, key):
    batches = (sizes[client] + batch_size - 1) // batch_size

    def epoch(number, carry):
      noise = jax.random.uniform(jax.random.fold_in(key, number), places.shape)
      order = jnp.argsort(jnp.where(places < sizes[client], noise, 2.0))

      def body(index, carry):
        state, total, _ = carry
        state, info = step(state, make_batch(client, order, index), client)
        return state, total + info.loss, info.learning_rate

      return jax.lax.fori_loop(0, batches, body, carry)

    opt_state, zero = tx.init(server.params), jnp.int32(0)
    start = TrainState(zero, server.params, opt_state, key, server.model_state)
    carry = start, jnp.float32(0), jnp.float32(jnp.nan)
    state, total, rate = jax.lax.fori_loop(0, local_epochs, epoch, carry)
    return state, total / (local_epochs * batches).astype(jnp.float32), rate

  return train


def over_clients(run, clients, use_vmap):
  """Runs clients side by side, or one after another in the same program."""
  if use_vmap is None:
    use_vmap = jax.default_backend() != 'cpu'
  return jax.vmap(run)(clients) if use_vmap else jax.lax.map(run, clients)
