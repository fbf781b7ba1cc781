"""Heads from the means of classes: nearest mean, and discriminant analysis."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.models import _streaming
from lrcl.models._streaming import Rows, StreamingHead, matmul


class NearestMeanState(NamedTuple):
  """What `nearest_class_mean` keeps.

  Attributes:
    sums: of the features of each class, `[classes, features]`.
    counts: of their weights, `[classes]`.
  """

  sums: jax.Array
  counts: jax.Array


def nearest_class_mean(
  num_features: int, num_classes: int, *, dtype: Any = None
) -> StreamingHead:
  """Classifies by the nearest mean of a class (NCM, NMC).

  On the features of a frozen network this is the baseline to beat: it needs no
  task boundaries and forgets nothing. Cost: `classes * features` per row, for
  update and prediction; state `[classes, features]`.

  Distances are Euclidean. They are compared about the mean of all rows, which
  changes no distance, but loses fewer digits where features are far from zero.

  Args:
    num_features: length of a row.
    num_classes: number of classes there is room for (see `grow_classes`).
    dtype: of the state; None means float64 where it is enabled, or float32.
      In float32 a class of more than 2**24 rows no longer counts.

  Returns:
    A `StreamingHead` with `NearestMeanState`.

  Raises:
    ValueError: if a number is below 1 or, when rows come, shapes do not fit.

  Example:
    >>> head = nearest_class_mean(num_features=1, num_classes=3)
    >>> rows, labels = jnp.array([[0.0], [2.0], [7.0]]), jnp.array([0, 0, 2])
    >>> state = head.update(head.init(), rows, labels)
    >>> head.predict(state, jnp.array([[3.9], [4.1]])).tolist()
    [0, 2]

  References:
    Janson et al., `A simple baseline that questions the use of pretrained
    models in continual learning <https://arxiv.org/abs/2210.04428>`_, 2022

    Code: https://github.com/Pauljanson002/pretrained-cl
  """
  _streaming.check_sizes('nearest_class_mean', num_features, num_classes)

  def init() -> NearestMeanState:
    kind = _streaming.default_dtype(dtype)
    sums = jnp.zeros([num_classes, num_features], kind)
    return NearestMeanState(sums, jnp.zeros([num_classes], kind))

  def learn(state: NearestMeanState, rows: Rows, sign: float) -> Any:
    sums = state.sums + sign * matmul(rows.targets.T, rows.features)
    counts = state.counts + sign * jnp.sum(rows.targets, axis=0)
    return NearestMeanState(sums, counts)

  def readout(state: NearestMeanState) -> dict[str, jax.Array]:
    means = state.sums / _divisor(state.counts)[:, None]
    return _discriminant(means, state.counts, lambda columns: columns)

  return _streaming.make_head('nearest_class_mean', init, learn, readout)


class StreamingLDAState(NamedTuple):
  """What `streaming_lda` keeps.

  Attributes:
    means: of the features of each class, `[classes, features]`.
    counts: of their weights, `[classes]`.
    scatter: sum over all rows of the outer product of what they differ by
      from the mean of their class, `[features, features]`.
  """

  means: jax.Array
  counts: jax.Array
  scatter: jax.Array


def streaming_lda(
  num_features: int,
  num_classes: int,
  shrinkage: float | jax.Array = 1e-4,
  *,
  dtype: Any = None,
) -> StreamingHead:
  r"""Linear discriminant analysis of a stream, exact at any time (SLDA).

  All classes share the covariance :math:`\Sigma = S / n`, with :math:`S` the
  scatter about the class means and n all rows, and are equally likely. Row h
  scores :math:`\mu_c^T \Lambda h - \mu_c^T \Lambda \mu_c / 2` with
  :math:`\Lambda = ((1 - \epsilon) \Sigma + \epsilon I)^{-1}`. Shrinkage
  :math:`\epsilon = 1` is `nearest_class_mean`.

  The published update weighs the outer product of a row by t / (t + 1), t
  being all rows before it, and so depends on their order. Here the statistics
  of two sets are merged exactly, whatever their sizes. Cost: `features**2` per
  row, and `classes * features**2` per batch; `features**3` per readout.

  Args:
    num_features: length of a row.
    num_classes: number of classes there is room for (see `grow_classes`).
    shrinkage: in [0, 1]; may be traced. With 0 the covariance may be singular.
    dtype: of the state; None means float64 where it is enabled, or float32.
      Keep `shrinkage` well above 1e-7 times the largest eigenvalue of the
      covariance in float32: below it, the readout is rounding.

  Returns:
    A `StreamingHead` with `StreamingLDAState`. `unlearn` undoes `update` up to
    rounding.

  Raises:
    ValueError: if a number is below 1, `shrinkage` is outside [0, 1] or, when
      rows come, shapes do not fit.

  Example:
    >>> head = streaming_lda(num_features=2, num_classes=2)
    >>> rows = jnp.array([[0.0, 9.0], [0.0, -9.0], [1.0, 9.0], [1.0, -9.0]])
    >>> state = head.update(head.init(), rows, jnp.array([0, 0, 1, 1]))
    >>> head.predict(state, jnp.array([[0.4, 50.0], [0.6, -50.0]])).tolist()
    [0, 1]

  References:
    Hayes and Kanan, `Lifelong machine learning with deep streaming linear
    discriminant analysis <https://arxiv.org/abs/1909.01520>`_, 2020

    Chan et al., `Algorithms for computing the sample variance
    <https://doi.org/10.1080/00031305.1983.10483115>`_, 1983
  """
  _streaming.check_sizes('streaming_lda', num_features, num_classes)
  base.check_value(
    'streaming_lda', 'shrinkage', shrinkage, minimum=0, maximum=1
  )

  def init() -> StreamingLDAState:
    kind = _streaming.default_dtype(dtype)
    means = jnp.zeros([num_classes, num_features], kind)
    scatter = jnp.zeros([num_features, num_features], kind)
    return StreamingLDAState(means, jnp.zeros([num_classes], kind), scatter)

  def readout(state: StreamingLDAState) -> dict[str, jax.Array]:
    eye = jnp.eye(num_features, dtype=state.scatter.dtype)
    covariance = state.scatter / _divisor(jnp.sum(state.counts))
    epsilon = jnp.asarray(shrinkage, eye.dtype)
    shrunk = (1 - epsilon) * covariance + epsilon * eye
    factor = jax.scipy.linalg.cho_factor(shrunk)
    solve = lambda columns: jax.scipy.linalg.cho_solve(factor, columns)
    return _discriminant(state.means, state.counts, solve)

  return _streaming.make_head('streaming_lda', init, _merge, readout)


def _merge(state: StreamingLDAState, rows: Rows, sign: float) -> Any:
  """Adds the statistics of the rows, or takes them out, by Chan's formula."""
  added = jnp.sum(rows.targets, axis=0)
  means = matmul(rows.targets.T, rows.features) / _divisor(added)[:, None]
  own = (rows.targets > 0).astype(means.dtype)
  centered = rows.features - matmul(own, means)
  within = matmul((centered * rows.weight[:, None]).T, centered)

  counts = state.counts + sign * added
  gap = means - state.means
  share = jnp.where(counts > 0, sign * added / _divisor(counts), 0)[:, None]
  between = matmul((gap * (state.counts[:, None] * share)).T, gap)
  moved = state.means + gap * share
  means = jnp.where(counts[:, None] > 0, moved, 0)
  return StreamingLDAState(
    means, counts, state.scatter + sign * within + between
  )


def _discriminant(means, counts, solve) -> dict[str, jax.Array]:
  """The linear form of `-|h - mean|^2 / 2` in the metric of `solve`."""
  seen = (counts > 0).astype(means.dtype)[:, None]
  total = _divisor(jnp.sum(counts))
  center = jnp.sum(means * (counts / total)[:, None], axis=0, keepdims=True)
  gaps = (means - center) * seen
  kernel = solve(gaps.T)
  bias = -jnp.sum((center + gaps / 2) * kernel.T, axis=1)
  return {'kernel': kernel, 'bias': _streaming.unseen_bias(bias, counts)}


def _divisor(counts: jax.Array) -> jax.Array:
  """`counts`, and 1 where there are none."""
  return jnp.where(counts > 0, counts, 1)
