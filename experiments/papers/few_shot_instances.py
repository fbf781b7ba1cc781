"""Few shots of classes, and single instances, with and without replay.

  python -m experiments.papers.few_shot_instances --data_dir=DIR

takes about 2 minutes of CPU time.
"""

from collections.abc import Mapping, Sequence
import os
from typing import Any, NamedTuple

from experiments.papers import claims
from experiments.papers import few_shot_runs as runs
from experiments.papers.few_shot_runs import Cell, Found

CLAIM = claims.Claim(
  name='few_shot_instances',
  title='Continual few-shot learning, and instances known again',
  paper='Antoniou et al., 2020, Defining Benchmarks for Continual Few-Shot '
  'Learning, https://arxiv.org/abs/2004.11967; Kowadlo et al., 2022, Expanding '
  'continual few-shot learning benchmarks to include recognition of specific '
  'instances, https://arxiv.org/abs/2209.07863',
  says='Of support sets that follow one another, more classes are harder; '
  'single instances are recognised about as well as classes, but poorly under '
  'noise or occlusion; replay between the sets helps substantially, and '
  'instances most (from the abstracts; their numbers are not confirmed).',
)

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
TUNING_SEEDS = (100, 101, 102)
COMPUTED = ('k-NN', 'nearest mean')
REPLAY, PLAIN, JOINT = 'MLP + replay', 'MLP', 'joint MLP'


class _Scale(NamedTuple):
  cells: Sequence[Cell]
  seeds: Sequence[int]
  rates: Sequence[float]


_CELLS = (
  Cell('digits', 5, 2),
  Cell('mnist', 5, 2),
  Cell('mnist + fashion_mnist', 5, 4),
  Cell('digits', 20, 5, ('instances',)),
  Cell('mnist', 20, 5, ('instances',)),
)
_SCALES = {
  'smoke': _Scale((Cell('digits', 3, 2),), range(3), RATES[2:4]),
  'default': _Scale(_CELLS, range(10), RATES),
  'full': _Scale(_CELLS, range(30), RATES),
}

Results = Mapping[str, Mapping[str, Found]]
"""Of one cell: by test, then by learner."""


def measure(cell: Cell, scale: _Scale, data_dir: Any) -> Results:
  """All learners in all tests of a cell."""
  rows, found = runs.load(cell.name, data_dir), {}
  for test in cell.tests:
    found[test] = {
      name: runs.compute(name, rows, cell, test, scale.seeds)
      for name in COMPUTED
    } | {
      name: runs.train(
        name,
        rows,
        cell,
        test,
        scale.rates,
        tuning_seeds=TUNING_SEEDS,
        seeds=scale.seeds,
      )
      for name in runs.LEARNERS
    }
  return found


def gain(found: Mapping[str, Found]) -> Any:
  """What replay adds to the accuracy at the end, `[seeds]`."""
  return found[REPLAY].final - found[PLAIN].final


def judge(found: Results) -> dict[str, bool]:
  """The parts of the claim for one cell, each by more than chance.

  Harder: every learner knows less after the last set than after the first; of
  instances, the one with replay. Hurt: with replay, fewer instances are known
  under the strongest corruption than as they were shown.
  """
  below, parts = claims.is_below, {}
  falls = lambda f: below(f.curve[:, -1], f.curve[:, 0])
  gains = {test: gain(one) for test, one in found.items()}
  nothing = 0 * next(iter(gains.values()))
  if 'classes' in found:
    learners = [f for n, f in found['classes'].items() if n != JOINT]
    parts['more classes are harder'] = all(map(falls, learners))
  parts['more instances are harder'] = falls(found['instances'][REPLAY])
  for test, values in gains.items():
    parts[f'replay helps {test}'] = below(nothing, values)
  if 'classes' in found:
    parts['replay helps instances more'] = below(
      gains['classes'], gains['instances']
    )
  levels = found['instances'][REPLAY].levels
  hurts = lambda worst: below(levels[worst], levels['as shown'])
  parts['noise hurts'] = hurts(f'noise {runs.NOISE[-1]:g}')
  parts['occlusion hurts'] = hurts(f'occluded {runs.OCCLUSION[-1]:g}')
  return parts


def run(
  size: claims.Size, data_dir: str | os.PathLike | None
) -> claims.Outcome:
  """Measures every cell."""
  scale = _SCALES[size]
  found = {cell: measure(cell, scale, data_dir) for cell in scale.cells}
  parts = {cell: judge(one) for cell, one in found.items()}
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(_words(c, found[c], parts[c]) for c in found),
    table=[
      row
      for cell, one in found.items()
      for test in one
      for row in _table(cell, test, one[test])
    ],
    setting=_setting(scale),
  )


def _words(cell: Cell, found: Results, parts: Mapping[str, bool]) -> str:
  """What became of one cell."""
  gains = ', '.join(
    f'{claims.format_interval(gain(one))} to the accuracy on {test} '
    f'({_closed(one):.0%} of what joint training adds)'
    for test, one in found.items()
  )
  return f'{cell.label}: {claims.format_parts(parts)}. Replay adds {gains}.'


def _closed(found: Mapping[str, Found]) -> float:
  """The share of the way from the plain learner to the joint one."""
  whole = found[JOINT].final.mean() - found[PLAIN].final.mean()
  return float(gain(found).mean() / whole)


def _table(
  cell: Cell, test: str, found: Mapping[str, Found]
) -> list[dict[str, Any]]:
  show = lambda values: claims.format_interval(values, 2)
  columns = [f'noise {x:g}' for x in runs.NOISE]
  columns += [f'occluded {x:g}' for x in runs.OCCLUSION]
  chance = {'first set': f'{1 / cell.ways:.2f}'}
  chance['all sets'] = f'{1 / cell.ways / cell.sets:.2f}'
  head = lambda learner: {
    'images': cell.label,
    'test': test,
    'learner': learner,
  }
  return [
    head(name)
    | {
      'first set': show(f.curve[:, 0]) if name != JOINT else '',
      'all sets': show(f.final),
      **{c: show(f.levels[c]) if f.levels else '' for c in columns},
      'tuned': f.setting,
    }
    for name, f in found.items()
  ] + [head('chance') | chance | dict.fromkeys(columns, '') | {'tuned': ''}]


def _setting(scale: _Scale) -> str:
  return (
    'Omniglot was not at hand: classes are those of digits, MNIST, or MNIST '
    'and Fashion-MNIST together (1,400 rows of digits, 4,000 of each of the '
    'others to draw from). Support sets one after the other; of classes '
    f'{runs.SHOTS} rows each and '
    f'{runs.QUERIES} others to be tested on, of instances one row each, all '
    'of one class of the data, to be known again as it is, under Gaussian '
    'noise (by its standard deviation; pixels lie in 0 to 1) or behind a '
    'black square (by its share of the area). Labels of new sets follow on '
    'the old ones; all are told apart in testing. MLP with '
    f'{runs.FEATURES[0]} hidden units on pixels, SGD, {runs.STEPS} steps on '
    'each set, the whole set in a batch; replay draws as many rows again from '
    'a memory with room for all sets, at twice the gradients; the joint MLP '
    'mixes all sets in as many steps. k-NN with one neighbour; of instances, '
    'the nearest mean is the same. Naive is the MLP. Rates from '
    f'{scale.rates[0]:g} to {scale.rates[-1]:g}, tuned for the accuracy after '
    f'the last set on seeds {TUNING_SEEDS[0]} to {TUNING_SEEDS[-1]}; reported: '
    f'seeds {scale.seeds[0]} to {scale.seeds[-1]}, which draw classes, rows '
    'and weights.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
