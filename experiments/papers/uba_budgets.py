"""UBA, from a hundredth of a budget of steps to all of it.

Command: python -m experiments.papers.uba_budgets
Time: 8 CPU minutes
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import optax

from experiments.papers import budgets, claims
from lrcl import schedules

PERCENTS = (1, 5, 25, 50, 100)
PHIS = (0.5, 1.0, 5.0)

CLAIM = claims.Claim(
  name='uba_budgets',
  title='UBA across budgets',
  paper=(
    'Tang et al., 2025, Stepsize anything: A unified learning rate schedule '
    'for budgeted-iteration training, https://arxiv.org/abs/2505.24452'
  ),
  says=(
    'With phi chosen for the optimizer (about 5 for SGD, 0.5 for AdamW; '
    'unconfirmed) it beats step, cosine, cyclic, OneCycle, budgeted linear '
    'decay and REX at 25, 50 and 100% of the steps (abstract: consistently).'
  ),
)

RECOMMENDED = {'SGD': 5.0, 'Adam': 0.5}
"""The phi of each optimizer."""

NAMED = ('step', 'cosine', 'cyclic', 'OneCycle', 'linear', 'REX')
"""The rivals of the claim; the others are there to compare."""


def contenders(steps: int) -> dict[str, optax.Schedule]:
  """The common schedules, two more that the paper names, and three UBAs."""
  cycle = max(2, steps // 4)
  return {
    **budgets.common_schedules(steps),
    'cyclic': schedules.repeated_cosine_schedule(1.0, cycle, cycle // 2),
    'OneCycle': optax.cosine_onecycle_schedule(max(4, steps), 1.0),
    **{_name(phi): schedules.uba_schedule(1.0, steps, phi) for phi in PHIS},
  }


def _name(phi: float) -> str:
  return f'UBA {phi:g}'


def run(size: claims.Size) -> claims.Outcome:
  """Tunes and trains twelve schedules in twenty cells.

  The claim has a part for each rival that the paper names: over the cells of
  25% and more, UBA with the recommended phi has the lower average rank by more
  than chance.
  """
  cells = budgets.measure(contenders, PERCENTS, size)
  high = [cell for cell in cells if cell.percent >= 25]
  low = [cell for cell in cells if cell.percent < 25]
  ranks = rank_with(high, RECOMMENDED)
  parts = {
    f'below {rival}': claims.is_below(ranks['UBA'], ranks[rival])
    for rival in NAMED
  }
  listed = {
    'from 25% on, recommended phi': rank_with(high, RECOMMENDED),
    'below 25%, recommended phi': rank_with(low, RECOMMENDED),
    **{
      f'from 25% on, phi {phi:g}': rank_with(
        high, dict.fromkeys(RECOMMENDED, phi)
      )
      for phi in PHIS
    },
  }
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=(
      f'{claims.format_parts(parts)}. Average ranks of test errors among '
      f'{len(ranks)} schedules; '
      + '; '.join(map(_listed, listed.items()))
      + '.'
    ),
    table=make_table(cells),
    setting=budgets.describe(size, cells),
  )


def rank_with(
  cells: Sequence[budgets.Cell], phis: Mapping[str, float]
) -> dict[str, list[float]]:
  """Average ranks of the rivals and of UBA with a phi for each optimizer."""
  chosen = [
    dataclasses.replace(
      cell,
      errors={**cell.errors, 'UBA': cell.errors[_name(phis[cell.optimizer])]},
    )
    for cell in cells
  ]
  rivals = [n for n in cells[0].errors if not n.startswith('UBA')]
  return budgets.average_ranks(chosen, [*rivals, 'UBA'])


def _listed(item: tuple[str, Mapping[str, list[float]]]) -> str:
  """UBA's rank, and its place among the schedules."""
  label, ranks = item
  order = sorted(ranks, key=lambda name: np.mean(ranks[name]))
  place = order.index('UBA') + 1
  return f'{label}: {claims.format_interval(ranks["UBA"], 2)} (place {place})'


def make_table(cells: Sequence[budgets.Cell]) -> list[dict[str, Any]]:
  """A row per task and schedule; ranks are those from 25% on."""
  by_task = {}
  for task in dict.fromkeys(cell.task for cell in cells):
    own = [c for c in cells if c.task == task and c.percent >= 25]
    ranks = {k: v for k, v in rank_with(own, RECOMMENDED).items() if k != 'UBA'}
    for phi in PHIS:
      phis = dict.fromkeys(RECOMMENDED, phi)
      ranks[_name(phi)] = rank_with(own, phis)['UBA']
    by_task[task] = ranks
  return budgets.make_table(cells, by_task)


if __name__ == '__main__':
  claims.main(CLAIM, run)
