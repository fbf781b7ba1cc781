"""A small convolutional network, with convolutions as matrix products."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl.models._layers import Activation, standardize


def conv_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves with stride 1 and zero padding, as one matrix product.

  On a CPU the gradient of `lax.conv` inside a compiled loop runs several
  times slower than outside; that of a matrix product does not. It costs
  memory: the patches hold `height * width` copies of each input, where these
  are the kernel's.

  Args:
    x: `[batch, rows, columns, channels]`.
    kernel: `[height, width, channels, features]`, height and width odd.

  Returns:
    `[batch, rows, columns, features]`.

  Raises:
    ValueError: if the kernel's height or width is even.

  Example:
    >>> ones = jnp.ones((1, 3, 3, 1))
    >>> print(conv_same(ones, jnp.ones((3, 3, 1, 1)))[0, :, :, 0])
    [[4. 6. 4.]
     [6. 9. 6.]
     [4. 6. 4.]]

  References:
    Chellapilla et al., `High performance convolutional neural networks for
    document processing <https://inria.hal.science/inria-00112631>`_, 2006
  """
  height, width, _, features = kernel.shape
  if height % 2 == 0 or width % 2 == 0:
    raise ValueError(
      f'conv_same: the kernel is {height} x {width}; both must be odd.'
    )
  rows, columns = x.shape[1:3]
  vertical, horizontal = (height // 2,) * 2, (width // 2,) * 2
  padded = jnp.pad(x, ((0, 0), vertical, horizontal, (0, 0)))
  patches = [
    padded[:, i : i + rows, j : j + columns]
    for i in range(height)
    for j in range(width)
  ]
  return jnp.concatenate(patches, -1) @ kernel.reshape(-1, features)


def max_pool(x: jax.Array) -> jax.Array:
  """Maximum over 2 x 2 windows; an odd last row or column is left out.

  A reshape rather than `reduce_window`, whose gradient is slow on a CPU.

  Args:
    x: `[batch, rows, columns, channels]`.

  Returns:
    `[batch, rows // 2, columns // 2, channels]`.

  Example:
    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
  """
  batch, rows, columns, channels = x.shape
  rows, columns = rows // 2, columns // 2
  x = x[:, : 2 * rows, : 2 * columns]
  return x.reshape(batch, rows, 2, columns, 2, channels).max((2, 4))


class Conv(nn.Module):
  """The parameters and the result of `nn.Conv`, through `conv_same`.

  Attributes:
    features: output channels.
    kernel_size: height and width, both odd.
    use_bias: whether to add a bias.
    dtype: of the computation; None means that of inputs and parameters.
    matmul: False takes `lax.conv`, which needs less memory and is the better
      choice on accelerators.
  """

  features: int
  kernel_size: tuple[int, int] = (3, 3)
  use_bias: bool = True
  dtype: Any = None
  matmul: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[batch, rows, columns, channels]` to `[..., features]`."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    dtype = self.dtype or jnp.result_type(x, kernel)
    convolve = conv_same if self.matmul else _lax_conv
    y = convolve(x.astype(dtype), kernel.astype(dtype))
    if not self.use_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return y + bias.astype(dtype).reshape(1, 1, 1, -1)


def _lax_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  layout = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=layout
  )


class CNN(nn.Module):
  """A small CNN: `Conv_0`, `Conv_1`, ... with pooling, `Dense_0` and `head`.

  With `normalize`, a layer normalisation without scale and offset stands
  before each nonlinearity, as in `MLP`. That of a convolution takes all
  positions and channels of an example together: a blank region then stays
  blank, where position by position its noise would be blown up.

  Inputs are images `[batch, rows, columns]` or `[batch, rows, columns,
  channels]`; logits are `[batch, num_classes]`, float32. Parameters are
  float32. The outputs of the hidden layers, before they are pooled, are sown
  as `hidden_0`, `hidden_1`, ..., the dense layer's last.

  Attributes:
    features: channels of the convolutions (3 x 3); each is followed by a
      2 x 2 maximum.
    hidden: width of the dense layer before the head.
    num_classes: width of the output.
    normalize: whether to normalise before each nonlinearity.
    activation: the nonlinearity.
    readout_multiplier: what the input of the head is multiplied by:
      `base_width / width` in muP (`lrcl.methods.scale_by_mup`).
    dtype: of the computation, such as `jnp.bfloat16`; None means float32.
    matmul: False takes `lax.conv`, for accelerators (see `Conv`).

  Example:
    >>> model = CNN(features=(4, 8), hidden=16, num_classes=3)
    >>> variables = model.init(jax.random.key(0), jnp.ones((2, 8, 8)))
    >>> jax.tree.map(jnp.shape, variables['params']['Conv_1'])
    {'bias': (8,), 'kernel': (3, 3, 4, 8)}
  """

  features: Sequence[int]
  hidden: int
  num_classes: int
  normalize: bool = False
  activation: Activation = nn.relu
  readout_multiplier: float = 1.0
  dtype: Any = None
  matmul: bool = True

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps images to logits `[batch, num_classes]`."""
    x = inputs if inputs.ndim == 4 else inputs[..., None]
    x = x.astype(self.dtype or jnp.float32)
    options = {'use_bias': not self.normalize, 'dtype': self.dtype}
    for i, channels in enumerate(self.features):
      x = Conv(channels, matmul=self.matmul, **options)(x)
      x = standardize(x, (1, 2, 3)) if self.normalize else x
      x = self.activation(x)
      self.sow('intermediates', f'hidden_{i}', x)
      x = max_pool(x)
    x = nn.Dense(self.hidden, **options)(x.reshape(x.shape[0], -1))
    x = standardize(x) if self.normalize else x
    head = nn.Dense(self.num_classes, dtype=self.dtype, name='head')
    x = self.activation(x)
    self.sow('intermediates', f'hidden_{len(self.features)}', x)
    return head(x * self.readout_multiplier).astype(jnp.float32)
