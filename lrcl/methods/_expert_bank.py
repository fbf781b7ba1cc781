"""A bank of experts, of which one is trained, and what changes hands."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _boundary, _reset


class ExpertsState(NamedTuple):
  """State of `with_experts` and `with_task_experts`.

  Attributes:
    inner_state: the state of `inner` of the active expert. It comes first, so
      that `applied_rate` reads the rate of that one and not of the bank.
    experts: the parameters of all experts, each leaf `[max_experts, ...]`.
      Those of the active one are the parameters that are trained; its row here
      is from before. Rows that no expert has yet hold the first parameters.
    inner_states: states of `inner`, with the same leading axis.
    mean: float32 `[max_experts]`, what losses of an expert were like.
    std: float32 `[max_experts]`, by how much single losses differed from it.
    active: int32 scalar, the expert that is trained.
    count: int32 scalar, how many experts there are.
    probe: int32 scalar, steps of testing that are left; 0 while one trains.
    losses: float32 `[max_experts]`, sums over the steps of this test.
    step: int32 scalar, updates so far.
    shifts: int32 scalar, shifts that were seen.
    last_shift: int32 scalar, the update at which the last was; -1 for none.
    watch: the state of the detector, or the `task_id` of the last update.
  """

  inner_state: Any
  experts: base.Params
  inner_states: Any
  mean: jax.Array
  std: jax.Array
  active: jax.Array
  count: jax.Array
  probe: jax.Array
  losses: jax.Array
  step: jax.Array
  shifts: jax.Array
  last_shift: jax.Array
  watch: Any


def make_bank(where: str, inner: Any, max_experts: Any, keep: Any) -> tuple:
  """What both have: the optimizer, `init` and `swap` of a bank of experts."""
  max_experts = base.check_steps(where, 'max_experts', max_experts, 1)
  kept = _reset.check_classes(where, keep)
  inner = optax.with_extra_args_support(inner)
  stack = lambda x: jnp.stack([jnp.asarray(x)] * max_experts)

  def init(params: base.Params, watch: Any) -> ExpertsState:
    inner_state = jax.tree.map(jnp.asarray, inner.init(params))
    none = lambda: jnp.zeros(max_experts, jnp.float32)
    return ExpertsState(
      experts=jax.tree.map(stack, params),
      inner_states=jax.tree.map(stack, inner_state),
      mean=none(),
      std=none(),
      active=jnp.zeros([], jnp.int32),
      count=jnp.ones([], jnp.int32),
      probe=jnp.zeros([], jnp.int32),
      losses=none(),
      step=jnp.zeros([], jnp.int32),
      shifts=jnp.zeros([], jnp.int32),
      last_shift=jnp.full([], -1, jnp.int32),
      watch=watch,
      inner_state=inner_state,
    )

  def change(state, target, count, params):
    put = lambda bank, x: bank.at[state.active].set(x)
    take = lambda bank: bank[target]
    experts = jax.tree.map(put, state.experts, params)
    inner_states = jax.tree.map(put, state.inner_states, state.inner_state)
    fresh = jax.tree.map(take, inner_states)
    return state._replace(
      experts=experts,
      inner_states=inner_states,
      inner_state=_reset.renew(state.inner_state, fresh, kept),
      active=target,
      count=count,
    )

  def swap(flag, target, count, updates, state, params):
    state = _boundary.run_if(flag, change, state, target, count, params)

    def move(updates, experts, active, params):
      to = lambda u, bank, p: (bank[active] - p).astype(u.dtype)
      return jax.tree.map(to, updates, experts, params)

    reads = state.experts, state.active, params
    return _boundary.run_if(flag, move, updates, *reads), state

  return inner, init, swap
