"""A slow backbone and an aligned head, on tasks after a first training.

  python -m experiments.papers.slca --data_dir=DIR

takes about 3 minutes of CPU time.
"""

from collections.abc import Sequence
import os
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import claims
from experiments.papers import slca_runs as runs
from lrcl import protocols

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
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
BASE_RATE = 0.1
_TUNING_SEEDS = range(100, 104)


class _Scale(NamedTuple):
  names: Sequence[Any]
  seeds: Sequence[int]
  rates: Sequence[float]


_SCALES = {
  'smoke': _Scale(('digits',), range(3), RATES[5:7]),
  'default': _Scale(tuple(runs.SIZES), range(8), RATES),
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
  sweep = lambda settings, seeds, report: runs.sweep(
    name, data, settings, seeds, base_rate=BASE_RATE, report=report
  )
  axes = {'scale': SCALES, 'rate': scale.rates}
  tried = sweep(protocols.grid(axes), _TUNING_SEEDS, False)
  tried = 1 - tried.reshape(len(SCALES), len(scale.rates), *tried.shape[1:])
  chosen = [
    (factor, aligned, *_choose(errors, scale.rates, aligned))
    for factor, errors in zip(SCALES, tried, strict=True)
    for aligned in (False, True)
  ]
  settings = {
    'scale': np.array([factor for factor, *_ in chosen]),
    'rate': np.array([tuned.setting['rate'] for *_, tuned in chosen]),
  }
  found = sweep(settings, scale.seeds, True)
  return [
    Row(
      factor,
      aligned,
      protocols.format_setting(tuned),
      1 - float(tuned.losses.mean()),
      accuracy[:, column].tolist(),
    )
    for accuracy, (factor, aligned, column, tuned) in zip(
      found, chosen, strict=True
    )
  ]


def _choose(
  errors: np.ndarray, rates: Sequence[float], aligned: bool
) -> tuple[int, protocols.Tuned]:
  """The column of what a run gives, and the setting, of the least error.

  Args:
    errors: `[rates, seeds, 1 + ALIGN_RATES]`, of one scale.
    rates: of the head.
    aligned: whether to choose among the columns with alignment.
  """
  if not aligned:
    setting, edges = protocols.choose({'rate': rates}, errors[..., 0])
    losses = errors[list(rates).index(setting['rate']), :, 0]
    return 0, protocols.Tuned(setting, edges, losses)
  axes = {'rate': rates, 'alignment': runs.ALIGN_RATES}
  flat = np.moveaxis(errors[..., 1:], -1, 1)
  setting, edges = protocols.choose(axes, flat.reshape(-1, flat.shape[-1]))
  column = 1 + runs.ALIGN_RATES.index(setting['alignment'])
  losses = errors[list(rates).index(setting['rate']), :, column]
  return column, protocols.Tuned(setting, edges, losses)


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
    f'{_TUNING_SEEDS[0]} to {_TUNING_SEEDS[-1]} and on rows of the training '
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
