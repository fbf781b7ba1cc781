"""Mean and covariance of the features of each class, gathered in one pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.models import _streaming
from lrcl.models._alignment import ClassGaussians
from lrcl.models._streaming import Rows, matmul


class GaussiansState(NamedTuple):
  """What `class_gaussians` keeps.

  Attributes:
    means: of the features of each class, `[classes, features]`.
    scatters: sums over the rows of a class of the outer product of what they
      differ by from its mean, `[classes, features, features]`.
    counts: of the weights of the rows, `[classes]`.
    tasks: the task a class came with, or -1; int32 `[classes]`.
  """

  means: jax.Array
  scatters: jax.Array
  counts: jax.Array
  tasks: jax.Array


class StreamingGaussians(NamedTuple):
  """Statistics of classes that are gathered batch by batch.

  All functions are pure and may be jitted, scanned and vmapped.

  Attributes:
    init: `init() -> state`, before any row.
    update: `update(state, features, labels, weight=None, *, task_id=0) ->
      state`, with `features[batch, features]`, `labels[batch]`,
      `weight[batch]`. A weight stands for that many copies of a row; rows of
      weight 0 (padding) or with a label outside the classes are left out.
    merge: `merge(state, other) -> state`, of the rows of both, such as those
      of two devices. A class keeps the earlier of its two tasks.
    readout: `readout(state) -> ClassGaussians`, what `align_head` takes. The
      covariance divides by the count less 1, as `numpy.cov` does; that of a
      class of one row is 0.
  """

  init: Callable[[], GaussiansState]
  update: Callable[..., GaussiansState]
  merge: Callable[[GaussiansState, GaussiansState], GaussiansState]
  readout: Callable[[GaussiansState], ClassGaussians]


def class_gaussians(
  num_features: int, num_classes: int, *, dtype: Any = None
) -> StreamingGaussians:
  """Gathers means and covariances of classes for `align_head`, in one pass.

  The result depends on the rows and not on their order or their batches, up to
  rounding. Rows are centered before they are squared and two sets are merged
  by Chan's formula, so that features far from zero lose no digits to it, which
  a sum of squares would.

  When features come from a network that trains on, gather those of a class
  when its task ends, all at once: rows of two moments have no common mean.

  Cost: `batch * classes * features**2` per update; the state is
  `classes * features**2` numbers.

  Args:
    num_features: length of a row.
    num_classes: number of classes there is room for.
    dtype: of the state; None means float64 where it is enabled, or float32.

  Raises:
    ValueError: if a number is below 1 or, when rows come, shapes do not fit.

  Example:
    >>> gaussians = class_gaussians(num_features=1, num_classes=3)
    >>> rows, labels = jnp.array([[1.0], [3.0], [5.0]]), jnp.array([0, 0, 2])
    >>> state = gaussians.update(gaussians.init(), rows, labels, task_id=4)
    >>> means, covariances, tasks = gaussians.readout(state)
    >>> means[:, 0].tolist(), covariances[:, 0, 0].tolist(), tasks.tolist()
    ([2.0, 0.0, 5.0], [2.0, 0.0, 0.0], [4, -1, 4])

  References:
    Chan et al., `Algorithms for computing the sample variance
    <https://doi.org/10.1080/00031305.1983.10483115>`_, 1983

    Zhang et al., `SLCA: slow learner with classifier alignment for continual
    learning on a pre-trained model <https://arxiv.org/abs/2303.05118>`_, 2023
  """
  where = 'class_gaussians'
  _streaming.check_sizes(where, num_features, num_classes)

  def init() -> GaussiansState:
    kind = _streaming.default_dtype(dtype)
    return GaussiansState(
      jnp.zeros([num_classes, num_features], kind),
      jnp.zeros([num_classes, num_features, num_features], kind),
      jnp.zeros([num_classes], kind),
      jnp.full([num_classes], -1, jnp.int32),
    )

  def update(
    state, features, labels, weight=None, *, task_id: int | jax.Array = 0
  ) -> GaussiansState:
    rows = _streaming.check_rows(where, state.counts, features, labels, weight)
    return _merge(state, _of_rows(rows, task_id))

  return StreamingGaussians(init, update, _merge, _readout)


def _of_rows(rows: Rows, task_id: Any) -> GaussiansState:
  """The statistics of a batch."""
  counts = jnp.sum(rows.targets, axis=0)
  share = rows.targets / _divisor(counts)[None]
  own = (rows.targets > 0).astype(share.dtype)
  mean_of = lambda x: matmul(share.T, x)
  means = mean_of(rows.features)
  centered = rows.features - matmul(own, means)
  # A mean far from zero is rounded coarsely; what is left of it is small.
  rest = mean_of(centered)
  centered = centered - matmul(own, rest)
  weighted = rows.targets.T[:, :, None] * centered[None]
  scatters = matmul(jnp.swapaxes(weighted, 1, 2), centered[None])
  tasks = jnp.where(counts > 0, jnp.asarray(task_id, jnp.int32), -1)
  return GaussiansState(means + rest, scatters, counts, tasks)


def _merge(state: GaussiansState, other: GaussiansState) -> GaussiansState:
  """Chan's formula, for each class by itself."""
  counts = state.counts + other.counts
  share = (other.counts / _divisor(counts))[:, None]
  gap = other.means - state.means
  between = (state.counts[:, None] * share * gap)[:, :, None] * gap[:, None]
  first = jnp.minimum(state.tasks, other.tasks)
  return GaussiansState(
    state.means + share * gap,
    state.scatters + other.scatters + between,
    counts,
    jnp.where(first < 0, jnp.maximum(state.tasks, other.tasks), first),
  )


def _readout(state: GaussiansState) -> ClassGaussians:
  divisor = jnp.where(state.counts > 1, state.counts - 1, 1)
  covariances = state.scatters / divisor[:, None, None]
  return ClassGaussians(state.means, covariances, state.tasks)


def _divisor(counts: jax.Array) -> jax.Array:
  """`counts`, and 1 where there are none."""
  return jnp.where(counts > 0, counts, 1)
