"""What is done inside a compiled step, but not at every step."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Carry = TypeVar('Carry')

_NO_TASK = -1


def no_task() -> jax.Array:
  """The `task_id` of a state before its first update."""
  return jnp.full([], _NO_TASK, jnp.int32)


def is_first(last: jax.Array) -> jax.Array:
  """Whether there was no update yet; tasks are numbered from 0."""
  return last == _NO_TASK


def begins(task_id: Any, last: jax.Array) -> jax.Array:
  """Whether `task_id` is another than that of the last update."""
  return ~is_first(last) & (jnp.asarray(task_id, jnp.int32) != last)


def run_if(
  flag: jax.Array, fn: Callable[[Carry], Carry], carry: Carry
) -> Carry:
  """Applies `fn` to `carry` where `flag` holds.

  A loop of one turn or none: XLA updates in place what a loop carries, while
  it copies what the idle branch of a `lax.cond` returns, at every step. Mapped
  over seeds, the loop is skipped unless one of them needs it.
  """
  turns = flag.astype(jnp.int32)
  return jax.lax.fori_loop(0, turns, lambda _, carry: fn(carry), carry)


def run_alone(flag: jax.Array, fn: Callable[[Any], Any], state: Any) -> Any:
  """`run_if` on a state without its `inner_state`, which is left alone."""
  done = run_if(flag, fn, state._replace(inner_state=()))
  return done._replace(inner_state=state.inner_state)


def enter(state: Any, params: Any, task_id: Any) -> Any:
  """Consolidates `state` at `params` if a task has ended; notes the task.

  Args:
    state: a NamedTuple with `task_id`, `inner_state` and `consolidate`.
    params: the parameters before the update.
    task_id: the task of the update.
  """
  end = lambda state: state.consolidate(params)
  state = run_alone(begins(task_id, state.task_id), end, state)
  return state._replace(task_id=jnp.asarray(task_id, jnp.int32))
