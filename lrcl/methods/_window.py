"""A window of past points, and their merge in place of a decay."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import base, tree
from lrcl.methods import _boundary, _quadratic

_WHERE = 'params_window'


class ParamsWindowState(NamedTuple):
  """State of `params_window`.

  Attributes:
    points: a float32 tree like the parameters with a leading axis `window`, a
      ring of points; `optax.MaskedNode` where masked out.
    weights: float32 `[window]`, as given to the link, the oldest point's first.
    due: bool scalar, whether the newest point is to go into the ring.
    stored: int32 scalar, how many points have gone in.
    count: int32 scalar, the updates since the start.
  """

  points: base.Params
  weights: jax.Array
  due: jax.Array
  stored: jax.Array
  count: jax.Array

  def averaged(self, params: base.Params) -> base.Params:
    """The merge with the newest point, if it is due; float32.

    It is `params` itself as long as there are no points.
    """
    params = tree.mask_like(params, self.points)
    full = self.insert(params)
    window = full.weights.shape[0]
    age = (full.stored - 1 - jnp.arange(window)) % window
    share = jnp.where(age < full.stored, full.weights[window - 1 - age], 0.0)
    total = jnp.sum(share)
    share = share / jnp.where(total > 0, total, 1.0)
    merge = lambda points, p: jnp.where(
      total > 0, jnp.tensordot(share, points, 1), _quadratic.wide(p)
    )
    return jax.tree.map(merge, full.points, params)

  def insert(self, params: base.Params) -> 'ParamsWindowState':
    """Puts the newest point into the ring, if it is due."""
    slot = self.stored % self.weights.shape[0]
    put = lambda points, params: jax.tree.map(
      lambda ring, p: ring.at[slot].set(_quadratic.wide(p)), points, params
    )
    points = _boundary.run_if(self.due, put, self.points, params)
    return self._replace(
      points=points,
      due=jnp.zeros_like(self.due),
      stored=self.stored + self.due.astype(jnp.int32),
    )

  def restarted(self, params: base.Params) -> 'ParamsWindowState':
    """The state of a run that starts at `params`: no points."""
    del params
    none = jnp.zeros_like(self.count)
    return self._replace(due=jnp.zeros_like(self.due), stored=none, count=none)


def params_window(
  window: int,
  *,
  every: int = 1,
  weights: Sequence[float] | None = None,
  mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
  """Keeps the last points of a run and merges them (LAWA, WSM).

  The points are those after every `every`-th update. With equal weights their
  mean is the latest weight average; with those of `merge_weights` it stands for
  a decay of the learning rate that was never run. While there are fewer points
  than `window`, the newest ones share in proportion to their weights; while
  there are none, `averaged_params` gives the current parameters.

  Place in the chain: as `params_ema`; updates pass unchanged. Cost: `window`
  float32 copies in the state; a step costs a pass when it stores a point and
  nothing else. The merge is made by `averaged_params`.

  Args:
    window: how many points are kept.
    every: steps between them.
    weights: `[window]`, the oldest point's first, none below 0 and not all 0;
      only their proportions matter. None for equal ones.
    mask: which leaves are averaged, see `params_ema`.

  Returns:
    A transformation with the state `ParamsWindowState`. It needs `params`.

  Raises:
    ValueError: if `window` or `every` is less than 1, the weights do not fit,
      or the mask selects nothing.

  Example:
    >>> from lrcl import methods
    >>> tx = optax.chain(optax.sgd(1.0), params_window(2, weights=[1, 3]))
    >>> params = jnp.array([8.0])
    >>> state = tx.init(params)
    >>> for _ in range(3):  # the last two points are 6 and 5
    ...   updates, state = tx.update(jnp.array([1.0]), state, params)
    ...   params = optax.apply_updates(params, updates)
    >>> print(methods.averaged_params(state, params))
    [5.25]

  References:
    Kaddour, `Stop wasting my time! Saving days of ImageNet and BERT training
    with latest weight averaging <https://arxiv.org/abs/2209.14981>`_, 2022

    Tian et al., `WSM: decay-free learning rate schedule via checkpoint merging
    for LLM pre-training <https://arxiv.org/abs/2507.17634>`_, 2025
  """
  window = base.check_steps(_WHERE, 'window', window, 1)
  every = base.check_steps(_WHERE, 'every', every, 1)
  shares = _check_weights([1.0] * window if weights is None else weights)
  if shares.size != window:
    raise ValueError(
      f'{_WHERE}: weights has {shares.size} entries; it must have window = '
      f'{window} of them.'
    )

  def init_fn(params: base.Params) -> ParamsWindowState:
    selected = _quadratic.select(params, mask, _WHERE)
    empty = lambda p: jnp.zeros((window, *p.shape), jnp.float32)
    return ParamsWindowState(
      points=jax.tree.map(empty, selected),
      weights=jnp.asarray(shares, jnp.float32),
      due=jnp.zeros([], bool),
      stored=jnp.int32(0),
      count=jnp.int32(0),
    )

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    _quadratic.check_params(params, _WHERE)
    state = state.insert(tree.mask_like(params, state.points))
    count = jnp.asarray(optax.safe_increment(state.count))
    return updates, state._replace(due=count % every == 0, count=count)

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def merge_weights(factors: Sequence[float]) -> np.ndarray:
  r"""Weights of checkpoints whose merge is what decayed steps would give.

  Let a decay multiply the last :math:`n` updates by :math:`w_1 \ge \ldots \ge
  w_n`. Its end is :math:`\sum_j c_j \theta_j` over the :math:`n + 1` points
  of the run without decay, with :math:`c_0 = 1 - w_1`, :math:`c_j = w_j -
  w_{j+1}` and :math:`c_n = w_n`. It is exact only where the updates would have
  been the same, that is for gradients along the undecayed path; a decay that
  was run sees others.

  Args:
    factors: `w_1 .. w_n`, from 1 down to 0, none larger than the one before.
      Points that lie `every` steps apart take the factors at those steps.

  Returns:
    float64 `[n + 1]`, the oldest point's first; their sum is 1.

  Raises:
    ValueError: if there are no factors, or they rise or leave [0, 1].

  Example:
    >>> merge_weights([0.75, 0.5, 0.25]).tolist()
    [0.25, 0.25, 0.25, 0.25]
    >>> merge_weights([1.0, 0.5]).tolist()
    [0.0, 0.5, 0.5]

  References:
    Tian et al., `WSM: decay-free learning rate schedule via checkpoint merging
    for LLM pre-training <https://arxiv.org/abs/2507.17634>`_, 2025. The weights
    are derived here and not taken from the paper.
  """
  ends = np.concatenate([[1.0], np.asarray(factors, np.float64), [0.0]])
  steps = ends[:-1] - ends[1:]
  if ends.size < 3 or not bool(np.all(steps >= 0)):
    raise ValueError(
      f'merge_weights: factors is {factors!r}; it must be a sequence that '
      'falls from 1 to 0.'
    )
  return steps


def _check_weights(weights: Sequence[float]) -> np.ndarray:
  shares = np.asarray(weights, np.float64)
  good = shares.ndim == 1 and bool(np.all(np.isfinite(shares) & (shares >= 0)))
  if not good or not shares.sum() > 0:
    raise ValueError(
      f'{_WHERE}: weights is {weights!r}; it must be a sequence of numbers '
      '>= 0 that are not all 0.'
    )
  return shares
