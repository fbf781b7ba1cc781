"""A task's sparse part of a network: its begin, its steps, its exchanges."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _boundary, _quadratic, _sparse_masks

_DECAY = 0.9  # of the gradients' average, for grow='momentum'


class DropAndGrowState(NamedTuple):
  """State of `drop_and_grow`.

  Trees are like the parameters. Those for sparse leaves hold an
  `optax.MaskedNode` for every other leaf, `private` holds one for sparse ones.

  Attributes:
    task_id: int32 scalar, the task of the last update; -1 before the first.
    count: int32 scalar, the updates in this task.
    key: typed PRNG key.
    mask: bool, the entries that the task uses; all before the first task.
    used: bool, the entries that other tasks use and that are frozen therefore.
    fired: bool, the entries that were ever in use; `()` if nothing reads it.
    momentum: float32, the average of gradients; `()` if nothing reads it.
    masks: bool with a leading axis of tasks, the entries that each task used.
    dense: the values of entries outside the mask.
    private: with a leading axis of tasks, all leaves that are not sparse as
      each task left them.
    seen: bool `[tasks]`, the tasks that have ended.
    inner_state: the state of what is wrapped.
  """

  task_id: jax.Array
  count: jax.Array
  key: jax.Array
  mask: base.Params
  used: base.Params
  fired: Any
  momentum: Any
  masks: base.Params
  dense: base.Params
  private: base.Params
  seen: jax.Array
  inner_state: Any


class Settings(NamedTuple):
  """The arguments of `drop_and_grow` that its parts read."""

  density: float
  init: _sparse_masks.Density
  exchange: _sparse_masks.Exchange
  every: int
  death_rate: optax.Schedule
  isolate: bool


def init(params, sparse, tasks, grow, key, inner_state) -> DropAndGrowState:
  """The state of a network that is dense so far."""
  fill = lambda value: jax.tree.map(lambda p: jnp.full(p.shape, value), sparse)
  stack = lambda p, dtype: jnp.zeros((tasks, *p.shape), dtype)
  own = jax.tree.map(
    lambda s, p: stack(p, p.dtype) if tree.is_masked(s) else optax.MaskedNode(),
    sparse,
    params,
    is_leaf=tree.is_masked,
  )
  return DropAndGrowState(
    task_id=_boundary.no_task(),
    count=jnp.int32(0),
    key=key,
    mask=fill(True),
    used=fill(False),
    fired=fill(False) if grow == 'unfired' else (),
    momentum=_quadratic.zeros(sparse) if grow == 'momentum' else (),
    masks=jax.tree.map(lambda p: stack(p, bool), sparse),
    dense=tree.copy(sparse),
    private=own,
    seen=jnp.zeros(tasks, bool),
    inner_state=inner_state,
  )


def begin(state, params, task_id, settings: Settings) -> DropAndGrowState:
  """Puts the finished task away and chooses the entries of the next one."""
  tasks, task_id = state.seen.shape[0], jnp.asarray(task_id, jnp.int32)
  slot = jnp.where(_boundary.is_first(state.task_id), tasks, state.task_id)
  put = lambda all, one: all.at[slot].set(one, mode='drop')
  masks = jax.tree.map(put, state.masks, state.mask)
  seen = state.seen.at[slot].set(True, mode='drop')
  others = (jnp.arange(tasks) != task_id) & settings.isolate
  taken = lambda m: jnp.any(m, axis=0, where=_along(others, m))
  key, draw = jax.random.split(state.key)
  fresh = _draw_masks(draw, state.dense, settings)
  again = lambda m, f: jnp.where(seen[task_id], m[task_id], f)
  keep = lambda mask, p, d: jnp.where(mask, p, d)
  sparse = tree.mask_like(params, state.mask)
  return state._replace(
    task_id=task_id,
    count=jnp.zeros_like(state.count),
    key=key,
    mask=jax.tree.map(again, masks, fresh),
    used=jax.tree.map(taken, masks),
    momentum=jax.tree.map(jnp.zeros_like, state.momentum),
    masks=masks,
    dense=jax.tree.map(keep, state.mask, sparse, state.dense),
    private=jax.tree.map(
      put, state.private, tree.mask_like(params, state.private)
    ),
    seen=seen,
  )


def _along(flags: jax.Array, like: jax.Array) -> jax.Array:
  return flags.reshape(-1, *(1,) * (like.ndim - 1))


def _draw_masks(key: jax.Array, dense: Any, settings: Settings) -> Any:
  leaves, treedef = jax.tree.flatten(dense)
  counts = jax.tree.leaves(_counts(dense, settings))
  keys = jax.random.split(key, max(len(leaves), 1))
  draw = lambda i, x, n: _sparse_masks.random_mask(keys[i], x.shape, n)
  drawn = map(draw, range(len(leaves)), leaves, counts)
  return treedef.unflatten(list(drawn))


def _counts(dense: Any, settings: Settings) -> Any:
  """The number of entries that a task uses in each leaf, static."""
  shares = _sparse_masks.sparse_densities(
    dense, settings.density, kind=settings.init, mask=_all_true
  )
  count = lambda leaf, share: max(1, round(share * leaf.size))
  return jax.tree.map(count, dense, shares)


def _all_true(params: Any) -> Any:
  return jax.tree.map(lambda _: True, params)


def own_part(updates: Any, state: DropAndGrowState, changed: Any) -> Any:
  """What may move: no entry of another task, and nothing at a change."""

  def leaf(mask, used, update):
    free = ~changed if tree.is_masked(mask) else mask & ~used & ~changed
    return jnp.where(free, update, jnp.zeros_like(update))

  return jax.tree.map(
    leaf, state.mask, state.used, updates, is_leaf=tree.is_masked
  )


def follow(state, gradient, grow: _sparse_masks.Grow) -> tuple[Any, Any]:
  """Notes what entries grow by; `(state, the gradient that decides it)`."""
  gradient = tree.mask_like(gradient, state.mask)
  if grow == 'momentum':
    gradient = optax.tree.update_moment(
      jax.tree.map(_quadratic.wide, gradient), state.momentum, _DECAY, 1
    )
    state = state._replace(momentum=gradient)
  if grow == 'unfired':
    fired = jax.tree.map(jnp.logical_or, state.fired, state.mask)
    state = state._replace(fired=fired)
  return state, gradient


def settle(state, params, steps, gradient, changed, settings) -> Any:
  """`(state, steps)` after a change of task, or of entries if it is time.

  At every other step nothing is read here: what is outside the task's own part
  is where it belongs, and `own_part` keeps it there.
  """
  due = (state.count > 0) & (state.count % settings.every == 0)
  rest = state._replace(mask=(), key=(), momentum=(), inner_state=())

  def turn(carry, rest, *reads):
    mask, key, steps = carry
    mask, kept, key = _boundary.run_if(
      due,
      functools.partial(_swap, settings=settings),
      (mask, mask, key),
      steps,
      *reads,
      rest.fired,
      rest.count,
    )
    now = rest._replace(mask=mask)
    return mask, key, _finish(steps, reads[0], now, kept, changed)

  carry = state.mask, state.key, steps
  mask, key, steps = _boundary.run_if(
    due | changed, turn, carry, rest, params, gradient
  )
  return state._replace(mask=mask, key=key), steps


def _swap(carry, steps, params, gradient, fired, count, settings) -> Any:
  """Exchanges entries of every leaf; carries `(mask, those kept, key)`."""
  mask, _, key = carry
  key, draw = jax.random.split(key)
  rate = jnp.asarray(settings.death_rate(count), jnp.float32)
  rate = jnp.clip(rate, 0.0, 1.0)
  keys = iter(jax.random.split(draw, max(len(jax.tree.leaves(mask)), 1)))

  def leaf(number, mask, param, step, gradient, *fired):
    own = next(keys)
    if number == mask.size:
      return mask, mask
    values, ever = param + step, fired[0] if fired else None
    return settings.exchange(mask, values, gradient, ever, rate, own)

  params, steps = (tree.mask_like(t, mask) for t in (params, steps))
  ever = (fired,) if settings.exchange.grow == 'unfired' else ()
  numbers = _counts(mask, settings)
  pairs = jax.tree.map(leaf, numbers, mask, params, steps, gradient, *ever)
  part = lambda i: jax.tree.map(lambda _, pair: pair[i], mask, pairs)
  return part(0), part(1), key


def _finish(steps, params, state, kept, changed) -> Any:
  """Updates that end inside the mask.

  An entry is moved by the difference to its new value only where one of both
  is 0 or they are equal: there the sum with the parameter is exact.
  """
  again = changed & state.seen[state.task_id]

  def leaf(kept, mask, used, dense, private, step, param):
    if tree.is_masked(mask):
      return jnp.where(again, private[state.task_id] - param, step)
    value = jnp.where(used | changed, dense, jnp.zeros_like(param))
    jump = jnp.where(mask, value, jnp.zeros_like(param)) - param
    return jnp.where(kept & ~used & ~changed, step, jump)

  trees = (kept, state.mask, state.used, state.dense, state.private)
  return jax.tree.map(leaf, *trees, steps, params, is_leaf=tree.is_masked)
