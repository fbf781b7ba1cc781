"""A thousand tasks of two classes that return: does plain SGD learn them all?

With and without masking and momentum, and under five schedules, on digits and
MNIST.

  python -m experiments.papers.scole --data_dir=DIR

takes about 4 minutes of CPU time.
"""

from collections.abc import Mapping
from typing import Any

from experiments.papers import claims, scole_runs, sequences
from experiments.papers.images import Images, load_images, shrink
from experiments.papers.scole_runs import Run, Scale

CLAIM = claims.Claim(
  name='scole',
  title='SCoLe: knowledge accumulates over endless tasks',
  paper='Lesort et al., 2022, Challenging Common Assumptions about '
  'Catastrophic Forgetting and Knowledge Accumulation, '
  'https://arxiv.org/abs/2207.04543',
  says='Where classes return, the accuracy on all of them rises over hundreds '
  'to thousands of tasks with naive SGD, although each task is forgotten soon '
  '(abstract). Best are no momentum and a mask over the classes that a task '
  'lacks (not confirmed against the paper).',
)

GAIN, EARLY = 0.3, 10
MARKS = (1, 10, 50, 100, 200, 400, 1000, 2500)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

_SCALES = {
  'smoke': Scale(100, 4, RATES[2:4], (100,), range(3)),
  'default': Scale(1000, 8, RATES, (100, 101), range(5)),
  'full': Scale(2500, 16, RATES, range(100, 103), range(10)),
}


def load(size: claims.Size, data_dir: str | None) -> dict[str, Images]:
  """The images by name; without data the digits alone."""
  found = {'digits': load_images('digits')}
  if data_dir is not None:
    rows = {'train_rows': 4000, 'test_rows': 500}
    found['MNIST'] = shrink(load_images('mnist', data_dir, **rows), 2)
  return found


def judge(curves: Mapping[str, Any]) -> dict[str, bool]:
  """The parts of the claim for one data set, each by more than chance.

  Args:
    curves: accuracy on all classes after every task, `[seeds, tasks]`, by
      contender.
  """
  plain = curves['plain SGD']
  end = {name: curve[:, -1] for name, curve in curves.items()}
  tenth = plain[:, plain.shape[1] // 10 - 1]
  return {
    f'{GAIN:g} above task {EARLY}': claims.is_below(
      plain[:, EARLY - 1], end['plain SGD'], GAIN
    ),
    'above the first tenth': claims.is_below(tenth, end['plain SGD']),
    'a mask helps': claims.is_below(end['plain SGD'], end['masked']),
    'momentum harms': claims.is_below(end['momentum'], end['plain SGD']),
  }


def run(size: claims.Size, data_dir: str | None = None) -> claims.Outcome:
  """Measures every contender on every data set."""
  scale, parts, words, table = _SCALES[size], {}, [], []
  for name, images in load(size, data_dir).items():
    runs, others = scole_runs.measure(
      images, scale, other_streams=name == 'digits'
    )
    curves = {contender: run.curve for contender, run in runs.items()}
    parts[name] = judge(curves)
    words.append(_words(name, curves, parts[name]) + _others(others, scale))
    table += _table(name, runs, others) + _references(name, images, scale)
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(words),
    table=table,
    setting=_describe(scale),
  )


def _words(
  name: str, curves: Mapping[str, Any], parts: Mapping[str, bool]
) -> str:
  """How plain SGD rises, the parts, and which schedules end elsewhere."""
  plain = curves['plain SGD']
  tasks = plain.shape[1]
  rise = ', '.join(
    f'{claims.format_interval(plain[:, n - 1])} after {n}'
    for n in (EARLY, tasks // 10, tasks)
  )
  ends = ', '.join(
    f'{contender} {claims.format_interval(curve[:, -1])}'
    f'{_against(curve, plain)}'
    for contender, curve in curves.items()
    if contender != 'plain SGD'
  )
  return (
    f'{name}: plain SGD has {rise} tasks; {claims.format_parts(parts)}. In the '
    f'end: {ends}.'
  )


def _against(curve: Any, plain: Any) -> str:
  """Whether a curve ends above or below another by more than chance."""
  if claims.is_below(plain[:, -1], curve[:, -1]):
    return ' (above)'
  return ' (below)' if claims.is_below(curve[:, -1], plain[:, -1]) else ''


def _others(others: Mapping[str, Run], scale: Scale) -> str:
  """The ends of the other streams, and what became of removed classes."""
  if not others:
    return ''
  ends = ', '.join(
    f'{name} {claims.format_interval(run.curve[:, -1])}'
    for name, run in others.items()
  )
  gone = [scole_runs.removed_classes(seed) for seed in scale.seeds]
  accuracy = [
    run[:, classes].mean(-1)
    for run, classes in zip(others['removed'].accuracy, gone, strict=True)
  ]
  show = lambda task: claims.format_interval([a[task] for a in accuracy])
  return (
    f' Plain SGD on other streams: {ends}; the removed classes fall from '
    f'{show(scale.tasks // 2 - 1)} to {show(-1)}.'
  )


def _table(
  name: str, runs: Mapping[str, Run], others: Mapping[str, Run]
) -> list[dict[str, str]]:
  rows = [('uniform', contender, run) for contender, run in runs.items()]
  rows += [(stream, 'plain SGD', run) for stream, run in others.items()]
  return [
    {
      'data': name,
      'stream': stream,
      'learner': contender,
      'tuned': run.setting,
      **_marks(run.curve),
    }
    for stream, contender, run in rows
  ]


def _marks(curve: Any) -> dict[str, str]:
  """The accuracy after some tasks, and its mean over all tasks."""
  marks = [mark for mark in MARKS if mark <= curve.shape[1]]
  show = lambda values: claims.format_interval(values, 2)
  found = {f'task {mark}': show(curve[:, mark - 1]) for mark in marks}
  return found | {'mean': show(curve.mean(1))}


def _references(
  name: str, images: Images, scale: Scale
) -> list[dict[str, str]]:
  """The rows of reference: five tasks that do not return, as many steps."""
  rows = sequences.reference_rows(
    images,
    scole_runs.FEATURES,
    rates=scale.rates,
    tuning_seeds=scale.tuning_seeds,
    seeds=scale.seeds,
    steps_per_task=scale.steps // 5,
    batch_size=scole_runs.BATCH,
  )
  marks = [mark for mark in MARKS if mark <= scale.tasks]
  empty = {f'task {mark}': '' for mark in marks}
  return [
    {
      'data': name,
      'stream': 'no return',
      'learner': learner,
      'tuned': row.setting,
      **empty,
      f'task {marks[-1]}': claims.format_interval(row.accuracy, 2),
      'mean': '',
    }
    for learner, row in rows.items()
  ]


def _describe(scale: Scale) -> str:
  return (
    f'{scale.tasks:,} tasks of two of ten classes, {scale.task_steps} steps of '
    f'{scole_runs.BATCH} rows each; all digits, and 4,000 images of MNIST at '
    f'14 x 14 pixels; MLP of {scole_runs.FEATURES} ReLU units, evaluation on '
    'all classes after each task. Momentum 0.9, kept across tasks, with a '
    'tenth of the rates. Schedules (without mask and momentum): warm-up of a '
    'hundredth of the stream; infinite: cool-down to 0.3 of the peak over a '
    'fifth, anneal over the last tenth; WSD-S and cosine: ten cycles; inverse '
    f'square root. Rates {scale.rates[0]} to {scale.rates[-1]}, tuned for the '
    f'accuracy after the last task on seeds {scale.tuning_seeds[0]} to '
    f'{scale.tuning_seeds[-1]}; reported: seeds {scale.seeds[0]} to '
    f'{scale.seeds[-1]}, which draw weights, order of rows and, apart from '
    'them, classes. Other streams have the rate of the uniform one. Rows of '
    'reference: five tasks of two classes once, and all classes mixed, in as '
    'many steps.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
