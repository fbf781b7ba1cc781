"""How many directions features span: three answers from singular values."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base


def effective_rank(features: jax.typing.ArrayLike) -> jax.Array:
  r"""The exponential of the entropy of the normalised singular values.

  With :math:`p_i = \sigma_i / \sum_j \sigma_j` it is
  :math:`\exp(-\sum_i p_i \log p_i)`: d where all d directions are equally
  strong, 1 where there is one. A network that loses plasticity maps its inputs
  to fewer and fewer directions. Take more rows than there are units, or the
  number of rows bounds it, and one layer at a time. Cost: a singular value
  decomposition, `O(rows * units * min(rows, units))`.

  Args:
    features: `[..., rows, units]`, such as the outputs of a hidden layer on a
      batch; leading axes are kept. They are not centred.

  Returns:
    `[...]`, float32; 0 where all features are 0.

  Raises:
    ValueError: if there are less than two axes.

  Example:
    >>> f'{effective_rank(jnp.eye(3)):.3f}'
    '3.000'

  References:
    Roy and Vetterli, `The effective rank: a measure of effective
    dimensionality <https://ieeexplore.ieee.org/document/7098875>`_, 2007
  """
  sizes = _singular_values('effective_rank', features)
  total = jnp.sum(sizes, -1, keepdims=True)
  share = sizes / jnp.where(total > 0, total, 1.0)
  some = share > 0
  entropy = -jnp.sum(
    jnp.where(some, share * jnp.log(jnp.where(some, share, 1.0)), 0.0), -1
  )
  return jnp.where(total[..., 0] > 0, jnp.exp(entropy), 0.0)


def stable_rank(features: jax.typing.ArrayLike) -> jax.Array:
  r"""Squared Frobenius norm over squared spectral norm.

  :math:`\sum_i \sigma_i^2 / \max_i \sigma_i^2`, at least 1 and at most the
  rank; small singular values hardly move it. (Plasticine's code calls another
  number by this name: that is `feature_rank`.) Cost as `effective_rank`.

  Args:
    features: `[..., rows, units]`; or a weight matrix.

  Returns:
    `[...]`, float32; 0 where all features are 0.

  Raises:
    ValueError: if there are less than two axes.

  Example:
    >>> f'{stable_rank(jnp.diag(jnp.array([2.0, 1.0, 1.0]))):.3f}'
    '1.500'

  References:
    Rudelson and Vershynin, `Sampling from large matrices: an approach through
    geometric functional analysis <https://arxiv.org/abs/math/0503442>`_, 2007
  """
  sizes = _singular_values('stable_rank', features)
  largest = jnp.max(sizes, -1)
  scaled = sizes / jnp.where(largest > 0, largest, 1.0)[..., None]
  return jnp.sum(jnp.square(scaled), -1)


def feature_rank(
  features: jax.typing.ArrayLike, delta: Any = 0.01
) -> jax.Array:
  r"""How many singular values make up all of their sum but a share `delta`.

  The least k with
  :math:`\sum_{i \le k} \sigma_i \ge (1 - \delta) \sum_i \sigma_i` (srank).
  Cost as `effective_rank`.

  Args:
    features: `[..., rows, units]`.
    delta: the share that may be missing, in [0, 1); may be traced.

  Returns:
    `[...]`, int32; 0 where all features are 0.

  Raises:
    ValueError: if there are less than two axes or `delta` is out of range.

  Example:
    >>> print(feature_rank(jnp.diag(jnp.array([50.0, 49.5, 0.5]))))
    2

  References:
    Kumar et al., `Implicit under-parameterization inhibits data-efficient deep
    reinforcement learning <https://arxiv.org/abs/2010.14498>`_, 2021
  """
  base.check_value('feature_rank', 'delta', delta, minimum=0, maximum=1 - 1e-6)
  sizes = _singular_values('feature_rank', features)
  # From the small end, where sums lose nothing: what is missing beyond k.
  missing = jnp.flip(jnp.cumsum(jnp.flip(sizes, -1), -1), -1)
  allowed = jnp.asarray(delta, jnp.float32) * missing[..., :1]
  return jnp.sum(missing > allowed, -1, dtype=jnp.int32)


def _singular_values(where: str, features: Any) -> jax.Array:
  """In descending order, float32."""
  array = jnp.asarray(features, jnp.float32)
  if array.ndim < 2:
    raise ValueError(
      f'{where}: features has shape {array.shape}; it must be [..., rows, '
      'units].'
    )
  return jnp.linalg.svd(array, compute_uv=False)
