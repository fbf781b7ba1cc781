"""A sparse network for each task inside one, and none in another's way."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _boundary, _quadratic, _sparse_masks, _sparse_task

_WHERE = 'drop_and_grow'


def drop_and_grow(
  inner: optax.GradientTransformation,
  density: float,
  tasks: int,
  *,
  death_rate: optax.Schedule | float,
  init: _sparse_masks.Density = 'erk',
  drop: _sparse_masks.Drop = 'magnitude',
  grow: _sparse_masks.Grow = 'gradient',
  every: int = 400,
  isolate: bool = True,
  mask: Any = None,
  seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
  r"""Trains each task in a sparse part of the network that is found meanwhile.

  A task uses a share `density` of the entries, chosen at random where it
  begins. At each `every`-th update of the task a share `death_rate` of them
  leaves each leaf and as many others come in, so that the number never changes.
  What comes in starts at 0. Entries that earlier tasks used are frozen, but a
  task may use them; so nothing that a task depends on ever moves again, and
  its accuracy stays as it was **exactly**, whatever the optimizer is.

  The parameters of the run are those of the current task: entries outside its
  mask are 0, and gradients are taken of all entries, as RigL needs them. Values
  outside the mask wait in the state. `params_of_task` puts the network of an
  earlier task together; as `Learner.eval_params` it makes evaluation
  task-incremental. Leaves that are not sparse (biases, or a head that `mask`
  leaves out) are small: each task keeps its own copy of them and goes on from
  that of the task before.

  The first update of a task changes the network, so its gradient, taken in the
  network of before, is dropped; the optimizer sees one of 0 then. A return to
  an earlier task puts its network back and trains what is its own. Leaves that
  ERK makes dense exchange nothing.

  Place in the chain: around the whole optimizer, since it needs the gradient
  of all entries that goes in and the step that comes out: moments and weight
  decay inside are free to do what they do. Nothing behind it may move
  parameters; `accumulate` and `with_memory` go around it. Cost: one copy of the
  sparse leaves, `tasks + 2` bytes for each of their entries, and `tasks` copies
  of the other leaves; a step reads two masks. An exchange reads every leaf
  some 64 times. A forward pass costs what the dense one does.

  Args:
    inner: the optimizer.
    density: share of the entries of sparse leaves that a task uses.
    tasks: how many tasks there may be; `task_id` must be below.
    death_rate: share of a task's entries that is exchanged, a number or a
      function of the updates in the task; the paper's is
      `optax.cosine_decay_schedule(0.5, steps_per_task, alpha=0.01)`.
    init: how `density` is spread, see `sparse_densities`.
    drop: which entries leave: those of the least `'magnitude'`; `'signed'`, the
      same share of positive and of negative ones (SET); or `'taylor'`, those of
      the least :math:`(w g)^2`.
    grow: which come in: those of the largest `'gradient'` (RigL), of the
      largest average of gradients (`'momentum'`, decay 0.9), `'random'` ones
      (SET), or `'unfired'`: random ones that were never in use, as long as
      there are any.
    every: updates between two exchanges.
    isolate: whether the entries of other tasks are frozen. If not, tasks write
      over each other where their masks meet.
    mask: which leaves are sparse: None for every leaf with two axes or more, a
      tree of bools, or a function such as `lrcl.tree.path_mask('Dense')`.
    seed: of the random choices, unless `training.create_state` makes the state.

  Returns:
    A transformation with the state `DropAndGrowState`. It needs `params`, the
    extra arg `task_id`, and what `inner` needs. Updates have the dtypes of the
    parameters.

  Raises:
    ValueError: if `density` or a constant `death_rate` is out of range, `tasks`
      or `every` is less than 1, a name is unknown, or the mask selects nothing.

  Example:
    >>> tx = drop_and_grow(optax.sgd(1.0), 0.25, tasks=2, death_rate=0.5)
    >>> params = jnp.ones((2, 4))
    >>> state = tx.init(params)
    >>> for task in (0, 0, 1, 1):
    ...   updates, state = tx.update(params / 2, state, params, task_id=task)
    ...   params = optax.apply_updates(params, updates)
    >>> print(state.masks.sum((1, 2)), state.mask.sum())
    [2 0] 2
    >>> print(jnp.count_nonzero(params_of_task(state, params, 0)))
    2

  References:
    Yildirim et al., `Continual learning with dynamic sparse training
    <https://arxiv.org/abs/2308.14831>`_, 2024; code:
    https://github.com/muratonuryildirim/CL-with-DST. The mask of a new task is
    drawn entry by entry there and has `density` on average; here the number is
    exact. How that code treats biases is not known to us.

    Evci et al., `Rigging the lottery: making all tickets winners
    <https://arxiv.org/abs/1911.11134>`_, 2020 (RigL)

    Mocanu et al., `Scalable training of artificial neural networks with
    adaptive sparse connectivity inspired by network science
    <https://arxiv.org/abs/1707.04780>`_, 2018 (SET)
  """
  _check(density, tasks, drop, grow)
  if not callable(death_rate):
    base.check_value(_WHERE, 'death_rate', death_rate, minimum=0, maximum=1)
  settings = _sparse_task.Settings(
    density,
    init,
    _sparse_masks.Exchange(drop, grow),
    base.check_steps(_WHERE, 'every', every, 1),
    death_rate if callable(death_rate) else lambda _: death_rate,
    isolate,
  )
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> _sparse_task.DropAndGrowState:
    sparse = _sparse_masks.select(params, mask, _WHERE)
    _sparse_masks.sparse_densities(sparse, density, kind=init)
    key = jax.random.key(seed)
    return _sparse_task.init(
      params, sparse, tasks, grow, key, inner.init(params)
    )

  def task_update(updates, state, params=None, *, task_id, **extra_args):
    _quadratic.check_params(params, _WHERE)
    changed = jnp.asarray(task_id, jnp.int32) != state.task_id
    begin = lambda s, p, t: _sparse_task.begin(s, p, t, settings)
    state = _boundary.run_alone(changed, begin, state, params, task_id)
    gradient = updates
    updates = _sparse_task.own_part(updates, state, changed)
    extra_args['task_id'] = task_id
    steps, inner_state = inner.update(
      updates, state.inner_state, params, **extra_args
    )
    steps = _sparse_task.own_part(steps, state, changed)
    steps = jax.tree.map(lambda s, p: s.astype(p.dtype), steps, params)
    state, gradient = _sparse_task.follow(state, gradient, grow)
    state, steps = _sparse_task.settle(
      state, params, steps, gradient, changed, settings
    )
    count = jnp.asarray(optax.safe_increment(state.count))
    return steps, state._replace(count=count, inner_state=inner_state)

  update_fn: Any = task_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def params_of_task(
  opt_state: Any, params: base.Params, task_id: Any
) -> base.Params:
  """Puts together the network that a task has.

  It is what `training.Learner.eval_params` wants:
  `lambda state, task: params_of_task(state.opt_state, state.params, task)`.

  Args:
    opt_state: the state of a chain with `drop_and_grow`, under any wrapper.
    params: the current parameters.
    task_id: the task; may be traced.

  Returns:
    A tree like `params`: for the current task and one that was never trained,
    `params`; for another, what that task left.

  Raises:
    ValueError: if there is no `drop_and_grow` in the chain.

  Example:
    >>> tx = drop_and_grow(optax.sgd(1.0), 0.5, tasks=2, death_rate=0.5)
    >>> params = jnp.ones((2, 2))
    >>> print(params_of_task(tx.init(params), params, 1))
    [[1. 1.]
     [1. 1.]]

  References:
    Yildirim et al., `Continual learning with dynamic sparse training
    <https://arxiv.org/abs/2308.14831>`_, 2024
  """
  states = tree.get_states(opt_state, _sparse_task.DropAndGrowState)
  if not states:
    raise ValueError('params_of_task: there is no drop_and_grow in the chain.')
  state = states[0]
  task_id = jnp.asarray(task_id, jnp.int32)
  is_current = (task_id == state.task_id) | ~state.seen[task_id]

  def leaf(mask, masks, dense, private, param):
    if tree.is_masked(mask):
      return jnp.where(is_current, param, private[task_id])
    value = jnp.where(mask, param, dense)
    value = jnp.where(masks[task_id], value, jnp.zeros_like(value))
    return jnp.where(is_current, param, value)

  trees = (state.mask, state.masks, state.dense, state.private, params)
  return jax.tree.map(leaf, *trees, is_leaf=tree.is_masked)


def _check(density: float, tasks: int, drop: str, grow: str) -> None:
  base.check_value(_WHERE, 'density', density, above=0, maximum=1)
  base.check_steps(_WHERE, 'tasks', tasks, 1)
  names = (
    ('drop', drop, _sparse_masks.Drop),
    ('grow', grow, _sparse_masks.Grow),
  )
  for argument, name, kinds in names:
    if name not in get_args(kinds):
      raise ValueError(
        f'{_WHERE}: {argument} is {name!r}; it must be one of '
        f'{get_args(kinds)}.'
      )
