"""Replay with pseudo-labels while labels grow finer, level by level.

Digits under parity (and 5 or more), Fashion-MNIST under kinds of clothes: trees
of two and of three levels, coarse labels first.

  python -m experiments.papers.hierarchy_expansion --data_dir=DEST

takes about 5 minutes of CPU time.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.papers import claims
from experiments.papers import hierarchy_expansion_runs as runs
from lrcl import protocols

CLAIM = claims.Claim(
  name='hierarchy_expansion',
  title='Labels that grow finer: replay with pseudo-labels',
  paper='Lee, Jung, Choi and Chun, 2023, Online Continual Learning on '
  'Hierarchical Label Expansion, https://arxiv.org/abs/2308.14374',
  says='Where coarse labels come first and are expanded into finer ones, '
  'replay with pseudo-labels by the hierarchy is more accurate than other '
  'methods on all levels and for any depth (from the abstract; how labels are '
  'chosen and '
  'gated is not confirmed, and its sampling of the memory is left out: see '
  'lrcl.methods.relabel_memory). What the learning rate does at an expansion '
  'is a question of our own.',
)

OURS, BASELINE, CONTROL = 'pseudo-labels', 'ER', 'ER, ancestors'
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DIGITS = [
  name for name, (images, _) in runs.TREES.items() if images == 'digits'
]

_SCALES = {
  'smoke': runs.Scale(DIGITS[1:], 35, RATES[3:5], (100,), range(2)),
  'default': runs.Scale(
    list(runs.TREES), 420, RATES, range(100, 103), range(8)
  ),
  'full': runs.Scale(list(runs.TREES), 2100, RATES, range(100, 105), range(20)),
}


def levels_of(found: protocols.Found) -> np.ndarray:
  """Accuracy `[seeds, levels]` at the end."""
  return found.matrix[..., -1, :]


def lost(found: protocols.Found) -> np.ndarray:
  """What the coarsest level loses from the end of its task on, `[seeds]`."""
  return found.matrix[..., 0, 0] - found.matrix[..., -1, 0]


Accuracy = Mapping[str, np.ndarray]
"""Accuracies `[seeds, levels]` at the end, by contender."""


def judge(accuracy: Accuracy) -> dict[str, bool]:
  """The parts of the claim for one tree: ours above ER, level by level.

  By more than chance, seed by seed.
  """
  ours, theirs = accuracy[OURS], accuracy[BASELINE]
  return {
    f'level {level}': claims.is_below(theirs[:, level], ours[:, level])
    for level in range(ours.shape[1])
  }


def run(size: claims.Size, data_dir: str | None = None) -> claims.Outcome:
  """Measures all contenders under every tree."""
  scale, parts, words, table = _SCALES[size], {}, [], []
  for name in scale.trees:
    cell = runs.load(name, scale.steps, data_dir)
    found = runs.measure(cell, scale)
    accuracy = {n: levels_of(f) for n, (_, f) in found.items()}
    parts[name] = judge(accuracy)
    words.append(
      f'{name}: {_compare(accuracy, parts[name])} {_rates(found, accuracy)}'
    )
    table += _table(name, found)
    table += [
      _line(name, reference, levels)
      for reference, levels in {
        'nearest class mean': runs.nearest_mean(cell, scale.seeds),
        'chance': runs.chance(cell, scale.seeds),
      }.items()
    ]
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured='Is ER with pseudo-labels above ER, by more than chance, on each '
    f'level from the coarsest (0) on? {" ".join(words)}',
    table=table,
    setting='Task 0 has all classes and the coarsest labels; each further one '
    'expands a group of a level, on rows of its own. Trees: parity of digits, '
    'and 5 or more below it; tops, bottoms, shoes and bags of Fashion-MNIST, '
    'and clothes or not above them. 1,400 rows of digits and '
    f'{runs.ROWS:,} of Fashion-MNIST, {scale.steps} steps of {runs.BATCH} rows '
    f'in tasks of one length, MLP {runs.FEATURES} with an output per node and '
    f'a softmax within each level, SGD. Memory of {runs.CAPACITY} rows, a '
    f'reservoir or class-balanced over nodes; {runs.BATCH} rows are drawn and '
    'replayed on every level on which they have a label; ER draws as many '
    'times more as there are levels. Joint training has all rows at once, each '
    'with the one label of its task; nearest means know the ancestors. Rates '
    f'{scale.rates[0]} to {scale.rates[-1]} (of schedules: the peak), tuned '
    'for every contender for the mean accuracy over levels at the end on seeds '
    f'{scale.tuning_seeds[0]} to {scale.tuning_seeds[-1]}; reported: seeds '
    f'{scale.seeds[0]} to {scale.seeds[-1]}, which draw weights, the order of '
    'rows and groups, and which rows come when.',
  )


def _compare(accuracy: Accuracy, parts: Mapping[str, bool]) -> str:
  """The parts, and how far ours is from the rivals on each level."""
  minus = lambda a, b: ', '.join(
    claims.format_interval(x) for x in (accuracy[a] - accuracy[b]).T
  )
  return (
    f'{claims.format_parts(parts)}. On levels 0 on, pseudo-labels minus ER: '
    f'{minus(OURS, BASELINE)}; minus ER with exact ancestors: '
    f'{minus(OURS, CONTROL)}; both with a balanced memory: '
    f'{minus(OURS + ", balanced", BASELINE + ", balanced")}.'
  )


def _rates(found: runs.Results, accuracy: Accuracy) -> str:
  """What the schedules do, beside a constant rate."""
  gain = lambda name, other: claims.format_interval(
    (accuracy[name] - accuracy[other]).mean(1)
  )
  change = lambda name, other: claims.format_interval(
    lost(found[name][1]) - lost(found[other][1])
  )
  words = [
    f'{schedule} {gain(f"{method}, {schedule}", method)} and '
    f'{change(f"{method}, {schedule}", method)} ({method})'
    for schedule in runs.SCHEDULES[1:]
    for method in (OURS, BASELINE)
  ]
  return (
    'Schedule minus constant, mean accuracy and what the coarsest level loses '
    f'from its task to the end: {"; ".join(words)}.'
  )


def _table(name: str, found: runs.Results) -> list[dict[str, Any]]:
  rows = []
  for contender, (tuned, result) in found.items():
    rate = tuned._replace(setting={'rate': tuned.setting['rate']})
    # Mixed tasks have no end of the first one.
    fall = '' if result.matrix.shape[-2] == 1 else _show(lost(result))
    setting = protocols.format_setting(rate)
    rows.append(_line(name, contender, levels_of(result), setting, fall))
  return rows


def _line(
  name: str, contender: str, levels: np.ndarray, tuned: str = '', fall: str = ''
) -> dict[str, Any]:
  """One line of the table; trees of two levels have no level 2."""
  shown = [_show(levels[:, i]) for i in range(levels.shape[1])]
  return {
    'tree': name,
    'contender': contender,
    'tuned': tuned,
    'mean': _show(levels.mean(1)),
    **{f'level {i}': (*shown, '')[i] for i in range(3)},
    'coarsest loses': fall,
  }


def _show(values: np.ndarray) -> str:
  return claims.format_interval(values)


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
