"""The hidden units of a network: what they put out, and who reads them."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax

from lrcl.base import ActivationsFn, Batch, Params, UnitLayer
from lrcl.models._bridge import train_flags
from lrcl.models._convolution import CNN
from lrcl.models._networks import MLP


def activations_from_module(
  module: nn.Module, *, model_state: Any = None
) -> ActivationsFn:
  """Makes a function that gives what a module has sown of its hidden layers.

  It is one pass forward, in which `module` is told that it does not train. A
  module of one's own sows by `self.sow('intermediates', 'hidden_0', x)` behind
  a nonlinearity, as `MLP` and `CNN` do; otherwise that costs nothing.

  Args:
    module: a flax.linen module that maps inputs to logits.
    model_state: its other collections, if it has some, such as the statistics
      of a batch normalisation; they stay as they are.

  Returns:
    `activations_fn(params, batch)`: a dict of arrays `[batch, ..., units]` of
    `batch['inputs']`, by the names under which they were sown (`a/b` for what
    a submodule `a` sows as `b`).

  Raises:
    ValueError: from the function, if nothing was sown.

  Example:
    >>> import jax.numpy as jnp
    >>> module = MLP((8, 4), 3)
    >>> params = module.init(jax.random.key(0), jnp.ones((1, 5)))['params']
    >>> activations_fn = activations_from_module(module)
    >>> hidden = activations_fn(params, {'inputs': jnp.ones((2, 5))})
    >>> {name: h.shape for name, h in hidden.items()}
    {'hidden_0': (2, 8), 'hidden_1': (2, 4)}
  """
  flags = train_flags(module)

  def activations_fn(params: Params, batch: Batch) -> Mapping[str, jax.Array]:
    variables = {'params': params, **(model_state or {})}
    _, sown = module.apply(
      variables, batch['inputs'], mutable=['intermediates'], **flags(False)
    )
    named = dict(_named(sown.get('intermediates') or {}))
    if not named:
      raise ValueError(
        f'activations_from_module: {type(module).__name__} sows nothing into '
        "'intermediates'."
      )
    return named

  return activations_fn


def unit_graph(module: MLP | CNN) -> tuple[UnitLayer, ...]:
  """Lists the hidden layers of an `MLP` or a `CNN`, for methods on units.

  The output layer is not among them. For another network write the list: one
  `lrcl.base.UnitLayer` for each hidden layer, in the order of the forward pass.

  Args:
    module: an `MLP` or a `CNN`.

  Returns:
    One `UnitLayer` for each hidden layer, with the initializer of its kernel.

  Raises:
    TypeError: for another module.

  Example:
    >>> for layer in unit_graph(MLP((8, 4), 3)):
    ...   print(layer.name, layer.activation, layer.readers)
    Dense_0 hidden_0 ('Dense_1',)
    Dense_1 hidden_1 ('head',)
  """
  if isinstance(module, MLP):
    names = [f'Dense_{i}' for i in range(len(module.features))]
    uniform = module.initializer == 'uniform'
  elif isinstance(module, CNN):
    names = [*(f'Conv_{i}' for i in range(len(module.features))), 'Dense_0']
    uniform = False
  else:
    raise TypeError(
      f'unit_graph: module is a {type(module).__name__}; it must be an MLP or '
      'a CNN. Write a list of lrcl.base.UnitLayer for others.'
    )
  draw = jax.nn.initializers.lecun_normal()
  if uniform:  # between +-1/sqrt(fan_in)
    draw = jax.nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
  readers = [*names[1:], 'head']
  return tuple(
    UnitLayer(name, f'hidden_{i}', (reader,), draw)
    for i, (name, reader) in enumerate(zip(names, readers, strict=True))
  )


def _named(sown: Mapping[str, Any], prefix: str = '') -> Any:
  """What was sown by its path; of several calls the last."""
  for name, value in sown.items():
    if isinstance(value, Mapping):
      yield from _named(value, f'{prefix}{name}/')
    else:
      yield f'{prefix}{name}', value[-1]
