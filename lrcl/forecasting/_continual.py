"""The annealing law of a run that continues another one on new data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl.forecasting import _rates
from lrcl.forecasting._annealing import AnnealingAreas, annealing_areas


class ContinualAnnealingLaw(NamedTuple):
  """A loss of continual pre-training, on the old data or on the new.

  `floor + scale * (S1pt + S1cpt)**-exponent - pretraining_gain * S2pt - gain *
  S2cpt + shift * (1 - (1 + shift_rate * S1cpt)**-shift_exponent)`: the
  annealing law over both runs, and what the change of data adds, which grows
  with the area of the new run. `pt` are the areas of the run before, at its
  end, and `cpt` those of the run that continues it; its annealing starts anew.

  **Unconfirmed.** The form is taken from a summary of the paper and was checked
  neither against its text nor against its data. That the shift is of either
  sign and that each run's warm-up counts at its peak is our reading.

  A pytree of scalars: `jax.vmap` over laws, `jax.grad` in their parameters.

  Attributes:
    floor: L0.
    scale: A.
    exponent: alpha.
    pretraining_gain: C1, of the annealing of the run before.
    gain: C2, of that of this run.
    shift: B, what the change of data adds in the end.
    shift_rate: E.
    shift_exponent: beta.
    decay: of the annealing momentum, lambda.

  Example:
    >>> law = ContinualAnnealingLaw(2.0, 0.5, 0.5, 0.4, 0.3, 0.2, 1.0, 0.5)
    >>> loss = law.loss(AnnealingAreas(2.0, 0.1), AnnealingAreas(1.0, 0.05))
    >>> f'{loss:.6f}'
    '2.292254'

  References:
    Wang et al., 2025, `Learning Dynamics in Continual Pre-Training for Large
    Language Models <https://arxiv.org/abs/2505.07796>`_.
  """

  floor: Any
  scale: Any
  exponent: Any
  pretraining_gain: Any
  gain: Any
  shift: Any
  shift_rate: Any
  shift_exponent: Any
  decay: Any = 0.999

  def predict(
    self, lrs: Any, steps: Any = None, *, pretraining: Any
  ) -> jax.Array:
    """The losses of a run that continues another.

    Costs O(steps) of both. jit-able, and differentiable in both rows of rates
    and in the law.

    Args:
      lrs: `[steps]`, the rate of every step of the run that continues.
      steps: at which of them the losses are wanted; None is all.
      pretraining: `[steps]`, the rate of every step of the run before.

    Returns:
      Losses of the shape of `steps`, float32, or float64 where JAX and `lrs`
      have it.

    Raises:
      ValueError: if a rate is negative or not finite, or a step has no rate.
    """
    where = 'ContinualAnnealingLaw.predict'
    lrs = _rates.check_rates(where, 'lrs', lrs)
    pretraining = _rates.check_rates(where, 'pretraining', pretraining)
    steps = _rates.check_steps(where, steps, len(lrs))
    last = jnp.asarray(len(pretraining) - 1)
    return self.loss(
      annealing_areas(pretraining.astype(lrs.dtype), last, decay=self.decay),
      annealing_areas(lrs, steps, decay=self.decay),
    )

  def loss(
    self, pretraining: AnnealingAreas, continued: AnnealingAreas
  ) -> jax.Array:
    """The losses at the areas of both runs."""
    forward = jnp.asarray(continued.forward)
    law = ContinualAnnealingLaw(*(jnp.asarray(x, forward.dtype) for x in self))
    power = (pretraining.forward + forward) ** -law.exponent
    gone = law.shift_exponent * jnp.log1p(law.shift_rate * forward)
    return (
      law.floor
      + law.scale * power
      - law.pretraining_gain * pretraining.annealing
      - law.gain * continued.annealing
      - law.shift * jnp.expm1(-gone)
    )
