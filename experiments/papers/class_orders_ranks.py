"""How much an order matters, what predicts it, and whether it lasts."""

from collections.abc import Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np

from lrcl import streams

P, TOP = 0.05, 12


class Effect(NamedTuple):
  """How far orders differ, and seeds within an order.

  Attributes:
    between: standard deviation over orders, without the part of the seeds.
    within: standard deviation over seeds, without the part of the orders and
      what a seed does to all orders alike.
    p: chance of so large a ratio if orders did not matter (F test).
  """

  between: float
  within: float
  p: float

  @property
  def matters(self) -> bool:
    """Whether orders differ by more than chance."""
    return self.p < P

  @property
  def exceeds(self) -> bool:
    """Whether orders differ more than runs of one order do."""
    return self.matters and self.between > self.within


def order_effect(values: np.ndarray) -> Effect:
  """Splits the variance of `[orders, seeds]`."""
  from scipy import stats

  orders, seeds = values.shape
  means = values.mean(1, keepdims=True)
  rest = values - means - values.mean(0) + values.mean()
  freedom = orders - 1, (orders - 1) * (seeds - 1)
  noise = float((rest**2).sum() / freedom[1])
  spread = float(means.var(ddof=1) * seeds)
  between = max(spread - noise, 0.0) / seeds
  p = float(stats.f.sf(spread / noise, *freedom)) if noise else float('nan')
  return Effect(between**0.5, noise**0.5, p)


class Prediction(NamedTuple):
  """What a score of orders says about an outcome.

  Attributes:
    rho: Spearman's rank correlation.
    p: its p-value, as if orders were independent; one-sided, above 0.
    exact: the share of all renamings of the classes under which the score
      does at least as well. There are 120 orders, but only five classes.
    overlap: how many of the highest scores are among the best outcomes.
  """

  rho: float
  p: float
  exact: float
  overlap: int

  @property
  def holds(self) -> bool:
    """Whether the score predicts the outcome, by `rho` and `p`."""
    return self.rho > 0 and self.p < P


def renamed_scores(
  distances: streams.ClassDistances, orders: Sequence[Sequence[int]]
) -> np.ndarray:
  """Scores `[renamings, orders]`, the first ones with the true names."""
  renamings = itertools.permutations(range(len(distances.spread)))
  score = lambda names, order: streams.class_order_score(
    distances, [names[c] for c in order]
  )
  return np.array([[score(n, order) for order in orders] for n in renamings])


def predict(scores: np.ndarray, outcome: np.ndarray) -> Prediction:
  """Compares scores with an outcome, larger being better.

  Args:
    scores: `[renamings, orders]`, from `renamed_scores`.
    outcome: `[orders]`.
  """
  from scipy import stats

  ours: Any = stats.spearmanr(scores[0], outcome, alternative='greater')
  ranked = stats.rankdata(scores, axis=1), stats.rankdata(outcome)
  renamed = np.corrcoef(np.vstack(ranked))[-1, :-1]
  top = lambda x: set(np.argsort(-x, kind='stable')[:TOP].tolist())
  return Prediction(
    float(ours.statistic),
    float(ours.pvalue),
    float(np.mean(renamed >= renamed[0] - 1e-9)),
    len(top(scores[0]) & top(outcome)),
  )


class Agreement(NamedTuple):
  """Whether two conditions rank the orders alike, from halves of the seeds.

  Attributes:
    across: Spearman between one half of the seeds under the one condition and
      the other half under the other, mean of both ways.
    within: the same of a condition with itself, geometric mean of both: what
      the noise of seeds allows.
  """

  across: float
  within: float


def agreement(first: np.ndarray, second: np.ndarray) -> Agreement:
  """Compares the rankings by two arrays `[orders, seeds]`."""
  from scipy import stats

  halves = lambda x: (x[:, ::2].mean(1), x[:, 1::2].mean(1))

  def rho(a: np.ndarray, b: np.ndarray) -> float:
    found: Any = stats.spearmanr(a, b)
    return float(found.statistic)

  (a, b), (c, d) = halves(first), halves(second)
  across = (rho(a, d) + rho(b, c)) / 2
  within = max(rho(a, b), 0.0) * max(rho(c, d), 0.0)
  return Agreement(across, within**0.5)
