"""Several views of a row in one batch, and a longer rest before the next ones.

Experience replay on shifted digits and Fashion-MNIST, five tasks of two
classes, with one, two and four views of a row in a batch at equal steps.

  python -m experiments.papers.view_batch --data_dir=DEST

takes about 3 minutes of CPU time.
"""

from collections.abc import Mapping
import functools
from typing import Any

from experiments.papers import claims, sequences
from experiments.papers import view_batch_runs as runs
from experiments.papers.images import load_images
from lrcl import protocols

CLAIM = claims.Claim(
  name='view_batch',
  title='The view batch: a longer interval before a row is recalled',
  paper='Kang et al., 2025, Do Your Best and Get Enough Rest for Continual '
  'Learning, https://arxiv.org/abs/2503.18371',
  says='Several views of a row side by side in a batch, with as many steps as '
  'before and hence a longer interval until the row comes again, raise the '
  'accuracy of continual learners and lower their forgetting (iCaRL on '
  'S-CIFAR-10 from 76.95 to 79.42), and a divergence between the views, with '
  "the first for a teacher, adds to that (80.99; table of the authors' code, "
  'where later views are augmented more strongly; here all are alike).',
)

_SCALES = {
  'smoke': runs.Scale(4, (0.05, 0.1), (100,), range(3)),
  'default': runs.Scale(
    8, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), (100, 101, 102), range(10)
  ),
  'full': runs.Scale(
    16, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), range(100, 105), range(20)
  ),
}
ROWS, TEST_ROWS = 4000, 1000

Results = Mapping[str, runs.Runs]


def load(data_dir: str | None) -> dict[str, runs.Data]:
  """The data by name; without a folder the digits alone."""
  found = {'digits': runs.Data(load_images('digits'), 1)}
  if data_dir is None:
    return found
  fashion = load_images(
    'fashion_mnist', data_dir, train_rows=ROWS, test_rows=TEST_ROWS
  )
  return found | {'Fashion-MNIST': runs.Data(fashion, 2)}


def judge(found: Results) -> dict[str, bool]:
  """The parts of the claim: contenders that are better than one view a batch.

  Better is a higher accuracy or a lower forgetting, either by more than chance,
  and none of the two worse by more than chance.
  """
  base = found[runs.BASE]
  parts = {}
  for name, one in found.items():
    if name == runs.BASE:
      continue
    higher = claims.is_below(base.accuracy, one.accuracy)
    lower = claims.is_below(one.accuracy, base.accuracy)
    less = claims.is_below(one.forgetting, base.forgetting)
    more = claims.is_below(base.forgetting, one.forgetting)
    parts[f'{name} is better'] = (higher or less) and not (lower or more)
  return parts


def run(size: claims.Size, data_dir: str | None = None) -> claims.Outcome:
  """Measures all contenders on all data."""
  scale, parts, words, table = _SCALES[size], {}, [], []
  for name, data in load(data_dir).items():
    found = runs.measure(data, scale)
    parts[name] = judge(found)
    words.append(_words(name, found, parts[name]))
    table += _table(name, found) + _reference_table(name, data, scale)
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(words),
    table=table,
    setting=_setting(data_dir, scale),
  )


def _words(name: str, found: Results, parts: Mapping[str, bool]) -> str:
  """Differences from one view a batch."""
  base, show = found[runs.BASE], claims.format_interval
  differences = '; '.join(
    f'{contender}: accuracy {show(one.accuracy - base.accuracy)}, forgetting '
    f'{show(one.forgetting - base.forgetting)}'
    for contender, one in found.items()
    if contender != runs.BASE
  )
  return (
    f'{name}, minus one view a batch ({show(base.accuracy)} and '
    f'{show(base.forgetting)}): {differences}. {claims.format_parts(parts)}.'
  )


def _table(name: str, found: Results) -> list[dict[str, Any]]:
  line = functools.partial(_line, name)
  return [
    line(
      contender,
      protocols.format_setting(one.tuned),
      *(one.accuracy, one.forgetting, one.learned),
    )
    for contender, one in found.items()
  ]


def _line(
  name: str, method: str, setting: str, accuracy: Any, *others: Any
) -> dict[str, Any]:
  shown = [claims.format_interval(x) for x in (accuracy, *others)]
  forgetting, learned = shown[1:] or ('', '')
  return {
    'data': name,
    'method': method,
    'tuned': setting,
    'ACC': shown[0],
    'forgetting': forgetting,
    'learned': learned,
  }


def _reference_table(
  name: str, data: runs.Data, scale: runs.Scale
) -> list[dict[str, Any]]:
  rows = sequences.reference_rows(
    data.images,
    functools.partial(runs.make_model, reach=data.reach),
    rates=scale.rates,
    tuning_seeds=scale.tuning_seeds,
    seeds=scale.seeds,
    steps_per_task=runs.steps_per_task(data, scale),
    batch_size=runs.BATCH,
  )
  return [_line(name, m, row.setting, row.accuracy) for m, row in rows.items()]


def _setting(data_dir: str | None, scale: runs.Scale) -> str:
  data = 'all digits, shifted by up to 1 pixel'
  if data_dir is not None:
    data += f', and {ROWS:,} rows of Fashion-MNIST, shifted by up to 2'
  return (
    f'Class-incremental, {runs.TASKS} tasks of two classes: {data} either way, '
    f'in training and by the seed anew at each step. MLP of {runs.FEATURES} '
    f'ReLU units, SGD in batches of {runs.BATCH} and as many replayed rows '
    f'from a reservoir of {runs.CAPACITY}, stored before they are shifted and '
    f'replayed in a view each. Every contender has {scale.passes} views of '
    'each row in a task, and as many steps; with R views in a batch these are '
    f'{scale.passes}/R passes. Weight 1 of the divergence. Rates '
    f'{scale.rates[0]} to {scale.rates[-1]}, tuned for final accuracy on seeds '
    f'{scale.tuning_seeds[0]} to {scale.tuning_seeds[-1]}; reported: seeds '
    f'{scale.seeds[0]} to {scale.seeds[-1]}, which draw weights, order of '
    'rows, views and, apart from them, classes. "learned" is the accuracy on '
    'each task right after it. A part holds if accuracy or forgetting is '
    'better by more than chance, seed by seed, and neither is worse.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
