"""A tiny smooth network and the extra args that a training step passes."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base

INPUTS, HIDDEN, CLASSES = 4, 6, 3


@functools.partial(jax.jit, static_argnums=1)
def init_params(seed: Any = 0, dtype: Any = jnp.float32) -> base.Params:
  keys = jax.random.split(jax.random.key(seed), 4)
  normal = lambda key, *shape: 0.5 * jax.random.normal(key, shape, dtype)
  return {
    'hidden': {
      'kernel': normal(keys[0], INPUTS, HIDDEN),
      'bias': normal(keys[1], HIDDEN),
    },
    'head': {
      'kernel': normal(keys[2], HIDDEN, CLASSES),
      'bias': normal(keys[3], CLASSES),
    },
  }


def apply_fn(
  params: base.Params,
  inputs: jax.Array,
  *,
  rng: Any = None,
  model_state: Any = (),
  train: bool = True,
) -> tuple[jax.Array, Any]:
  del rng, train
  layer = lambda x, p: x @ p['kernel'] + p['bias'][None]
  inputs = inputs.astype(params['head']['kernel'].dtype)
  return layer(jnp.tanh(layer(inputs, params['hidden'])), params['head']), (
    model_state
  )


def loss_fn(logits: jax.Array, batch: base.Batch) -> jax.Array:
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  return -jnp.take_along_axis(log_p, batch['labels'][:, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnums=(1, 2))
def make_batch(
  step: Any = 0, size: int = 8, pad: int = 0, task: Any = 0
) -> base.Batch:
  """Batch number `step`; the last `pad` rows are padding."""
  key = jax.random.fold_in(jax.random.key(7), step)
  labels = jax.random.randint(key, (size,), 0, CLASSES, jnp.int32)
  return {
    'inputs': jax.random.normal(jax.random.fold_in(key, 1), (size, INPUTS)),
    'labels': labels,
    'weight': (jnp.arange(size) < size - pad).astype(jnp.float32),
    'task': jnp.full(size, task, jnp.int32),
  }


@jax.jit
def value_fn(params: base.Params, batch: base.Batch) -> jax.Array:
  return loss_fn(apply_fn(params, batch['inputs'])[0], batch)


@jax.jit
def scalar_loss(params: base.Params, batch: base.Batch) -> jax.Array:
  return base.weighted_mean(value_fn(params, batch), batch['weight'])


def extra_args(
  params: base.Params, batch: base.Batch, task_id: Any = 0
) -> dict[str, Any]:
  """The whole vocabulary, on one device or in the global view of a mesh."""
  return {
    'value': scalar_loss(params, batch),
    'grad_fn': jax.grad(scalar_loss),
    'value_fn': value_fn,
    'batch': batch,
    'task_id': jnp.asarray(task_id, jnp.int32),
    'logits': apply_fn(params, batch['inputs'])[0],
  }


def pmap_extra_args(
  params: base.Params, batch: base.Batch, task_id: Any, axis_name: str
) -> dict[str, Any]:
  """The same from one device's part of the batch: all of them global."""
  everything = functools.partial(
    jax.lax.all_gather, axis_name=axis_name, axis=0, tiled=True
  )

  def mine(global_batch: base.Batch) -> base.Batch:
    count = jax.lax.axis_size(axis_name)
    size = global_batch['weight'].shape[0] // count
    start = jax.lax.axis_index(axis_name) * size
    cut = lambda x: jax.lax.dynamic_slice_in_dim(x, start, size)
    return jax.tree.map(cut, global_batch)

  def grad_fn(params: base.Params, global_batch: base.Batch) -> base.Params:
    part, total = mine(global_batch), jnp.sum(global_batch['weight'])

    def share(params):
      losses = jnp.sum(value_fn(params, part) * part['weight'])
      return jnp.where(total > 0, losses / jnp.maximum(total, 1e-12), 0.0)

    return jax.lax.psum(jax.grad(share)(params), axis_name)

  batch = jax.tree.map(everything, batch)
  losses = lambda p, b: everything(value_fn(p, mine(b)))
  return {
    'value': base.weighted_mean(losses(params, batch), batch['weight']),
    'grad_fn': grad_fn,
    'value_fn': losses,
    'batch': batch,
    'task_id': jnp.asarray(task_id, jnp.int32),
    'logits': everything(apply_fn(params, mine(batch)['inputs'])[0]),
  }


def make_step(
  tx: optax.GradientTransformation,
  make_extra_args: Callable[..., dict[str, Any]] = extra_args,
) -> Callable[..., tuple[base.Params, Any]]:
  """`step(params, opt_state, batch, task_id) -> (params, opt_state)`."""
  tx = optax.with_extra_args_support(tx)

  def step(params, opt_state, batch, task_id=0):
    extras = make_extra_args(params, batch, task_id)
    grads = extras['grad_fn'](params, extras['batch'])
    updates, opt_state = tx.update(grads, opt_state, params, **extras)
    return optax.apply_updates(params, updates), opt_state

  return step
