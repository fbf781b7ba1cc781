"""REX, from a hundredth of a budget of steps to all of it.

Command: python -m experiments.papers.rex_budgets
Time: 5 CPU minutes
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.papers import budgets, claims

PERCENTS = (1, 5, 10, 25, 50, 100)

CLAIM = claims.Claim(
  name='rex_budgets',
  title='REX across budgets',
  paper=(
    'Chen, Wolfe and Kyrillidis, 2021, REX: Revisiting Budgeted Training with '
    'an Improved Schedule, https://arxiv.org/abs/2107.04197'
  ),
  says=(
    'With the rate tuned anew for budgets of 1, 5, 10, 25, 50 and 100% of the '
    'epochs, REX has the best average rank of all schedules, with momentum and '
    'with Adam, at low and at high budgets (the caption of a figure, as quoted '
    'by others).'
  ),
)


GROUPS: dict[str, Callable[[budgets.Cell], bool]] = {
  'all': lambda cell: True,
  'SGD': lambda cell: cell.optimizer == 'SGD',
  'Adam': lambda cell: cell.optimizer == 'Adam',
  'up to 10%': lambda cell: cell.percent <= 10,
  'from 25% on': lambda cell: cell.percent >= 25,
}
"""The cells over which the claim speaks of an average rank."""


def run(size: claims.Size) -> claims.Outcome:
  """Tunes and trains seven schedules in 24 cells.

  The claim has a part for each group of cells: REX has a lower average rank
  than every rival, by more than chance.
  """
  cells = budgets.measure(budgets.common_schedules, PERCENTS, size)
  names = list(cells[0].errors)
  rank = lambda chosen: budgets.average_ranks(chosen, names)
  groups = {
    group: rank([cell for cell in cells if belongs(cell)])
    for group, belongs in GROUPS.items()
    if any(map(belongs, cells))
  }
  parts = {group: not rivals_of(ranks) for group, ranks in groups.items()}
  by_task = {
    task: rank([cell for cell in cells if cell.task == task])
    for task in dict.fromkeys(cell.task for cell in cells)
  }
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=(
      f'REX is ahead of every rival by more than chance: '
      f'{claims.format_parts(parts)}. Average ranks of test errors: '
      f'{"; ".join(map(_listed, groups, groups.values()))}.'
    ),
    table=budgets.make_table(cells, by_task),
    setting=budgets.describe(size, cells),
  )


def rivals_of(ranks: Mapping[str, Sequence[float]]) -> list[str]:
  """The schedules that REX is not ahead of by more than chance."""
  others = [name for name in ranks if name != 'REX']
  return [n for n in others if not claims.is_below(ranks['REX'], ranks[n])]


def _listed(group: str, ranks: Mapping[str, Sequence[float]]) -> str:
  order = sorted(ranks, key=lambda name: np.mean(ranks[name]))
  listed = (f'{n} {claims.format_interval(ranks[n], 2)}' for n in order)
  level = ', '.join(rivals_of(ranks))
  return f'{group}: {", ".join(listed)}' + (
    f' (not ahead of {level})' if level else ''
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
