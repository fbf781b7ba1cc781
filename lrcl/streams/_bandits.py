"""Samplers that learn: upper confidence bounds, running means, EXP3."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.base import check_steps, check_value
from lrcl.streams._arms import ArmSampler, ignore, members, with_floor


class UcbState(NamedTuple):
  """State of `ucb_arms`.

  Attributes:
    recent: `[arms, window]` float32, the last sizes of the signal.
    pulls: `[arms]` float32, rows drawn so far.
  """

  recent: jax.Array
  pulls: jax.Array


def ucb_arms(
  *,
  window: int = 300,
  exploration: float = 1.0,
  temperature: float = 0.1,
  floor: float = 0.1,
) -> ArmSampler:
  r"""Draws by the size of the recent signal, and by how rarely an arm came.

  The score of an arm is the mean of :math:`|signal|` over its last `window`
  rows plus :math:`c \sqrt{2 \ln(n + 1) / (n_a + 1)}` with n counting rows, and
  arms are drawn by a softmax of it.

  An arm whose signal is 0 because nothing was learned there *yet* looks like
  one with nothing to learn. `floor` keeps drawing it; with `floor=0`, as in the
  paper, such arms can starve.

  Args:
    window: rows per arm that are remembered; at least as many as a batch has.
    exploration: `c`.
    temperature: of the softmax.
    floor: the share of draws that are uniform, from 0 to 1.

  Raises:
    ValueError: for a number out of range.

  Example:
    >>> sampler = ucb_arms(floor=0.0)
    >>> state = sampler.init(2)
    >>> arms, signal = jnp.array([0, 0, 1]), jnp.array([0.9, 0.7, 0.0])
    >>> state = sampler.update(state, arms, signal, jnp.ones(3))
    >>> bool(sampler.probs(state, 1)[0] > 0.9)
    True

  References:
    Wang et al., `DUMP: Automated Distribution-Level Curriculum Learning for
    RL-based LLM Post-training <https://arxiv.org/abs/2504.09710>`_, 2025
    (without the floor)
  """
  where = 'ucb_arms'
  window = check_steps(where, 'window', window, 1)
  check_value(where, 'exploration', exploration, minimum=0)
  check_value(where, 'temperature', temperature, above=0)

  def init(num_arms: int) -> UcbState:
    recent = jnp.zeros((num_arms, window), jnp.float32)
    return UcbState(recent, jnp.zeros(num_arms, jnp.float32))

  def probs(state: UcbState, step: Any) -> jax.Array:
    del step
    filled = jnp.minimum(state.pulls, window)
    size = state.recent.sum(1) / jnp.maximum(filled, 1)
    bonus = jnp.sqrt(2 * jnp.log1p(state.pulls.sum()) / (state.pulls + 1))
    return jax.nn.softmax((size + exploration * bonus) / temperature)

  def update(
    state: UcbState, arms: jax.Array, signal: jax.Array, weight: jax.Array
  ) -> UcbState:
    real = weight > 0
    drawn = members(arms, real, state.pulls.shape[0])  # [rows, arms]
    turn = jnp.cumsum(drawn, 0) - drawn
    own = (turn * drawn).sum(1).astype(jnp.int32)
    counts = drawn.sum(0)
    begin = state.pulls[arms].astype(jnp.int32)
    # Of more rows than the window holds, the last ones stay.
    kept = real & (own >= counts[arms].astype(jnp.int32) - window)
    place = jnp.where(kept, (begin + own) % window, window)
    recent = state.recent.at[arms, place].set(jnp.abs(signal), mode='drop')
    return UcbState(recent, state.pulls + counts)

  return with_floor(ArmSampler(init, probs, update), floor)


def td0_arms(
  *, rate: float = 0.5, temperature: float = 0.5, floor: float = 0.1
) -> ArmSampler:
  r"""Draws by a running mean of the signal of each arm.

  After each batch :math:`Q_a \leftarrow Q_a + \alpha (r_a - Q_a)` for the arms
  that were drawn, with :math:`r_a` the mean of their :math:`|signal|`; arms are
  drawn by a softmax of :math:`Q / \tau`.

  As for `ucb_arms`, an arm without a signal yet starves where `floor=0`.

  Args:
    rate: alpha, in (0, 1].
    temperature: tau.
    floor: the share of draws that are uniform, from 0 to 1.

  Raises:
    ValueError: for a number out of range.

  Example:
    >>> sampler = td0_arms(floor=0.0)
    >>> state = sampler.init(2)
    >>> state = sampler.update(
    ...   state, jnp.array([0, 0]), jnp.array([1.0, 0.5]), jnp.ones(2)
    ... )
    >>> state.tolist()
    [0.375, 0.0]

  References:
    Chen et al., `Self-Evolving Curriculum for LLM Reasoning
    <https://arxiv.org/abs/2505.14970>`_, 2025. The defaults are not confirmed
    against the paper, which has no floor.
  """
  where = 'td0_arms'
  check_value(where, 'rate', rate, above=0, maximum=1)
  check_value(where, 'temperature', temperature, above=0)
  init = lambda num_arms: jnp.zeros(num_arms, jnp.float32)
  probs = lambda state, step: jax.nn.softmax(state / temperature)

  def update(
    state: jax.Array, arms: jax.Array, signal: jax.Array, weight: jax.Array
  ) -> jax.Array:
    drawn = members(arms, weight > 0, state.shape[0])
    counts = drawn.sum(0)
    mean = _sums(drawn, jnp.abs(signal)) / jnp.maximum(counts, 1)
    return jnp.where(counts > 0, state + rate * (mean - state), state)

  return with_floor(ArmSampler(init, probs, update), floor)


def exp3_arms(*, rate: float = 0.1, floor: float = 0.1) -> ArmSampler:
  r"""Exponential weights with importance-weighted rewards, for any adversary.

  For the rows of a batch, :math:`\log w_a` grows by `rate / A` times the mean
  over the batch of :math:`r / p_a` where arm a was drawn; arms are drawn in
  proportion to w, mixed with `floor` of uniform draws, which is the algorithm's
  own gamma and bounds :math:`1 / p_a`.

  Args:
    rate: the step of the log weights, above 0; EXP3's own is `floor`.
    floor: gamma, in (0, 1].

  Raises:
    ValueError: for a number out of range.

  Example:
    >>> sampler = exp3_arms(rate=1.0, floor=0.5)
    >>> state = sampler.update(
    ...   sampler.init(2), jnp.array([0]), jnp.array([1.0]), jnp.ones(1)
    ... )
    >>> state.tolist()  # 1 / A * r / p = 1 / 2 * 1 / 0.5
    [1.0, 0.0]

  References:
    Auer et al., `The Nonstochastic Multiarmed Bandit Problem
    <https://doi.org/10.1137/S0097539701398375>`_, 2002. Signals are taken as
    rewards; they should lie in [0, 1].
  """
  check_value('exp3_arms', 'rate', rate, above=0)
  check_value('exp3_arms', 'floor', floor, above=0, maximum=1)
  init = lambda num_arms: jnp.zeros(num_arms, jnp.float32)
  mixed = with_floor(
    ArmSampler(init, lambda state, step: jax.nn.softmax(state), ignore), floor
  )

  def update(
    state: jax.Array, arms: jax.Array, signal: jax.Array, weight: jax.Array
  ) -> jax.Array:
    drawn = members(arms, weight > 0, state.shape[0])
    total = jnp.maximum(drawn.sum(), 1)
    reward = _sums(drawn, signal) / mixed.probs(state, 0) / total
    grown = state + rate / state.shape[0] * reward
    return grown - jnp.min(grown)  # weights count by their ratios only

  return ArmSampler(init, mixed.probs, update)


def _sums(drawn: jax.Array, values: jax.Array) -> jax.Array:
  """Sums of the values of each arm's rows; padding may be anything."""
  return jnp.where(drawn > 0, values[:, None], 0.0).sum(0)
