"""The fit of the law of continual pre-training."""

from collections.abc import Sequence
import functools
import itertools
from typing import Any

import jax
import numpy as np

from lrcl.base import check_value
from lrcl.forecasting import _fitting
from lrcl.forecasting._annealing import AnnealingAreas, annealing_areas
from lrcl.forecasting._continual import ContinualAnnealingLaw
from lrcl.forecasting._curves import Curve

_POWERS = ((0.3, 0.6), (1.0, 10.0), (0.3, 0.8))
"""Starts of exponent, shift_rate and shift_exponent, in units of a fit."""

_BOUNDS = [
  *[(0.0, np.inf)] * 2, (0.0, 5.0), *[(0.0, np.inf)] * 2,
  (-np.inf, np.inf), (1e-3, 1e4), (1e-2, 5.0),
]  # fmt: skip


def fit_continual_annealing_law(
  curves: Curve | Sequence[Curve],
  *,
  decay: float = 0.999,
  weights: _fitting.Weights = None,
  start: ContinualAnnealingLaw | None = None,
) -> ContinualAnnealingLaw:
  """Fits the law of continual pre-training to curves that continue others.

  The error is that of `fit_annealing_law`. **Unconfirmed**, as the law is: the
  starts and bounds are ours.

  Args:
    curves: at least two, all with `pretraining`, of which two continue
      different runs or the same run under different rates.
    decay: of the annealing momentum, in (0, 1].
    weights: for every curve the weight of each of its losses.
    start: a law to start from in place of a grid, as for a bootstrap.

  Returns:
    A `ContinualAnnealingLaw` of Python floats. Where all curves continue one
    run, `floor` and `pretraining_gain` are not told apart; their sum is.

  Raises:
    TypeError: if something else than curves is given.
    ValueError: if a curve has no `pretraining`, or the curves cannot determine
      the law.

  Example:
    >>> true = ContinualAnnealingLaw(2.0, 0.5, 0.5, 0.4, 0.3, 0.2, 1.0, 0.5)
    >>> flat, falling = np.full(2000, 4e-4), np.linspace(4e-4, 0.0, 2000)
    >>> steps, curves = np.arange(99, 2000, 100), []
    >>> for before in (flat, falling):
    ...   for lrs in (flat, falling):
    ...     losses = true.predict(lrs, steps, pretraining=before)
    ...     curves.append(Curve(lrs, losses, steps, 'run', before))
    >>> law = fit_continual_annealing_law(curves)
    >>> lrs = 0.5 * (flat + falling)  # not among them
    >>> end = lambda law: law.predict(lrs, pretraining=flat)[-1]
    >>> bool(abs(end(law) - end(true)) < 1e-3)
    True

  References:
    Wang et al., 2025, `Learning Dynamics in Continual Pre-Training for Large
    Language Models <https://arxiv.org/abs/2505.07796>`_.
  """
  where = 'fit_continual_annealing_law'
  check_value(where, 'decay', decay, above=0.0, maximum=1.0)
  curves, weights = _fitting.check_curves(
    where, curves, weights, parameters=8, fewest=2
  )
  for curve in curves:
    if curve.pretraining is None:
      raise ValueError(
        f'{where}: {curve.name} has no pretraining; give Curve the rates of '
        'the run that it continues.'
      )
  with jax.enable_x64(True):
    data, unit = _data(curves, weights, decay)
    starts = _starts(data) if start is None else [_scaled(start, 1 / unit)[:8]]
    error = functools.partial(_error, data=data)
    theta = _fitting.minimize(error, starts, _BOUNDS)
  law = _scaled(ContinualAnnealingLaw._make([*theta, decay]), unit)
  return ContinualAnnealingLaw._make(map(float, law))


def _data(curves: list[Curve], weights: list[np.ndarray], decay: float) -> Any:
  """Areas of both runs, losses and weights, and the unit of the areas."""
  before, after = [], []
  for curve in curves:
    last = np.full(len(curve.steps), len(curve.pretraining) - 1)
    before.append(annealing_areas(curve.pretraining, last, decay=decay))
    after.append(annealing_areas(curve.lrs, curve.steps, decay=decay))
  areas = [
    AnnealingAreas(*(np.concatenate(rows) for rows in zip(*each, strict=True)))
    for each in (before, after)
  ]
  unit = (areas[0].forward + areas[1].forward).max()
  areas = jax.tree.map(lambda row: row / unit, areas)
  losses = np.concatenate([curve.losses for curve in curves])
  return (areas, losses, np.concatenate(weights)), unit


def _starts(data: Any) -> list[np.ndarray]:
  """For each pair of powers the rest by least squares: it is linear."""
  (before, after), losses, weights = data
  starts = []
  for exponent, rate, shift in itertools.product(*_POWERS):
    columns = [
      np.ones_like(losses),
      (before.forward + after.forward) ** -exponent,
      -before.annealing,
      -after.annealing,
      1 - (1 + rate * after.forward) ** -shift,
    ]
    root = np.sqrt(weights)
    found = np.linalg.lstsq(np.stack(columns, 1) * root[:, None], losses * root)
    floor, scale, first, gain, size = found[0]
    starts.append(
      np.array([floor, scale, exponent, first, gain, size, rate, shift])
    )
  return starts


def _scaled(law: ContinualAnnealingLaw, unit: Any) -> ContinualAnnealingLaw:
  """A law of areas in `unit` as one of areas."""
  return law._replace(
    scale=law.scale * unit**law.exponent,
    pretraining_gain=law.pretraining_gain / unit,
    gain=law.gain / unit,
    shift_rate=law.shift_rate / unit,
  )


@jax.jit
@jax.value_and_grad
def _error(theta: Any, data: Any) -> jax.Array:
  (before, after), losses, weights = data
  predicted = ContinualAnnealingLaw(*theta).loss(before, after)
  return _fitting.robust_error(predicted, losses, weights)
