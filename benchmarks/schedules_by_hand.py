"""The schedules of `benchmarks.schedules`, written for their numbers alone.

No LRCL in here: `jnp.where` over the phases, every number a constant. Steps are
subtracted as integers and a decay to zero is a quotient of what is left, so
that the last steps are as exact as the library's.
"""

import jax.numpy as jnp
import numpy as np

TOTAL, WARMUP, DECAY = 1_000_000, 10_000, 200_000
PEAK, LOW = 0.1, 0.01
ENDS = (250_000, 500_000, 1_000_000)
MANY_ENDS = tuple(np.cumsum([15_000, 25_000] * 25).tolist())


def ratio(count, steps):
  return count.astype(jnp.float32) / steps


def passed(step, start, steps):
  return ratio(jnp.clip(step - start, 0, steps), steps)


def remaining(step, start, steps):
  return ratio(jnp.clip(start + steps - step, 0, steps), steps)


def half_cosine(left):
  return jnp.sin(np.pi / 2 * left) ** 2


def after_warmup(step, value):
  return jnp.where(step < WARMUP, PEAK * passed(step, 0, WARMUP), value)


def wsd(profile):
  """Warm-up, stable, and `profile(done, left)` of the peak."""

  def schedule(step):
    done = passed(step, TOTAL - DECAY, DECAY)
    left = remaining(step, TOTAL - DECAY, DECAY)
    return after_warmup(step, PEAK * profile(done, left))

  return schedule


DECAYS = {
  'linear': lambda done, left: left,
  'cosine': lambda done, left: half_cosine(left),
  'one_minus_sqrt': lambda done, left: left / (1 + jnp.sqrt(done)),
  'square': lambda done, left: left * (1 + done),
  'mirror_cosine': lambda done, left: 2 * left - half_cosine(left),
  'exponential': lambda done, left: jnp.exp(np.log(LOW / PEAK) * done),
  'inverse': lambda done, left: 1 / (1 + (PEAK / LOW - 1) * done),
}


def power_decay(exponent):
  """`1 - done ** exponent`, precise at both ends."""

  def profile(done, left):
    log = jnp.where(left < done, jnp.log1p(-left), jnp.log(done))
    return -jnp.expm1(exponent * log)

  return profile


def half_life_decay(half_life):
  return lambda done, left: jnp.exp2(-done / half_life)


def inverse_sqrt(timescale):
  """Without the cancellation of `1 / sqrt(1 + t u) - 1 / sqrt(1 + t)`."""
  last = np.sqrt(1 + timescale)

  def profile(done, left):
    root = jnp.sqrt(1 + timescale * done)
    return left * (last + 1) / (root * (last + root))

  return profile


def rex(beta):
  return lambda done, left: left / (1 - beta + beta * left)


def uba(phi):
  def profile(done, left):
    high = half_cosine(left)
    return 2 * high / (phi + (2 - phi) * high)

  return profile


def over_budget(profile):
  def schedule(step):
    done, left = passed(step, 0, TOTAL), remaining(step, 0, TOTAL)
    return PEAK * profile(done, left)

  return schedule


def wsd_s(step):
  """Three cycles, the last tenth of each an inverse decay."""
  first = jnp.where(
    step < ENDS[0], 225_000, jnp.where(step < ENDS[1], 475_000, 950_000)
  )
  steps = jnp.where(step < ENDS[1], 25_000, 50_000)
  done = ratio(jnp.clip(step - first, 0, steps), steps)
  return after_warmup(step, PEAK / (1 + (PEAK / LOW - 1) * done))


def wsd_s_of(ends):
  """Any number of cycles: their numbers in tables."""
  ends = np.asarray(ends)
  lengths = np.diff(ends, prepend=0) // 10
  ends, lengths = jnp.asarray(ends), jnp.asarray(lengths)

  def schedule(step):
    cycle = jnp.searchsorted(ends, step, side='right', method='scan_unrolled')
    cycle = jnp.minimum(cycle, ends.size - 1)
    steps = lengths[cycle]
    done = ratio(jnp.clip(step - (ends[cycle] - steps), 0, steps), steps)
    return after_warmup(step, PEAK / (1 + (PEAK / LOW - 1) * done))

  return schedule


def infinite(profile):
  """Warm-up, cool-down to half the peak, constant, exponential anneal."""

  def schedule(step):
    done = passed(step, WARMUP, 590_000)
    left = remaining(step, WARMUP, 590_000)
    cooling = PEAK / 2 + PEAK / 2 * profile(done, left)
    anneal = passed(step, TOTAL - DECAY, DECAY)
    annealing = PEAK / 2 * jnp.exp(np.log(2 * LOW / PEAK) * anneal)
    value = jnp.where(step < TOTAL - DECAY, cooling, annealing)
    return after_warmup(step, value)

  return schedule


def repeated_cosine(step):
  """Cycles of a tenth of the run; the first warm-up rises from 0."""
  at = step % (TOTAL // 10)
  start = jnp.where(step < WARMUP, 0.0, LOW)
  rise = start + (PEAK - start) * passed(at, 0, WARMUP)
  left = remaining(at, WARMUP, TOTAL // 10 - WARMUP)
  fall = LOW + (PEAK - LOW) * half_cosine(left)
  return jnp.where(at < WARMUP, rise, fall)


def rewarmed(step):
  """Three tasks, each with half the peak of the one before."""
  second, third = step >= 300_000, step >= 600_000
  first = jnp.where(third, 600_000, jnp.where(second, 300_000, 0))
  steps = jnp.where(third, 400_000, 300_000) - WARMUP
  peak = jnp.where(third, PEAK / 4, jnp.where(second, PEAK / 2, PEAK))
  start = jnp.where(second, LOW, 0.0)
  rise = start + (peak - start) * passed(step - first, 0, WARMUP)
  left = ratio(jnp.clip(first + WARMUP + steps - step, 0, steps), steps)
  fall = LOW + (peak - LOW) * half_cosine(left)
  return jnp.where(step - first < WARMUP, rise, fall)


def cyclical_fraction(step):
  at = step % 9000
  rising = jnp.where(at < 1000, 0.25, 0.5)
  return jnp.where(at < 3000, rising, jnp.where(at < 7000, 1.0, 0.5))


def geometric_budget(step):
  past = (step // 20_000).astype(jnp.float32)
  return jnp.maximum(jnp.floor(256 * 0.8**past * (1 + 1e-6)), 1)


def branch(step):
  """Half a run of an infinite schedule, and a linear decay from there."""
  cooling = PEAK / 2 + PEAK / 2 * remaining(step, WARMUP, 590_000)
  top = PEAK / 2 + PEAK / 2 * (1 - (TOTAL // 2 - WARMUP) / 590_000)
  left = remaining(step, TOTAL // 2, DECAY)
  trunk = after_warmup(step, cooling)
  return jnp.where(step < TOTAL // 2, trunk, top * left)


def inverse_root(step):
  fall = PEAK * jnp.sqrt(WARMUP / jnp.maximum(step, 1).astype(jnp.float32))
  return after_warmup(step, fall)


def noam(step):
  step = jnp.maximum(step, 1).astype(jnp.float32)
  peak = (512 * WARMUP) ** -0.5
  return peak * jnp.minimum(step / WARMUP, jnp.sqrt(WARMUP / step))


def power(step):
  """128 sequences of 4096 tokens: the published law."""
  scale = 128 * 4.6 * float(128 * 4096) ** -0.51
  tail = scale * jnp.maximum(step, 1).astype(jnp.float32) ** -0.51
  return jnp.where(step < 1, 0.02, jnp.minimum(0.02, tail))


def table(values):
  return lambda step: PEAK * values[jnp.minimum(step, values.size - 1)]


def held(schedule, every):
  return lambda step: schedule(step // every * every)
