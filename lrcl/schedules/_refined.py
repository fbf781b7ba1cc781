"""The schedule that the gradient norms of a first run suggest."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import check_value, is_concrete
from lrcl.schedules import _checks
from lrcl.schedules._families import Value
from lrcl.schedules._steps import compiled, normal_step


def refined_schedule(
  gradient_norms: Any,
  peak_value: Value,
  *,
  power: float = 2,
  smoothing: float | None = 0.1,
) -> optax.Schedule:
  """A schedule of as many steps as a first run had, from its gradient norms.

  With weights `w = norm ** -power` the value at step `t` is proportional to
  `w[t]` times the sum of all later weights; its maximum is `peak_value`. Equal
  norms give linear decay to 0. Norms that are large at first give a warm-up,
  norms that fall to the end a late and steep decay.

  The pipeline: train once with linear decay (`wsd_schedule` with
  `stable_steps=0`); log the norm of the gradient at every step; refine; train
  again with the peak tuned anew. `optax.snapshot` logs, before whatever changes
  the gradient:

      measure = optax.snapshot('norm', optax.tree.norm)  # for Adam: ord=1
      tx = optax.chain(measure, optax.sgd(linear))
      norms.append(optax.tree.get(state, 'norm'))  # after every update

  Args:
    gradient_norms: `[steps]`, positive; at least 2, and not traced.
    peak_value: the greatest value.
    power: 2 for SGD, with the l2 norms; 1 for Adam, with the l1 norms. Any
      number greater than 0 is taken.
    smoothing: the width of a running median over the norms as a fraction of
      the steps, in [0, 1]; its end is padded by reflection. None or 0: none.

  Returns:
    A schedule: int or float steps to float32, linear between whole steps. The
    last of the `steps` values is 0, and so is all that follows. It holds
    `steps` float32.

  Raises:
    ValueError: if there are too few norms, one is not positive and finite, or
      another argument is out of range.

  Example:
    >>> schedule = refined_schedule([1.0] * 5, 0.1)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [0.1, 0.075, 0.05, 0.025, 0.0, 0.0]

  References:
    Defazio et al., 2023, `Optimal Linear Decay Learning Rate Schedules and
    Further Refinements <https://arxiv.org/abs/2310.07831>`_; the smoothing is
    that of https://github.com/facebookresearch/adaptive_scheduling.
  """
  where = 'refined_schedule'
  norms = _check_norms(where, gradient_norms)
  _checks.check_values(where, peak_value=peak_value)
  check_value(where, 'power', power, above=0.0)
  smoothing = 0.0 if smoothing is None else smoothing
  check_value(where, 'smoothing', smoothing, minimum=0.0, maximum=1.0)
  table = _refine(_smooth(norms, smoothing), power)
  last = table.size - 1

  def read(index: jax.Array) -> jax.Array:
    return jnp.asarray(table).at[index].get(mode='clip')

  def evaluate(step: jax.Array) -> jax.Array:
    step = jnp.minimum(normal_step(where, step), last)
    index = step.astype(jnp.int32)
    value = read(index)
    if jnp.issubdtype(step.dtype, jnp.floating):
      value += (step - index.astype(jnp.float32)) * (read(index + 1) - value)
    return jnp.asarray(peak_value, jnp.float32) * value

  return compiled(where, evaluate)


def _check_norms(where: str, norms: Any) -> np.ndarray:
  """Returns the norms as float64 on the host."""
  if not is_concrete(norms):
    raise ValueError(
      f'{where}: gradient_norms is traced; it must be known when the schedule '
      'is made.'
    )
  norms = np.asarray(norms, np.float64)
  if norms.ndim != 1 or norms.size < 2:
    raise ValueError(
      f'{where}: gradient_norms has shape {norms.shape}; it must be [steps], '
      'with at least 2 steps.'
    )
  wrong = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
  if wrong.size:
    raise ValueError(
      f'{where}: gradient_norms[{wrong[0]}] is {norms[wrong[0]]}; every norm '
      'must be finite and > 0.'
    )
  return norms


def _smooth(norms: np.ndarray, smoothing: float) -> np.ndarray:
  """The running median; odd widths only, and none below 3."""
  from scipy import ndimage  # slow to import, and needed here alone

  width = 2 * (int(smoothing * norms.size) // 2) + 1
  if width == 1:
    return norms
  padded = np.pad(norms, (0, 2 * width), 'reflect')
  return ndimage.median_filter(padded, size=width, mode='nearest')[: norms.size]


def _refine(norms: np.ndarray, power: float) -> np.ndarray:
  """The schedule with maximum 1, in logarithms: norms may be of any size."""
  weights = -power * np.log(norms)
  sums = np.logaddexp.accumulate(weights[::-1])[::-1]
  values = weights[:-1] + sums[1:]
  return np.append(np.exp(values - values.max()), 0.0).astype(np.float32)
