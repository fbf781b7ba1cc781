"""What is done inside a compiled step, but not at every step, or only once."""

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
  flag: jax.Array, fn: Callable[..., Carry], carry: Carry, *reads: Any
) -> Carry:
  """Gives `fn(carry, *reads)` where `flag` holds, and `carry` elsewhere.

  A loop of one turn or none: XLA updates in place what a loop carries, while
  it copies what the idle branch of a `lax.cond` returns, at every step. Mapped
  over seeds, the loop is skipped unless one of them needs it.
  """
  return _loop(jnp.int32(0), flag.astype(jnp.int32), fn, carry, *reads)


@jax.custom_batching.custom_vmap
def any_replica(flag: jax.Array) -> jax.Array:
  """The flag; under `vmap` whether it holds for any replica, one for all.

  With a flag that differs between replicas, `vmap` has `run_if` select between
  what goes in and what comes out, which reads and writes all that it carries.
  With this one it does not, and `fn` must select where it writes.
  """
  return flag


@any_replica.def_vmap
def _any_replica(size: int, batched: Any, flag: jax.Array) -> tuple[Any, bool]:
  del size
  return any_replica(jnp.any(flag, axis=0) if batched[0] else flag), False


def _loop(
  first: Any, end: Any, fn: Callable[..., Carry], carry: Carry, *reads: Any
) -> Carry:
  """`fn(carry, *reads)`, for each number from `first` and below `end`."""

  def turn(number, carry):
    # Held together with the number of the turn, or XLA would compute in front
    # of the loop, and so always, what no turn changes.
    _, carry, inputs = jax.lax.optimization_barrier((number, carry, reads))
    return fn(carry, *inputs)

  return jax.lax.fori_loop(first, end, turn, carry)


def compute_once(
  fn: Callable[[Carry, Any], Carry], carry: Carry, step: Any, task_id: Any
) -> tuple[Carry, Any]:
  """Gives `fn(carry, step)`, and `step`, which is computed only once on a CPU.

  There XLA repeats what leads to a step in each of the loops that read it, and
  copies the parameters at every step, since one of those loops overwrites what
  another has yet to read. What goes through a loop is written to memory first;
  a barrier would not do, since it is gone when XLA fuses. The loop has one
  turn, counted from `task_id`, since XLA would undo one whose turns it can
  count. Other platforms are given no loop: XLA fuses several results there.
  """

  def once(carry, step):
    first = jnp.minimum(jnp.asarray(task_id, jnp.int32), 0)
    turn = lambda both: (fn(*both), both[1])
    return _loop(first, first + 1, turn, (carry, step))

  plainly = lambda carry, step: (fn(carry, step), step)
  return jax.lax.platform_dependent(carry, step, cpu=once, default=plainly)


def run_alone(
  flag: jax.Array, fn: Callable[..., Any], state: Any, *reads: Any
) -> Any:
  """`run_if` on a state without its `inner_state`, which is left alone."""
  done = run_if(flag, fn, state._replace(inner_state=()), *reads)
  return done._replace(inner_state=state.inner_state)


def enter(state: Any, params: Any, task_id: Any) -> Any:
  """Consolidates `state` at `params` if a task has ended; notes the task.

  Args:
    state: a NamedTuple with `task_id`, `inner_state` and `consolidate`.
    params: the parameters before the update.
    task_id: the task of the update.
  """
  ends = begins(task_id, state.task_id)
  state = run_alone(ends, lambda s, p: s.consolidate(p), state, params)
  return state._replace(task_id=jnp.asarray(task_id, jnp.int32))
