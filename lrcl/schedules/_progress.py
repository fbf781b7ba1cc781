"""A discount that follows how far an agent can imitate its expert."""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _checks
from lrcl.schedules._profiles import Value


class DiscountState(NamedTuple):
  """What `progress_discount` remembers."""

  progress: jax.Array
  """How many leading steps of the expert count as reproduced; int32."""


def leading_progress(costs: jax.Array, steps: Any) -> jax.Array:
  """How much of an expert's first steps an agent runs through in their order.

  Each of the agent's first `steps` frames is matched with the nearest of the
  expert's first `steps`; the progress is the length of the longest strictly
  increasing subsequence of the matches.

  Args:
    costs: `[..., agent, expert]`, the distance of every frame of the agent to
      every frame of the expert.
    steps: how many leading steps are looked at, 1 to the number of frames; may
      be traced.

  Returns:
    `[...]`, int32, 1 to `steps`. It costs `O(agent * (expert + log(agent)))`.

  Raises:
    ValueError: if `costs` has fewer than two axes.

  Example:
    >>> costs = jnp.abs(jnp.arange(4.0)[:, None] - jnp.array([[0.0, 1, 3, 2]]))
    >>> [int(leading_progress(costs, steps)) for steps in (1, 2, 3, 4)]
    [1, 2, 2, 3]

  References:
    Liu et al., 2024, `Imitation Learning from Observation with Automatic
    Discount Scheduling <https://arxiv.org/abs/2310.07433>`_
    (https://github.com/dwjshift/IL_ADS).
  """
  costs = jnp.asarray(costs)
  if costs.ndim < 2:
    raise ValueError(
      f'leading_progress: costs has shape {costs.shape}; it must be '
      '[..., agent, expert].'
    )
  steps = jnp.asarray(steps, jnp.int32)
  flat = costs.reshape(-1, *costs.shape[-2:])
  progress = jax.vmap(_longest_rise, (0, None))(flat, steps)
  return progress.reshape(costs.shape[:-2])


def progress_discount(
  reference: Sequence[float],
  *,
  alpha: Value = 0.2,
  start_fraction: float = 0.2,
  threshold: float = 0.9,
  max_increase: int = 5,
  percentile: float = 90.0,
) -> optax.schedules.StatefulSchedule:
  """A discount that looks as far ahead as the agent has come.

  The discount is `alpha ** (1 / k)`: a reward `k` steps ahead weighs `alpha`.
  `k` starts at `start_fraction` of the horizon. At an update, up to
  `max_increase` times, `k` grows by 1 if the agent's `leading_progress` over
  the first `k` steps, at `percentile` over the demonstrations, has reached
  `threshold` times the reference, rounded down. It never falls, and ends at the
  horizon.

  Args:
    reference: `[horizon]`, what the demonstrations reach against one another:
      entry `k - 1` is a percentile (50) of `leading_progress(costs, k)` over
      the ordered pairs of different demonstrations.
    alpha: the weight of a reward `k` steps ahead, in (0, 1).
    start_fraction: where `k` starts, rounded down; 1 step at least.
    threshold: the part of the reference that must be reached, in (0, 1].
    max_increase: by how much `k` grows at most in one update.
    percentile: over the demonstrations, 0 to 100.

  Returns:
    A stateful schedule; its state is a `DiscountState`. `update` needs the
    keyword `costs`, `[..., horizon, horizon]`: one matrix of distances for each
    demonstration. A call gives the discount of the state, in float32.

  Raises:
    ValueError: if `reference` is not a list of finite numbers, an argument is
      impossible, or, in an update, `costs` is not square in the horizon.

  Example:
    >>> discount = progress_discount([1.0, 2.0, 3.0, 4.0, 5.0], max_increase=2)
    >>> state = discount.init()
    >>> same = jnp.abs(jnp.arange(5.0)[:, None] - jnp.arange(5.0)[None])
    >>> for _ in range(3):
    ...   print(int(state.progress), round(float(discount(state)), 4))
    ...   state = discount.update(state, costs=same)
    1 0.2
    3 0.5848
    5 0.7248

  References:
    Liu et al., 2024, `Imitation Learning from Observation with Automatic
    Discount Scheduling <https://arxiv.org/abs/2310.07433>`_
    (https://github.com/dwjshift/IL_ADS: the constants and the rule).
  """
  where = 'progress_discount'
  reached = np.asarray(reference, np.float64)
  if reached.ndim != 1 or not reached.size or not np.all(np.isfinite(reached)):
    raise ValueError(
      f'{where}: reference is {reference!r}; it must be a list of finite '
      'numbers, one per step of the horizon.'
    )
  _checks.check_between_0_and_1(where, 'alpha', alpha)
  check_value(where, 'start_fraction', start_fraction, above=0.0, maximum=1.0)
  check_value(where, 'threshold', threshold, above=0.0, maximum=1.0)
  check_value(where, 'percentile', percentile, minimum=0.0, maximum=100.0)
  return _ProgressDiscount(
    needed=tuple(np.floor(threshold * reached).tolist()),
    alpha=alpha,
    start=max(1, int(start_fraction * reached.size)),
    max_increase=check_steps(where, 'max_increase', max_increase, 1),
    percentile=percentile,
  )


@dataclasses.dataclass(frozen=True)
class _ProgressDiscount:
  """A stateful schedule of the costs between agent and demonstrations."""

  needed: tuple[float, ...]
  alpha: Value
  start: int
  max_increase: int
  percentile: float

  def init(self) -> DiscountState:
    return DiscountState(jnp.asarray(self.start, jnp.int32))

  def update(
    self, state: DiscountState, *, costs: Any, **extra_args: Any
  ) -> DiscountState:
    del extra_args
    horizon = len(self.needed)
    if jnp.shape(costs)[-2:] != (horizon, horizon):
      raise ValueError(
        f'progress_discount: costs has shape {jnp.shape(costs)}; it must be '
        f'[..., {horizon}, {horizon}], square in the length of the reference.'
      )
    needed = jnp.asarray(self.needed, jnp.float32)

    def grow(_: Any, progress: jax.Array) -> jax.Array:
      scores = leading_progress(costs, progress).astype(jnp.float32)
      score = jnp.percentile(scores, self.percentile)
      # Between whole numbers it may come out a little below one of them.
      enough = score >= needed[progress - 1] - 1e-3
      return progress + (enough & (progress < horizon)).astype(jnp.int32)

    progress = jax.lax.fori_loop(0, self.max_increase, grow, state.progress)
    return DiscountState(progress)

  def __call__(self, state: DiscountState, **extra_args: Any) -> jax.Array:
    del extra_args
    log = jnp.log(jnp.asarray(self.alpha, jnp.float32))
    return jnp.exp(log / state.progress.astype(jnp.float32))


def _longest_rise(costs: jax.Array, steps: jax.Array) -> jax.Array:
  """Length of the longest rising subsequence of the nearest frames."""
  agent, expert = costs.shape
  near = jnp.where(jnp.arange(expert)[None] < steps, costs, jnp.inf)
  matches = jnp.argmin(near, axis=1).astype(jnp.int32)

  def place(frame: jax.Array, lowest: jax.Array) -> jax.Array:
    # lowest[n] is the least last match of a subsequence of n + 1 matches.
    match = matches[frame]
    return lowest.at[jnp.searchsorted(lowest, match)].set(match)

  lowest = jnp.full([agent], expert, jnp.int32)
  lowest = jax.lax.fori_loop(0, jnp.minimum(steps, agent), place, lowest)
  return jnp.sum(lowest < expert).astype(jnp.int32)
