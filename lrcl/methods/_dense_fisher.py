"""Sizes of per-example gradients of dense layers, without the gradients.

For a layer `y = a @ W + b` that meets each example once, the gradient of one
example is the outer product of its input `a` and of the cotangent `d` at its
output. The sum over examples of the squares is then one matrix product,
`(a * a).T @ (d * d)`, that of absolute values `abs(a).T @ abs(d)`, and no
per-example gradient is ever formed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl import base

Forward = Callable[[Sequence[jax.Array], base.Batch], jax.Array]
"""`forward(leaves, batch) -> logits`, leaves of the parameters in order."""


class DenseLayer(NamedTuple):
  """A layer to which the product applies, all static.

  Attributes:
    kernel: index of the leaf, or None where it is not selected.
    bias: likewise.
    output: shape and dtype of what the layer returns.
  """

  kernel: int | None
  bias: int | None
  output: jax.ShapeDtypeStruct


def find_dense_layers(
  forward: Forward,
  leaves: Sequence[jax.Array],
  chosen: Sequence[bool],
  batch: base.Batch,
) -> list[DenseLayer] | None:
  """Finds the layers that hold the chosen leaves, or None.

  The leaves are followed by identity through one abstract trace, so that it
  does not matter how the model names or nests its parameters. A model that
  changes them first (a cast, an adapter), shares them, or runs its layers
  under `jit`, `remat` or `scan` is not recognised.

  Args:
    forward: the model as a function of its leaves.
    leaves: of the parameters, all of them.
    chosen: which of them are selected.
    batch: one batch, or its shapes.

  Returns:
    Layers that together hold every chosen leaf that the model uses; None
    unless each of those is used once, by an `nn.Dense` that is called with
    `[batch, features]`.
  """
  found: list[DenseLayer] = []

  def trace(traced: Sequence[jax.Array], batch: base.Batch) -> jax.Array:
    index = _index(traced, chosen)

    def watch(next_fun, args, kwargs, context):
      y = next_fun(*args, **kwargs)
      kernel, bias = _held_leaves(context, index)
      if (kernel, bias) != (None, None):
        found.append(DenseLayer(kernel, bias, jax.ShapeDtypeStruct(*_sig(y))))
      return y

    with nn.intercept_methods(watch):
      return forward(traced, batch)

  jaxpr = jax.make_jaxpr(trace)(list(leaves), batch)
  uses = _count_uses(jaxpr.jaxpr, len(leaves))
  held = [i for layer in found for i in layer[:2] if i is not None]
  needed = [i for i, use in enumerate(uses) if chosen[i] and use > 0]
  once = all(uses[i] == 1 for i in needed) and sorted(held) == needed
  rows = all(_is_rows(y.output.shape, batch['inputs'].shape[0]) for y in found)
  return found if once and rows else None


def dense_vjp(
  forward: Forward,
  leaves: Sequence[jax.Array],
  chosen: Sequence[bool],
  layers: Sequence[DenseLayer],
  batch: base.Batch,
) -> tuple[jax.Array, Callable[[jax.Array], Any], list[jax.Array]]:
  """The logits, their pullback to the layers' outputs, the layers' inputs.

  Zeros are added to each layer's output; the gradient with respect to them is
  the cotangent there, one row an example.
  """
  index = _index(leaves, chosen)
  slots = {layer[:2]: slot for slot, layer in enumerate(layers)}

  def probed(probes):
    seen: list[Any] = [None] * len(layers)

    def add_probe(next_fun, args, kwargs, context):
      y = next_fun(*args, **kwargs)
      slot = slots.get(_held_leaves(context, index))
      if slot is None:
        return y
      seen[slot] = args[0] if args else kwargs['inputs']
      return y + probes[slot]

    with nn.intercept_methods(add_probe):
      return forward(leaves, batch), seen

  zeros = [jnp.zeros(y.output.shape, y.output.dtype) for y in layers]
  logits, pullback, activations = jax.vjp(probed, zeros, has_aux=True)
  return logits, lambda cotangent: pullback(cotangent)[0], activations


def sum_over_examples(
  layers: Sequence[DenseLayer],
  activations: Sequence[jax.Array],
  sizes: Sequence[jax.Array],
  size: Callable[[jax.Array], jax.Array],
) -> dict[int, jax.Array]:
  """Sum over examples of the sizes of gradients, by index of the leaf.

  Args:
    layers: as `find_dense_layers` gives them.
    activations: their inputs.
    sizes: those of the cotangents at their outputs, weighted, float32.
    size: what was taken of the cotangents: `jnp.square` or `jnp.abs`.
  """
  sums = {}
  for layer, a, d in zip(layers, activations, sizes, strict=True):
    if layer.kernel is not None:
      rows = size(a.astype(jnp.float32))
      sums[layer.kernel] = jnp.matmul(rows.T, d, precision='highest')
    if layer.bias is not None:
      sums[layer.bias] = jnp.sum(d, axis=0)
  return sums


def _index(
  leaves: Sequence[jax.Array], chosen: Sequence[bool]
) -> dict[int, int]:
  return {id(x): i for i, x in enumerate(leaves) if chosen[i]}


def _held_leaves(
  context: Any, index: dict[int, int]
) -> tuple[int | None, int | None]:
  """Which of the chosen leaves a module holds, if it is a plain Dense."""
  module = context.module
  if type(module) is not nn.Dense or context.method_name != '__call__':
    return None, None
  if module.dot_general is not None or module.dot_general_cls is not None:
    return None, None
  held = module.variables.get('params', {})
  find = lambda name: index.get(id(nn.meta.unbox(held.get(name))))
  return find('kernel'), find('bias')


def _sig(y: jax.Array) -> tuple[tuple[int, ...], Any]:
  return y.shape, y.dtype


def _is_rows(shape: tuple[int, ...], batch: int) -> bool:
  return len(shape) == 2 and shape[0] == batch


def _count_uses(jaxpr: Any, count: int) -> list[int]:
  """How many equations (or outputs) read each of the first arguments."""
  reads = Counter(id(v) for eqn in jaxpr.eqns for v in eqn.invars)
  reads.update(id(v) for v in jaxpr.outvars)
  return [reads[id(v)] for v in jaxpr.invars[:count]]
