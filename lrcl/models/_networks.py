"""Two networks for images and vectors: a perceptron and a small CNN."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl.models._layers import Activation, Initializer, dense, standardize


class MLP(nn.Module):
  """A multilayer perceptron: `Dense_0`, `Dense_1`, ... and `head`.

  With `normalize`, a layer normalisation without scale and offset stands
  before each nonlinearity and the biases before it are dropped: then no
  kernel but the head's has a scale of its own, which is what
  `lrcl.methods.normalize_and_project` with the mask `nap_mask` relies on.

  Inputs `[batch, ...]` of any shape are flattened; logits are
  `[batch, num_classes]`, float32. Parameters are float32. The outputs of the
  hidden layers are sown as `hidden_0`, `hidden_1`, ...

  Attributes:
    features: widths of the hidden layers.
    num_classes: width of the output.
    normalize: whether to normalise before each nonlinearity.
    activation: the nonlinearity.
    initializer: `lecun` (flax's own) or `uniform` (kernels and biases from
      `+-1/sqrt(fan_in)`).
    readout_multiplier: what the input of the head is multiplied by:
      `base_width / width` in muP (`lrcl.methods.scale_by_mup`).
    dtype: of the computation, such as `jnp.bfloat16`; None means float32.

  Example:
    >>> model = MLP(features=(8,), num_classes=3, normalize=True)
    >>> variables = model.init(jax.random.key(0), jnp.ones((2, 4, 4)))
    >>> jax.tree.map(jnp.shape, variables['params'])
    {'Dense_0': {'kernel': (16, 8)}, 'head': {'bias': (3,), 'kernel': (8, 3)}}

  References:
    Lyle et al., `Normalization and effective learning rates in reinforcement
    learning <https://arxiv.org/abs/2407.01800>`_, 2024
  """

  features: Sequence[int]
  num_classes: int
  normalize: bool = False
  activation: Activation = nn.relu
  initializer: Initializer = 'lecun'
  readout_multiplier: float = 1.0
  dtype: Any = None

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps inputs `[batch, ...]` to logits `[batch, num_classes]`."""
    x = inputs.reshape(inputs.shape[0], -1).astype(self.dtype or jnp.float32)
    options = {'initializer': self.initializer, 'dtype': self.dtype}
    for i, width in enumerate(self.features):
      bias = not self.normalize
      x = dense(width, fan_in=x.shape[-1], use_bias=bias, **options)(x)
      x = standardize(x) if self.normalize else x
      x = self.activation(x)
      self.sow('intermediates', f'hidden_{i}', x)
    head = dense(self.num_classes, fan_in=x.shape[-1], name='head', **options)
    return head(x * self.readout_multiplier).astype(jnp.float32)
