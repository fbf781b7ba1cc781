"""The annealing law: the area under the rates, and how far they came down."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.forecasting import _rates


class AnnealingAreas(NamedTuple):
  """What the annealing law knows of a schedule, `[readings]` each.

  Attributes:
    forward: the sum of the rates, S1.
    annealing: the sum of the momentum of their decreases, S2.
  """

  forward: Any
  annealing: Any


def annealing_areas(
  lrs: Any, steps: Any = None, *, decay: Any = 0.999
) -> AnnealingAreas:
  """The forward area S1 and the annealing area S2 of a schedule.

  `S1` is the sum of the rates up to a step, `S2` that of the momentum
  `m[i] = decay * m[i - 1] + lrs[i - 1] - lrs[i]`, which starts at 0. A warm-up,
  that is, a strict rise from the very first step on, counts at the rate it
  ends at, as in the paper.

  Costs O(steps). jit-able, and differentiable in `lrs` and `decay`.

  Args:
    lrs: `[steps]`, the rate of every step from the first one on.
    steps: `[readings]`, where to read the areas; None reads them everywhere.
    decay: of the momentum, lambda.

  Returns:
    `AnnealingAreas`, float32, or float64 where JAX and `lrs` have it.

  Raises:
    ValueError: if a rate is negative or not finite, or a step has no rate.

  Example:
    >>> areas = annealing_areas([1.0, 1.0, 0.8, 0.6, 0.4, 0.2], decay=0.9)
    >>> print([f'{x:.4f}' for x in areas.annealing])
    ['0.0000', '0.0000', '0.2000', '0.5800', '1.1220', '1.8098']

  References:
    Tissue et al., 2024, `Scaling Law with Learning Rate Annealing
    <https://arxiv.org/abs/2408.11029>`_.
  """
  where = 'annealing_areas'
  lrs = _rates.check_rates(where, 'lrs', lrs)
  steps = _rates.check_steps(where, steps, lrs.shape[0])
  lrs = _at_the_peak(lrs)
  momentum = _rates.decayed_sums(_rates.decreases(lrs), decay)
  forward = jnp.maximum(_rates.prefix_sums(lrs), _rates.least(lrs))
  return AnnealingAreas(forward[steps], _rates.prefix_sums(momentum)[steps])


def _at_the_peak(lrs: jax.Array) -> jax.Array:
  """Rates whose warm-up, the strict rise at the start, is at its end value."""
  rises = lrs[1:] > lrs[:-1]
  warmup = jnp.sum(jnp.cumprod(rises.astype(jnp.int32)))
  return jnp.where(jnp.arange(lrs.shape[0]) < warmup, lrs[warmup], lrs)


class AnnealingLaw(NamedTuple):
  """`floor + scale * S1**-exponent - gain * S2`, a loss from a schedule.

  A pytree of scalars: `jax.vmap` over laws, `jax.grad` in their parameters.

  Attributes:
    floor: the loss that no area gets below without annealing, L0.
    scale: A.
    exponent: alpha.
    gain: what a unit of the annealing area is worth, C.
    decay: of the annealing momentum, lambda.

  Example:
    >>> import numpy as np
    >>> law = AnnealingLaw(2.6278, 0.42966, 0.54985, 0.41077)
    >>> constant = np.full(20000, 2e-4)
    >>> decayed = constant * np.minimum(1.0, np.linspace(5.0, 0.0, 20000))
    >>> [f'{law.predict(lrs)[-1]:.3f}' for lrs in (constant, decayed)]
    ['2.828', '2.778']

  References:
    Tissue et al., 2024, `Scaling Law with Learning Rate Annealing
    <https://arxiv.org/abs/2408.11029>`_.
  """

  floor: Any
  scale: Any
  exponent: Any
  gain: Any
  decay: Any = 0.999

  def predict(self, lrs: Any, steps: Any = None) -> jax.Array:
    """The losses of a run with these rates.

    Costs O(steps). jit-able, and differentiable in `lrs` and in the law.

    Args:
      lrs: `[steps]`, the rate of every step from the first one on, the warm-up
        included.
      steps: `[readings]`, where the losses are wanted; None is at every step.

    Returns:
      `[readings]`, float32, or float64 where JAX and `lrs` have it.

    Raises:
      ValueError: if a rate is negative or not finite, or a step has no rate.
    """
    return self.loss(annealing_areas(lrs, steps, decay=self.decay))

  def loss(self, areas: AnnealingAreas) -> jax.Array:
    """The losses at given areas."""
    power = areas.forward ** -jnp.asarray(self.exponent, areas.forward.dtype)
    return self.floor + self.scale * power - self.gain * areas.annealing
