"""Forecasts of a loss: an exponential through how it began."""

from typing import Any, Literal, get_args
import warnings

import numpy as np

from lrcl import base

Smoothing = Literal['official', 'none']

MIN_LOSSES = 4
"""The fewest losses that an exponential is fitted to."""

_LOG_RANGE = (-20.0, 20.0)  # of log(-b); below it the curve is a straight line


def fit_exponential(
  losses: Any, *, smoothing: Smoothing = 'official', validation: bool = False
) -> tuple[float, float, float]:
  """Fits `a * exp(b * i) + c` to `losses[i]`, with b < 0, on the host.

  For each b the best a and c are a linear least-squares problem, so one
  search, over `log(-b)`, is left.

  `smoothing='official'` is the pipeline of the authors' code: a quadratic
  spline is fitted, the losses farthest from it are dropped if they lie in the
  first half of the series, and so again (for training losses ten times the
  worst 3%, for validation losses once the worst one); the exponential goes
  through a last spline. A series too short for 3% to be one loss loses none.
  The spline is scipy's with its default amount of smoothing, which for losses
  of order 1 is so much that one parabola is left: the forecast is biased even
  where the losses are an exponential without noise. It also makes the fit
  depend on the scale of the losses. `'none'` fits the losses themselves and
  finds such an exponential again; its search starts from the best of a coarse
  grid, since noise leaves local minima.

  Constant losses give a = 0 up to rounding. Increasing losses that level off
  give a < 0; a straight line is the limit of b towards 0, with a and c large
  and opposite, and is forecast as a line; so are losses that bend upwards, and
  losses that fall faster and faster.

  Args:
    losses: at least 4 numbers, at equal distances.
    smoothing: see above.
    validation: whether 'official' shall treat them as validation losses.

  Returns:
    `(a, b, c)`; three NaNs where a loss is not finite.

  Raises:
    ValueError: for fewer losses, another shape or an unknown smoothing.

  Example:
    >>> losses = 0.5 * np.exp(-0.03 * np.arange(100)) + 1.0
    >>> print(*np.round(fit_exponential(losses, smoothing='none'), 4))
    0.5 -0.03 1.0
    >>> print(*np.round(fit_exponential(losses), 4))
    0.44 -0.0208 0.9619

  References:
    Jin et al, `AutoLRS: Automatic Learning-Rate Schedule by Bayesian
    Optimization on the Fly <https://arxiv.org/abs/2105.10762>`_, 2021; the
    authors' code, YuchenJin/autolrs.
  """
  from scipy import optimize

  y = _check_losses(losses, smoothing)
  if not np.isfinite(y).all():
    return np.nan, np.nan, np.nan
  x = np.arange(len(y), dtype=np.float64)
  start = 0.0
  if smoothing == 'official':
    y = _smooth(x, y, validation)
  else:
    start = min(np.arange(-14.0, 3.0, 0.25), key=lambda z: _solve(z, x, y)[1])
  residual = lambda z: _solve(z[0], x, y)[1]
  best = optimize.fmin(residual, start, xtol=1e-5, ftol=1e-5, disp=False)[0]
  (a, c), _ = _solve(best, x, y)
  return float(a), float(_exponent(best)), float(c)


def forecast(
  losses: Any,
  horizon: float,
  *,
  smoothing: Smoothing = 'official',
  validation: bool = False,
) -> float:
  """Forecasts the loss at index `horizon` from the losses 0, 1, 2, ...

  Nothing bounds the forecast: a loss that falls in a straight line is
  forecast to fall on, below 0.

  Args:
    losses: see `fit_exponential`.
    horizon: the index to forecast; that of the first loss is 0.
    smoothing: see `fit_exponential`.
    validation: see `fit_exponential`.

  Returns:
    The forecast; NaN where a loss is not finite.

  Raises:
    ValueError: as `fit_exponential`, and for a negative horizon.

  Example:
    >>> losses = 0.5 * np.exp(-0.03 * np.arange(100)) + 1.0
    >>> round(forecast(losses, 1000), 4)  # the truth is 1
    0.9619

  References:
    Jin et al, `AutoLRS: Automatic Learning-Rate Schedule by Bayesian
    Optimization on the Fly <https://arxiv.org/abs/2105.10762>`_, 2021.
  """
  base.check_value('forecast', 'horizon', horizon, minimum=0)
  a, b, c = fit_exponential(losses, smoothing=smoothing, validation=validation)
  return float(a * np.exp(b * horizon) + c)


def check_smoothing(where: str, smoothing: Any) -> None:
  """Refuses a smoothing that does not exist."""
  if smoothing not in get_args(Smoothing):
    raise ValueError(
      f'{where}: smoothing is {smoothing!r}; it must be one of '
      f'{", ".join(map(repr, get_args(Smoothing)))}.'
    )


def _check_losses(losses: Any, smoothing: Any) -> np.ndarray:
  check_smoothing('fit_exponential', smoothing)
  losses = np.asarray(losses, np.float64)
  if losses.ndim != 1 or len(losses) < MIN_LOSSES:
    raise ValueError(
      f'fit_exponential: losses has shape {losses.shape}; it must be a vector '
      f'of at least {MIN_LOSSES}.'
    )
  return losses


def _exponent(log_rate: float) -> float:
  """The b of `log(-b)`, kept where `exp(b * i)` is a useful number."""
  return -np.exp(np.clip(log_rate, *_LOG_RANGE))


def _solve(
  log_rate: float, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, float]:
  """The best (a, c) for one b, and the sum of squares that they leave."""
  columns = np.stack([np.exp(_exponent(log_rate) * x), np.ones_like(x)], 1)
  found = np.linalg.lstsq(columns, y, rcond=None)[0]
  return found, float(np.sum(np.square(columns @ found - y)))


def _smooth(x: np.ndarray, y: np.ndarray, validation: bool) -> np.ndarray:
  """The spline through the losses that are no outliers, at every index."""
  kept_x, kept_y = x, y
  first_half = (len(x) - 1) // 2
  for _ in range(1 if validation else 10):
    distance = np.abs(kept_y - _spline(kept_x, kept_y)(kept_x))
    count = 1 if validation else round(0.03 * len(kept_x))
    worst = np.argsort(distance, kind='stable')[len(kept_x) - count :]
    # By its place in what is left, as in the authors' code: what "the first
    # half" is moves on by what has been dropped.
    outliers = worst[worst < first_half]
    kept_x, kept_y = np.delete(kept_x, outliers), np.delete(kept_y, outliers)
  return _spline(kept_x, kept_y)(x)


def _spline(x: np.ndarray, y: np.ndarray) -> Any:
  from scipy import interpolate

  with warnings.catch_warnings():
    # Where noise does not let the spline come as close as it should, scipy
    # warns and returns the closest one.
    warnings.simplefilter('ignore', UserWarning)
    return interpolate.UnivariateSpline(x, y, k=2)
