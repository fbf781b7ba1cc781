"""The fit of the annealing law."""

from collections.abc import Sequence
import functools
import itertools
from typing import Any

import jax
import numpy as np

from lrcl.base import check_value
from lrcl.forecasting import _fitting
from lrcl.forecasting._annealing import (
  AnnealingAreas,
  AnnealingLaw,
  annealing_areas,
)
from lrcl.forecasting._curves import Curve

_GRID = ((0.1, 2.1), (0.0, 0.4, 0.8), (1.0, 11.5, 22.0), (1.0, 11.5, 22.0))
"""Starts of floor, exponent, scale and gain, for areas of up to 4."""

_LOG_MEMORY = np.arange(-5.0, -0.9, 0.5)
"""Exponents of `1 - decay` that are tried where the decay is fitted."""


def fit_annealing_law(
  curves: Curve | Sequence[Curve],
  *,
  decay: float | None = 0.999,
  weights: _fitting.Weights = None,
  start: AnnealingLaw | None = None,
) -> AnnealingLaw:
  """Fits the annealing law to loss curves.

  As published: the least sum of Huber's function (1e-3) of the errors of the
  loss's logarithm, by L-BFGS-B from a grid of 54 starts, all parameters >= 0.
  Areas are scaled to those of the paper's curves before the grid is laid, so
  that rates of any size do.

  Runs on the host in float64, without a change of JAX's settings: about a
  second, and some seconds more where the decay is fitted.

  Args:
    curves: one or several, of which at least one has a rate that falls.
    decay: of the annealing momentum, in (0, 1); None fits it as well.
    weights: for every curve the weight of each of its losses.
    start: a law to start from in place of the grid, as for a bootstrap.

  Returns:
    An `AnnealingLaw` of Python floats.

  Raises:
    TypeError: if something else than curves is given.
    ValueError: if the curves cannot determine the law; says what is missing.

  Example:
    >>> true = AnnealingLaw(2.6, 0.43, 0.55, 0.41)
    >>> rates = [np.full(4000, 2e-4), np.linspace(2e-4, 0.0, 4000)]
    >>> steps = np.arange(99, 4000, 100)
    >>> law = fit_annealing_law(
    ...   [Curve(lrs, true.predict(lrs, steps), steps) for lrs in rates])
    >>> [f'{x:.2f}' for x in law[:4]]
    ['2.60', '0.43', '0.55', '0.41']

  References:
    Tissue et al., 2024, `Scaling Law with Learning Rate Annealing
    <https://arxiv.org/abs/2408.11029>`_.
  """
  where = 'fit_annealing_law'
  if decay is not None:
    check_value(where, 'decay', decay, above=0.0, maximum=1.0)
  curves, weights = _fitting.check_curves(
    where, curves, weights, parameters=4 if decay else 5, fewest=1
  )
  with jax.enable_x64(True):
    if decay is not None:
      return _fit_at(curves, weights, decay, start)[0]
    return _fit_decay(curves, weights, start)


def _fit_decay(
  curves: list[Curve], weights: list[np.ndarray], start: AnnealingLaw | None
) -> AnnealingLaw:
  """The best law over decays: a grid, then a search about its best."""
  from scipy import optimize

  tried = _LOG_MEMORY
  if start is None:
    start, _ = _fit_at(curves, weights, 0.999, None)
  else:
    tried = [np.log10(1 - start.decay)]
  fit = lambda x: _fit_at(curves, weights, 1.0 - 10.0**x, start)
  best = min(tried, key=lambda x: fit(x)[1])
  found = optimize.minimize_scalar(
    lambda x: fit(x)[1], bounds=(best - 0.5, best + 0.5), method='bounded'
  )
  return fit(found.x)[0]


def _fit_at(
  curves: list[Curve],
  weights: list[np.ndarray],
  decay: float,
  start: AnnealingLaw | None,
) -> tuple[AnnealingLaw, float]:
  """The best law under a given decay, and its error."""
  data, unit = _data(curves, weights, decay)
  starts = itertools.product(*_GRID)
  if start is not None:
    floor, scale, exponent, gain, _ = start
    starts = [(floor, exponent, scale * unit**-exponent, gain * unit)]
  error = functools.partial(_error, data=data)
  theta = _fitting.minimize(error, starts, [(0.0, np.inf)] * 4)
  floor, exponent, scale, gain = map(float, theta)
  scale, gain = float(scale * unit**exponent), float(gain / unit)
  law = AnnealingLaw(floor, scale, exponent, gain, float(decay))
  return law, float(error(theta)[0])


def _data(curves: list[Curve], weights: list[np.ndarray], decay: float) -> Any:
  """Areas, losses and weights of all readings, and the unit of the areas."""
  each = [annealing_areas(c.lrs, c.steps, decay=decay) for c in curves]
  forward, annealing = (
    np.concatenate(rows) for rows in zip(*each, strict=True)
  )
  unit = forward.max() / 4
  areas = AnnealingAreas(forward / unit, annealing / unit)
  losses = np.concatenate([curve.losses for curve in curves])
  return (areas, losses, np.concatenate(weights)), unit


@jax.jit
@jax.value_and_grad
def _error(theta: Any, data: Any) -> jax.Array:
  areas, losses, weights = data
  floor, exponent, scale, gain = theta
  predicted = AnnealingLaw(floor, scale, exponent, gain).loss(areas)
  return _fitting.robust_error(predicted, losses, weights)
