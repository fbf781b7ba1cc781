"""The argument of every schedule: a step, as a whole number if it can be."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import is_concrete

LAST_STEP = 2**31 - 1
"""The last step that an int32 counter can reach."""


def compiled(
  where: str, evaluate: Callable[[jax.Array], jax.Array]
) -> optax.Schedule:
  """Makes a schedule of a traceable function that is named after `where`.

  Compiled as one function a schedule gives outside of jit the very bits that
  it gives inside: op by op, no sum would be fused with its product.
  """
  evaluate.__name__ = where
  evaluate = jax.jit(evaluate)

  def schedule(step: Any) -> jax.Array:
    check_step(where, step)
    return evaluate(step)

  return schedule


def check_total(where: str, total: int) -> int:
  """Returns `total`, the length of a schedule, if int32 can count it.

  Raises:
    ValueError: if it cannot.
  """
  if total > LAST_STEP:
    raise ValueError(
      f'{where}: all phases together take {total} steps; they must end by '
      f'step {LAST_STEP}, the last that int32 holds.'
    )
  return total


def check_step(where: str, step: Any) -> None:
  """Refuses a concrete step, or an array of them, that int32 cannot hold.

  Raises:
    ValueError: if it is beyond int32. A traced one of a wider type is clipped.
  """
  if not is_concrete(step) or isinstance(step, jax.Array):
    return
  array = np.asarray(step)
  if array.dtype.kind not in 'iuO' or not array.size:
    return
  if array.max() > LAST_STEP or array.min() < -LAST_STEP:
    raise ValueError(
      f'{where}: the step is {step}; it must be <= {LAST_STEP}, the last that '
      'int32 holds.'
    )


def normal_step(where: str, step: Any) -> jax.Array:
  """Turns a step, or an array of them, into int32 or float32, at least 0.

  Raises:
    TypeError: if it is no number.
  """
  step = jnp.asarray(step)
  if jnp.issubdtype(step.dtype, jnp.floating):
    return jnp.maximum(step.astype(jnp.float32), 0.0)
  if not jnp.issubdtype(step.dtype, jnp.integer):
    raise TypeError(
      f'{where}: the step is of type {step.dtype}; it must be an int or float.'
    )
  if jnp.iinfo(step.dtype).max > LAST_STEP:
    step = jnp.minimum(step, LAST_STEP)
  return jnp.maximum(step.astype(jnp.int32), 0)
