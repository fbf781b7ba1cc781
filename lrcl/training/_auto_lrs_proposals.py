"""The next learning rate to try: a Gaussian process over its logarithm."""

from collections.abc import Sequence
from typing import Any
import warnings

import numpy as np

from lrcl import base

DIVERGED = 1e6
"""What a loss that is not finite counts as."""

_GRID = np.linspace(0.0, 1.0, 1001)  # the candidates, as a share of the range


def propose_rate(
  rates: Sequence[float],
  losses: Sequence[float],
  *,
  min_rate: float,
  max_rate: float,
  kappa: float = 1e6,
  seed: int = 0,
) -> float:
  """Proposes the learning rate to try next, given those tried so far.

  The candidates are 1,001 rates, evenly spaced in the logarithm. The first
  proposal is drawn from them by the seed; every other one has the smallest
  lower confidence bound `mean - kappa * deviation` of a Gaussian process
  through the losses: an amplitude times a Matern 5/2 kernel of the logarithm,
  and noise, the parameters by maximum likelihood. This is scikit-learn's
  regressor, set up as scikit-optimize does for the authors of AutoLRS. With
  their kappa of 1e6 the deviation alone decides: the proposals spread over
  the range. The paper has 1000 [M].

  A pure function on the host: the same arguments give the same rate, so a
  search that was cut short goes on from its list of rates and losses.

  Args:
    rates: the rates tried; one may stand there twice.
    losses: their losses. One that is not finite counts as 1e6.
    min_rate: the lower end of the range, > 0.
    max_rate: the upper end.
    kappa: how many deviations below the mean the bound lies.
    seed: decides the first rate, and where the likelihood's search starts.

  Returns:
    A float32 number. A candidate that was tried is not proposed again.

  Raises:
    ValueError: for an empty range, or rates and losses of different number.
    ImportError: if scikit-learn is missing.

  Example:
    >>> first = propose_rate([], [], min_rate=1e-3, max_rate=1.0)
    >>> second = propose_rate([first], [0.7], min_rate=1e-3, max_rate=1.0)
    >>> print(f'{first:.3g} {second:.3g}')
    0.357 0.001

  References:
    Jin et al, `AutoLRS: Automatic Learning-Rate Schedule by Bayesian
    Optimization on the Fly <https://arxiv.org/abs/2105.10762>`_, 2021; the
    authors' code, YuchenJin/autolrs.
  """
  check_range('propose_rate', min_rate, max_rate)
  base.check_value('propose_rate', 'kappa', kappa, minimum=0)
  if len(rates) != len(losses):
    raise ValueError(
      f'propose_rate: there are {len(rates)} rates and {len(losses)} losses; '
      'there must be a loss for every rate.'
    )
  low, width = np.log(min_rate), np.log(max_rate) - np.log(min_rate)
  if not len(rates):
    place = np.random.default_rng(seed).choice(_GRID)
  else:
    tried = (np.log(np.asarray(rates, np.float64)) - low) / width
    place = _lowest_bound(tried, np.asarray(losses, np.float64), kappa, seed)
  return float(np.float32(np.exp(low + place * width)))


def propose_rates(
  count: int,
  rates: Sequence[float],
  losses: Sequence[float],
  *,
  min_rate: float,
  max_rate: float,
  kappa: float = 1e6,
  seed: int = 0,
) -> list[float]:
  """Proposes `count` rates to be tried side by side.

  A single one is that of `propose_rate`. Several, where nothing is known yet,
  are evenly spaced in the logarithm, moved by the seed; later on each is
  proposed as if those before it had the median of the losses so far (constant
  liar). The arguments are those of `propose_rate`.
  """
  if count > 1 and not len(losses):
    shift = np.random.default_rng(seed).uniform()
    place = (np.arange(count) + shift) / count
    found = np.exp(np.log(min_rate) + place * np.log(max_rate / min_rate))
    return [float(rate) for rate in found.astype(np.float32)]
  told, proposed = list(losses), []
  for _ in range(count):
    rate = propose_rate(
      [*rates, *proposed],
      told,
      min_rate=min_rate,
      max_rate=max_rate,
      kappa=kappa,
      seed=seed,
    )
    proposed.append(rate)
    told.append(float(np.median(losses)) if len(losses) else 0.0)
  return proposed


def check_range(where: str, min_rate: float, max_rate: float) -> None:
  """Refuses a range that holds no rate."""
  base.check_value(where, 'min_rate', min_rate, above=0)
  base.check_value(where, 'max_rate', max_rate, above=min_rate)


def _lowest_bound(
  tried: np.ndarray, losses: np.ndarray, kappa: float, seed: int
) -> float:
  """The candidate with the lowest bound, of those not yet tried."""
  losses = np.where(np.isfinite(losses), losses, DIVERGED)
  spread = float(np.std(losses))
  losses = (losses - np.mean(losses)) / (spread if spread > 0 else 1.0)
  mean, deviation = _posterior(tried, losses, seed)
  bound = mean - kappa * deviation
  near = np.abs(_GRID[:, None] - tried).min(1) < 0.5 / (len(_GRID) - 1)
  if not near.all():
    bound[near] = np.inf
  return float(_GRID[np.argmin(bound)])


def _posterior(
  tried: np.ndarray, losses: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of the loss, without its noise, at every candidate."""
  try:
    from sklearn import exceptions, gaussian_process
    from sklearn.gaussian_process import kernels
    import threadpoolctl
  except ImportError as error:
    raise ImportError(
      'propose_rate: scikit-learn is not installed; run: pip install '
      "'lrcl[experiments]'"
    ) from error
  smooth = kernels.ConstantKernel(1.0, (0.01, 1000.0)) * kernels.Matern(
    1.0, (0.01, 100.0), nu=2.5
  )
  process = gaussian_process.GaussianProcessRegressor(
    smooth + kernels.WhiteKernel(), n_restarts_optimizer=2, random_state=seed
  )
  # Threads would only wait for one another over so few numbers, and what they
  # sum up may depend on how many there are.
  one_thread = threadpoolctl.threadpool_limits(1)
  with one_thread, warnings.catch_warnings():
    # With a handful of losses a parameter often ends at its bound.
    warnings.simplefilter('ignore', exceptions.ConvergenceWarning)
    process.fit(tried[:, None], losses)
    mean, deviation = process.predict(_GRID[:, None], return_std=True)
  fitted: Any = process.kernel_
  noise = fitted.k2.noise_level
  return mean, np.sqrt(np.maximum(np.square(deviation) - noise, 0.0))
