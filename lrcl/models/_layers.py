"""The layers of the networks: dense, convolution, pooling, normalisation."""

from collections.abc import Callable
import math
from typing import Any, Literal

from flax import linen as nn
import jax
import jax.numpy as jnp

Initializer = Literal['lecun', 'uniform']
Activation = Callable[[jax.Array], jax.Array]


def dense(
  features: int,
  *,
  fan_in: int,
  use_bias: bool = True,
  initializer: Initializer = 'lecun',
  dtype: Any = None,
  name: str | None = None,
) -> nn.Dense:
  """An `nn.Dense` with one of two initialisations.

  Args:
    features: outputs.
    fan_in: inputs; sets the bound of the uniform initialisation.
    use_bias: whether to add a bias.
    initializer: `lecun` is flax's own (normal kernel of variance `1/fan_in`,
      zero bias); `uniform` draws kernel and bias from `+-1/sqrt(fan_in)`.
    dtype: of the computation; None means that of inputs and parameters.
    name: of the layer in the tree.

  Raises:
    ValueError: if `initializer` is neither.
  """
  if initializer not in ('lecun', 'uniform'):
    raise ValueError(
      f"dense: initializer is {initializer!r}; use 'lecun' or 'uniform'."
    )
  if initializer == 'lecun':
    return nn.Dense(features, use_bias, dtype=dtype, name=name)
  draw = _symmetric_uniform(1.0 / math.sqrt(fan_in))
  return nn.Dense(
    features, use_bias, dtype=dtype, kernel_init=draw, bias_init=draw, name=name
  )


def _symmetric_uniform(bound: float) -> Any:
  """An initialiser: uniform between `-bound` and `bound`."""

  def init_fn(key, shape, dtype=jnp.float32, out_sharding=None):
    del out_sharding
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init_fn


def standardize(x: jax.Array, axes: int | tuple[int, ...] = -1) -> jax.Array:
  """Layer normalisation without scale and offset, computed in float32.

  Args:
    x: features, any dtype.
    axes: what is normalised together.

  Returns:
    `x` with mean 0 and variance 1 over `axes`, in its own dtype. Doubling `x`
    changes nothing: a kernel before it has no scale.

  Example:
    >>> print(standardize(jnp.array([1.0, 3.0])).round(3))
    [-1.  1.]

  References:
    Ba et al., `Layer normalization <https://arxiv.org/abs/1607.06450>`_, 2016
  """
  wide = x.astype(jnp.float32)
  centered = wide - jnp.mean(wide, axes, keepdims=True)
  variance = jnp.mean(jnp.square(centered), axes, keepdims=True)
  return (centered * jax.lax.rsqrt(variance + 1e-6)).astype(x.dtype)
