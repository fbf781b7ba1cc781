"""Accuracy and loss on every task's test set, as one compiled program."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from lrcl.streams import Stream, make_batch
from lrcl.training._chunk import place
from lrcl.training._state import Learner, TrainState


def make_evaluator(
  learner: Learner, stream: Stream, *, batch_size: int = 512
) -> Callable[[TrainState], dict[str, np.ndarray]]:
  """Makes `evaluate(state) -> {'accuracy': [T], 'loss': [T]}`.

  Every task of `stream.evaluation` is evaluated, those not yet seen too; the
  result of a replicated stream has a leading axis of replicas.

  Args:
    learner: gives the model, the loss, `predict` and `eval_params`.
    stream: gives the test sets; its `evaluation` must not be None.
    batch_size: examples per forward pass, a matter of memory only.

  Raises:
    ValueError: if the stream has no test sets.

  Example:
    >>> import optax
    >>> from lrcl import streams, training
    >>> data = {'inputs': np.eye(2, dtype=np.float32), 'labels': np.arange(2)}
    >>> stream = streams.split(data, num_tasks=2, batch_size=1, test=data)
    >>> tx, init_fn = optax.sgd(0.1), lambda key: (jnp.eye(2), ())
    >>> apply_fn = lambda params, x, **_: (x @ params, ())
    >>> evaluate = make_evaluator(training.Learner(tx, apply_fn), stream)
    >>> state = training.create_state(init_fn, tx, jax.random.key(0))
    >>> evaluate(state)['accuracy'].tolist()  # of each task
    [1.0, 1.0]
  """
  sets = stream.evaluation
  if sets is None:
    raise ValueError(
      'make_evaluator: the stream has no evaluation sets; pass test=... to '
      'the function that made it.'
    )
  indices, weights = _in_batches(sets.indices, sets.weights, batch_size)
  tasks = np.arange(sets.num_tasks, dtype=np.int32)

  def evaluate_batch(params, state, data, tables, task, rows, weight):
    rows = jax.tree.map(lambda x: x[rows], data)
    batch = make_batch(rows, tables, task, weight, sets.prepare)
    logits, _ = learner.apply_fn(
      params,
      batch['inputs'],
      rng=None,
      model_state=state.model_state,
      train=False,
    )
    right = learner.predict(logits, batch) == batch['labels']
    right = right.reshape(right.shape[0], -1).astype(jnp.float32).mean(1)
    loss = learner.loss_fn(logits, batch)
    total = lambda x: jnp.sum(x * weight)
    return total(right), total(loss), jnp.sum(weight)

  def evaluate_all(state, data, tables, indices, weights):
    def task(args):
      task, rows, weight = args
      params = learner.eval_params(state, task)
      batch = lambda args: evaluate_batch(
        params, state, data, tables, task, *args
      )
      right, loss, count = jax.lax.map(batch, (rows, weight))
      count = jnp.maximum(jnp.sum(count), 1e-12)
      return jnp.sum(right) / count, jnp.sum(loss) / count

    accuracy, loss = jax.lax.map(task, (jnp.asarray(tasks), indices, weights))
    return {'accuracy': accuracy, 'loss': loss}

  run = evaluate_all
  if stream.replicas is not None:
    run = lambda state, data, tables, indices, weights: jax.lax.map(
      lambda args: evaluate_all(args[0], data, *args[1:]),
      (state, tables, indices, weights),
    )
  run = jax.jit(run)
  source, indices = _on_device(sets, indices)
  fixed = (source, sets.tables, indices, weights)

  @functools.lru_cache(maxsize=2)
  def fixed_on(mesh):
    return place(fixed, mesh)

  def evaluate(state: TrainState) -> dict[str, Any]:
    sharding = state.step.sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    return jax.device_get(run(state, *fixed_on(mesh)))

  return evaluate


def _on_device(sets, indices):
  """The rows to evaluate; of a source on the host, only these are read."""
  if isinstance(sets.source, Mapping) and sets.resident:
    return dict(sets.source), indices
  used, indices_of_used = np.unique(indices, return_inverse=True)
  return sets.rows(used), indices_of_used.reshape(indices.shape)


def _in_batches(indices, weights, batch_size):
  """`[..., n]` to `[..., batches, batch_size]`, padded by weight 0."""
  n = indices.shape[-1]
  batch_size = min(batch_size, n)
  pad = -n % batch_size
  widths = [(0, 0)] * (indices.ndim - 1) + [(0, pad)]
  shape = (*indices.shape[:-1], -1, batch_size)
  indices = np.pad(indices, widths).reshape(shape)
  return indices, np.pad(weights, widths).reshape(shape)
