"""Turns flax.nnx modules into LRCL's pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flax import traverse_util
import jax
import jax.numpy as jnp

from lrcl.base import ApplyFn, Params
from lrcl.models._bridge import InitFn, train_flags
from lrcl.tree import leaf_name

if TYPE_CHECKING:  # it takes a quarter of a second to import
  from flax import nnx


def from_nnx(
  model: nnx.Module | Callable[[nnx.Rngs], nnx.Module],
) -> tuple[InitFn, ApplyFn]:
  """Turns a flax.nnx module into `init_fn` and `apply_fn`.

  The module is split: its `nnx.Param` variables are `params`, and all others
  but the random streams (such as the statistics of `nnx.BatchNorm`) are the
  `model_state`, updated under `train=True` and only read otherwise. Both are
  plain nested dicts of arrays with the names of the attributes, so that masks
  by name and checkpoints are those of linen. Every random stream is seeded
  from `rng` at each call. `train` selects `model.train()` or `model.eval()`,
  and is also passed to a `__call__` that takes `train` or `deterministic`.

  Args:
    model: a function that builds the module, called with `nnx.Rngs(key)`; or
      a module that exists, say one with trained parameters: then `init_fn`
      returns a copy of its variables for every key.

  Returns:
    `init_fn(key) -> (params, model_state)` and
    `apply_fn(params, inputs, *, rng, model_state, train)
    -> (logits, model_state)`, as from `from_module`.

  Example:
    >>> from flax import nnx
    >>> init_fn, apply_fn = from_nnx(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
    >>> params, state = init_fn(jax.random.key(0))
    >>> jax.tree.map(jnp.shape, params), state
    ({'bias': (3,), 'kernel': (2, 3)}, {})
    >>> logits, state = apply_fn(
    ...   params, jnp.ones((5, 2)), rng=None, model_state=state, train=False
    ... )
    >>> logits.shape
    (5, 3)
  """
  from flax import nnx

  if isinstance(model, nnx.Module):
    existing = nnx.clone(model)
    build = lambda key: existing
  else:
    make = model
    build = lambda key: make(nnx.Rngs(key))

  abstract = nnx.eval_shape(lambda: build(jax.random.key(0)))
  graphs = {train: _graph(abstract, train) for train in (False, True)}
  _, params_like, streams, state_like = _split(abstract)
  flags = train_flags(abstract)

  def init_fn(key: jax.Array) -> tuple[Params, Any]:
    _, params, _, model_state = _split(build(key))
    params, model_state = jax.tree.map(jnp.copy, (params, model_state))
    return _to_dict(params), _to_dict(model_state)

  def apply_fn(
    params: Params,
    inputs: jax.Array,
    *,
    rng: jax.Array | None,
    model_state: Any,
    train: bool,
  ) -> tuple[jax.Array, Any]:
    variables = _from_dict(params, params_like)
    others = _from_dict(model_state, state_like)
    seeded = _seed(streams, rng)
    module = nnx.merge(graphs[train], variables, seeded, others)
    logits = module(inputs, **flags(train))  # pyright: ignore[reportCallIssue]
    if not train:
      return logits, model_state
    return logits, _to_dict(_split(module)[3])

  return init_fn, apply_fn


def _split(module: nnx.Module) -> Any:
  """Its graph, parameters, random streams and everything else."""
  from flax import nnx

  return nnx.split(module, nnx.Param, nnx.RngState, ...)


def _graph(module: nnx.Module, train: bool) -> Any:
  """The graph of `module` in one of its two modes."""
  module.train() if train else module.eval()
  return _split(module)[0]


def _to_dict(state: Any) -> dict[str, Any]:
  """An nnx state as nested dicts of arrays; an index in a list as a string."""
  leaves = jax.tree_util.tree_leaves_with_path(state)
  named = {tuple(leaf_name(path).split('/')): leaf for path, leaf in leaves}
  return traverse_util.unflatten_dict(named)


def _from_dict(tree: dict[str, Any], like: Any) -> Any:
  """The nnx state with the structure of `like` and the arrays of `tree`."""
  named = traverse_util.flatten_dict(tree)
  paths = jax.tree_util.tree_leaves_with_path(like)
  leaves = [named[tuple(leaf_name(path).split('/'))] for path, _ in paths]
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _seed(streams: Any, rng: jax.Array | None) -> Any:
  """Random streams that begin at `rng`, each with a key of its own."""
  rng = jax.random.key(0) if rng is None else rng
  leaves, treedef = jax.tree.flatten(streams)
  seeded = []
  for i, leaf in enumerate(leaves):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      key = jax.random.fold_in(rng, i)
      seeded.append(jax.random.split(key, leaf.shape) if leaf.shape else key)
    else:
      seeded.append(jnp.zeros(leaf.shape, leaf.dtype))
  return jax.tree.unflatten(treedef, seeded)
