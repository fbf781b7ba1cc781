"""A search of one budget for every contender, the learning rate first."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lrcl.base import check_steps
from lrcl.protocols import _settings
from lrcl.protocols._settings import Axes

MeasureAll = Callable[[dict[str, np.ndarray]], np.ndarray]
"""`measure_all(settings) -> losses [settings, ...]`; lower is better.

`settings` are arrays of one length by name, such as `grid` makes."""


class Searched(NamedTuple):
  """What a search has found.

  Attributes:
    setting: the best of the tried settings.
    edges: the names of the values that stand at an end of their axis, so that
      a better one may lie outside of the grid.
    tried: all settings in the order of the search, arrays `[runs]` by name.
    losses: of these, `[runs]`, means; NaN where a run was lost.
  """

  setting: dict[str, float]
  edges: tuple[str, ...]
  tried: dict[str, np.ndarray]
  losses: np.ndarray


def search(
  measure_all: MeasureAll,
  axes: Axes,
  *,
  budget: int | None = None,
  seed: int = 0,
) -> Searched:
  """Searches a grid with a budget that is the same for every contender.

  A method with three settings has a larger grid than one with none, and to
  try all of it would tune the former longer. Here every contender tries as
  many settings as the others. The first axis, the learning rate, matters most
  and is tried whole, with the middle value of every other axis. What is left
  of the budget goes to points of the grid in random order, those with the best
  rate first, then those with its neighbours.

  Args:
    measure_all: measures some settings.
    axes: the grid, the learning rate first.
    budget: how many settings are tried; None, or more than the grid has: all.
    seed: draws the order.

  Raises:
    ValueError: if there is no axis, an axis is empty, or the budget is smaller
      than the first axis.
    FloatingPointError: if no setting has finite losses only.

  Example:
    >>> bowl = lambda s: (s['rate'] - 2) ** 2 + (s['strength'] - 3) ** 2
    >>> axes = {'rate': [1, 2, 4], 'strength': [1, 2, 3, 4]}
    >>> found = search(bowl, axes, budget=6)
    >>> found.setting, found.edges, len(found.losses)
    ({'rate': 2.0, 'strength': 3.0}, (), 6)

  References:
    Cha and Cho, `Hyperparameters in Continual Learning: A Reality Check
    <https://arxiv.org/abs/2403.09066>`_, 2025 (as many random configurations
    for every method)
  """
  sizes = [len(values) for values in axes.values()]
  _check(axes, sizes, budget)
  points = np.stack([x.ravel() for x in np.indices(sizes)], axis=1)
  middle = [size // 2 for size in sizes[1:]]
  is_first = (points[:, 1:] == middle).all(1)
  measure = lambda some: _means(measure_all(_settings_at(axes, some)))
  first, losses = points[is_first], measure(points[is_first])
  others = points[~is_first]
  count = len(points) if budget is None else min(budget, len(points))
  if count > len(first):
    best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
    order = _order(others, best, seed)[: count - len(first)]
    losses = np.concatenate([losses, measure(others[order])])
    first = np.concatenate([first, others[order]])
  return _found(axes, first, losses)


def _check(axes: Axes, sizes: list[int], budget: int | None) -> None:
  if not sizes or not all(sizes):
    raise ValueError(
      f'search: axes is {dict(axes)}; it needs an axis, and each a value.'
    )
  if budget is None:
    return
  if check_steps('search', 'budget', budget, 1) < sizes[0]:
    raise ValueError(
      f'search: budget is {budget}, but the first axis, '
      f'{next(iter(axes))!r}, has {sizes[0]} values and is tried whole.'
    )


def _order(points: np.ndarray, best: int, seed: int) -> np.ndarray:
  """Points near the best rate first, in random order among equals."""
  chance = np.random.default_rng(seed).permutation(len(points))
  return np.lexsort([chance, np.abs(points[:, 0] - best)])


def _settings_at(axes: Axes, points: np.ndarray) -> dict[str, np.ndarray]:
  columns = zip(axes.items(), points.T, strict=True)
  return {n: np.asarray(v, np.float32)[c] for (n, v), c in columns}


def _means(losses: Any) -> np.ndarray:
  found = np.asarray(losses, np.float64)
  return found.reshape(len(found), -1).mean(1)


def _found(axes: Axes, points: np.ndarray, losses: np.ndarray) -> Searched:
  if not np.isfinite(losses).any():
    raise FloatingPointError('search: no setting has finite losses only.')
  best = points[np.argmin(np.where(np.isfinite(losses), losses, np.inf))]
  setting = _settings.setting_at(axes, best)
  edges = _settings.edges_at(axes, best)
  return Searched(setting, edges, _settings_at(axes, points), losses)
