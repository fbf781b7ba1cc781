"""What recycling of hidden units has in common: who is new, and what is 0."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods._passes import mark_pass

Graph = tuple[base.UnitLayer, ...]

Masks = tuple[jax.Array, ...]
"""For each layer of a graph which units are recycled, bool `[units]`."""


def check_graph(where: str, graph: Sequence[base.UnitLayer]) -> Graph:
  """The graph as a tuple; each of its layers is read by another one."""
  layers = tuple(graph)
  if not layers or not all(isinstance(x, base.UnitLayer) for x in layers):
    raise TypeError(
      f'{where}: graph is {graph!r}; it must be a list of lrcl.base.UnitLayer.'
    )
  for layer in layers:
    if isinstance(layer.readers, str) or not layer.readers:
      raise ValueError(
        f'{where}: the readers of {layer.name!r} are {layer.readers!r}; they '
        'must be a tuple of names. The output layer is not part of a graph.'
      )
  return layers


def count_units(where: str, graph: Graph, params: Any) -> tuple[int, ...]:
  """The units of each layer; 0 for the placeholder of `map_params`.

  Raises:
    ValueError: if a kernel is missing, or shapes do not fit each other.
  """
  if not jax.tree.leaves(params):
    return (0,) * len(graph)
  named, _ = by_name(params)

  def kernel(name: str) -> jax.Array:
    leaf = named.get(f'{name}/kernel')
    if leaf is None or leaf.ndim < 2:
      raise ValueError(
        f'{where}: the parameters have no {name + "/kernel"!r} with two axes '
        f'or more; they have {sorted(named)}.'
      )
    return leaf

  counts = []
  for layer in graph:
    units = kernel(layer.name).shape[-1]
    for reader in layer.readers:
      if kernel(reader).shape[-2] % units:
        raise ValueError(
          f'{where}: {reader!r} has {kernel(reader).shape[-2]} inputs, which '
          f'is no multiple of the {units} units of {layer.name!r}.'
        )
    counts.append(units)
  return tuple(counts)


def measure(
  where: str,
  graph: Graph,
  activations_fn: base.ActivationsFn,
  params: base.Params,
  batch: Any,
) -> tuple[list[jax.Array], jax.Array | None]:
  """The outputs of each layer on the batch, and the weights of its rows."""
  found = activations_fn(params, batch)
  named, _ = by_name(params)
  for layer in graph:
    units = named[f'{layer.name}/kernel'].shape[-1]
    given = found.get(layer.activation)
    if given is None or given.ndim < 2 or given.shape[-1] != units:
      shapes = {name: x.shape for name, x in found.items()}
      raise ValueError(
        f'{where}: activations_fn gives {shapes}; the graph asks for '
        f'{layer.activation!r} with a last axis of {units}.'
      )
  weight = batch.get('weight') if isinstance(batch, Mapping) else None
  hidden = [found[layer.activation] for layer in graph]
  return mark_pass(hidden, hidden[0].shape[0]), weight


def recycle(
  inner: optax.GradientTransformation,
  graph: Graph,
  masks: Masks,
  key: jax.Array,
  carry: tuple[Any, Any],
  params: base.Params,
  shift: Callable[[dict[str, jax.Array]], dict[str, jax.Array]] = lambda x: x,
) -> tuple[Any, Any]:
  """Lets the step end at new units, and has the optimizer forget the old.

  Args:
    inner: the optimizer.
    graph: of the layers.
    masks: which units are recycled.
    key: of the new kernels.
    carry: the updates and the state of the optimizer.
    params: before the updates.
    shift: what else is done to the parameters, by name, before; leaves that it
      moves keep their moments.

  Returns:
    Updates, and a state of the optimizer without moments of what is new.
  """
  updates, inner_state = carry
  add = lambda p, u: p.astype(jnp.float32) + u.astype(jnp.float32)
  ends, rebuild = by_name(jax.tree.map(add, params, updates))
  shifted = shift(ends)
  moved = {n: jnp.bool_(shifted[n] is not ends[n]) for n in ends}
  ends, touched = _renew(graph, masks, key, shifted)

  def step(update, param, end, new, moved):
    change = (end - param.astype(jnp.float32)).astype(update.dtype)
    return jnp.where(new | moved, change, update)

  steps = (rebuild(named) for named in (ends, touched, moved))
  updates = jax.tree.map(step, updates, params, *steps)
  return updates, _forget(inner, inner_state, rebuild(touched))


def reset_counts(inner_state: Any, flag: jax.Array) -> Any:
  """Where `flag` holds, 0 in place of the step counts beside moments."""

  def has_moments(node: Any) -> bool:
    fields = getattr(node, '_fields', ())
    return 'count' in fields and ('mu' in fields or 'nu' in fields)

  def visit(node: Any) -> Any:
    if not has_moments(node):
      return node
    count = jnp.where(flag, jnp.zeros_like(node.count), node.count)
    return node._replace(count=count)

  return jax.tree.map(visit, inner_state, is_leaf=has_moments)


def reader_rows(kernel: jax.Array, units: int) -> jax.Array:
  """A reader's kernel as `[taps and positions, units, outputs]`, float32."""
  return kernel.astype(jnp.float32).reshape(-1, units, kernel.shape[-1])


def by_name(params: Any) -> tuple[dict[str, Any], Callable[..., Any]]:
  """The leaves by name, and the way back from such a dict to a tree."""
  paths, treedef = jax.tree_util.tree_flatten_with_path(params)
  names = [tree.leaf_name(path) for path, _ in paths]
  named = {name: leaf for name, (_, leaf) in zip(names, paths, strict=True)}
  return named, lambda new: treedef.unflatten([new[name] for name in names])


def _renew(
  graph: Graph, masks: Masks, key: jax.Array, named: dict[str, jax.Array]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """New incoming weights, bias 0, then outgoing 0; and which entries these are.

  Where a new unit reads another new one the weight is 0.
  """
  named = dict(named)
  touched = {name: jnp.zeros(x.shape, bool) for name, x in named.items()}

  def put(name: str, chosen: jax.Array, value: jax.Array) -> None:
    chosen = jnp.broadcast_to(chosen, named[name].shape)
    named[name] = jnp.where(chosen, value, named[name])
    touched[name] = touched[name] | chosen

  keys = jax.random.split(key, len(graph))
  for layer, mask, layer_key in zip(graph, masks, keys, strict=True):
    kernel, bias = f'{layer.name}/kernel', f'{layer.name}/bias'
    shape = named[kernel].shape
    last = mask.reshape((1,) * (len(shape) - 1) + (-1,))
    put(kernel, last, layer.initializer(layer_key, shape, jnp.float32))
    if bias in named:
      put(bias, mask, jnp.zeros(mask.shape, jnp.float32))
  for layer, mask in zip(graph, masks, strict=True):
    for reader in layer.readers:
      shape = named[f'{reader}/kernel'].shape
      inputs = jnp.tile(mask, shape[-2] // len(mask))
      inputs = inputs.reshape((1,) * (len(shape) - 2) + (-1, 1))
      put(f'{reader}/kernel', inputs, jnp.zeros(shape, jnp.float32))
  return named, touched


def _forget(
  inner: optax.GradientTransformation, inner_state: Any, touched: Any
) -> Any:
  """0 in every tree of the state that has the shapes of the parameters."""

  def leaf(kept: Any, new: jax.Array) -> Any:
    if tree.is_masked(kept) or jnp.shape(kept) != new.shape:
      return kept
    return jnp.where(new, jnp.zeros_like(kept), kept)

  return optax.tree.map_params(
    inner, leaf, inner_state, touched, is_leaf=tree.is_masked
  )
