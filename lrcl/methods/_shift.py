"""Detectors of a shift of the stream, from the losses alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base


class ShiftDetector(NamedTuple):
  """A detector as pure functions, for `jit`, `scan` and `vmap`.

  Attributes:
    init: `init() -> state`, a pytree of arrays.
    update: `update(state, value, learning_rate) -> (state, shifted)`, where
      `value` is the loss of a batch and `shifted` a bool scalar. At a shift the
      state that comes back has started anew.
    baseline: `baseline(state) -> (mean, std)`, float32 scalars: what losses are
      like without a shift. 0 before the first of them.
  """

  init: Callable[[], Any]
  update: Callable[[Any, Any, Any], tuple[Any, jax.Array]]
  baseline: Callable[[Any], tuple[jax.Array, jax.Array]]


class WindowShiftState(NamedTuple):
  """State of `window_shift`.

  Attributes:
    values: float32 `[history + window]`, the last losses, in a ring.
    count: int32 scalar, losses since the start.
    over: int32 scalar, how many of the last steps in a row were over the
      threshold.
  """

  values: jax.Array
  count: jax.Array
  over: jax.Array


class RateGateState(NamedTuple):
  """State of `restart_on_rate`.

  Attributes:
    rate: float32 scalar, the least learning rate since the start.
    inner_state: the detector's state.
  """

  rate: jax.Array
  inner_state: Any


def window_shift(
  window: int = 10,
  history: int = 50,
  threshold: float | jax.Array = 3.0,
  *,
  patience: int = 1,
) -> ShiftDetector:
  r"""Compares the loss of a window with that of the time before it (TAME).

  A shift is where the mean of the last `window` losses is above
  :math:`\mu + c \sigma`, with the mean and the standard deviation of single
  losses in the `history` before the window, at `patience` steps in a row. It
  then starts anew, and is blind for `history + window` steps.

  That the rule is one of a smoothed loss, its mean and its deviation is what
  the paper says; the window, the threshold and the patience are choices of this
  library [R].

  Args:
    window: losses in the smoothed one.
    history: losses before them.
    threshold: c, above 0; may be traced.
    patience: steps in a row that must be over it.

  Raises:
    ValueError: if a number is impossible.

  Example:
    >>> detector = window_shift(window=2, history=4)
    >>> state, found = detector.init(), []
    >>> for value in (1.0, 1.2, 1.0, 1.2, 1.1, 1.1, 9.0):
    ...   state, shifted = detector.update(state, value, 0.1)
    ...   found.append(int(shifted))
    >>> found
    [0, 0, 0, 0, 0, 0, 1]

  References:
    Zhu et al., `TAME: task agnostic continual learning using multiple experts
    <https://arxiv.org/abs/2210.03869>`_, 2022
  """
  where = 'window_shift'
  window = base.check_steps(where, 'window', window, 1)
  history = base.check_steps(where, 'history', history, 2)
  patience = base.check_steps(where, 'patience', patience, 1)
  base.check_value(where, 'threshold', threshold, above=0)
  size = window + history

  def init() -> WindowShiftState:
    zero = lambda: jnp.zeros([], jnp.int32)  # donated, so no two are one
    return WindowShiftState(jnp.zeros(size, jnp.float32), zero(), zero())

  def baseline(state: WindowShiftState) -> tuple[jax.Array, jax.Array]:
    age = (state.count - 1 - jnp.arange(size)) % size  # 0 for the newest
    counted = (age >= window) & (age < state.count)
    # Too few for a history: all that there are.
    counted = jnp.where(state.count > window + 1, counted, age < state.count)
    number = jnp.maximum(jnp.sum(counted), 1).astype(jnp.float32)
    mean = jnp.sum(jnp.where(counted, state.values, 0.0)) / number
    square = jnp.where(counted, jnp.square(state.values - mean), 0.0)
    return mean, jnp.sqrt(jnp.sum(square) / number)

  def update(state, value, learning_rate):
    del learning_rate
    value = jnp.asarray(value, jnp.float32)
    values = state.values.at[state.count % size].set(value)
    state = state._replace(values=values, count=state.count + 1)
    mean, std = baseline(state)
    newest = (state.count - 1 - jnp.arange(size)) % size < window
    smoothed = jnp.sum(jnp.where(newest, values, 0.0)) / window
    full = state.count >= size
    over = full & (smoothed > mean + threshold * std)
    state = state._replace(over=jnp.where(over, state.over + 1, 0))
    shifted = state.over >= patience
    return restart(shifted, init(), state), shifted

  return ShiftDetector(init, update, baseline)


def restart_on_rate(
  detector: ShiftDetector, ratio: float | jax.Array = 2.0
) -> ShiftDetector:
  """Starts a detector anew where the learning rate has risen.

  A rate that restarts, or a warmup, raises the loss without a shift of the
  stream. Where the rate is `ratio` times the least one since the last start, or
  more, what was known of the losses no longer counts. The price is that a shift
  in the time that the detector then needs is not seen.

  Args:
    detector: any.
    ratio: above 1; may be traced.

  Example:
    >>> detector = restart_on_rate(window_shift(window=1, history=2))
    >>> state = detector.init()
    >>> steps = [(1.0, 0.1), (1.0, 0.1), (1.0, 0.1), (5.0, 0.4), (5.0, 0.4)]
    >>> for value, rate in steps:
    ...   state, shifted = detector.update(state, value, rate)
    >>> print(shifted)
    False
  """
  base.check_value('restart_on_rate', 'ratio', ratio, above=1)

  def init() -> RateGateState:
    return RateGateState(jnp.full([], jnp.inf, jnp.float32), detector.init())

  def update(state, value, learning_rate):
    rate = jnp.asarray(learning_rate, jnp.float32)
    rises = rate >= ratio * state.rate
    inner = restart(rises, detector.init(), state.inner_state)
    inner, shifted = detector.update(inner, value, rate)
    least = jnp.where(rises | shifted, rate, jnp.minimum(rate, state.rate))
    return RateGateState(least, inner), shifted

  baseline = lambda state: detector.baseline(state.inner_state)
  return ShiftDetector(init, update, baseline)


def restart(flag: jax.Array, start: Any, state: Any) -> Any:
  """`start` where `flag` holds, else `state`."""
  return jax.tree.map(lambda a, b: jnp.where(flag, a, b), start, state)
