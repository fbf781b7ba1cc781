"""A rate that rises while the loss falls."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl.base import check_steps, check_value, is_concrete
from lrcl.schedules import _checks, _feedback
from lrcl.schedules._profiles import Value


class GreedyState(NamedTuple):
  """What `greedy` remembers.

  Attributes:
    task_id: int32, the task of the last step; 0 for ever without `per_task`.
    rate: float32, the rate of the last step.
    best: float32, the least loss so far.
    good: int32, how many losses in a row were the least so far.
    bad: int32, how many in a row were not.
    wait: int32, steps until losses count again.
    at_min: int32, cuts in a row that met the least rate.
    recent: `[window]`, float32, the last losses; zeros before there are any.
    seen: int32, the number of losses seen.
  """

  task_id: jax.Array
  rate: jax.Array
  best: jax.Array
  good: jax.Array
  bad: jax.Array
  wait: jax.Array
  at_min: jax.Array
  recent: jax.Array
  seen: jax.Array


def greedy(
  init_value: Value,
  *,
  factor: Value = 0.95,
  patience: int = 10,
  threshold: float = 1e-6,
  cooldown: int = 0,
  warmup: int = 0,
  min_value: Value = 1e-3,
  max_value: Value = 1.0,
  reset_after: int = 500,
  window: int = 1,
  per_task: bool = False,
) -> optax.schedules.StatefulSchedule:
  """Raises the rate while the loss falls and cuts it while it does not.

  A loss below the least one so far by more than `threshold` is good, any other
  bad. After more than `patience` good ones in a row the rate is divided by
  `factor`, after as many bad ones multiplied by it. After `reset_after` cuts
  that met `min_value`, with no rise in between, everything starts anew.

  The loss of a minibatch is noisy, and of noise hardly ever so many in a row
  are good: take a `window`. On a stream of tasks the first loss of a new task
  is far above the least of the old one, and nothing is good for long: take
  `per_task`.

  Args:
    init_value: the rate at the start.
    factor: the factor of a cut, in (0, 1).
    patience: how many losses in a row have no effect yet.
    threshold: by how much a good loss is below the least so far.
    cooldown: for how many steps losses are not looked at after a cut.
    warmup: the same after a rise.
    min_value: the least rate.
    max_value: the greatest rate.
    reset_after: cuts at the least rate before all starts anew.
    window: the number of losses that are averaged first.
    per_task: whether all starts anew at every change of the task.

  Returns:
    A stateful schedule; its state is a `GreedyState`. It needs the extra arg
    `value`, and with `per_task` also `task_id`, in every update; without them
    `update` raises a `TypeError`.

  Raises:
    ValueError: if a number is impossible, or `init_value` is outside of the
      bounds.

  Example:
    >>> rate = greedy(0.1, factor=0.5, patience=1)
    >>> state, rates = rate.init(), []
    >>> for loss in (3.0, 2.0, 1.0, 1.0, 1.0, 1.0):
    ...   state = rate.update(state, value=loss)
    ...   rates.append(round(float(rate(state)), 3))
    >>> rates
    [0.1, 0.2, 0.2, 0.2, 0.1, 0.1]

  References:
    Subramanian and Ganapathiraman, 2025, `GreedyLR: A Novel Adaptive Learning
    Rate Scheduler <https://arxiv.org/abs/2512.14527>`_. The rules are those of
    `get_greedy_schedule` in Hugging Face's transformers, which cuts the rate
    one step later, since it looks at a loss after its update, and leaves out
    changes below 1e-8.
  """
  where = 'greedy'
  patience = check_steps(where, 'patience', patience)
  cooldown = check_steps(where, 'cooldown', cooldown)
  warmup = check_steps(where, 'warmup', warmup)
  reset_after = check_steps(where, 'reset_after', reset_after, 1)
  window = check_steps(where, 'window', window, 1)
  check_value(where, 'threshold', threshold, minimum=0.0)
  _check_rates(where, init_value, min_value, max_value)
  _checks.check_between_0_and_1(where, 'factor', factor)
  zero = lambda: jnp.zeros([], jnp.int32)
  number = lambda value: jnp.asarray(value, jnp.float32)

  def start() -> GreedyState:
    recent = jnp.zeros([window], jnp.float32)
    counts = zero(), zero(), zero(), zero()
    best = number(jnp.inf)
    return GreedyState(
      zero(), number(init_value), best, *counts, recent, zero()
    )

  def follow(state: GreedyState, value: jax.Array) -> GreedyState:
    state, value = _average(state, value)
    state, up, down = _count(state, value, number(threshold), patience)
    higher = jnp.minimum(state.rate / number(factor), number(max_value))
    lower = jnp.maximum(state.rate * number(factor), number(min_value))
    rate = jnp.where(up, higher, jnp.where(down, lower, state.rate))
    again = (down & (rate <= number(min_value))).astype(jnp.int32)
    at_min = jnp.where(up, 0, state.at_min + again)
    wait = jnp.where(up, warmup, jnp.where(down, cooldown, state.wait))
    fresh = start()._replace(task_id=state.task_id, wait=wait)
    state = state._replace(rate=rate, wait=wait, at_min=at_min)
    return _feedback.where(at_min < reset_after, state, fresh)

  kind = _feedback.TaskFeedback if per_task else _feedback.Feedback
  return kind(start, follow, lambda state: state.rate)


def _average(
  state: GreedyState, value: jax.Array
) -> tuple[GreedyState, jax.Array]:
  """The mean of the last losses, this one included."""
  window = state.recent.shape[0]
  recent = state.recent.at[state.seen % window].set(value)
  seen: Any = optax.safe_increment(state.seen)
  full = jnp.minimum(seen, window).astype(jnp.float32)
  return state._replace(recent=recent, seen=seen), jnp.sum(recent) / full


def _count(
  state: GreedyState, value: jax.Array, threshold: jax.Array, patience: int
) -> tuple[GreedyState, jax.Array, jax.Array]:
  """Counts a loss as good or bad; whether the rate goes up, and down."""
  waits = state.wait > 0
  better = value < state.best - threshold
  best = jnp.where(better & ~waits, value, state.best)
  good = jnp.where(better & ~waits, state.good + 1, 0)
  bad = jnp.where(better | waits, 0, state.bad + 1)
  up, down = good > patience, bad > patience
  state = state._replace(
    best=best,
    good=jnp.where(up, 0, good),
    bad=jnp.where(down, 0, bad),
    wait=jnp.maximum(state.wait - 1, 0),
  )
  return state, up, down


def _check_rates(where: str, init: Value, low: Value, high: Value) -> None:
  """Checks that the rate starts within its bounds."""
  check_value(where, 'min_value', low, above=0.0)
  check_value(where, 'init_value', init, above=0.0)
  if is_concrete(low) and is_concrete(init):
    check_value(where, 'init_value', init, minimum=float(low))
  if is_concrete(high) and is_concrete(init):
    check_value(where, 'max_value', high, minimum=float(init))
