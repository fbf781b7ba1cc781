"""An optimizer that forgets at a change of task what it gathered before."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _boundary


class ResetOnTaskState(NamedTuple):
  """State of `reset_on_task`.

  Attributes:
    task_id: int32 scalar, the task of the last update; -1 before the first.
    inner_state: the state of what is wrapped.
  """

  task_id: jax.Array
  inner_state: Any


def reset_on_task(
  inner: optax.GradientTransformation,
  *,
  keep: type | tuple[type, ...] = (),
) -> optax.GradientTransformationExtraArgs:
  """Starts an optimizer anew where `task_id` is another than before.

  Momenta and second moments of a finished task steer the first steps of the
  next one: most papers make a new optimizer for each task, and this is that
  choice, written down. Before the first update of a task, the state of `inner`
  becomes `inner.init(params)` at the parameters of that moment; the first task
  resets nothing, and a task that is returned to is a change, too.

  **Everything** in `inner` starts anew: the clock of a schedule (a warmup is
  run through once more), anchors and Fishers, the rows of a memory, the radii
  of `normalize_and_project`. Two ways to hold on to them:

  * wrap only what is to be forgotten:
    `chain(add_ewc_penalty(s), reset_on_task(optax.scale_by_adam()),
    scale_by_schedule_value(schedule))`;
  * name the states that stay, with all they contain: `keep=MemoryState`;
    `keep=optax.schedules.InjectStatefulHyperparamsState` keeps rate and clock
    of `scale_by_schedule_value` (of `optax.inject_hyperparams(optax.adam)` it
    keeps the moments as well, which are inside).

  Place in the chain: around the preconditioner, or around all of it. Cost: none
  but at a change of task, where `init` runs once; one scalar.

  Args:
    inner: a transformation.
    keep: the classes of states inside of it that stay as they are.

  Returns:
    A transformation with the state `ResetOnTaskState`. It needs `params`, the
    extra arg `task_id`, and what `inner` needs.

  Raises:
    TypeError: if `keep` is not a class or a tuple of classes.
    ValueError: if `params` is missing, or, from `init`, if a class in `keep`
      is that of no state in `inner`.

  Example:
    >>> tx = reset_on_task(optax.trace(1.0))
    >>> params = jnp.zeros(1)
    >>> state = tx.init(params)
    >>> for task in (0, 0, 1):
    ...   updates, state = tx.update(jnp.ones(1), state, params, task_id=task)
    ...   print(updates)
    [1.]
    [2.]
    [1.]

  References:
    Ash and Adams, `On warm-starting neural network training
    <https://arxiv.org/abs/1910.08475>`_, 2020 (a new optimizer for each set)

    Asadi, Fakoor and Sabach, `Resetting the optimizer in deep RL: an empirical
    study <https://arxiv.org/abs/2306.17833>`_, 2023
  """
  kept = check_classes('reset_on_task', keep)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> ResetOnTaskState:
    inner_state = inner.init(params)
    _check_kept(inner_state, kept)
    return ResetOnTaskState(_boundary.no_task(), inner_state)

  def begin(inner_state: Any, params: base.Params) -> Any:
    return renew(inner_state, inner.init(params), kept)

  def task_update(updates, state, params=None, *, task_id, **extra_args):
    if params is None:
      raise ValueError(
        'reset_on_task: params is None; call update(updates, state, params).'
      )
    changes = _boundary.begins(task_id, state.task_id)
    inner_state = _boundary.run_if(changes, begin, state.inner_state, params)
    extra_args['task_id'] = task_id
    updates, inner_state = inner.update(
      updates, inner_state, params, **extra_args
    )
    task_id = jnp.asarray(task_id, jnp.int32)
    return updates, ResetOnTaskState(task_id, inner_state)

  update_fn: Any = task_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def renew(old: Any, new: Any, kept: tuple[type, ...]) -> Any:
  """The new state, in the dtypes of the old one, but for what is kept."""

  def pick(old: Any, new: Any) -> Any:
    if isinstance(old, kept):
      return old
    # A count that began as a Python number is an array by now.
    return new if hasattr(new, 'dtype') else jnp.asarray(new, old.dtype)

  return jax.tree.map(pick, old, new, is_leaf=lambda n: isinstance(n, kept))


def check_classes(where: str, keep: Any) -> tuple[type, ...]:
  """The classes of states that are to stay, as a tuple."""
  kept = keep if isinstance(keep, tuple) else (keep,)
  if not all(isinstance(cls, type) for cls in kept):
    raise TypeError(
      f'{where}: keep is {keep!r}; it must be a class of states or a tuple of '
      'them.'
    )
  return kept


def _check_kept(inner_state: Any, kept: tuple[type, ...]) -> None:
  """Raises if a class finds nothing: a wrong name would keep silently."""
  match = lambda node: isinstance(node, kept)
  found = [n for n in jax.tree.leaves(inner_state, is_leaf=match) if match(n)]
  for cls in kept:
    if not any(isinstance(node, cls) for node in found):
      raise ValueError(
        f'reset_on_task: keep has {cls.__name__}, but inner has no such state '
        'outside of another that is kept.'
      )
