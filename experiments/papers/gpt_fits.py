"""The laws of `gpt_forecast`, fitted to its runs, and how far off they are."""

from collections.abc import Callable, Mapping
import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from lrcl import forecasting, metrics
from lrcl.forecasting import Curve

FITTED = ('constant', 'cosine', 'two rates')
FORECAST = ('WSD', 'WSD-S', 'infinite')

JUDGED = ('annealing, 2 curves', 'multi-power, 3 curves')
"""Each law with the curves that its authors fitted it to."""

Fit = Callable[[list[Curve]], Any]
"""The curves of `FITTED` to a law."""


def make_fits() -> dict[str, Fit]:
  """Every law by name, `JUDGED` and those that they are held against."""
  annealing = functools.partial(forecasting.fit_annealing_law, decay=None)
  return {
    JUDGED[1]: forecasting.fit_multi_power_law,
    'multi-power, 2 curves': lambda c: forecasting.fit_multi_power_law(c[:2]),
    'annealing, 3 curves': annealing,
    JUDGED[0]: lambda c: annealing(c[:2]),
    'annealing at 0.999, 2 curves': lambda c: forecasting.fit_annealing_law(
      c[:2]
    ),
    'area alone': fit_area,
  }


def fit_area(curves: list[Curve]) -> forecasting.AnnealingLaw:
  """A power of the area of the constant run: nothing is known of decays."""
  from scipy import optimize

  curve = curves[0]
  area = np.cumsum(curve.lrs)[curve.steps]
  unit = area[-1]

  def residuals(theta: np.ndarray) -> np.ndarray:
    floor, scale, exponent = np.exp(theta)
    return np.log(floor + scale * (area / unit) ** -exponent) - np.log(
      curve.losses
    )

  begin = np.log([0.5 * curve.losses[-1], 0.5 * curve.losses[-1], 0.3])
  floor, scale, exponent = np.exp(optimize.least_squares(residuals, begin).x)
  return forecasting.AnnealingLaw(
    float(floor), float(scale * unit**exponent), float(exponent), 0.0
  )


class Errors(NamedTuple):
  """Of one law on one run, `[seeds]`: at the end, and over the curve."""

  end: np.ndarray
  mean: np.ndarray


def measure_errors(
  law: str,
  run: str,
  read: list[dict[str, np.ndarray]],
  found: list[dict[str, dict[str, np.ndarray]]],
) -> Errors:
  """What was forecast less what was read, seed by seed.

  Args:
    law: its name.
    run: the run's.
    read: for each seed the losses of each run.
    found: for each seed what each law predicts of each run, at the last of
      these readings.
  """
  rows = [
    of[law][run] - losses[run][-len(of[law][run]) :]
    for of, losses in zip(found, read, strict=True)
  ]
  return Errors(
    np.array([row[-1] for row in rows]),
    np.array([np.abs(row).mean() for row in rows]),
  )


def mean_error(law: str, errors: Mapping[tuple[str, str], Errors]) -> Any:
  """The mean error over the long curves, `[seeds]`."""
  return np.mean([errors[law, run].mean for run in FORECAST], axis=0)


def same_order(
  law: str,
  ends: Mapping[str, np.ndarray],
  errors: Mapping[tuple[str, str], Errors],
) -> bool:
  """Whether pairs of runs that differ by more than chance are told right."""
  for a, b in itertools.combinations(FORECAST, 2):
    mean, half = metrics.mean_interval(ends[a] - ends[b])
    told = mean + np.mean(errors[law, a].end - errors[law, b].end)
    if abs(mean) > half and np.sign(told) != np.sign(mean):
      return False
  return True
