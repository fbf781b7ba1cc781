"""What a method costs: gradients per step, and bytes kept between steps."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl.streams import Stream
from lrcl.training._state import Learner, TrainState
from lrcl.training._step import make_train_step


def step_cost(
  learner: Learner, state: TrainState, stream: Stream, hyperparams: Any = None
) -> dict[str, float]:
  """Counts what one step of a learner costs, without running it.

  Args:
    learner: the learner.
    state: its state, of which only shapes are read.
    stream: gives the batch.
    hyperparams: as for `train_stream`.

  Returns:
    `gradient_evaluations`: examples that pass through the model in training
    mode at each step, in units of the stream's batch: 1 for a method without
    further gradients, 2 for replay of as many rows. `stored_bytes`: the bytes
    of the transformation's state (moments, memory, importance), of one
    replica.

  Example:
    >>> import numpy as np, optax
    >>> from lrcl import streams
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 2}
    >>> stream = streams.split(train, num_tasks=2, batch_size=4)
    >>> learner = Learner(optax.sgd(0.1), lambda p, x, **_: (x @ p, ()))
    >>> params = jnp.zeros((2, 2))
    >>> state = TrainState(
    ...   jnp.int32(0), params, learner.tx.init(params), jax.random.key(0)
    ... )
    >>> step_cost(learner, state, stream)
    {'gradient_evaluations': 1.0, 'stored_bytes': 0.0}
  """
  rows = []

  def counting(params, inputs, **kwargs):
    rows.append(inputs.shape[0])
    return learner.apply_fn(params, inputs, **kwargs)

  tx = learner.tx(hyperparams) if callable(learner.tx) else learner.tx
  step = make_train_step(counting, learner.loss_fn, tx)
  if stream.replicas is not None:
    first = lambda x: jax.eval_shape(lambda x: x[0], x)
    state = jax.tree.map(first, state)
  jax.eval_shape(step, state, stream.batch_spec, jnp.int32(0))
  stored = sum(_bytes(leaf) for leaf in jax.tree.leaves(state.opt_state))
  return dict(
    gradient_evaluations=sum(rows) / stream.batch_size,
    stored_bytes=float(stored),
  )


def _bytes(leaf: Any) -> int:
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.eval_shape(jax.random.key_data, leaf)
  return leaf.size * leaf.dtype.itemsize
