"""What came of contenders that were tuned on one half and run on the other."""

from collections.abc import Mapping
import dataclasses
import types
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcl import metrics
from lrcl.protocols import _statistics
from lrcl.protocols._found import Found
from lrcl.protocols._search import Searched
from lrcl.protocols._settings import Tuned, format_setting

References = Mapping[str, npt.ArrayLike]

_NONE: References = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
  """The figures of the second phase, and what the first one chose.

  Attributes:
    tuned: the search of each contender, on the tuning half.
    found: the runs of each on the reporting half, `[seeds]`.
    costs: of a step of each: `gradient_evaluations`, `stored_bytes`.
    equal_compute: `found` for as many gradient evaluations as the naive
      learner takes; empty where it was not asked for.
    seeds: of the second phase.
  """

  tuned: Mapping[str, Searched]
  found: Mapping[str, Found]
  costs: Mapping[str, Mapping[str, float]]
  equal_compute: Mapping[str, Found]
  seeds: tuple[int, ...]

  @property
  def accuracy(self) -> dict[str, np.ndarray]:
    """Mean accuracy over all tasks at the end, `[seeds]`, by contender.

    A run that was lost on the way has 0.
    """
    return {name: _accuracy(found) for name, found in self.found.items()}

  def ranking(self, references: References = _NONE) -> _statistics.Ranking:
    """Contenders by their mean rank over the seeds.

    Args:
      references: accuracies `[seeds]` of rows that were not trained, such as
        the nearest class mean and chance, on the same streams.
    """
    return _statistics.rank_contenders({**self.accuracy, **references})

  def compare(self, first: str, second: str) -> _statistics.Comparison:
    """One contender against another, seed by seed.

    Raises:
      ValueError: if there is no such contender.
    """
    for name in (first, second):
      if name not in self.found:
        raise ValueError(
          f'Report.compare: there is no contender {name!r}; there are '
          f'{", ".join(self.found)}.'
        )
    return _statistics.compare(self.accuracy[first], self.accuracy[second])

  def transfer(self) -> float:
    """Kendall's tau between the orders of the two phases."""
    best = [1 - np.nanmin(self.tuned[name].losses) for name in self.found]
    reported = [accuracy.mean() for accuracy in self.accuracy.values()]
    return _statistics.rank_correlation(best, reported)

  def columns(self) -> dict[str, dict[str, str]]:
    """Columns by title, each from contender to what stands there.

    The accuracy on the tuning half, which flatters; that at equal compute;
    gradients and bytes; the setting.
    """
    flattering = {
      name: f'{1 - np.nanmin(found.losses):.3f}'
      for name, found in self.tuned.items()
      if name in self.found
    }
    equal = {n: _interval(_accuracy(x)) for n, x in self.equal_compute.items()}
    cost = lambda key, form: {
      name: form.format(cost[key]) for name, cost in self.costs.items()
    }
    return {
      '+-': {n: _half_width(x) for n, x in self.accuracy.items()},
      **({'at equal compute': equal} if equal else {}),
      'tuning half': flattering,
      'gradients': cost('gradient_evaluations', '{:g}'),
      'bytes': cost('stored_bytes', '{:.0f}'),
      'setting': {name: self.words(name) for name in self.found},
    }

  def words(self, name: str) -> str:
    """What was chosen for a contender; edges of its grid are marked."""
    found = self.tuned[name]
    chosen = {
      key: value
      for key, value in found.setting.items()
      if np.ptp(found.tried[key]) > 0
    }
    return format_setting(Tuned(chosen, found.edges, found.losses))

  def format(self, references: References = _NONE) -> str:
    """The table for a terminal, the best first; see `ranking`."""
    columns = self.columns()
    for name, values in references.items():
      columns['+-'][name] = _half_width(np.asarray(values))
    return _statistics.format_ranking(self.ranking(references), columns)

  def record(self) -> dict[str, Any]:
    """The report as JSON takes it."""
    ranking = self.ranking()
    return {
      'seeds': list(self.seeds),
      'ranks': dict(zip(ranking.names, ranking.ranks.tolist(), strict=True)),
      'contenders': {name: self._record(name) for name in self.found},
    }

  def _record(self, name: str) -> dict[str, Any]:
    equal = self.equal_compute.get(name)
    return {
      'setting': self.tuned[name].setting,
      'edges': list(self.tuned[name].edges),
      'settings_tried': len(self.tuned[name].losses),
      'accuracy': self.accuracy[name].tolist(),
      'accuracy_at_equal_compute': (
        None if equal is None else _accuracy(equal).tolist()
      ),
      'matrix': self.found[name].matrix.tolist(),
      **self.costs[name],
    }


def _accuracy(found: Found) -> np.ndarray:
  return np.nan_to_num(1.0 - found.errors, nan=0.0)


def _half_width(values: np.ndarray) -> str:
  return f'{metrics.mean_interval(values)[1]:.3f}'


def _interval(values: np.ndarray) -> str:
  mean, half = metrics.mean_interval(values)
  return f'{mean:.3f} +- {half:.3f}'
