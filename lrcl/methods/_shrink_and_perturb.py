"""Shrink and perturb: smaller weights, and some of them drawn anew."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _boundary

_WHERE = 'shrink_and_perturb'


class ShrinkAndPerturbState(NamedTuple):
  """State of `shrink_and_perturb`.

  Attributes:
    count: int32 scalar, the updates so far.
    task_id: int32 scalar, the task of the last update; -1 before the first,
      and always where tasks do not matter.
    key: of the draws to come.
  """

  count: jax.Array
  task_id: jax.Array
  key: jax.Array


def shrink_and_perturb(
  shrink: Any,
  scale: Any,
  *,
  every: int | Literal['task'] = 'task',
  init_fn: Callable[[jax.Array], base.Params] | None = None,
  mask: Any = None,
  seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
  r"""Shrinks the parameters and adds noise, so that they stay trainable.

  Where an update is due, parameters that would end at :math:`\theta` end at
  :math:`\lambda \theta + \sigma p` instead, with :math:`\lambda` = `shrink`,
  :math:`\sigma` = `scale` and a draw :math:`p`: standard normal numbers, or,
  with `init_fn`, another initialisation of the network, for which
  `scale = 1 - shrink` is usual. Forms in the literature:

  * at each task `shrink_and_perturb(0.6, 0.01)` (the paper's numbers, from
    memory and not confirmed; 1 - shrink of a fresh initialisation is its other
    form);
  * at each step `every=1`, with `shrink` a little below 1 (0.999999 and
    `init_fn` in Plasticine's code, weight decay and normal noise in that of
    continual backpropagation's authors).

  With `every='task'` it is due at the first update of a task but the first
  one. That update is taken, and then the point is moved: the gradient of one
  batch of the new task was formed before. Moments of a task that is over fit
  the moved point badly, so the optimizer is made new as well:
  `chain(reset_on_task(optax.scale_by_adam()), scale_by_schedule_value(rate),
  shrink_and_perturb(0.6, 0.01))`.

  Place in the chain: after the rate, before `normalize_and_project`, which
  takes the shrinking of its leaves back. Outside `optax.MultiSteps` and
  `accumulate` their empty steps would count: put it inside. Cost: where it is
  due, one draw per parameter and a pass; at other steps nothing. The sum is
  formed in float32.

  Args:
    shrink: what parameters are multiplied by, in [0, 1]; may be traced.
    scale: what draws are multiplied by, at least 0; may be traced.
    every: `'task'`, or a number n for every n-th update whatever the task.
    init_fn: `init_fn(key) -> params`, a tree as that of the parameters, of
      which the masked leaves are not used; None for normal numbers.
    mask: which leaves it acts on: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`.
    seed: of the draws. For replicas put a key into each state.

  Returns:
    A transformation with the state `ShrinkAndPerturbState`. It needs `params`,
    and with `every='task'` the extra arg `task_id`. Updates keep their dtype.

  Raises:
    ValueError: if a number is out of range, `params` is missing, the mask
      selects nothing, or `init_fn` gives other shapes.

  Example:
    >>> tx = shrink_and_perturb(0.5, 0.0)
    >>> params = jnp.array([4.0])
    >>> state = tx.init(params)
    >>> for task in (0, 1):
    ...   updates, state = tx.update(jnp.ones(1), state, params, task_id=task)
    ...   print(params + updates)
    [5.]
    [2.5]

  References:
    Ash and Adams, `On warm-starting neural network training
    <https://arxiv.org/abs/1910.08475>`_, 2020

    Dohare et al., `Loss of plasticity in deep continual learning
    <https://doi.org/10.1038/s41586-024-07711-7>`_, 2024 (at each step)
  """
  base.check_value(_WHERE, 'shrink', shrink, minimum=0, maximum=1)
  base.check_value(_WHERE, 'scale', scale, minimum=0)
  if every != 'task':
    every = base.check_steps(_WHERE, 'every', every, minimum=1)

  def init(params: base.Params) -> ShrinkAndPerturbState:
    tree.resolve_mask(mask, params, _WHERE)
    count = jnp.zeros([], jnp.int32)
    return ShrinkAndPerturbState(
      count, _boundary.no_task(), jax.random.key(seed)
    )

  def act(updates, params, key):
    draws = _draw(key, params, init_fn)
    keep = tree.resolve_mask(mask, params, _WHERE)
    move = lambda k, u, p, d: _move(u, p, d, shrink, scale) if k else u
    return jax.tree.map(move, keep, updates, params, draws)

  def apply(due, updates, state, params, task_id):
    key, draw_key = jax.random.split(state.key)
    if every == 1:
      updates = act(updates, params, draw_key)
    else:
      updates = _boundary.run_if(due, act, updates, params, draw_key)
    key = jax.lax.select(due, key, state.key)
    count = jnp.asarray(optax.safe_increment(state.count))
    return updates, ShrinkAndPerturbState(count, task_id, key)

  def task_update(updates, state, params=None, *, task_id, **extra_args):
    del extra_args
    _check_params(params)
    due = _boundary.begins(task_id, state.task_id)
    task_id = jnp.asarray(task_id, jnp.int32)
    return apply(due, updates, state, params, task_id)

  def step_update(updates, state, params=None, **extra_args):
    del extra_args
    _check_params(params)
    due = (state.count + 1) % every == 0
    return apply(due, updates, state, params, state.task_id)

  update: Any = task_update if every == 'task' else step_update
  return optax.GradientTransformationExtraArgs(init, update)


def _draw(key: jax.Array, params: Any, init_fn: Any) -> Any:
  """What is added, before it is scaled, leaf by leaf."""
  if init_fn is None:
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    draws = [
      jax.random.normal(k, p.shape, jnp.float32)
      for k, p in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, draws)
  fresh = init_fn(key)
  shapes = lambda t: [x.shape for x in jax.tree.leaves(t)]
  same = jax.tree.structure(fresh) == jax.tree.structure(params)
  if not same or shapes(fresh) != shapes(params):
    raise ValueError(
      f'{_WHERE}: init_fn gives another tree than the parameters, or other '
      'shapes; it must be init_fn(key) -> params.'
    )
  return fresh


def _move(update: Any, param: Any, draw: Any, shrink: Any, scale: Any) -> Any:
  """The update that ends at the moved point."""
  wide = lambda x: jnp.asarray(x, jnp.float32)
  end = wide(shrink) * (wide(param) + wide(update)) + wide(scale) * wide(draw)
  return (end - wide(param)).astype(update.dtype)


def _check_params(params: Any) -> None:
  if params is None:
    raise ValueError(
      f'{_WHERE}: params is None; call update(updates, state, params).'
    )
