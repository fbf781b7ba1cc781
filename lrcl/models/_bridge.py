"""Turns flax modules into LRCL's pure functions, `init_fn` and `apply_fn`."""

from collections.abc import Callable
import inspect
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl.base import ApplyFn, Params

InitFn = Callable[[jax.Array], tuple[Params, Any]]
"""`init_fn(key) -> (params, model_state)`."""


def from_module(
  module: nn.Module, example_inputs: Any
) -> tuple[InitFn, ApplyFn]:
  """Turns a flax.linen module into `init_fn` and `apply_fn`.

  `params` is the module's collection of that name. Every other collection
  (such as the `batch_stats` of `nn.BatchNorm`) is the `model_state`: updated
  under `train=True`, only read otherwise. `rng` becomes the module's
  `dropout` stream. Whether a module is told that it trains depends on its own
  `__call__`: an argument `train` gets the flag, `deterministic` its opposite,
  and a module with neither is called with its inputs alone.

  Args:
    module: a flax.linen module that maps inputs to logits.
    example_inputs: one batch of inputs, or a `jax.ShapeDtypeStruct`; only the
      shape and the dtype are used.

  Returns:
    `init_fn(key) -> (params, model_state)` and
    `apply_fn(params, inputs, *, rng, model_state, train)
    -> (logits, model_state)`. Both may be jitted and vmapped. `model_state`
    is an empty dict for a module without one.

  Example:
    >>> init_fn, apply_fn = from_module(nn.Dense(3), jnp.ones((1, 2)))
    >>> params, state = init_fn(jax.random.key(0))
    >>> logits, state = apply_fn(
    ...   params, jnp.ones((5, 2)), rng=None, model_state=state, train=True
    ... )
    >>> logits.shape, state
    ((5, 3), {})
  """
  flags = train_flags(module)
  shape = tuple(example_inputs.shape)
  dtype = jax.dtypes.canonicalize_dtype(example_inputs.dtype)

  def init_fn(key: jax.Array) -> tuple[Params, Any]:
    key, dropout = jax.random.split(key)
    rngs = {'params': key, 'dropout': dropout}
    inputs = jnp.zeros(shape, dtype)
    variables = dict(module.init(rngs, inputs, **flags(False)))
    return variables.pop('params', {}), variables

  def apply_fn(
    params: Params,
    inputs: jax.Array,
    *,
    rng: jax.Array | None,
    model_state: Any,
    train: bool,
  ) -> tuple[jax.Array, Any]:
    variables = {'params': params, **model_state}
    rngs = None if rng is None else {'dropout': rng}
    mutable = list(model_state) if train else []
    logits, updated = module.apply(
      variables, inputs, rngs=rngs, mutable=mutable, **flags(train)
    )
    return logits, {**model_state, **updated}

  return init_fn, apply_fn


def train_flags(module: Any) -> Callable[[bool], dict[str, Any]]:
  """How to tell `module` that it trains: the keyword it takes, if any."""
  names = inspect.signature(type(module).__call__).parameters
  if 'train' in names:
    return lambda train: {'train': train}
  if 'deterministic' in names:
    return lambda train: {'deterministic': not train}
  return lambda train: {}
