"""The stability gap, and what the learning rate at a switch has to do with it.

Replay, EWC, LwF and GEM learn five tasks of permuted digits and five of
Split-Fashion-MNIST, under five schedules. The old tasks are evaluated every
other step.

  python -m experiments.papers.stability_gap --data_dir=DEST

takes about 5 minutes of CPU time.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import claims, sequences
from experiments.papers import stability_gap_runs as runs
from experiments.papers.images import Images, load_images
from experiments.papers.stability_gap_methods import MEMORY, METHODS
from lrcl import streams

CLAIM = claims.Claim(
  name='stability_gap',
  title='The stability gap, and the rate at a switch',
  paper='De Lange, van de Ven and Tuytelaars, 2023, Continual evaluation for '
  'lifelong learning: identifying the stability gap, '
  'https://arxiv.org/abs/2205.13452',
  says='Whatever the method (replay, penalties, distillation, projection): '
  'right after a change of the task the accuracy on the old tasks drops, and '
  'then comes back (from the abstract). That the drop depends on the learning '
  'rate at the change is a question of our own.',
)

FEATURES, BATCH, TASKS, ROWS = (64, 64), 16, 5, 4000
MARGIN = 0.03

_SCALES = {
  'smoke': runs.Scale(10, 2, (0.03, 0.1), 1, (100,), range(2)),
  'default': runs.Scale(100, 2, runs.RATES, 4, (100, 101), range(5)),
  'full': runs.Scale(600, 2, runs.RATES, 4, range(100, 103), range(10)),
}


class Sequence(NamedTuple):
  """Data, and how they are made into a sequence of tasks."""

  images: Images
  make_stream: Callable[..., streams.Stream]


def load(size: claims.Size, data_dir: str | None) -> dict[str, Sequence]:
  """The sequences by name; without data the digits alone."""
  permuted, split = (
    functools.partial(make, num_tasks=TASKS, batch_size=BATCH)
    for make in (sequences.permuted_stream, sequences.split_stream)
  )
  digits = load_images('digits', test_rows=200)
  found = {'permuted digits': Sequence(digits, permuted)}
  if data_dir is None:
    return found
  fashion = load_images(
    'fashion_mnist', data_dir, train_rows=ROWS, test_rows=300
  )
  return found | {'Split-Fashion-MNIST': Sequence(fashion, split)}


Gaps = Mapping[str, Mapping[str, runs.Gap]]
"""What was found, by method and schedule."""


def judge(gaps: Gaps) -> dict[str, bool]:
  """The parts of the claim: methods that show a gap, at a constant rate.

  There is a gap if, by more than chance, the lowest accuracy of the old tasks
  lies at least 0.03 below what it is at the end, and the gap after a switch is
  deeper than the dips of second halves of tasks. A method that has lost the
  old tasks at the end has nothing that could come back; it is not judged.
  """
  parts = {}
  for method, found in gaps.items():
    gap = found['constant']
    if gap.retains:
      low = claims.is_below(gap.lowest, gap.old, MARGIN)
      parts[method] = low and claims.is_below(gap.late, gap.depth)
  return parts


def run(size: claims.Size, data_dir: str | None = None) -> claims.Outcome:
  """Measures all methods on both sequences."""
  scale, found, parts, table = _SCALES[size], {}, {}, []
  for name, sequence in load(size, data_dir).items():
    make = functools.partial(sequence.make_stream, sequence.images)
    gaps = {
      method: runs.measure(how, make, FEATURES, scale)
      for method, how in METHODS.items()
    }
    references = sequences.reference_rows(
      sequence.images,
      FEATURES,
      rates=scale.rates,
      tuning_seeds=scale.tuning_seeds,
      seeds=scale.seeds,
      make_stream=sequence.make_stream,
      steps_per_task=scale.task_steps,
    )
    table += _reference_table(name, references) + _table(name, gaps)
    found[name], parts[name] = gaps, judge(gaps)
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(_words(n, g, parts[n]) for n, g in found.items()),
    table=table,
    setting=f'{TASKS} tasks of {scale.task_steps} steps: digits with permuted '
    f'pixels, and two new classes of {ROWS:,} images of Fashion-MNIST at a '
    'time; one head, no task ids. MLP '
    f'of {FEATURES} ReLU units, SGD in batches of {BATCH}; {MEMORY} stored '
    f'rows; evaluation every {scale.every} steps on 200 and 300 test rows. '
    f'Rates {scale.rates[0]} to {scale.rates[-1]} for every schedule, and the '
    'strength with that of the constant one, tuned for final accuracy on seeds '
    f'{scale.tuning_seeds[0]} to {scale.tuning_seeds[-1]}; reported: seeds '
    f'{scale.seeds[0]} to {scale.seeds[-1]}, which draw weights, order of rows '
    'and, apart from them, classes or permutations. Depth and recovery are '
    'those of lrcl.metrics.stability_gap, means over switches; the late dip is '
    'what second halves of tasks show without a switch.',
  )


def _words(name: str, gaps: Gaps, parts: Mapping[str, bool]) -> str:
  """What was found on one sequence."""
  numbers = ', '.join(
    f'{method} {found["constant"].lowest.mean():.2f} of '
    f'{found["constant"].old.mean():.2f} (depth '
    f'{claims.format_interval(found["constant"].depth, 2)}, late dip '
    f'{found["constant"].late.mean():.2f})'
    for method, found in gaps.items()
  )
  lost = ', '.join(method for method in gaps if method not in parts)
  lost = f' Not judged, since the old tasks are lost: {lost}.' if lost else ''
  judged = {method: gaps[method] for method in parts}
  return (
    f'{name}: lowest and final accuracy of the old tasks at a constant rate: '
    f'{numbers}. A gap: {claims.format_parts(parts)}.{lost} '
    f'{_compare(judged)}'
  )


def _compare(gaps: Gaps) -> str:
  """How the other schedules differ from the constant one, in words."""
  words = []
  for name in next(iter(gaps.values())):
    if name == 'constant':
      continue
    ratio = np.mean(
      [f[name].depth / f['constant'].depth for f in gaps.values()]
    )
    lists = {'shallower': [], 'deeper': [], 'slower': [], 'better': []}
    for method, found in gaps.items():
      one, base = found[name], found['constant']
      for kind, pair in {
        'shallower': (one.depth, base.depth),
        'deeper': (base.depth, one.depth),
        'slower': (base.recovery, one.recovery),
        'better': (base.final, one.final),
      }.items():
        if claims.is_below(*pair):
          lists[kind].append(method)
    kinds = '; '.join(f'{k}: {", ".join(v)}' for k, v in lists.items() if v)
    words.append(f'{name} {ratio:.2f}' + (f' ({kinds})' if kinds else ''))
  return (
    'Depth as a multiple of that of the constant rate, and by more than chance '
    f'shallower, deeper, slower to recover, better in the end: '
    f'{", ".join(words)}.'
  )


def _table(name: str, gaps: Gaps) -> list[dict[str, Any]]:
  show = lambda values: claims.format_interval(values, 2)
  return [
    {
      'tasks': name,
      'method': method,
      'schedule': schedule,
      'tuned': gap.setting,
      'ACC': show(gap.final),
      'old tasks': show(gap.old),
      'min-ACC': show(gap.lowest),
      'WC-ACC': show(gap.worst),
      'gap depth': show(gap.depth),
      'recovery': claims.format_interval(gap.recovery, 0),
      'late dip': show(gap.late),
    }
    for method, found in gaps.items()
    for schedule, gap in found.items()
  ]


def _reference_table(
  name: str, rows: Mapping[str, sequences.Reference]
) -> list[dict[str, Any]]:
  empty = dict.fromkeys(
    ['old tasks', 'min-ACC', 'WC-ACC', 'gap depth', 'recovery', 'late dip'], ''
  )
  return [
    {
      'tasks': name,
      'method': method,
      'schedule': 'constant' if row.setting else '',
      'tuned': row.setting,
      'ACC': claims.format_interval(row.accuracy, 2),
      **empty,
    }
    for method, row in rows.items()
  ]


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
