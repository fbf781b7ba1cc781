"""Bandits over tasks: which arm to draw next, learned from what it gave.

An `ArmSampler` is three pure functions over a pytree, so that it runs inside
the compiled loop, is checkpointed with the run, and can be used by hand:

  sampler = recency_arms()
  state = sampler.init(num_arms)
  probs = sampler.probs(state, step)
  state = sampler.update(state, arms, signal, weight)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.base import check_steps, check_value


class ArmSampler(NamedTuple):
  """How arms (tasks, domains, levels) are drawn, and what is learned of them.

  Attributes:
    init: `init(num_arms) -> state`.
    probs: `probs(state, step) -> [num_arms]` float32, summing to 1.
    update: `update(state, arms, signal, weight) -> state` after a batch:
      `arms [rows]` int32 that were drawn, what each gave (`signal [rows]`
      float32, larger means: more of it), and `weight [rows]`, 0 for padding.
  """

  init: Callable[[int], Any]
  probs: Callable[[Any, Any], jax.Array]
  update: Callable[[Any, jax.Array, jax.Array, jax.Array], Any]


def uniform_arms() -> ArmSampler:
  """Every arm is as likely as any other, whatever happens.

  Example:
    >>> sampler = uniform_arms()
    >>> sampler.probs(sampler.init(4), 0).tolist()
    [0.25, 0.25, 0.25, 0.25]
  """
  init = lambda num_arms: jnp.zeros(num_arms, jnp.float32)
  probs = lambda state, step: jnp.full_like(state, 1 / state.shape[0])
  return ArmSampler(init, probs, ignore)


def fixed_order_arms(boundaries: Sequence[int]) -> ArmSampler:
  """Arm after arm: the first until `boundaries[0]`, and so on.

  Args:
    boundaries: the steps at which the next arm begins, increasing, one fewer
      than there are arms.

  Raises:
    ValueError: if they do not increase; and in `init`, if there are not
      `len(boundaries) + 1` arms.

  Example:
    >>> sampler = fixed_order_arms([10, 30])
    >>> sampler.probs(sampler.init(3), 10).tolist()
    [0.0, 1.0, 0.0]
  """
  where = 'fixed_order_arms'
  steps = [check_steps(where, 'boundaries', b, 1) for b in boundaries]
  if sorted(set(steps)) != steps:
    raise ValueError(f'{where}: boundaries is {steps}; they must increase.')

  def init(num_arms: int) -> jax.Array:
    if num_arms != len(steps) + 1:
      raise ValueError(
        f'{where}: there are {num_arms} arms; {len(steps)} boundaries part '
        f'{len(steps) + 1}.'
      )
    return jnp.zeros(num_arms, jnp.float32)

  def probs(state: jax.Array, step: Any) -> jax.Array:
    edges = jnp.asarray(steps, jnp.int32)
    arm = jnp.searchsorted(edges, jnp.asarray(step, jnp.int32), side='right')
    return jax.nn.one_hot(arm, state.shape[0], dtype=jnp.float32)

  return ArmSampler(init, probs, ignore)


class RecencyState(NamedTuple):
  """State of `recency_arms`.

  Attributes:
    age: `[arms]` float32, batches since each arm was last drawn, from 1 on.
  """

  age: jax.Array


def recency_arms(exponent: float = 1.0, *, floor: float = 0.0) -> ArmSampler:
  """What came recently comes again: by a power of the time since.

  `p_a` is in proportion to `age ** -exponent`, with the age counted in batches
  since the arm was last drawn; an arm that never was is as old as the run. The
  signal is not read: it is an environment, not a learner.

  Args:
    exponent: of the law, at least 0; 0 is uniform.
    floor: the share of draws that are uniform, from 0 to 1.

  Raises:
    ValueError: for a number out of range.

  Example:
    >>> sampler = recency_arms()
    >>> state = sampler.init(2)
    >>> for _ in range(2):
    ...   state = sampler.update(
    ...     state, jnp.array([0]), jnp.zeros(1), jnp.ones(1)
    ...   )
    >>> sampler.probs(state, 2).tolist()
    [0.75, 0.25]

  References:
    Gandhi et al., `Natural Mitigation of Catastrophic Interference: Continual
    Learning in Power-Law Learning Environments
    <https://arxiv.org/abs/2401.10393>`_, 2024
  """
  check_value('recency_arms', 'exponent', exponent, minimum=0)
  init = lambda num_arms: RecencyState(jnp.ones(num_arms, jnp.float32))

  def probs(state: RecencyState, step: Any) -> jax.Array:
    del step
    law = state.age**-exponent
    return law / law.sum()

  def update(
    state: RecencyState, arms: jax.Array, signal: jax.Array, weight: jax.Array
  ) -> RecencyState:
    del signal
    drawn = members(arms, weight > 0, state.age.shape[0]).sum(0) > 0
    return RecencyState(jnp.where(drawn, 1.0, state.age + 1))

  return with_floor(ArmSampler(init, probs, update), floor)


def with_floor(sampler: ArmSampler, floor: float) -> ArmSampler:
  """Mixes uniform draws into any sampler: `(1 - floor) p + floor / A`.

  Args:
    sampler: any sampler.
    floor: the share of uniform draws, from 0 to 1; 0 gives the sampler itself.

  Raises:
    ValueError: if `floor` is out of range.

  Example:
    >>> sampler = with_floor(fixed_order_arms([10]), 0.5)
    >>> sampler.probs(sampler.init(2), 0).tolist()
    [0.75, 0.25]
  """
  check_value('with_floor', 'floor', floor, minimum=0, maximum=1)
  if not floor:
    return sampler

  def probs(state: Any, step: Any) -> jax.Array:
    own = sampler.probs(state, step)
    return (1 - floor) * own + floor / own.shape[0]

  return sampler._replace(probs=probs)


def ignore(
  state: Any, arms: jax.Array, signal: jax.Array, weight: jax.Array
) -> Any:
  """The update of a sampler that does not learn."""
  del arms, signal, weight
  return state


def members(arms: jax.Array, real: jax.Array, num_arms: int) -> jax.Array:
  """`[rows, arms]` float32: 1 where a real row was of the arm."""
  mine = jax.nn.one_hot(arms, num_arms, dtype=jnp.float32)
  return jnp.where(real[:, None], mine, 0.0)
