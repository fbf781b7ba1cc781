"""Averages of the points that a run goes through, and what reads them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _quadratic


class ParamsAverageState(NamedTuple):
  """State of `params_ema` and `params_mean`.

  Attributes:
    average: a float32 tree like the parameters; `optax.MaskedNode` where masked
      out. It holds every point but the newest, which no link has seen yet.
    weight: float32 scalar, what the newest point will weigh in the average; 0
      if it is not to be counted.
    count: int32 scalar, the updates since the start.
  """

  average: base.Params
  weight: jax.Array
  count: jax.Array

  def averaged(self, params: base.Params) -> base.Params:
    """The average with the newest point, `params`, in it; float32."""
    params = tree.mask_like(params, self.average)
    mix = lambda new, old: blend(new, old, self.weight)
    return jax.tree.map(mix, params, self.average)

  def restarted(self, params: base.Params) -> 'ParamsAverageState':
    """The state of a run that starts at `params`."""
    params = tree.mask_like(params, self.average)
    none = jnp.zeros_like(self.weight)
    count = jnp.zeros_like(self.count)
    return ParamsAverageState(_quadratic.wide_copy(params), none, count)


def params_ema(
  decay: Any, *, every: int = 1, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Keeps an exponential moving average of the parameters.

  :math:`\theta^*_n = \beta \theta^*_{n-1} + (1 - \beta) \theta_n` with
  :math:`\theta^*_0 = \theta_0`, the point at `init`. `optax.ema` averages
  updates, `optax.incremental_update` is one blend of two trees; this link is
  that blend at every step, with its average in the optimizer's state, where
  checkpoints find it. Updates pass unchanged.

  Place in the chain: anywhere; `with_memory` and `accumulate` go around it. An
  update is given the parameters before it, so the state lags behind by one
  point; `averaged_params` counts that one in. Cost: one float32 copy, one pass.

  Args:
    decay: the factor :math:`\beta`, from 0 to 1; may be traced.
    every: only the points after every `every`-th update are counted.
    mask: which leaves are averaged: None for all, a tree of bools, or a
      function such as `lrcl.tree.path_mask('kernel$')`. The others cost
      nothing.

  Returns:
    A transformation with the state `ParamsAverageState`. It needs `params`.

  Raises:
    ValueError: if `decay` is out of range, `every` is less than 1, or the mask
      selects nothing.

  Example:
    >>> tx = optax.chain(optax.sgd(1.0), params_ema(0.75))
    >>> params = jnp.array([4.0])
    >>> updates, state = tx.update(jnp.array([4.0]), tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
    >>> print(params, averaged_params(state, params))
    [0.] [3.]

  References:
    Polyak and Juditsky, `Acceleration of stochastic approximation by averaging
    <https://epubs.siam.org/doi/10.1137/0330046>`_, 1992 (averages of points)
  """
  base.check_value('params_ema', 'decay', decay, minimum=0, maximum=1)
  every = base.check_steps('params_ema', 'every', every, 1)

  def weigh(count: jax.Array) -> jax.Array:
    return jnp.where(count % every == 0, 1.0 - jnp.float32(decay), 0.0)

  return _average('params_ema', weigh, mask)


def params_mean(
  *, every: int = 1, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Keeps the mean of the parameters, all points weighing the same.

  The points are those after every `every`-th update since `init`, or since
  `start_from_average`; the starting point is not among them. Until there is one
  the average is the starting point.

  Place in the chain and cost: as those of `params_ema`.

  Args:
    every: only the points after every `every`-th update are counted.
    mask: which leaves are averaged, see `params_ema`.

  Returns:
    A transformation with the state `ParamsAverageState`. It needs `params`.

  Raises:
    ValueError: if `every` is less than 1 or the mask selects nothing.

  Example:
    >>> tx = optax.chain(optax.sgd(1.0), params_mean())
    >>> params = jnp.array([4.0])
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...   updates, state = tx.update(jnp.array([1.0]), state, params)
    ...   params = optax.apply_updates(params, updates)
    >>> print(params, averaged_params(state, params))
    [2.] [2.5]

  References:
    Polyak and Juditsky, `Acceleration of stochastic approximation by averaging
    <https://epubs.siam.org/doi/10.1137/0330046>`_, 1992
  """
  every = base.check_steps('params_mean', 'every', every, 1)

  def weigh(count: jax.Array) -> jax.Array:
    points = jnp.maximum(count // every, 1).astype(jnp.float32)
    return jnp.where(count % every == 0, 1.0 / points, 0.0)

  return _average('params_mean', weigh, mask)


def averaged_params(opt_state: Any, params: base.Params) -> base.Params:
  """Reads the averaged parameters out of an optimizer's state.

  It is what `training.Learner.eval_params` wants:
  `lambda state, task: averaged_params(state.opt_state, state.params)`.

  Args:
    opt_state: the state of a chain with `params_ema`, `params_mean`,
      `params_window` or `dynamic_ema`, under any wrapper; of several links the
      first in tree order is read. A stack of seeds needs `vmap`.
    params: the current parameters: the newest point, which is counted in, and
      the values of leaves that are masked out.

  Returns:
    A tree like `params`, in its dtypes.

  Raises:
    ValueError: if no link of the chain averages.

  Example:
    >>> tx = params_ema(0.5)
    >>> print(averaged_params(tx.init(jnp.ones(2)), jnp.ones(2)))
    [1. 1.]

  References:
    Polyak and Juditsky, `Acceleration of stochastic approximation by averaging
    <https://epubs.siam.org/doi/10.1137/0330046>`_, 1992
  """
  averages = jax.tree.leaves(opt_state, is_leaf=_is_average)
  averages = [node for node in averages if _is_average(node)]
  if not averages:
    raise ValueError(
      'averaged_params: no link of the chain averages; put params_ema, '
      'params_mean, params_window or dynamic_ema into it.'
    )
  average = averages[0].averaged(params)
  pick = lambda a, p: p if tree.is_masked(a) else a.astype(p.dtype)
  return jax.tree.map(pick, average, params, is_leaf=tree.is_masked)


def start_from_average(state: Any, task_data: Any, key: Any) -> Any:
  """Lets the next task start from the average: a `Learner.on_task_end`.

  The parameters become the average, and every average starts anew from there.
  All else in the state stays: moments that should not be carried over are
  another matter.

  Args:
    state: a `TrainState`, or any NamedTuple with `params` and `opt_state`.
    task_data: unused.
    key: unused.

  Returns:
    The state at the average.

  Raises:
    ValueError: if no link of the chain averages.

  Example:
    >>> from lrcl import training
    >>> tx = params_mean()
    >>> learner = training.Learner(
    ...   tx, lambda p, x, **_: (x @ p, ()), on_task_end=start_from_average
    ... )

  References:
    Qiao et al., `Large continual instruction assistant
    <https://arxiv.org/abs/2410.10868>`_, 2025
  """
  del task_data, key
  params = averaged_params(state.opt_state, state.params)
  visit = lambda node: node.restarted(params) if _is_average(node) else node
  opt_state = jax.tree.map(visit, state.opt_state, is_leaf=_is_average)
  return state._replace(params=params, opt_state=opt_state)


def blend(new: Any, old: jax.Array, weight: jax.Array) -> jax.Array:
  """`weight * new + (1 - weight) * old` in float32; `old` where it is 0."""
  mixed: Any = optax.incremental_update(_quadratic.wide(new), old, weight)
  return jnp.where(weight > 0, mixed, old)


def _average(
  where: str, weigh: Any, mask: Any
) -> optax.GradientTransformationExtraArgs:
  """A link that gives the point after update `n` the weight `weigh(n)`."""

  def init_fn(params: base.Params) -> ParamsAverageState:
    start = _quadratic.wide_copy(_quadratic.select(params, mask, where))
    return ParamsAverageState(start, jnp.float32(0.0), jnp.int32(0))

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    _quadratic.check_params(params, where)
    count = jnp.asarray(optax.safe_increment(state.count))
    average, weight = state.averaged(params), weigh(count)
    return updates, ParamsAverageState(average, weight, count)

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _is_average(node: Any) -> bool:
  named_tuple = isinstance(node, tuple) and hasattr(node, '_fields')
  return named_tuple and callable(getattr(node, 'averaged', None))
