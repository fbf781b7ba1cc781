"""The analytic head: ridge regression on labels, learned and unlearned."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.models import _streaming
from lrcl.models._streaming import Rows, StreamingHead, matmul


class RidgeState(NamedTuple):
  """What `analytic_ridge` keeps.

  Attributes:
    gram: sum of the outer products of the rows, `[features, features]`.
    cross: sum of the rows of each class, `[classes, features]`.
    counts: of their weights, `[classes]`.
  """

  gram: jax.Array
  cross: jax.Array
  counts: jax.Array


def analytic_ridge(
  num_features: int,
  num_classes: int,
  ridge: float | jax.Array = 0.1,
  *,
  dtype: Any = None,
) -> StreamingHead:
  r"""Ridge regression on one-hot labels, in one pass (G-ACIL, ACU).

  The kernel is :math:`W = (X^T X + \gamma I)^{-1} X^T Y` over all rows so far,
  as if they had come at once: in any order, in batches of any size, old and
  new classes mixed. `unlearn` gives the W of the rows that remain. There is no
  bias: append a 1 to the features for one.

  The papers keep the inverse :math:`R = (X^T X + \gamma I)^{-1}` and update it
  by Woodbury's identity. Here the sums :math:`X^T X` and :math:`X^T Y` are
  kept and solved at readout, which is the same W:

  - A sum has no history. The recursion feeds its own rounding back, R loses
    its positive definiteness in float32, and taking out rows that never came
    meets a singular matrix on the way.
  - Learning is addition and unlearning subtraction; states of several devices
    are added up.
  - Per row it costs `features**2`, as the recursion does, but no inverse of
    the size of the batch. A readout costs `features**3` (a Cholesky), so solve
    once per evaluation and not per row. Who needs W after every row is better
    served by the recursion.

  The method as published feeds it `relu(features @ projection)` with a random
  projection to thousands of features.

  Args:
    num_features: length of a row.
    num_classes: number of classes there is room for (see `grow_classes`).
    ridge: gamma, above 0; may be traced. It belongs to the readout, not to
      the state: one state serves every gamma.
    dtype: of the state; None means float64 where it is enabled, or float32.
      The relative error of W is about the rounding of the dtype (6e-8, 1e-16)
      times the condition number of the matrix. In float32, keep gamma above
      1e-6 times its largest eigenvalue; otherwise the Cholesky may even meet
      a negative pivot and give NaN.

  Returns:
    A `StreamingHead` with `RidgeState`. To `unlearn` rows that never came is
    not noticed as long as the matrix stays positive definite.

  Raises:
    ValueError: if a number is below 1, `ridge` is not above 0 or, when rows
      come, shapes do not fit.

  Example:
    >>> head = analytic_ridge(num_features=2, num_classes=2, ridge=3.0)
    >>> state = head.update(head.init(), jnp.eye(2), jnp.array([0, 1]))
    >>> print(head.readout(state)['kernel'])
    [[0.25 0.  ]
     [0.   0.25]]
    >>> state = head.unlearn(state, jnp.eye(2)[:1], jnp.array([0]))
    >>> head.predict(state, jnp.eye(2)).tolist()
    [1, 1]

  References:
    Zhuang et al., `G-ACIL: analytic learning for exemplar-free generalized
    class incremental learning <https://arxiv.org/abs/2403.15706>`_, 2024

    Tang et al., `ACU: analytic continual unlearning for efficient and exact
    forgetting <https://arxiv.org/abs/2505.12239>`_, 2025; its update is
    derived here from the sums, no code having been found

    Code: https://github.com/ZHUANGHP/Analytic-continual-learning
  """
  _streaming.check_sizes('analytic_ridge', num_features, num_classes)
  base.check_value('analytic_ridge', 'ridge', ridge, above=0)

  def init() -> RidgeState:
    kind = _streaming.default_dtype(dtype)
    gram = jnp.zeros([num_features, num_features], kind)
    cross = jnp.zeros([num_classes, num_features], kind)
    return RidgeState(gram, cross, jnp.zeros([num_classes], kind))

  def learn(state: RidgeState, rows: Rows, sign: float) -> RidgeState:
    weighted = rows.features * rows.weight[:, None]
    return RidgeState(
      state.gram + sign * matmul(weighted.T, rows.features),
      state.cross + sign * matmul(rows.targets.T, rows.features),
      state.counts + sign * jnp.sum(rows.targets, axis=0),
    )

  def readout(state: RidgeState) -> dict[str, jax.Array]:
    eye = jnp.eye(num_features, dtype=state.gram.dtype)
    gamma = jnp.asarray(ridge, eye.dtype)
    factor = jax.scipy.linalg.cho_factor(state.gram + gamma * eye)
    # What unlearning leaves of a class is rounding, not a kernel.
    cross = jnp.where(state.counts[:, None] > 0, state.cross, 0)
    kernel = jax.scipy.linalg.cho_solve(factor, cross.T)
    bias = jnp.zeros_like(state.counts)
    bias = _streaming.unseen_bias(bias, state.counts)
    return {'kernel': kernel, 'bias': bias}

  return _streaming.make_head('analytic_ridge', init, learn, readout)
