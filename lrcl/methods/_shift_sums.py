"""Two classic tests of a rise, as detectors of a shift."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.methods._shift import ShiftDetector, restart


class MomentsShiftState(NamedTuple):
  """State of `page_hinkley` and `cumulative_sum`.

  Attributes:
    count: int32 scalar, losses since the start.
    mean: float32 scalar, of the losses over which the averages reach back.
    variance: float32 scalar, of the same.
    total: float32 scalar, the deviations that have been summed up.
  """

  count: jax.Array
  mean: jax.Array
  variance: jax.Array
  total: jax.Array


def page_hinkley(
  allowance: float | jax.Array = 0.5,
  threshold: float | jax.Array = 20.0,
  *,
  history: int = 20,
  warmup: int = 50,
) -> ShiftDetector:
  r"""Page's and Hinkley's test of whether the mean loss has risen.

  It sums how many standard deviations each loss is above the running mean of
  those before it, less :math:`\delta`, and says so where the sum is
  :math:`\lambda` above its least value. Losses fall in training, so mean and
  deviation are exponential averages, which forget. The state keeps the sum over
  its least value.

  Args:
    allowance: :math:`\delta`, at least 0; may be traced.
    threshold: :math:`\lambda`, above 0; may be traced.
    history: the number of losses over which the averages reach back; all of
      them count alike until there are so many.
    warmup: losses before it may say so.

  Raises:
    ValueError: if a number is impossible.

  Example:
    >>> detector = page_hinkley(0.5, 2.0, warmup=4)
    >>> state, found = detector.init(), []
    >>> for value in (1.0, 1.2, 1.0, 1.2, 1.1, 1.4):
    ...   state, shifted = detector.update(state, value, 0.1)
    ...   found.append(int(shifted))
    >>> found
    [0, 0, 0, 0, 0, 1]

  References:
    Page, Continuous inspection schemes, 1954,
    https://doi.org/10.1093/biomet/41.1-2.100
  """
  numbers = allowance, threshold, history, warmup
  return _summing('page_hinkley', *numbers, moves=True)


def cumulative_sum(
  allowance: float | jax.Array = 0.5,
  threshold: float | jax.Array = 20.0,
  *,
  history: int = 20,
  warmup: int = 50,
) -> ShiftDetector:
  """Page's one-sided cumulative sum against a fixed level (CUSUM).

  As `page_hinkley`, but mean and deviation stay what they are after `warmup`
  losses. Where the loss still falls at that time, it is slower to see that it
  rises again.

  Args:
    allowance: what is taken off each term, in deviations; at least 0; may be
      traced.
    threshold: the sum, in deviations, from which on there is a shift; above 0;
      may be traced.
    history: the number of losses over which the averages reach back.
    warmup: losses until the level is fixed.

  Raises:
    ValueError: if a number is impossible.

  Example:
    >>> detector = cumulative_sum(0.5, 2.0, warmup=4)
    >>> state, found = detector.init(), []
    >>> for value in (1.0, 1.2, 1.0, 1.2, 1.1, 1.4):
    ...   state, shifted = detector.update(state, value, 0.1)
    ...   found.append(int(shifted))
    >>> found
    [0, 0, 0, 0, 0, 1]

  References:
    Page, Continuous inspection schemes, 1954,
    https://doi.org/10.1093/biomet/41.1-2.100
  """
  numbers = allowance, threshold, history, warmup
  return _summing('cumulative_sum', *numbers, moves=False)


def _summing(
  where: str,
  allowance: Any,
  threshold: Any,
  history: int,
  warmup: int,
  *,
  moves: bool,
) -> ShiftDetector:
  """A detector that sums excess losses, over a level that moves or not."""
  history = base.check_steps(where, 'history', history, 2)
  warmup = base.check_steps(where, 'warmup', warmup, 2)
  base.check_value(where, 'allowance', allowance, minimum=0)
  base.check_value(where, 'threshold', threshold, above=0)

  def init() -> MomentsShiftState:
    zero = lambda: jnp.zeros([], jnp.float32)  # donated, so no two are one
    return MomentsShiftState(jnp.zeros([], jnp.int32), zero(), zero(), zero())

  def baseline(state: MomentsShiftState) -> tuple[jax.Array, jax.Array]:
    return state.mean, jnp.sqrt(state.variance)

  def update(state, value, learning_rate):
    del learning_rate
    apart = jnp.asarray(value, jnp.float32) - state.mean
    # By the level before this loss: it would widen the deviation by itself.
    least = 1e-6 * jnp.abs(state.mean) + 1e-12
    excess = apart / jnp.maximum(jnp.sqrt(state.variance), least)
    warm = state.count >= warmup
    total = jnp.maximum(state.total + excess - allowance, 0.0)
    total = jnp.where(warm, total, 0.0)
    share = 1.0 / jnp.minimum(state.count + 1, history).astype(jnp.float32)
    share = share if moves else jnp.where(warm, 0.0, share)
    variance = (1.0 - share) * (state.variance + share * jnp.square(apart))
    shifted = total > threshold
    state = MomentsShiftState(
      state.count + 1, state.mean + share * apart, variance, total
    )
    return restart(shifted, init(), state), shifted

  return ShiftDetector(init, update, baseline)
