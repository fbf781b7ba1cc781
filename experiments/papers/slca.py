"""A slow backbone and an aligned head, on tasks after a first training.

  python -m experiments.papers.slca --data_dir=DIR

takes about 2 minutes of CPU time.
"""

from collections.abc import Sequence
import os
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import claims, tuning
from experiments.papers import slca_runs as runs

CLAIM = claims.Claim(
  name='slca',
  title='SLCA: a slow backbone and an aligned head',
  paper='Zhang et al., 2023, SLCA: Slow Learner with Classifier Alignment for '
  'Continual Learning on a Pre-trained Model, '
  'https://arxiv.org/abs/2303.05118',
  says='On a pre-trained network, a small but non-zero rate of the backbone '
  '(the code has 0.01 of that of the head) and a head that is aligned after '
  'training by Gaussians of the classes improve on plain fine-tuning by 40 to '
  '50 points (from the abstract, on four sets of images).',
)

SCALES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.0)
RATES = (0.01, 0.03, 0.1, 0.3)
BASE_RATE = 0.1
_TUNING_SEEDS = (100, 101)


class _Scale(NamedTuple):
  names: Sequence[Any]
  seeds: Sequence[int]
  rates: Sequence[float]


_SCALES = {
  'smoke': _Scale(('digits',), range(3), RATES[1:3]),
  'default': _Scale(tuple(runs.SIZES), range(5), RATES),
  'full': _Scale(tuple(runs.SIZES), range(20), RATES),
}


class Row(NamedTuple):
  """One scale of the backbone's rate, with or without alignment.

  Attributes:
    scale: of the backbone's rate.
    aligned: whether the head was aligned.
    setting: the rates that were chosen for it, in words.
    chosen: mean accuracy where it was chosen.
    accuracy: on other rows, one for each other seed.
  """

  scale: float
  aligned: bool
  setting: str
  chosen: float
  accuracy: list[float]


def measure(name: Any, data_dir: Any, scale: _Scale) -> list[Row]:
  """Chooses the rates of every scale, and measures it."""
  data = runs.load(name, data_dir)
  tried = _sweep(name, data, scale.rates, SCALES, _TUNING_SEEDS, False)
  reported = _sweep(name, data, scale.rates, SCALES, scale.seeds, True)
  rows = []
  for i, factor in enumerate(SCALES):
    for aligned in (False, True):
      columns = slice(1, None) if aligned else slice(0, 1)
      axes = {'rate': scale.rates}
      if aligned:
        axes['alignment'] = runs.ALIGN_RATES
      errors = 1 - np.moveaxis(tried[i, ..., columns], -1, 1)
      errors = errors.reshape(-1, errors.shape[-1])
      setting, edges = tuning.choose(axes, errors)
      found = np.moveaxis(reported[i, ..., columns], -1, 1)
      best = int(errors.mean(-1).argmin())
      accuracy = found.reshape(-1, found.shape[-1])[best].tolist()
      words = tuning.format_setting(tuning.Tuned(setting, edges, errors))
      rows.append(
        Row(factor, aligned, words, 1 - errors[best].mean(), accuracy)
      )
  return rows


def _sweep(
  name: Any,
  data: runs.Data,
  rates: Sequence[float],
  scales: Sequence[float],
  seeds: Sequence[int],
  report: bool,
) -> np.ndarray:
  """Accuracies `[scales, rates, seeds, 1 + ALIGN_RATES]`."""
  settings = tuning.grid({'scale': scales, 'rate': rates})
  found = runs.sweep(
    name, data, settings, seeds, base_rate=BASE_RATE, report=report
  )
  return found.reshape(len(scales), len(rates), *found.shape[1:])


def best_inside(rows: Sequence[Row]) -> Row:
  """The best aligned row with a scale inside (0, 1), where it was chosen."""
  inside = [row for row in rows if row.aligned and 0 < row.scale < 1]
  return max(inside, key=lambda row: row.chosen)


def judge(rows: Sequence[Row]) -> dict[str, bool]:
  """The parts of the claim, for one set of images.

  The best scale inside (0, 1) is chosen with the rates, on other seeds. It is
  better, by more than chance, than the scales 1 and 0, aligned too, and than
  itself without alignment.
  """
  best = best_inside(rows)
  of = lambda scale, aligned: next(
    row.accuracy
    for row in rows
    if row.scale == scale and row.aligned == aligned
  )
  return {
    'slow above fast': claims.is_below(of(1.0, True), best.accuracy),
    'slow above frozen': claims.is_below(of(0.0, True), best.accuracy),
    'alignment adds': claims.is_below(of(best.scale, False), best.accuracy),
  }


def run(
  size: claims.Size, data_dir: str | os.PathLike | None
) -> claims.Outcome:
  """Measures all sets of images."""
  scale = _SCALES[size]
  found = {name: measure(name, data_dir, scale) for name in scale.names}
  parts = {name: judge(rows) for name, rows in found.items()}
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(_words(n, found[n], parts[n]) for n in found),
    table=[line for n in found for line in _table(n, found[n])],
    setting=_setting(scale),
  )


def _setting(scale: _Scale) -> str:
  sizes = '; '.join(
    f'{name}: {s.base_rows} rows of a class and {s.base_epochs} epochs first, '
    f'{s.task_rows} and {s.task_epochs} in tasks, batches of {s.batch_size}'
    for name, s in runs.SIZES.items()
    if name in scale.names
  )
  widths = ' and '.join(map(str, runs.FEATURES))
  return (
    f'A perceptron of {widths} ReLU units is first trained on '
    f'{runs.BASE} classes (SGD, rate {BASE_RATE:g}), which stands in for '
    f'pre-training, then on {runs.TASKS} tasks of {runs.PER_TASK} classes by '
    'SGD without momentum, with the softmax over the classes of the task '
    '(local cross-entropy); the test is over all ten classes. The rate of all '
    'but the head is multiplied by the scale (lrcl.methods.scale_groups). '
    'Alignment: mean and covariance of the features of each class at the end '
    f'of its task, then {runs.ALIGN_STEPS} steps of '
    'lrcl.models.align_head with 26 rows per class, logits normalised and old '
    f'means shrunk as published, rate decayed by a cosine. {sizes}. For every '
    'scale, with and without alignment, the rate of the head '
    f'({", ".join(f"{r:g}" for r in scale.rates)}) and of the alignment '
    f'({", ".join(f"{r:g}" for r in runs.ALIGN_RATES)}) are chosen on seeds '
    f'{_TUNING_SEEDS[0]} and {_TUNING_SEEDS[1]} and on rows of the training '
    f'split; seeds {scale.seeds[0]} to {scale.seeds[-1]} are reported on the '
    'test split. A seed draws the order of classes, weights and rows. Chance '
    'is 0.1.'
  )


def _words(name: str, rows: Sequence[Row], parts: dict[str, bool]) -> str:
  """What became of one set of images."""
  best = best_inside(rows)
  listed = lambda aligned: ', '.join(
    f'{row.scale:g}: {np.mean(row.accuracy):.3f}'
    for row in rows
    if row.aligned == aligned
  )
  return (
    f'{name}: {claims.format_parts(parts)}. Best scale inside (0, 1): '
    f'{best.scale:g}, {claims.format_interval(best.accuracy)}. Accuracy by '
    f'scale with alignment: {listed(True)}; without: {listed(False)}.'
  )


def _table(name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
  return [
    {
      'images': name,
      'scale of the backbone': f'{row.scale:g}',
      'alignment': 'yes' if row.aligned else 'no',
      'accuracy': claims.format_interval(row.accuracy),
      'chosen': row.setting,
    }
    for row in rows
  ]


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
