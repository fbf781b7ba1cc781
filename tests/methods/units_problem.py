"""Networks with units that are silent, for the methods that recycle them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import models

MLP = models.MLP((6, 5), 3)
CNN = models.CNN((3,), hidden=6, num_classes=3)

# Compiling is what these tests do most of the time.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def make_batch(module, seed=0, rows=7):
  rng = np.random.default_rng(seed)
  shape = (rows, 4, 4) if isinstance(module, models.CNN) else (rows, 4)
  return {'inputs': jnp.asarray(rng.normal(size=shape), jnp.float32)}


@functools.cache
def _init(module):
  inputs = make_batch(module)['inputs'][:1]
  return jit(lambda key: module.init(key, inputs)['params'])


def make_params(module, seed=0):
  """Initial parameters; biases of 1, so that no unit is silent by chance."""
  one = lambda path, x: x if path[-1].key == 'kernel' else jnp.ones_like(x)
  params = _init(module)(jax.random.key(seed))
  return jax.tree_util.tree_map_with_path(one, params)


def silence(params, **layers):
  """Biases so low that ReLU never lets these units through."""
  params = jax.tree.map(lambda x: x, params)
  for name, units in layers.items():
    bias = params[name]['bias'].at[jnp.array(units)].set(-100.0)
    params[name] = {**params[name], 'bias': bias}
  return params


@functools.partial(jit, static_argnums=0)
def logits(module, params, batch):
  return module.apply({'params': params}, batch['inputs'])


@functools.partial(jit, static_argnums=0)
def hidden(module, params, batch):
  return models.activations_from_module(module)(params, batch)


def zeros(params):
  return jax.tree.map(jnp.zeros_like, params)


def ones(params):
  return jax.tree.map(jnp.ones_like, params)


def step(tx, state, params, batch, grads=None):
  """One compiled update; gradients of 0 unless given."""
  grads = zeros(params) if grads is None else grads
  updates, state = jit(tx.update)(grads, state, params, batch=batch)
  return optax.apply_updates(params, updates), state
