"""Decays as rows of rates: what a law is asked about before one is run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

SHAPES: dict[str, Callable[[Any], Any]] = {
  'linear': lambda u: 1.0 - u,
  'one_minus_sqrt': lambda u: 1.0 - jnp.sqrt(u),
  'cosine': lambda u: 0.5 * (1.0 + jnp.cos(jnp.pi * u)),
  'square': lambda u: 1.0 - u**2,
}
"""Decays of `lrcl.schedules.decay_branch`, by its names for them: the part of
the way from the end to the start that is left after a fraction `u`."""


def check_shape(where: str, decay: str) -> str:
  """Returns the name of a decay.

  Raises:
    ValueError: if it is none.
  """
  if decay not in SHAPES:
    raise ValueError(
      f'{where}: decay is {decay!r}; it must be one of {", ".join(SHAPES)}.'
    )
  return decay


def rates_of(trunk: optax.Schedule, steps: int) -> np.ndarray:
  """The rates of a schedule's first steps, float64 on the host."""
  rates = jax.vmap(trunk)(jnp.arange(steps, dtype=jnp.int32))
  return np.asarray(rates, np.float64)


def decayed(
  rates: Any, start: Any, steps: Any, end_value: Any, decay: str
) -> jax.Array:
  """The rates of a run that leaves `rates` at a step and decays from there.

  Step `start + steps` is the first at `end_value`, and what follows stays.

  Args:
    rates: `[total]`, of the trunk.
    start: the step at which the decay starts; may be traced.
    steps: of the decay, at least 1; may be traced.
    end_value: where it goes.
    decay: the name of a shape.
  """
  rates = jnp.asarray(rates)
  done = (jnp.arange(rates.size) - start).astype(rates.dtype)
  u = jnp.clip(done / jnp.asarray(steps, rates.dtype), 0.0, 1.0)
  tail = end_value + (rates[start] - end_value) * SHAPES[decay](u)
  return jnp.where(done > 0, tail, rates)
