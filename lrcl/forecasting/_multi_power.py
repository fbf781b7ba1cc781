"""The multi-power law: every decrease of the rate pays off, and not at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.forecasting import _decreases, _rates


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

  Example:
    >>> import numpy as np
    >>> law = MultiPowerLaw(2.65, 0.6, 0.453, 438.0, 2.13, 0.598, 0.655)
    >>> constant = np.full(20000, 3e-4)
    >>> decayed = constant * np.minimum(1.0, np.linspace(5.0, 0.0, 20000))
    >>> [f'{law.predict(lrs)[-1]:.3f}' for lrs in (constant, decayed)]
    ['2.916', '2.812']

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

    Costs O(steps): the double sum of the definition is not formed, and yet
    nothing but rounding is left of the difference (`_decreases` says how).
    jit-able, and differentiable in `lrs` and in the law; no gradient is NaN
    where a rate is 0. A rate below 1e-8 of the largest counts as that much
    where it is raised to a power, and so does an area.

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
    law, least = self.astype(lrs.dtype), _rates.least(lrs)
    area = jnp.maximum(_rates.prefix_sums(lrs), least)
    rate, decrease = jnp.maximum(lrs, least), _rates.decreases(lrs)
    run = _decreases.one_run(lrs, rate, decrease)
    if steps is None:
      paid = _decreases.paid_off(run, law.speed).reshape(-1)[: len(lrs)]
      return law.loss(area, paid)
    steps = _rates.check_steps(where, steps, len(lrs))
    paid = _decreases.paid_off(run, law.speed, steps)
    return law.loss(area[steps], paid)

  def loss(self, area: jax.Array, paid_off: jax.Array) -> jax.Array:
    """The losses after an area of rates and what their decreases paid off."""
    return self.floor + self.scale * area**-self.exponent - self.gain * paid_off

  def astype(self, dtype: Any) -> 'MultiPowerLaw':
    """The law with parameters of one dtype."""
    return MultiPowerLaw(*(jnp.asarray(x, dtype) for x in self))

  @property
  def speed(self) -> _decreases.Speed:
    """How fast a decrease pays off."""
    return _decreases.Speed(self.rate, self.gain_exponent, self.rate_exponent)
