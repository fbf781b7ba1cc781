"""The law of the best rate, a power of the tokens, and schedules by it."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optax

from lrcl import schedules


class Law(NamedTuple):
  """The best rates of a sweep, and the power law through them.

  Attributes:
    rates: best rates `[budgets, seeds]`.
    exponents: `[seeds]`, over all the budgets.
    smaller: the mean exponent over all the budgets but the largest.
    reference: tokens, the geometric mean of the budgets.
  """

  rates: np.ndarray
  exponents: np.ndarray
  smaller: float
  reference: float


def fit(rates: npt.ArrayLike, tokens: npt.ArrayLike, losses: np.ndarray) -> Law:
  """Fits the law to the losses `[rates, budgets, seeds]` of a sweep.

  Args:
    rates: of the sweep, equally spaced in their logarithm.
    tokens: of each budget, increasing.
    losses: finite.
  """
  tokens = np.asarray(tokens, np.float64)
  best = best_rates(rates, losses)
  smaller = _slopes(tokens[:-1], best[:-1]).mean()
  reference = float(np.exp(np.log(tokens).mean()))
  return Law(best, _slopes(tokens, best), float(smaller), reference)


def best_rates(rates: npt.ArrayLike, losses: np.ndarray) -> np.ndarray:
  """Where a parabola through the best rate and its neighbours is lowest.

  Args:
    rates: equally spaced in their logarithm.
    losses: `[rates, ...]`, finite.

  Returns:
    `[...]`; a best rate at the edge of the grid is returned as it is.

  Example:
    >>> losses = (np.log2([1.0, 2.0, 4.0, 8.0]) - 1.25) ** 2
    >>> round(float(np.log2(best_rates([1.0, 2.0, 4.0, 8.0], losses))), 4)
    1.25
  """
  logs = np.log(np.asarray(rates, np.float64))
  best = losses.argmin(0)
  inner = np.clip(best, 1, len(logs) - 2)
  take = lambda i: np.take_along_axis(losses, (inner + i)[None], 0)[0]
  left, middle, right = take(-1), take(0), take(1)
  bend = np.maximum(left - 2 * middle + right, 1e-30)
  shift = np.clip(0.5 * (left - right) / bend, -1.0, 1.0)
  found = logs[inner] + shift * (logs[1] - logs[0])
  return np.exp(np.where(best == inner, found, logs[best]))


def _slopes(tokens: np.ndarray, rates: np.ndarray) -> np.ndarray:
  """The slope of log rate over log tokens, `[seeds]`, of `[budgets, seeds]`."""
  return np.polyfit(np.log(tokens), np.log(rates), 1)[0]


def wsd(rate: Any, steps: int, *, warmup: int) -> optax.Schedule:
  """Warm-up, `rate`, and a linear decay to 0 in the last fifth."""
  decay = steps // 5
  return schedules.wsd_schedule(rate, warmup, steps - warmup - decay, decay)


def power(
  rate: Any,
  steps: int,
  *,
  warmup: int,
  batch_size: int,
  exponent: float,
  reference: float,
  peak: float,
) -> optax.Schedule:
  """The power law, with the same warm-up and decay as `wsd`.

  Args:
    rate: what the law gives at `reference` tokens: another way to say `a`.
    steps: of the budget; the law itself does not know it.
    warmup: steps.
    batch_size: tokens per step.
    exponent: `b`, below 0.
    reference: tokens.
    peak: the greatest rate.
  """
  law = schedules.power_schedule(
    peak,
    batch_size,
    1,
    amplitude=rate / (batch_size * reference**exponent),
    exponent=exponent,
    warmup_steps=warmup,
  )
  decay = steps // 5
  return schedules.decay_branch(law, steps - decay, decay)
