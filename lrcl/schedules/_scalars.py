"""Schedules of scalars that are not learning rates."""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp
import optax

from lrcl.base import check_steps, check_value
from lrcl.schedules import _checks, _steps
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._profiles import Value
from lrcl.schedules._segments import Segment, segments


def cyclical_fraction_schedule(
  epoch_steps: int,
  *,
  min_fraction: float = 0.25,
  max_fraction: float = 1.0,
  factor: float = 0.5,
) -> optax.Schedule:
  """The fraction of the data to draw from, up and down a ladder for ever.

  From `min_fraction` every rung is the last one over `factor`, at most
  `max_fraction`; from there down every rung is the last one times `factor`, at
  least `min_fraction`. A rung holds for one pass over its part of the data:
  its fraction of `epoch_steps`, rounded, one step at least. So `n` epochs of
  examples take `n * epoch_steps` steps whatever the rungs are.

  Args:
    epoch_steps: steps of a pass over all the data.
    min_fraction: the lowest rung, in (0, 1].
    max_fraction: the highest rung, from `min_fraction` to 1.
    factor: the ratio of two rungs, in (0, 1).

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if there is no step, or a fraction or the factor is impossible.

  Example:
    >>> fraction = cyclical_fraction_schedule(4)
    >>> [float(fraction(step)) for step in range(10)]
    [0.25, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]

  References:
    Kesgin and Amasyali, 2022, `Cyclical Curriculum Learning
    <https://arxiv.org/abs/2202.05531>`_; the ladder is that of their code
    (https://github.com/CyclicalCurriculum/Cyclical-Curriculum).
  """
  where = 'cyclical_fraction_schedule'
  epoch_steps = check_steps(where, 'epoch_steps', epoch_steps, 1)
  check_value(where, 'min_fraction', min_fraction, above=0.0, maximum=1.0)
  check_value(
    where, 'max_fraction', max_fraction, minimum=min_fraction, maximum=1.0
  )
  _checks.check_between_0_and_1(where, 'factor', factor)
  row = []
  for rung in _ladder(min_fraction, max_fraction, factor):
    steps = max(1, math.floor(rung * epoch_steps + 0.5))
    row.append(Segment(steps, rung, rung, profiles.hold))
  return segments(where, row, repeat_from=0)


def _ladder(low: float, high: float, factor: float) -> list[float]:
  """One period: the rungs up to the top, and down to above the lowest."""
  up, down = [low], [high]
  while up[-1] < high:
    up.append(min(up[-1] / factor, high))
  while down[-1] > low:
    down.append(max(down[-1] * factor, low))
  return up + down[1:-1]


def geometric_budget_schedule(
  init_value: Value,
  transition_steps: int,
  decay_rate: float,
  *,
  end_value: Value = 1.0,
  staircase: bool = True,
) -> optax.Schedule:
  """A budget of whole units that shrinks geometrically, of tokens say.

  At step `t` it is `init_value * decay_rate ** (t / transition_steps)`, the
  exponent rounded down with `staircase`, the result always, but never less
  than `end_value`. It is the `optax.exponential_decay` of a thing that is
  counted; a product that is a whole number but for 1e-6 of itself is taken for
  that number, which float32 may just miss.

  Args:
    init_value: the budget at step 0.
    transition_steps: steps of one transition, at least 1.
    decay_rate: the factor of a transition, in (0, 1].
    end_value: the least budget, a whole number.
    staircase: whether the budget falls at the end of a transition only.

  Returns:
    A schedule: int or float steps to float32, whole numbers. Its gradient by
    `init_value` is 0.

  Raises:
    ValueError: if there is no step, or a value or the rate is impossible.

  Example:
    >>> budget = geometric_budget_schedule(256.0, 50, 0.8)
    >>> [int(budget(step)) for step in (0, 49, 50, 100, 250, 500, 5000)]
    [256, 256, 204, 163, 83, 27, 1]

  References:
    Hammoud et al., 2025, `Train Long, Think Short: Curriculum Learning for
    Efficient Reasoning <https://arxiv.org/abs/2508.08940>`_ (the staircase;
    the formula is quoted from others, the code was not read). Reinforcement
    mid-training has the same budget without the stairs; its exponent is
    unconfirmed.
  """
  where = 'geometric_budget_schedule'
  every = check_steps(where, 'transition_steps', transition_steps, 1)
  check_value(where, 'decay_rate', decay_rate, above=0.0, maximum=1.0)
  _checks.check_values(where, init_value=init_value, end_value=end_value)
  decay = optax.exponential_decay(init_value, 1, decay_rate)

  def evaluate(step: jax.Array) -> jax.Array:
    step = _steps.normal_step(where, step)
    # Whole transitions are counted in whole numbers: XLA may turn n / n into a
    # product that is less than 1.
    past = step // every
    rest = (step - past * every).astype(jnp.float32) / every
    past = past.astype(jnp.float32)
    budget = jnp.asarray(decay(past if staircase else past + rest), jnp.float32)
    nearest = jnp.round(budget)
    hits = jnp.abs(budget - nearest) <= 1e-6 * budget
    whole = jnp.where(hits, nearest, jnp.floor(budget))
    return jnp.maximum(whole, jnp.asarray(end_value, jnp.float32))

  return _steps.compiled(where, evaluate)


TokenSchedule = Callable[
  [jax.typing.ArrayLike, jax.typing.ArrayLike], jax.Array
]
"""`schedule(token, step)`: a scalar for each token of a response, and step."""


def token_temperature_schedule(
  peak_value: Value = 1.2,
  end_value: Value = 0.1,
  *,
  init_scale: Value = 25.0,
  scale_growth: Value = 5.0,
  max_scale: Value = 40_000.0,
  stretch: Value = 20.0,
  warmup_tokens: int = 10,
) -> TokenSchedule:
  """A sampling temperature that falls along the response.

  Token `t` of a response, counted from 0, is sampled at training step `s` with
  the temperature `max(1 + peak_value - exp(t / (stretch * d)), end_value)`,
  `d = min(init_scale + scale_growth * s, max_scale)`; the first
  `warmup_tokens` at 1. Responses explore at their start and stick to it, and
  the longer one trains, the later they cool.

  The sampler and the correction of its bias, whose behaviour policy is the
  tempered one, must use this same function: both read
  `log_softmax(logits / schedule(tokens, step)[:, None])`. In the published
  code they do not: its sampler stretches `d` by 20, its correction does not.
  The default is the sampler; the formula as printed is `stretch=1`.

  Args:
    peak_value: the temperature of token 0 without a warm-up.
    end_value: the least temperature, greater than 0.
    init_scale: `d` at step 0, greater than 0.
    scale_growth: what a step adds to `d`.
    max_scale: the greatest `d`.
    stretch: tokens per unit of `d`.
    warmup_tokens: how many tokens are sampled at temperature 1.

  Returns:
    `schedule(token, step)`: float32, of the broadcast shape of both.

  Raises:
    ValueError: if a value is impossible.

  Example:
    >>> temperature = token_temperature_schedule()
    >>> [round(float(temperature(token, 0)), 3) for token in (0, 10, 300, 400)]
    [1.0, 1.18, 0.378, 0.1]

  References:
    Yang et al., 2025, Exploratory Annealed Decoding,
    https://github.com/yangalan123/EAD-RLVR.
  """
  where = 'token_temperature_schedule'
  warmup = check_steps(where, 'warmup_tokens', warmup_tokens)
  _checks.check_values(where, peak_value=peak_value, scale_growth=scale_growth)
  positive = {'end_value': end_value, 'init_scale': init_scale}
  positive |= {'max_scale': max_scale, 'stretch': stretch}
  for name, value in positive.items():
    check_value(where, name, value, above=0.0)

  def schedule(
    token: jax.typing.ArrayLike, step: jax.typing.ArrayLike
  ) -> jax.Array:
    token = _steps.normal_step(where, token)
    step = _steps.normal_step(where, step).astype(jnp.float32)
    scale = stretch * jnp.minimum(init_scale + scale_growth * step, max_scale)
    # Beyond this exponent the temperature has long been at its end: without
    # the bound a long response would overflow, and its gradient be NaN.
    highest = jnp.log(2.0 + jnp.asarray(peak_value, jnp.float32))
    exponent = jnp.minimum(token.astype(jnp.float32) / scale, highest)
    fallen = jnp.maximum(1.0 + peak_value - jnp.exp(exponent), end_value)
    return jnp.where(token < warmup, 1.0, fallen).astype(jnp.float32)

  return schedule


def horizon_features(
  step: jax.typing.ArrayLike, total_steps: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
  """How far a run is and how long it is: the inputs of a learned schedule.

  Args:
    step: updates done.
    total_steps: updates of the whole run, at least 1. May be traced, so that
      one program serves runs of many lengths.

  Returns:
    `(step / total_steps, log(total_steps))`: float32, of the broadcast shape.

  Raises:
    ValueError: if a concrete `total_steps` is below 1.

  Example:
    >>> [round(float(x), 3) for x in horizon_features(25, 100)]
    [0.25, 4.605]

  References:
    Jackson et al., 2024, `Discovering Temporally-Aware Reinforcement Learning
    Algorithms <https://arxiv.org/abs/2402.05828>`_; their public code feeds
    the bare step and length instead, which this does not.
  """
  if jnp.ndim(total_steps) == 0:
    check_value('horizon_features', 'total_steps', total_steps, minimum=1)
  step = jnp.asarray(step, jnp.float32)
  total = jnp.asarray(total_steps, jnp.float32)
  step, total = jnp.broadcast_arrays(step, total)
  return step / total, jnp.log(total)
