"""The multi-power law: every decrease of the rate pays off, and not at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.forecasting import _rates


class MultiPowerLaw(NamedTuple):
  """A loss from a schedule: a power of its area, less what decreases gain.

  `floor + scale * S(t)**-exponent - gain * sum_k (lrs[k-1] - lrs[k]) * (1 - (1
  + rate * lrs[k]**-rate_exponent * S_k(t))**-gain_exponent)`, where S(t) sums
  all rates up to t and S_k(t) those from k on. A rise of the rate costs what a
  decrease gains; so does the warm-up, as in the authors' code.

  A pytree of scalars: `jax.vmap` over laws, `jax.grad` in their parameters.

  Attributes:
    floor: L0.
    scale: A.
    exponent: alpha.
    gain: B.
    rate: C.
    gain_exponent: beta.
    rate_exponent: gamma.

  References:
    Luo et al., 2025, `A Multi-Power Law for Loss Curve Prediction Across
    Learning Rate Schedules <https://arxiv.org/abs/2503.12811>`_.
  """

  floor: Any
  scale: Any
  exponent: Any
  gain: Any
  rate: Any
  gain_exponent: Any
  rate_exponent: Any

  def predict(self, lrs: Any, steps: Any = None) -> jax.Array:
    """The losses of a run with these rates.

    Args:
      lrs: `[steps]`, the rate of every step from the first one on, the warm-up
        included.
      steps: `[readings]`, where the losses are wanted; None is at every step.

    Returns:
      `[readings]`, float32, or float64 where JAX and `lrs` have it.

    Raises:
      ValueError: if a rate is negative or not finite, or a step has no rate.
    """
    where = 'MultiPowerLaw.predict'
    lrs = _rates.check_rates(where, 'lrs', lrs)
    steps = _rates.check_reading_steps(where, steps, lrs.shape[0])
    law = MultiPowerLaw(*(jnp.asarray(x, lrs.dtype) for x in self))
    index = jnp.arange(lrs.shape[0]) if steps is None else jnp.asarray(steps)
    sums, least = _rates.prefix_sums(lrs), _rates.least(lrs)
    area = jnp.maximum(sums.high[index] + sums.low[index], least)
    before = _rates.Prefix(
      *(jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) for x in sums)
    )
    since = sums.at((index, None)).minus(before.at((None, slice(None))))
    speed = law.rate * jnp.maximum(lrs, least) ** -law.rate_exponent
    paid = -jnp.expm1(
      -law.gain_exponent * jnp.log1p(speed * jnp.maximum(since, 0.0))
    )
    gained = jnp.sum(_rates.decreases(lrs) * paid, axis=-1)
    return law.floor + law.scale * area**-law.exponent - law.gain * gained
