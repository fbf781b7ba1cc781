"""Epochs of more and fewer rows in turns, with easy rows more often.

A small network on digits, digits with wrong labels and Fashion-MNIST learns
from as many examples as without, and the rate goes up and down with the size of
the epochs, or against it.

  python -m experiments.papers.cyclical_curriculum --data_dir=DEST

takes about 4 minutes of CPU time.
"""

from collections.abc import Mapping
from typing import Any

from experiments import references
from experiments.papers import claims
from experiments.papers import cyclical_curriculum_runs as runs
from experiments.papers.images import Images, load_images, shrink

CLAIM = claims.Claim(
  name='cyclical_curriculum',
  title='Cyclical curriculum: the size of the data up and down',
  paper='Kesgin and Amasyali, 2022, Cyclical Curriculum Learning, '
  'https://arxiv.org/abs/2202.05531',
  says='Epochs whose size goes up and down, drawn by the inverse loss of a '
  'network trained before, give a higher accuracy than epochs of all rows with '
  'as many examples, on 18 data sets and 15 architectures (abstract; in the '
  'example of the authors on CIFAR-10 the highest accuracy of all epochs rises '
  'from 0.703 to 0.741). What the network before has cost is not counted '
  'there. Rates in phase with the size, or against it, are a question of our '
  'own.',
)

_SCALES = {
  'smoke': runs.Scale(2, (0.1, 0.3), (100,), range(3)),
  'default': runs.Scale(
    10, (0.03, 0.06, 0.12, 0.25, 0.5, 1.0), (100, 101), range(8)
  ),
  'full': runs.Scale(
    19, (0.03, 0.06, 0.12, 0.25, 0.5, 1.0), range(100, 104), range(20)
  ),
}
ROWS, WRONG = {'digits': 1280, 'Fashion-MNIST': 2560}, 0.2

Results = Mapping[str, runs.Runs]


def load(data_dir: str | None) -> dict[str, Images]:
  """The data by name; without a folder those made of digits alone."""
  digits = runs.square(load_images('digits'), ROWS['digits'])
  found = {'digits': digits, 'digits, noisy': runs.spoil(digits, WRONG)}
  if data_dir is None:
    return found
  fashion = load_images('fashion_mnist', data_dir, test_rows=1000)
  rows = ROWS['Fashion-MNIST']
  return found | {'Fashion-MNIST': runs.square(shrink(fashion, 2), rows)}


def judge(found: Results) -> dict[str, bool]:
  """The parts of the claim: cyclical above vanilla by more than chance.

  With as many examples, at the best epoch and at the last one, and at the last
  one if the network that gives the scores is counted.
  """
  ours, vanilla = found[runs.CYCLICAL], found[runs.VANILLA]
  return {
    'best epoch higher': claims.is_below(vanilla.best, ours.best),
    'last epoch higher': claims.is_below(vanilla.last, ours.last),
    'higher at equal cost': claims.is_below(found[runs.LONG].last, ours.last),
  }


def run(size: claims.Size, data_dir: str | None = None) -> claims.Outcome:
  """Measures all contenders on all data."""
  scale, parts, words, table = _SCALES[size], {}, [], []
  for name, images in load(data_dir).items():
    found = runs.measure(images, scale)
    parts[name] = judge(found)
    words.append(_words(name, found, parts[name]))
    table += _table(name, found) + _reference_table(name, images, scale)
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(words),
    table=table,
    setting=_setting(data_dir, scale),
  )


def _words(name: str, found: Results, parts: Mapping[str, bool]) -> str:
  """Differences in accuracy, and what the rate does."""
  show, over = claims.format_interval, found[runs.VANILLA]
  ours = found[runs.CYCLICAL]
  others = '; '.join(
    f'{other} {show(one.last - over.last)}'
    for other, one in found.items()
    if other not in (runs.VANILLA, runs.CYCLICAL)
  )
  return (
    f'{name}: cyclical minus vanilla (last epoch {show(over.last)}): best of '
    f'all evaluations {show(ours.best - over.best)}, best of own epochs '
    f'{show(ours.own - over.own)}, last epoch {show(ours.last - over.last)}. '
    f'At the last epoch, minus vanilla: {others}. '
    f'{claims.format_parts(parts)}.'
  )


def _table(name: str, found: Results) -> list[dict[str, Any]]:
  return [
    {
      'data': name,
      'contender': contender,
      'tuned': f'rate {one.tuned.setting["rate"]:g}'
      + (' (edge of the grid)' if 'rate' in one.tuned.edges else ''),
      'last epoch': claims.format_interval(one.last),
      'best evaluation': claims.format_interval(one.best),
      'best of own epochs': claims.format_interval(one.own),
    }
    for contender, one in found.items()
  ]


def _reference_table(
  name: str, images: Images, scale: runs.Scale
) -> list[dict[str, Any]]:
  """The rows that need no training; vanilla is the one of joint training."""
  vanilla = runs.CONTENDERS[runs.VANILLA]
  stream = runs.make_stream(images, scale, vanilla, {})
  rows = {
    'nearest class mean': references.nearest_mean(stream),
    'chance': references.chance(stream),
  }
  return [
    {
      'data': name,
      'contender': contender,
      'tuned': '',
      'last epoch': claims.format_interval(accuracy.mean(1)),
      'best evaluation': '',
      'best of own epochs': '',
    }
    for contender, accuracy in rows.items()
  ]


def _setting(data_dir: str | None, scale: runs.Scale) -> str:
  data = f'{ROWS["digits"]:,} digits, as they are and with {WRONG:.0%} of the '
  data += 'labels wrong'
  if data_dir is not None:
    data += f', and {ROWS["Fashion-MNIST"]:,} rows of Fashion-MNIST at 14 x 14'
  sizes = scale.sizes
  return (
    f'{data}; one task. CNN of {runs.CHANNELS} channels and {runs.HIDDEN} '
    f'units, SGD in batches of {runs.BATCH}. {len(sizes)} cyclical epochs of '
    f'{sizes[0]:g} to {max(sizes):g} of the rows, {sum(sizes):g} epochs of all '
    'rows together; vanilla has as many examples, and twice as many in the '
    'row that counts the network that gives the scores. That one is vanilla '
    'at its tuned rate, with the seed of the run. Rates in phase are '
    'proportional to the share of the rows that the cyclical data have at the '
    'time, those in anti-phase to its inverse; the tuned rate is their mean. '
    f'Rates {scale.rates[0]} to {scale.rates[-1]}, tuned for the accuracy at '
    f'the end on seeds {scale.tuning_seeds[0]} to {scale.tuning_seeds[-1]}; '
    f'reported: seeds {scale.seeds[0]} to {scale.seeds[-1]}. Evaluation four '
    'times in the time of an epoch, on test rows, by which the best is chosen: '
    'that is the measure of the authors, who have more epochs to choose from '
    'where they are cyclical, as in the last column.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
