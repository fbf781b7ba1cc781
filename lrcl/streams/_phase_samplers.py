"""Which classes or tasks a phase draws, looked up by the phase's number."""

import dataclasses

import numpy as np

from lrcl.streams._hash import hash_uniforms


@dataclasses.dataclass(frozen=True)
class DrawPools:
  """Draws pools without replacement, apart from the phases before.

  Attributes:
    weights: chances of the pools, above 0; they need not sum to 1. The first of
      a phase is drawn by them, each further one by those of what is left.
    per_phase: pools in a phase.
    seed: decides the draws.
    removed: pools that do not occur from phase `removed_from` on.
    removed_from: see `removed`.
  """

  weights: tuple[float, ...]
  per_phase: int
  seed: int
  removed: tuple[int, ...] = ()
  removed_from: int = 2**31 - 1

  def draw(self, phases: np.ndarray) -> np.ndarray:
    """`[n]` numbers of phases to `[n, per_phase]` pools."""
    pools = np.arange(len(self.weights))
    uniform = hash_uniforms((self.seed,), phases[:, None], pools)
    # The largest of weight-shifted Gumbel numbers is a draw by the weights,
    # the next one a draw without replacement.
    with np.errstate(divide='ignore'):
      score = np.log(self.weights) - np.log(-np.log(uniform))
    late = np.flatnonzero(phases >= self.removed_from)
    score[np.ix_(late, np.array(self.removed, np.int64))] = -np.inf
    return np.sort(np.argsort(-score, axis=1)[:, : self.per_phase], axis=1)


@dataclasses.dataclass(frozen=True)
class CyclePools:
  """The pools in a fixed order, over and over; some phases draw instead.

  Attributes:
    order: the pools; each phase takes the next `per_phase` of them.
    per_phase: pools in a phase; divides the length of `order`.
    drawn: what a phase draws that leaves the order.
    randomness: how often a phase leaves it, from 0 to 1.
  """

  order: tuple[int, ...]
  per_phase: int
  drawn: DrawPools
  randomness: float = 0.0

  def draw(self, phases: np.ndarray) -> np.ndarray:
    """`[n]` numbers of phases to `[n, per_phase]` pools."""
    groups = np.reshape(self.order, (-1, self.per_phase))
    in_order = groups[phases % len(groups)]
    leaves = hash_uniforms((self.drawn.seed, 1), phases) < self.randomness
    return np.where(leaves[:, None], self.drawn.draw(phases), in_order)
