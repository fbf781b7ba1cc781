"""What was found on orders of classes, in words and as a table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import claims, sequences
from experiments.papers import class_orders_ranks as ranks
from experiments.papers import class_orders_runs as runs
from experiments.papers.images import Images
from lrcl import protocols, streams

TUNED = next(iter(runs.CONDITIONS))

_COLUMNS = (
  'classes',
  'method',
  'rate',
  'ACC',
  'least and best order',
  'sd of orders, of seeds',
  'same ranking (at most)',
  'pixels: rho with ACC',
  'pixels: rho with less forgetting',
  'features: rho with ACC',
  'features: rho with less forgetting',
  'top shared by pixels, features',
)


class Subset(NamedTuple):
  """Five classes, and how they lie to each other in two spaces."""

  images: Images
  distances: Mapping[str, streams.ClassDistances]


class Found(NamedTuple):
  """All that was measured on one subset."""

  subset: Subset
  orders: Sequence[tuple[int, ...]]
  scores: Mapping[str, np.ndarray]
  runs: Mapping[str, runs.Runs]
  references: Mapping[str, sequences.Reference]

  def predictions(
    self, method: str, condition: str
  ) -> dict[str, tuple[ranks.Prediction, ranks.Prediction]]:
    """By features, how the score predicts accuracy and (not) forgetting."""
    found = self.runs[method]
    outcomes = found.accuracy[condition], -found.forgetting[condition]
    predict = lambda scores: (
      ranks.predict(scores, outcomes[0].mean(1)),
      ranks.predict(scores, outcomes[1].mean(1)),
    )
    return {name: predict(scores) for name, scores in self.scores.items()}

  def designed(self, method: str, name: str) -> float:
    """The share of orders below the one that the Designer makes."""
    accuracy = self.runs[method].accuracy[TUNED].mean(1)
    order = tuple(streams.design_class_order(self.subset.distances[name]))
    if order not in self.orders:
      return float('nan')
    own = accuracy[self.orders.index(order)]
    return float(np.mean(accuracy < own))


def words(name: str, found: Found, parts: Mapping[str, bool]) -> str:
  """What was found on one subset."""
  each = '; '.join(_method_words(found, method) for method in found.runs)
  return f'{name}: {each}. In parts: {claims.format_parts(parts)}.'


def _method_words(found: Found, method: str) -> str:
  accuracy = found.runs[method].accuracy
  means = accuracy[TUNED].mean(1)
  effect = ranks.order_effect(accuracy[TUNED])
  said = ', '.join(
    f'{name} {_rho(a)}, with less forgetting {_rho(f)}, {a.overlap} of the top '
    f"{ranks.TOP} shared, the Designer's order above "
    f'{found.designed(method, name):.0%}'
    for name, (a, f) in found.predictions(method, TUNED).items()
  )
  kept = ', '.join(
    f'{condition} {pair.across:.2f} (at most {pair.within:.2f})'
    for condition, pair in _agreements(accuracy).items()
  )
  return (
    f'{method}: accuracy {means.min():.2f} to {means.max():.2f} by order, '
    f'standard deviation of orders {effect.between:.3f} (p {effect.p:.2g}) and '
    f'of seeds {effect.within:.3f}; Spearman of the score with accuracy: '
    f'{said}; '
    f'between rankings at the tuned rate and at others: {kept}; at others the '
    f'score predicts accuracy for {_elsewhere(found, method)}'
  )


def _elsewhere(found: Found, method: str) -> str:
  """Where else the score holds, and whether over renamings as well."""
  held = [
    f'{name}, {condition}{"" if a.exact < ranks.P else " (not over renamings)"}'
    for condition in runs.CONDITIONS
    if condition != TUNED
    for name, (a, _) in found.predictions(method, condition).items()
    if a.holds
  ]
  return '; '.join(held) or 'none'


def _rho(found: ranks.Prediction) -> str:
  return f'{found.rho:.2f} (p {found.p:.2g}, renamings {found.exact:.2g})'


def _agreements(
  accuracy: Mapping[str, np.ndarray],
) -> dict[str, ranks.Agreement]:
  return {
    condition: ranks.agreement(accuracy[TUNED], values)
    for condition, values in accuracy.items()
    if condition != TUNED
  }


def table(name: str, found: Found) -> list[dict[str, Any]]:
  """A line for each method and condition, and the rows of reference."""
  rows = []
  for method, one in found.runs.items():
    for condition in one.accuracy:
      rows.append(_line(name, found, method, condition))
  for method, row in found.references.items():
    cells = (name, method, row.setting, claims.format_interval(row.accuracy))
    rows.append(dict(zip(_COLUMNS, cells + ('',) * 8, strict=True)))
  return rows


def _line(
  name: str, found: Found, method: str, condition: str
) -> dict[str, Any]:
  """One method under one condition."""
  one = found.runs[method]
  accuracy = one.accuracy[condition]
  means, effect = accuracy.mean(1), ranks.order_effect(accuracy)
  pair = ranks.agreement(one.accuracy[TUNED], accuracy)
  said = found.predictions(method, condition)
  rate = protocols.format_setting(one.tuned) if condition == TUNED else ''
  cells = [
    name,
    method,
    rate or condition,
    claims.format_interval(accuracy.mean(0)),
    f'{means.min():.3f}, {means.max():.3f}',
    f'{effect.between:.3f} (p {effect.p:.2g}), {effect.within:.3f}',
    f'{pair.across:.2f} ({pair.within:.2f})',
  ]
  for a, f in said.values():
    cells += [_rho(a), _rho(f)]
  cells.append(', '.join(str(a.overlap) for a, _ in said.values()))
  return dict(zip(_COLUMNS, cells, strict=True))
