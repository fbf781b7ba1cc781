"""A learning rate that is chosen by what it does to the loss on a memory."""

from collections.abc import Mapping
import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _rate, _rows


class ReplayRateState(NamedTuple):
  """State of `scale_by_replay_rate`; `applied_rate` reads the first two.

  Attributes:
    learning_rate: float32 scalar, the rate of the last update.
    count: int32 scalar, the updates so far.
    high_rate: float32 scalar, the higher of the two rates under test.
    is_high: bool scalar, whether it is the one in use.
    decreases: `[2, records]`, float32, the last measurements under the higher
      and the lower rate.
    recorded: `[2]`, int32, the measurements since the last decision.
    probe: rows of the memory, as drawn when this period began.
    probe_value: float32 scalar, their loss at that time.
    probe_ready: bool scalar, whether there was anything to draw.
  """

  learning_rate: jax.Array
  count: jax.Array
  high_rate: jax.Array
  is_high: jax.Array
  decreases: jax.Array
  recorded: jax.Array
  probe: dict[str, Any]
  probe_value: jax.Array
  probe_ready: jax.Array


def scale_by_replay_rate(
  init_value: Any,
  example: Mapping[str, Any],
  batch_size: int,
  *,
  factor: float = 0.95,
  period: int = 10,
  records: int = 10,
  significance: float = 0.05,
  warmup_steps: int = 20,
) -> optax.GradientTransformationExtraArgs:
  """Multiplies updates by minus a rate that is on trial against a lower one.

  The higher rate and `factor` times it are in use by turns, for `period` steps
  each. At the end of each turn the loss on rows of the memory is compared with
  what it was on the same rows when the turn began. Once there are `records`
  such decreases under either rate, a one-sided Welch test over the last of them
  asks which is greater. If the lower rate wins, it becomes the higher one; if
  the higher one wins, it becomes the lower one; then all is measured anew. The
  rate has no bounds, and knows of no task: what it follows is the memory.

  What differs from the published method: the loss is taken over `batch_size`
  drawn rows and not over the whole memory, the rows of a turn stay even if the
  memory drops them, and the quantile of the test is that of a normal
  distribution, not of Student's. With ten records each the latter asks for
  1.73 standard errors where this asks for 1.64.

  Place in the chain: in place of the learning rate, inside `with_memory`, not
  inside `optax.masked`. No other rate follows it. It measures at the parameters
  that enter a step, so whatever links come after it are included. Cost: two
  passes forward over `batch_size` rows in every `period` steps (under `vmap` in
  every step), and these rows in the state.

  Args:
    init_value: the higher rate at the start, greater than 0; may be traced.
    example: as for `with_memory`.
    batch_size: as for `with_memory`.
    factor: the ratio of the two rates, in (0, 1).
    period: steps of a turn.
    records: how many turns of each rate are compared, at least 2.
    significance: of the test, in (0, 0.5].
    warmup_steps: turns that end by then are not recorded.

  Returns:
    A transformation with the state `ReplayRateState`. It needs the extra args
    `value_fn`, `memory` and `memory_ready`. Updates keep their dtype.

  Raises:
    ValueError: if a number is impossible or, when a step is traced, the memory
      does not look like `example`, or `params` are missing.

  Example:
    >>> rows = {'inputs': jnp.ones(4)}
    >>> tx = scale_by_replay_rate(0.1, rows, 4, period=1)
    >>> state = tx.init(jnp.float32(0.0))
    >>> value_fn = lambda x, batch: jnp.square(x - batch['inputs'])
    >>> for _ in range(3):
    ...   _, state = tx.update(jnp.float32(1.0), state, jnp.float32(0.0),
    ...     value_fn=value_fn, memory=rows, memory_ready=True)
    ...   print(round(float(state.learning_rate), 4))
    0.1
    0.095
    0.1

  References:
    Koh et al., 2022, `Online Continual Learning on Class Incremental Blurry
    Task Configuration with Anytime Inference
    <https://arxiv.org/abs/2110.10031>`_ (CLIB, its adaptive learning rate;
    https://github.com/naver-ai/i-Blurry).
  """
  where = 'scale_by_replay_rate'
  _check(where, init_value, factor, significance)
  for name, value, least in (
    ('batch_size', batch_size, 1),
    ('period', period, 1),
    ('records', records, 2),
    ('warmup_steps', warmup_steps, 0),
  ):
    base.check_steps(where, name, value, least)
  specs = _rows.specs(example, ())
  bar = statistics.NormalDist().inv_cdf(1.0 - significance)

  def init_fn(params: Any) -> ReplayRateState:
    del params
    number = lambda value: jnp.asarray(value, jnp.float32)
    empty = lambda spec: jnp.zeros((batch_size, *spec.shape), spec.dtype)
    return ReplayRateState(
      learning_rate=number(init_value),
      count=jnp.zeros([], jnp.int32),
      high_rate=jnp.array(init_value, jnp.float32),
      is_high=jnp.asarray(False),
      decreases=jnp.zeros([2, records], jnp.float32),
      recorded=jnp.zeros([2], jnp.int32),
      probe=jax.tree.map(empty, specs),
      probe_value=number(0.0),
      probe_ready=jnp.asarray(False),
    )

  def turn(
    state: ReplayRateState, loss: Any, memory: Any, ready: Any
  ) -> ReplayRateState:
    late = state.count > warmup_steps
    decrease = state.probe_value - loss(state.probe)
    state = _record(state, decrease, state.probe_ready & late)
    state = state._replace(is_high=~state.is_high)
    state = _decide(state, factor, bar)
    return state._replace(
      probe=memory, probe_value=loss(memory), probe_ready=jnp.asarray(ready)
    )

  def replay_rate_update(
    updates: Any,
    state: ReplayRateState,
    params: Any = None,
    *,
    value_fn: Any,
    memory: base.Batch,
    memory_ready: Any,
    **extra_args: Any,
  ) -> tuple[Any, ReplayRateState]:
    del extra_args
    if params is None:
      raise ValueError(f'{where}: pass params to update.')
    memory = dict(memory)
    _check_memory(where, state.probe, memory)
    loss = lambda rows: _mean_loss(value_fn(params, rows), rows)
    state = jax.lax.cond(
      state.count % period == 0,
      lambda state: turn(state, loss, memory, memory_ready),
      lambda state: state,
      state,
    )
    low_rate = state.high_rate * jnp.asarray(factor, jnp.float32)
    rate = jnp.where(state.is_high, state.high_rate, low_rate)
    count: Any = optax.safe_increment(state.count)
    state = state._replace(learning_rate=rate, count=count)
    return _rate.apply_rate(updates, rate), state

  update_fn: Any = replay_rate_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _record(
  state: ReplayRateState, decrease: jax.Array, valid: jax.Array
) -> ReplayRateState:
  """Writes a measurement over the oldest of the rate that was in use."""
  arm = jnp.where(state.is_high, 0, 1)
  slot = state.recorded[arm] % state.decreases.shape[1]
  kept = jnp.where(valid, decrease, state.decreases[arm, slot])
  return state._replace(
    decreases=state.decreases.at[arm, slot].set(kept),
    recorded=state.recorded.at[arm].add(valid.astype(jnp.int32)),
  )


def _decide(
  state: ReplayRateState, factor: float, bar: float
) -> ReplayRateState:
  """Moves both rates if one of them is better by `bar` standard errors."""
  records = state.decreases.shape[1]
  high, low = jnp.mean(state.decreases, axis=1)
  variance = jnp.sum(jnp.var(state.decreases, axis=1, ddof=1))
  # No quotient: two rates that do exactly the same decide nothing.
  least = bar * jnp.sqrt(variance / records)
  full = jnp.all(state.recorded >= records)
  falls, rises = full & (low - high > least), full & (high - low > least)
  step = jnp.where(rises, 1.0 / factor, factor).astype(jnp.float32)
  moves = falls | rises
  return state._replace(
    high_rate=jnp.where(moves, state.high_rate * step, state.high_rate),
    recorded=jnp.where(moves, 0, state.recorded),
    # As published: after a decision the rate that was in use has another turn.
    is_high=state.is_high ^ moves,
  )


def _mean_loss(losses: jax.Array, rows: base.Batch) -> jax.Array:
  losses = losses.astype(jnp.float32)
  weight = rows.get('weight', jnp.ones_like(losses))
  return base.weighted_mean(losses, weight.astype(jnp.float32))


def _check(where: str, init: Any, factor: float, significance: float) -> None:
  base.check_value(where, 'init_value', init, above=0.0)
  base.check_value(where, 'factor', factor, above=0.0, maximum=1.0)
  if factor == 1:
    raise ValueError(f'{where}: factor is {factor}; it must be < 1.')
  base.check_value(where, 'significance', significance, above=0.0, maximum=0.5)


def _check_memory(where: str, probe: Any, memory: Any) -> None:
  """Checks that rows of the memory fit into the state."""
  kind = lambda x: (jnp.shape(x), jax.dtypes.canonicalize_dtype(x.dtype))
  want, have = (jax.tree.map(kind, rows) for rows in (probe, memory))
  if want != have:
    raise ValueError(
      f'{where}: memory is {have}; by example and batch_size it must be {want}.'
    )
