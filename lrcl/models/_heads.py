"""Heads of directions: logits from the angle between features and classes."""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp


class CosineHead(nn.Module):
  r"""Logits :math:`s \cos(w_c, h)`: neither norm matters.

  The norms of classes that come late cannot outgrow those of early ones, which
  is where a linear head trained in sequence leans to the newest classes. There
  is no bias. A row of zeros has logits 0, and a finite gradient.

  Attributes:
    num_classes: width of the output.
    scale: s; cosines alone are too small for a softmax to become sure.
    dtype: of the inputs' and the kernel's product, such as `jnp.bfloat16`;
      None means float32. Norms are computed in float32.

  Example:
    >>> head = CosineHead(num_classes=2, scale=1.0)
    >>> params = {'kernel': jnp.array([[2.0, 0.0], [0.0, 5.0]])}
    >>> print(head.apply({'params': params}, jnp.array([[3.0, 4.0]])))
    [[0.6 0.8]]

  References:
    Hou et al., `Learning a unified classifier incrementally via rebalancing
    <https://doi.org/10.1109/CVPR.2019.00092>`_, 2019
  """

  num_classes: int
  scale: float = 10.0
  dtype: Any = None

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Maps features `[..., features]` to logits `[..., classes]`, float32."""
    kernel = _kernel(self, features.shape[-1])
    unit = _unit(features, -1), _unit(kernel, 0)
    return self.scale * _product(*unit, self.dtype)


class CosineDotHead(nn.Module):
  r"""Both factors of a linear head: dot products, and cosines.

  The dot product :math:`w_c^T h = \lVert w_c \rVert \lVert h \rVert \cos` is
  the logit of a linear head without bias; its cosine is what is left without
  the norms. `lrcl.losses.uer` trains current rows on the one and rows of a
  memory on the other.

  Attributes:
    num_classes: width of the output.
    dtype: of the products, such as `jnp.bfloat16`; None means float32. Norms
      are computed in float32.

  Example:
    >>> head = CosineDotHead(num_classes=2)
    >>> params = {'kernel': jnp.array([[2.0, 0.0], [0.0, 5.0]])}
    >>> print(head.apply({'params': params}, jnp.array([[3.0, 4.0]])))
    [[[ 6.  20. ]
      [ 0.6  0.8]]]

  References:
    Lin et al., `UER: a heuristic bias addressing approach for online continual
    learning <https://arxiv.org/abs/2309.04081>`_, 2023
  """

  num_classes: int
  dtype: Any = None

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Maps `[batch, features]` to `[batch, 2, classes]`, float32."""
    kernel = _kernel(self, features.shape[-1])
    dot = _product(features, kernel, self.dtype)
    cosine = _product(_unit(features, -1), _unit(kernel, 0), self.dtype)
    return jnp.stack([dot, cosine], axis=-2)


def _kernel(module: Any, fan_in: int) -> jax.Array:
  """The parameter `kernel` of an `nn.Dense`."""
  shape = (fan_in, module.num_classes)
  return module.param('kernel', nn.initializers.lecun_normal(), shape)


def _product(a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
  dtype = dtype or jnp.float32
  return (a.astype(dtype) @ b.astype(dtype)).astype(jnp.float32)


def _unit(x: jax.Array, axis: int) -> jax.Array:
  """`x` over its norm, which is never taken to be below 1e-6; in float32."""
  wide = x.astype(jnp.float32)
  square = jnp.sum(jnp.square(wide), axis, keepdims=True)
  return wide * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
