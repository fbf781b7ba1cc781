"""The fit of the multi-power law, in the published stages."""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.forecasting import _decreases, _fitting, _rates
from lrcl.forecasting._curves import Curve
from lrcl.forecasting._multi_power import MultiPowerLaw

_GAINS = (0.03, 0.1, 0.2, 0.3)
"""Starts of the gain, as what a decrease from the peak to 0 is worth."""

_SPEED = 0.0173
"""Start of the law's C, in peaks: the published 1 at a peak of 3e-4."""

_BOUNDS = [np.log(pair) for pair in (
  (1e-3, 1e3), (1e-6, 1e3), (1e-2, 5.0), (1e-4, 1e3), (1e-3, 1e9),
  (1e-2, 2.0), (1e-2, 1.0),
)]  # fmt: skip
"""Of the logarithms of the law's parameters, in the units of a fit."""


class _Data(NamedTuple):
  """All curves as one row of steps; rates in peaks, areas in the largest."""

  steps: _decreases.Steps
  readings: Any
  areas: Any
  falls: Any  # of the rate since the first step, at the readings
  losses: Any
  weights: Any


class _Units(NamedTuple):
  peak: float
  area: float


def fit_multi_power_law(
  curves: Curve | Sequence[Curve],
  *,
  weights: _fitting.Weights = None,
  start: MultiPowerLaw | None = None,
) -> MultiPowerLaw:
  """Fits the multi-power law to loss curves under different schedules.

  In the published stages: a regression on the power of the area for each of a
  grid of gains; then the law without C, beta and gamma; then all of it, from C
  = 1 and beta = gamma = 1/2. Each is the least sum of Huber's function (1e-3)
  of the errors of the loss's logarithm.

  What differs: the last stage is L-BFGS-B to its end, where the authors stop
  AdamW after 200 steps; three curves hardly tell C, beta and gamma apart, and
  the forecast hardly depends on it. gamma is at most 1: by a larger one a
  decrease would pay off in the fewer steps the lower the rate. And rates are
  measured by the largest, so that rates of any size do.

  Runs on the host in float64, without a change of JAX's settings. Only steps
  at which the rate changes cost something: three curves of 24,000 steps take
  some seconds.

  Args:
    curves: at least two, of which at least one has a rate that falls.
    weights: for every curve the weight of each of its losses.
    start: a law to start from in place of the stages, as for a bootstrap.

  Returns:
    A `MultiPowerLaw` of Python floats.

  Raises:
    TypeError: if something else than curves is given.
    ValueError: if the curves cannot determine the law; says what is missing.

  Example:
    >>> true = MultiPowerLaw(2.6, 0.5, 0.5, 400.0, 2.0, 0.58, 0.64)
    >>> rates = [np.full(2000, 4e-4), np.linspace(4e-4, 0.0, 2000)]
    >>> steps = np.arange(99, 2000, 100)
    >>> curves = [Curve(lrs, true.predict(lrs, steps), steps) for lrs in rates]
    >>> law = fit_multi_power_law(curves)
    >>> lrs = np.linspace(4e-4, 4e-5, 2000)  # not among them
    >>> bool(abs(law.predict(lrs)[-1] - true.predict(lrs)[-1]) < 1e-3)
    True

  References:
    Luo et al., 2025, `A Multi-Power Law for Loss Curve Prediction Across
    Learning Rate Schedules <https://arxiv.org/abs/2503.12811>`_, code at
    https://github.com/thu-yao-01-luo/MultiPowerLaw.
  """
  where = 'fit_multi_power_law'
  curves, weights = _fitting.check_curves(
    where, curves, weights, parameters=7, fewest=2
  )
  with jax.enable_x64(True):
    data, units = _gather(curves, weights)
    error = functools.partial(_error, data=data)
    law = _into(units, start) if start else _first_stages(data, units)
    theta = _fitting.minimize(error, [np.log(law)], _BOUNDS, tolerance=1e-9)
  return _out_of(units, MultiPowerLaw(*np.exp(theta)))


def _gather(
  curves: list[Curve], weights: list[np.ndarray]
) -> tuple[_Data, _Units]:
  """All curves in one row, so that one program takes them together."""
  peak = max(curve.lrs.max() for curve in curves)
  area = max(curve.lrs[: curve.steps[-1] + 1].sum() for curve in curves)
  units = _Units(peak, area)
  each = [_condense(curve, units) for curve in curves]
  blocks = [len(steps.area) * _rates.BLOCK for steps, _ in each]
  offsets = np.cumsum([0, *blocks[:-1]])
  join = lambda rows: np.concatenate(list(rows))
  return _Data(
    steps=_decreases.Steps(
      *(join(part) for part in zip(*(s for s, _ in each), strict=True))
    ),
    readings=join(at + n for (_, at), n in zip(each, offsets, strict=True)),
    areas=np.maximum(
      join(np.cumsum(c.lrs)[c.steps] / area for c in curves),
      _rates.TINY * peak / area,
    ),
    falls=join((c.lrs[0] - c.lrs[c.steps]) / peak for c in curves),
    losses=join(curve.losses for curve in curves),
    weights=join(weights),
  ), units


def _condense(
  curve: Curve, units: _Units
) -> tuple[_decreases.Steps, np.ndarray]:
  """The steps of a curve, equal ones as one, and the entry of each reading.

  Nothing is lost: a step whose rate is that of the step before adds to the
  area and to nothing else.
  """
  lrs = curve.lrs[: curve.steps[-1] + 1]
  fall = -np.diff(lrs, prepend=lrs[0])
  starts = fall != 0
  starts[0] = True
  starts[curve.steps[:-1] + 1] = True  # each reading ends its entry
  first = np.flatnonzero(starts)
  rate = np.maximum(lrs, _rates.TINY * lrs.max())[first] / units.peak
  area = np.add.reduceat(lrs, first) / units.area
  rows = ((area, 0.0), (rate, 1.0), (fall[first] / units.peak, 0.0))
  blocks = [_rates.in_blocks(np, *row) for row in rows]
  begins = np.zeros(len(blocks[0]))
  begins[0] = 1.0
  entry = np.cumsum(starts) - 1
  return _decreases.Steps._make([*blocks, begins]), entry[curve.steps]


def _into(units: _Units, law: MultiPowerLaw) -> MultiPowerLaw:
  """A law in the units of a fit."""
  return law._replace(
    scale=law.scale * units.area**-law.exponent,
    gain=law.gain * units.peak,
    rate=law.rate * units.peak**-law.rate_exponent * units.area,
  )


def _out_of(units: _Units, law: MultiPowerLaw) -> MultiPowerLaw:
  """A law in the units of the rates, as Python floats."""
  law = law._replace(
    scale=law.scale * units.area**law.exponent,
    gain=law.gain / units.peak,
    rate=law.rate * units.peak**law.rate_exponent / units.area,
  )
  return MultiPowerLaw(*map(float, law))


def _first_stages(data: _Data, units: _Units) -> MultiPowerLaw:
  """The law with everything paid off at once, and a first guess of the rest."""
  starts = [_regress(data, gain) for gain in _GAINS]
  theta = _fitting.minimize(
    functools.partial(_plain_error, data=data), starts, _BOUNDS[:4]
  )
  floor, scale, exponent, gain = np.exp(theta)
  rate = _SPEED * units.area / units.peak
  return MultiPowerLaw(floor, scale, exponent, gain, rate, 0.5, 0.5)


def _regress(data: _Data, gain: float) -> np.ndarray:
  """Floor and scale by least squares, for a given gain and exponent 1/2."""
  power = data.areas**-0.5
  rest = data.losses + gain * data.falls
  scale, floor = np.polyfit(power, rest, 1, w=np.sqrt(data.weights))
  return np.log([max(floor, 1e-3), max(scale, 1e-6), 0.5, gain])


@jax.jit
@jax.value_and_grad
def _plain_error(theta: Any, data: _Data) -> jax.Array:
  law = MultiPowerLaw._make([*jnp.exp(theta), 1.0, 1.0, 1.0])
  predicted = law.loss(data.areas, data.falls)
  return _fitting.robust_error(predicted, data.losses, data.weights)


@jax.jit
@jax.value_and_grad
def _error(theta: Any, data: _Data) -> jax.Array:
  law = MultiPowerLaw(*jnp.exp(theta))
  paid = _decreases.paid_off(data.steps, law.speed, data.readings)
  predicted = law.loss(data.areas, paid)
  return _fitting.robust_error(predicted, data.losses, data.weights)
