"""EfficientNet-Lite: small image networks to run on frozen statistics."""

from collections.abc import Sequence
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp


class Stage(NamedTuple):
  """Blocks in a row, the first of which may shrink the image.

  Attributes:
    blocks: how many.
    kernel: height and width of the depthwise convolutions, odd.
    stride: of the first block.
    expand: by what a block widens its channels inside.
    features: channels of the result.
  """

  blocks: int
  kernel: int
  stride: int
  expand: int
  features: int


LITE0 = (
  Stage(1, 3, 1, 1, 16),
  Stage(2, 3, 2, 6, 24),
  Stage(2, 5, 2, 6, 40),
  Stage(3, 3, 2, 6, 80),
  Stage(3, 5, 1, 6, 112),
  Stage(4, 5, 2, 6, 192),
  Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite(nn.Module):
  """An image network of inverted bottlenecks, for pretrained weights.

  Batch normalisation always uses the running statistics in the collection
  `batch_stats`: the network is there to embed images, or to be tuned as it
  stands, not to be trained from nothing. Pointwise convolutions are matrix
  products and depthwise ones sums of shifted products, which on a CPU is
  several times faster than `lax.conv`.

  Inputs are `[batch, rows, columns, 3]`, RGB as `(value - 127) / 128` with
  values from 0 to 255. The call is `logits(features(trunk(inputs)))`, and each
  of the three is a method for `apply(..., method=...)`: what is kept of an
  image for tuning the last convolution is the result of `trunk`.

  Attributes:
    num_classes: width of the output.
    stages: between stem and last convolution; the default is Lite0's.
    stem_features: channels of the first convolution.
    last_features: channels of the last convolution.

  Example:
    >>> model = EfficientNetLite(5, (Stage(1, 3, 2, 6, 8),), 4, 16)
    >>> images = jnp.zeros((2, 32, 32, 3))
    >>> variables = jax.jit(model.init)(jax.random.key(0), images)
    >>> model.apply(variables, images).shape
    (2, 5)
    >>> model.apply(variables, images, method='trunk').shape
    (2, 8, 8, 8)

  References:
    Tan and Le, `EfficientNet: rethinking model scaling for convolutional
    neural networks <https://arxiv.org/abs/1905.11946>`_, 2019; the Lite form
    (no squeeze-and-excitation, ReLU6, stem and last convolution never scaled)
    is in the code alone

    Code: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
  """

  num_classes: int = 1000
  stages: Sequence[Stage] = LITE0
  stem_features: int = 32
  last_features: int = 1280

  def setup(self):
    """Names the parts; `blocks_0`, `blocks_1`, ... run through all stages."""
    self.stem = nn.Conv(
      self.stem_features, (3, 3), strides=2, padding='SAME', use_bias=False
    )
    self.stem_norm = _norm()
    self.blocks = [
      _Block(s.kernel, s.stride if i == 0 else 1, s.expand, s.features)
      for s in self.stages
      for i in range(s.blocks)
    ]
    self.last = nn.Dense(self.last_features, use_bias=False)
    self.last_norm = _norm()
    self.head = nn.Dense(self.num_classes)

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps images to logits `[batch, num_classes]`."""
    return self.logits(self.features(self.trunk(inputs)))

  def trunk(self, inputs: jax.Array) -> jax.Array:
    """What stands before the last convolution, `[batch, r, c, channels]`."""
    x = nn.relu6(self.stem_norm(self.stem(inputs)))
    for block in self.blocks:
      x = block(x)
    return x

  def features(self, trunk: jax.Array) -> jax.Array:
    """The last convolution and a mean over positions, `[batch, features]`."""
    return nn.relu6(self.last_norm(self.last(trunk))).mean((1, 2))

  def logits(self, features: jax.Array) -> jax.Array:
    """The classifier, `[batch, num_classes]`."""
    return self.head(features)


class _Block(nn.Module):
  """Widens the channels, convolves each by itself, and narrows them."""

  kernel: int
  stride: int
  expand: int
  features: int

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    width, x = inputs.shape[-1] * self.expand, inputs
    if self.expand != 1:
      x = nn.Dense(width, use_bias=False, name='expand_conv')(x)
      x = nn.relu6(_norm('expand_norm')(x))
    shape = (self.kernel, self.kernel, 1, width)
    kernel = self.param('depthwise', nn.initializers.lecun_normal(), shape)
    x = depthwise_same(x, kernel, self.stride)
    x = nn.relu6(_norm('depthwise_norm')(x))
    x = nn.Dense(self.features, use_bias=False, name='project')(x)
    x = _norm('project_norm')(x)
    same = self.stride == 1 and inputs.shape[-1] == self.features
    return x + inputs if same else x


def _norm(name: str | None = None) -> nn.BatchNorm:
  return nn.BatchNorm(use_running_average=True, epsilon=1e-3, name=name)


def depthwise_same(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves each channel by itself, as a sum of shifted products.

  Args:
    x: `[batch, rows, columns, channels]`.
    kernel: `[height, width, 1, channels]`.
    stride: along both axes; with zeros around as in 'SAME'.

  Returns:
    `[batch, rows / stride, columns / stride, channels]`, rounded up.
  """
  height, width = kernel.shape[:2]
  rows, columns = (-(-size // stride) for size in x.shape[1:3])
  vertical = _pads(x.shape[1], height, stride)
  horizontal = _pads(x.shape[2], width, stride)
  x = jnp.pad(x, ((0, 0), vertical, horizontal, (0, 0)))
  down, right = (rows - 1) * stride + 1, (columns - 1) * stride + 1
  parts = [
    x[:, i : i + down : stride, j : j + right : stride]
    * kernel[i, j][None, None]
    for i in range(height)
    for j in range(width)
  ]
  return sum(parts[1:], parts[0])


def _pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
  """Zeros before and after one axis; an odd one goes after."""
  total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
  return total // 2, total - total // 2
