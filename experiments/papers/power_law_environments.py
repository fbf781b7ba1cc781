"""Environments in which tasks return by a power law of their age.

Permuted digits and Split-MNIST, where a share of each batch is of earlier
tasks, against other laws, methods without rehearsal, and under four schedules.

  python -m experiments.papers.power_law_environments --data_dir=DIR

takes about 3 minutes of CPU time.
"""

from collections.abc import Callable, Mapping
import functools
from typing import NamedTuple

import numpy as np

from experiments.papers import claims, sequences
from experiments.papers import power_law_environments_runs as runs
from experiments.papers.images import Images, load_images, shrink
from lrcl import streams

CLAIM = claims.Claim(
  name='power_law_environments',
  title='Environments of a power law, and what they spare',
  paper='Gandhi et al., 2024, Natural Mitigation of Catastrophic Interference: '
  'Continual Learning in Power-Law Learning Environments, '
  'https://arxiv.org/abs/2401.10393',
  says='Where the chance to meet a task again falls as a power of the time '
  'since, less is forgotten: as little as with regularisers, or less, and less '
  'than with rehearsal by other laws; and later tasks are learnt sooner '
  '(abstracts; permuted MNIST in the first version, Split-MNIST and others in '
  'the third. The exponent, 1 here, is not confirmed).',
)

BATCH = 16
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)

_SCALES = {
  'smoke': runs.Scale(40, 10, (0.1, 0.3), 1, (100,), range(3)),
  'default': runs.Scale(200, 5, RATES, 5, (100, 101), range(8)),
  'full': runs.Scale(600, 5, RATES, 5, range(100, 103), range(10)),
}


class Sequence(NamedTuple):
  """Data, and how they are made into a sequence of tasks."""

  images: Images
  make_stream: Callable[..., streams.Stream]


PERMUTED, SPLIT = 'permuted digits', 'Split-MNIST'


def load(size: claims.Size, data_dir: str | None) -> dict[str, Sequence]:
  """The sequences by name; without data the digits alone."""
  permuted = functools.partial(
    sequences.permuted_stream, num_tasks=10, batch_size=BATCH
  )
  digits = load_images('digits', test_rows=100)
  found = {PERMUTED: Sequence(digits, permuted)}
  if data_dir is not None:
    rows = {'train_rows': 4000, 'test_rows': 500}
    mnist = shrink(load_images('mnist', data_dir, **rows), 2)
    split = functools.partial(
      sequences.split_stream, num_tasks=5, batch_size=BATCH
    )
    found[SPLIT] = Sequence(mnist, split)
  return found


Results = Mapping[str, runs.Run]


def judge(name: str, found: Results) -> dict[str, bool]:
  """The parts of the claim for one sequence, each by more than chance.

  'Not below' is that a rival is not above by more than chance. Whether later
  tasks are learnt sooner than the first one is asked of permuted tasks alone:
  with one head for all classes the first two classes have no rivals, and 0.8
  is reached in no time.
  """
  final = {n: run.final for n, run in found.items()}
  above = lambda n: claims.is_below(final[n], final['power'])
  rivals = [
    claims.is_below(final['power'], final[n]) for n in runs.REGULARIZERS
  ]
  parts = {f'above {n}': above(n) for n in ('none', 'recency', 'exponential')}
  parts['not below uniform'] = not claims.is_below(
    final['power'], final['uniform']
  )
  parts['not below EWC, SI, LwF'] = not any(rivals)
  if name == PERMUTED:
    power = found['power']
    parts['later tasks sooner'] = claims.is_below(
      power.late_steps, power.first_steps
    )
  return parts


def run(size: claims.Size, data_dir: str | None = None) -> claims.Outcome:
  """Measures every environment, regulariser and schedule."""
  scale, parts, words, table = _SCALES[size], {}, [], []
  for name, sequence in load(size, data_dir).items():
    make = functools.partial(sequence.make_stream, sequence.images)
    found, schedules = runs.measure(make, scale)
    parts[name] = judge(name, found)
    words.append(
      _words(name, found, parts[name]) + _schedule_words(found, schedules)
    )
    table += _table(name, 'constant', found)
    for schedule, some in schedules.items():
      table += _table(name, schedule, some)
    table += _references(name, sequence, scale)
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(words),
    table=table,
    setting=_describe(scale),
  )


def _words(name: str, found: Results, parts: Mapping[str, bool]) -> str:
  """Final accuracies, what uniform is worth, steps to 0.8, and the parts."""
  final = ', '.join(
    f'{n} {claims.format_interval(run.final)}' for n, run in found.items()
  )
  over = found['uniform'].final - found['power'].final
  steps = '; '.join(
    f'{n} {claims.format_interval(found[n].first_steps, 0)} and '
    f'{claims.format_interval(found[n].late_steps, 0)}'
    for n in runs.GRID
  )
  return (
    f'{name}: {final}. The power law is {claims.format_parts(parts)}. Uniform '
    'rehearsal, the honest upper row, is over the power law by '
    f'{claims.format_interval(over)}. Steps to {runs.GOAL:g} on the first task '
    f'and on the last third of tasks: {steps}.'
  )


def _schedule_words(found: Results, schedules: Mapping[str, Results]) -> str:
  """What schedules are worth in each environment."""
  over = '; '.join(
    f'{n}: '
    + ', '.join(
      f'{schedule} {claims.format_interval(some[n].final - found[n].final)}'
      for schedule, some in schedules.items()
    )
    for n in runs.GRID
  )
  return f' Schedules, over the constant rate: {over}.'


def _table(name: str, schedule: str, found: Results) -> list[dict[str, str]]:
  show = lambda values: claims.format_interval(values, 2)
  steps = lambda values: claims.format_interval(values, 0)
  return [
    {
      'tasks': name,
      'rehearsal or method': contender,
      'schedule': schedule,
      'tuned': run.setting,
      'ACC': show(run.final),
      'oldest third': show(run.oldest),
      'when learnt': show(run.learned),
      'steps to 0.8, first task': steps(run.first_steps),
      'last third': steps(run.late_steps),
    }
    for contender, run in found.items()
  ]


def _references(
  name: str, sequence: Sequence, scale: runs.Scale
) -> list[dict[str, str]]:
  rows = sequences.reference_rows(
    sequence.images,
    runs.FEATURES,
    rates=scale.rates,
    tuning_seeds=scale.tuning_seeds,
    seeds=scale.seeds,
    make_stream=sequence.make_stream,
    steps_per_task=scale.task_steps,
  )
  return [
    {
      'tasks': name,
      'rehearsal or method': method,
      'schedule': 'constant' if row.setting else '',
      'tuned': row.setting,
      'ACC': claims.format_interval(np.asarray(row.accuracy), 2),
      'oldest third': '',
      'when learnt': '',
      'steps to 0.8, first task': '',
      'last third': '',
    }
    for method, row in rows.items()
  ]


def _describe(scale: runs.Scale) -> str:
  return (
    f'Tasks of {scale.task_steps} steps of {BATCH} rows: ten of digits with '
    'permuted pixels, and five of two new classes of 4,000 images of MNIST at '
    '14 x 14 pixels; one head, no task ids; MLP of '
    f'{runs.FEATURES} ReLU units, SGD. A share of {runs.SHARE:g} of each '
    'batch, in expectation, is of earlier tasks, by 1 / age, exp(-age), the '
    'task before (recency) or equally (uniform); with no share the law of age '
    '+ 1 is over the current task, too. Rows are drawn with replacement from '
    'all data of a task: nothing is stored. EWC and SI (proximal), and LwF '
    f'have no rehearsal and up to {scale.strengths} strengths. Evaluation on '
    f'100 and 500 test rows every {scale.every} steps. Rates '
    f'{scale.rates[0]} to '
    f'{scale.rates[-1]} for every contender and schedule, tuned for final '
    f'accuracy on seeds {scale.tuning_seeds[0]} to {scale.tuning_seeds[-1]}; '
    f'reported: seeds {scale.seeds[0]} to {scale.seeds[-1]}, which draw '
    'weights, order of rows and, apart from them, permutations or classes. '
    'Schedules: re-warm and cosine restart begin anew with each task; infinite '
    'warms up once and stays at half of its peak.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
