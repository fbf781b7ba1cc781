"""What a task adds to the layers of a frozen network."""

from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl.base import Params
from lrcl.models._convolution import Conv

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm)


class Layer(NamedTuple):
  """A layer that is followed by parameters of the task, or is one: the head."""

  kind: str
  features: int


def find_layers(
  run: Any, anchor: Params, example_inputs: Any, head: str
) -> dict[str, Layer]:
  """The layers that have parameters of tasks, by their paths."""
  found: dict[str, Layer] = {}

  def note(layer, args, outputs):
    del args
    name, kind = '/'.join(layer.path), None
    if isinstance(layer, nn.Conv | Conv):
      kind = 'conv'
    elif isinstance(layer, nn.Dense):
      kind = 'head' if is_head(name, head) else 'affine'
    elif isinstance(layer, _NORMS) and (layer.use_scale or _has_bias(layer)):
      kind = 'affine'
    if kind is not None:
      found[name] = Layer(kind, outputs.shape[-1])
    return outputs

  inputs = jax.ShapeDtypeStruct(example_inputs.shape, example_inputs.dtype)
  jax.eval_shape(lambda p, x: run(p, x, note), anchor, inputs)
  if 'head' not in {layer.kind for layer in found.values()}:
    raise ValueError(
      f'reprogram: no nn.Dense is called {head!r}; give the name of the output '
      'layer as `head`.'
    )
  return found


def _has_bias(layer: Any) -> bool:
  return getattr(layer, 'use_bias', False)


def is_head(name: str, head: str) -> bool:
  return name.split('/')[-1] == head


def first_params(
  name: str, layer: Layer, anchor: Params, num_tasks: int, kernel_size: int
) -> Params:
  """The first parameters of all tasks: those that change nothing."""
  if layer.kind == 'head':
    for part in name.split('/'):
      anchor = anchor[part]
    return jax.tree.map(lambda x: jnp.stack([x] * num_tasks), anchor)
  shape = (num_tasks, layer.features)
  if layer.kind == 'affine':
    return {'scale': jnp.ones(shape), 'offset': jnp.zeros(shape)}
  middle = kernel_size // 2
  kernel = jnp.zeros((num_tasks, kernel_size, kernel_size, layer.features))
  return {'kernel': kernel.at[:, middle, middle].set(1.0)}


def _depthwise(own: Params, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
  """A depthwise convolution of each row with its kernel, padded by zeros.

  As shifted products, since rows have kernels of their own.
  """
  del inputs
  kernel = own['kernel'].astype(outputs.dtype)
  size = kernel.shape[1]
  rows, columns = outputs.shape[1:3]
  pad = (size // 2, size // 2)
  padded = jnp.pad(outputs, ((0, 0), pad, pad, (0, 0)))
  total = jnp.zeros_like(outputs)
  for i in range(size):
    for j in range(size):
      part = padded[:, i : i + rows, j : j + columns]
      total += part * kernel[:, i, j][:, None, None]
  return total


def _affine(own: Params, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
  """A factor and an offset for each channel."""
  del inputs
  fit = lambda x: _beside(x.astype(outputs.dtype), outputs)
  return outputs * fit(own['scale']) + fit(own['offset'])


def _head(own: Params, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
  """The output layer of each row's task, in place of the anchor's."""
  kernel = own['kernel'].astype(outputs.dtype)
  logits = jnp.einsum('b...f,bfc->b...c', inputs.astype(outputs.dtype), kernel)
  if 'bias' not in own:
    return logits
  return logits + _beside(own['bias'].astype(outputs.dtype), outputs)


def _beside(x: jax.Array, outputs: jax.Array) -> jax.Array:
  """`[batch, channels]` with axes between, as the outputs have them."""
  return x.reshape(x.shape[0], *(1,) * (outputs.ndim - 2), x.shape[-1])


ADAPT = {'conv': _depthwise, 'affine': _affine, 'head': _head}
