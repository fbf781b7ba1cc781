"""What all fits share: their checks, the robust objective, the minimiser."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.forecasting._curves import Curve

DELTA = 1e-3
"""Relative errors up to this count squared, larger ones by their size."""

_FINALISTS = 3

Weights = Sequence[np.ndarray] | None
"""For every curve the weight of each of its losses; None weighs all as 1."""


def check_curves(
  where: str, curves: Any, weights: Weights, *, parameters: int, fewest: int
) -> tuple[list[Curve], list[np.ndarray]]:
  """The curves and weights of a fit, if they can determine a law.

  Args:
    where: the public function that was called, for the message.
    curves: a curve or several.
    weights: of their losses.
    parameters: how many the law has; there must be twice as many losses.
    fewest: how many curves are needed.

  Raises:
    TypeError: if something else than curves is given.
    ValueError: if there are too few curves or losses, no rate ever falls, or
      the weights do not fit.
  """
  curves = [curves] if isinstance(curves, Curve) else list(curves)
  for curve in curves:
    if not isinstance(curve, Curve):
      raise TypeError(
        f'{where}: curves holds a {type(curve).__name__}; give '
        'lrcl.forecasting.Curve(lrs, losses, steps).'
      )
  weights = _check_weights(where, curves, weights)
  used = [c for c, w in zip(curves, weights, strict=True) if w.any()]
  if len(used) < fewest:
    raise ValueError(
      f'{where}: {len(used)} curves have losses to fit; it takes at least '
      f'{fewest}, under different schedules.'
    )
  count = sum(int(np.count_nonzero(w)) for w in weights)
  if count < 2 * parameters:
    raise ValueError(
      f'{where}: the curves have {count} losses in all; {parameters} '
      f'parameters take at least {2 * parameters}. Read the loss more often.'
    )
  _check_decreases(where, used)
  return curves, weights


def _check_weights(
  where: str, curves: list[Curve], weights: Weights
) -> list[np.ndarray]:
  if weights is None:
    return [np.ones(len(curve.losses)) for curve in curves]
  rows = [np.asarray(row, np.float64) for row in weights]
  want = [curve.losses.shape for curve in curves]
  if [row.shape for row in rows] != want:
    raise ValueError(
      f'{where}: weights have shapes {[row.shape for row in rows]}; the losses '
      f'of the curves have {want}.'
    )
  for row, curve in zip(rows, curves, strict=True):
    if not np.all(np.isfinite(row) & (row >= 0)):
      raise ValueError(
        f'{where}: the weights of {curve.name} must be finite and >= 0.'
      )
  return rows


def _check_decreases(where: str, curves: list[Curve]) -> None:
  """Without a decrease of 1%, what decreases gain cannot be told."""
  for curve in curves:
    seen = curve.lrs[: curve.steps[-1] + 1]
    if np.maximum(seen[:-1] - seen[1:], 0).sum() >= 0.01 * seen.max():
      return
  names = ', '.join(curve.name for curve in curves)
  raise ValueError(
    f'{where}: the rates of {names} never fall before the last loss, so that '
    'what a decrease gains cannot be told; add a curve with a decay.'
  )


def robust_error(
  predicted: jax.Array, losses: jax.Array, weights: jax.Array
) -> jax.Array:
  """Sum of Huber's function of relative errors, in units of DELTA squared."""
  least = 1e-3 * losses  # a law may go below 0 on the way to its best
  error = (jnp.log(jnp.maximum(predicted, least)) - jnp.log(losses)) / DELTA
  size = jnp.abs(error)
  each = jnp.where(size <= 1, 0.5 * error**2, size - 0.5)
  return jnp.sum(weights * each)


def minimize(
  objective: Callable[[np.ndarray], Any],
  starts: Iterable[Any],
  bounds: Sequence[Any],
  *,
  tolerance: float = 1e-14,
) -> np.ndarray:
  """The best end of L-BFGS-B from several starts.

  Every start goes a little way, and the best few of them to the end.

  Args:
    objective: parameters to a value and its gradient, in float64.
    starts: rows of parameters.
    bounds: `(low, high)` of every parameter.
    tolerance: the search ends where a step gains no more than this part.
  """
  from scipy import optimize
  import threadpoolctl

  low, high = np.transpose(bounds)

  def search(start: Any, iterations: int) -> Any:
    return optimize.minimize(
      lambda x: tuple(np.asarray(part, np.float64) for part in objective(x)),
      np.clip(start, low, high),
      jac=True,
      method='L-BFGS-B',
      bounds=bounds,
      options=dict(maxiter=iterations, ftol=tolerance, gtol=1e-8, maxcor=20),
    )

  # Threads that wait for one another take 20 times as long as the arithmetic.
  with threadpoolctl.threadpool_limits(1, 'blas'):
    ends = [search(start, 40) for start in starts]
    best = sorted(ends, key=lambda end: end.fun)[:_FINALISTS]
    ends = [search(end.x, 500) for end in best]
  return min(ends, key=lambda end: end.fun).x
