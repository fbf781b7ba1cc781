"""Heads that are computed on pretrained features, against trained ones.

  python -m experiments.papers.pretrained_heads --data_dir=DIR

takes about 6 minutes of CPU time, and the features once two more
(`python -m experiments.papers.feature_sets`).
"""

from collections.abc import Mapping, Sequence
import os
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import claims, feature_sets
from experiments.papers import pretrained_heads_runs as runs
from lrcl import metrics

CLAIM = claims.Claim(
  name='pretrained_heads',
  title='Heads without gradients on a frozen pretrained network',
  paper='Janson et al., 2022, A Simple Baseline that Questions the Use of '
  'Pretrained-Models in Continual Learning, https://arxiv.org/abs/2210.04428; '
  'Zhuang et al., 2024, G-ACIL, https://arxiv.org/abs/2403.15706; Hayes and '
  'Kanan, 2020, Lifelong Machine Learning with Deep Streaming Linear '
  'Discriminant Analysis, https://arxiv.org/abs/1909.01520',
  says='On frozen pretrained features the nearest class mean surpasses most '
  'methods that train (88.5% on ten splits of CIFAR-100, from the abstract); '
  'a head in closed form equals its joint training, in any order of classes '
  'and rows (G-ACIL), and streaming discriminant analysis comes near to '
  'training on everything (from the abstracts).',
)

COMPUTED = tuple(runs.HEADS)
ANALYTIC = COMPUTED[1:]
ON_PIXELS = ('nearest class mean', 'ridge', 'G-ACIL')
RATES = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1)
_TUNING_SEEDS = (100, 101)
_MARGIN = 0.01


class _Scale(NamedTuple):
  names: Sequence[Any]
  sizes: Mapping[str, int]
  seeds: Sequence[int]
  rates: Sequence[float]


_DIGITS = dict(per_class=96, choice_per_class=30, test_per_class=30)
_SCALES = {
  'smoke': _Scale(('digits',), _DIGITS, range(3), RATES[4:6]),
  'default': _Scale(('mnist', 'fashion_mnist'), {}, range(5), RATES),
  'full': _Scale(('mnist', 'fashion_mnist'), {}, range(20), RATES),
}

Rows = Mapping[str, runs.Found]


def measure(name: Any, data_dir: Any, scale: _Scale) -> tuple[Rows, str]:
  """All heads on one set of images, and what its features cost."""
  sets = feature_sets.load(name, data_dir, **scale.sizes)
  features = (sets.features_choice, sets.features)
  pixels = (sets.choice, sets.pixels)
  rows = {
    head: runs.compute(runs.HEADS[head], *features, scale.seeds)
    for head in COMPUTED
  }
  for head in runs.TRAINED:
    seeds = dict(tuning_seeds=_TUNING_SEEDS, seeds=scale.seeds)
    rows[head] = runs.train(head, *features, scale.rates, **seeds)
  for head in ON_PIXELS:
    found = runs.compute(runs.HEADS[head], *pixels, scale.seeds)
    rows[f'{head}, pixels'] = found
  return rows, sets.cost


def judge(rows: Rows) -> dict[str, bool]:
  """The parts of the claim, for one set of images.

  Above: by more than chance, seed by seed, and by a point where both are
  computed, for then seeds do not differ and the test rows decide. Near joint
  training: no more than a point below it. Any order: every seed predicts the
  same for every test row, in float64.
  """
  final = {name: found.final.tolist() for name, found in rows.items()}
  below = claims.is_below
  near = lambda head: below([x - _MARGIN for x in final['joint']], final[head])
  above_pixels = lambda head: below(
    final[f'{head}, pixels'], final[head], _MARGIN
  )
  return {
    'nearest mean above replay': below(
      final['ER'], final['nearest class mean']
    ),
    'closed forms above replay': all(
      below(final['ER'], final[head]) for head in ANALYTIC
    ),
    'closed forms near joint training': all(map(near, ANALYTIC)),
    'features above pixels': all(map(above_pixels, ON_PIXELS)),
    'any order': not any(rows[head].spread[0].predictions for head in COMPUTED),
  }


def run(
  size: claims.Size, data_dir: str | os.PathLike | None
) -> claims.Outcome:
  """Measures all sets of images."""
  scale = _SCALES[size]
  found, costs = {}, []
  for name in scale.names:
    found[name], cost = measure(name, data_dir, scale)
    costs.append(f'{name} {cost}')
  parts = {name: judge(rows) for name, rows in found.items()}
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(_words(n, found[n], parts[n]) for n in found),
    table=[row for n in found for row in _table(n, found[n])],
    setting=_setting(scale, costs),
  )


def _setting(scale: _Scale, costs: Sequence[str]) -> str:
  return (
    'Five tasks of two classes, class-incremental, one pass: 600 rows of each '
    'class to train on, 200 others of the training split to choose rates and '
    'regularisation on, 200 of the test split to report. Features: '
    'EfficientNet-Lite0, pretrained on ImageNet, frozen, on grey images scaled '
    f'from 28 to {feature_sets.SIZE} pixels, 1,280 numbers each; computed once '
    f'and not in the time below ({"; ".join(costs)}). Nearest class mean, '
    'streaming LDA and ridge are those of lrcl.models, in float64; G-ACIL is '
    f'ridge behind {runs.HEADS["G-ACIL"].width} random ReLU units. Naive, ER '
    f'and joint train a linear head by SGD in batches of {runs.BATCH}; ER '
    f'replays {runs.BATCH} of {runs.MEMORY} kept rows in each step, at twice '
    'the gradients; joint mixes all tasks in its one pass. Rates from '
    f'{scale.rates[0]:g} to {scale.rates[-1]:g} by factors of about 3, tuned '
    f'on seeds {_TUNING_SEEDS[0]} and {_TUNING_SEEDS[1]}; regularisation by '
    'factors of 10, of LDA of 3 to 10. Seeds '
    f'{scale.seeds[0]} to {scale.seeds[-1]} draw the order of classes and of '
    'rows; a computed head gives the same for all. Chance is 0.1.'
  )


def _words(name: str, rows: Rows, parts: Mapping[str, bool]) -> str:
  """What became of one set of images."""
  listed = ', '.join(
    f'{n} {claims.format_interval(f.final.tolist())}' for n, f in rows.items()
  )
  gaps = [rows[head].spread for head in COMPUTED]
  worst = [max(s[i].kernel for s in gaps) for i in range(2)]
  changed = sum(s[1].predictions for s in gaps)
  return (
    f'{name}: {claims.format_parts(parts)}. Accuracy at the end: {listed}. '
    f'Between orders the kernels differ by at most {worst[0]:.0e} of their '
    f'largest entry in float64 and {worst[1]:.0e} in float32, where {changed} '
    'predictions change.'
  )


def _table(name: str, rows: Rows) -> list[dict[str, Any]]:
  along = lambda measure, f: claims.format_interval(
    [float(measure(a.astype(np.float64))) for a in f.matrix]
  )
  return [
    {
      'images': name,
      'head': head,
      'accuracy at the end': claims.format_interval(f.final.tolist()),
      'average over tasks': along(metrics.average_incremental_accuracy, f),
      'forgetting': along(metrics.forgetting, f) if head != 'joint' else '',
      'chosen': f.setting,
    }
    for head, f in rows.items()
  ]


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
