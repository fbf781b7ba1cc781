"""Rehearsal-free learners from scratch and from a pretrained network.

L2, EWC and distillation of predictions and of features, all with a local
cross-entropy, on digits and Split-Fashion-MNIST: a perceptron from scratch, and
the last convolution of EfficientNet-Lite0, pretrained on ImageNet.

  python -m experiments.papers.rehearsal_free --data_dir=DEST

takes about 5 minutes of CPU time. DEST needs the backbone, too:
`python -m experiments.fetch_data DEST fashion_mnist efficientnet_lite0`.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

from flax import linen as nn

from experiments.papers import backbone, claims, sequences
from experiments.papers import rehearsal_free_runs as runs
from experiments.papers.images import Images, load_images
from lrcl import metrics, models, protocols

CLAIM = claims.Claim(
  name='rehearsal_free',
  title='Rehearsal-free learning, from scratch and pretrained',
  paper='Smith, Tian, Halbe, Hsu and Kira, 2023, A Closer Look at '
  'Rehearsal-Free Continual Learning, https://arxiv.org/abs/2203.17269',
  says='Penalties on parameters do not fail without rehearsal, where one head '
  'grows class by class; and from a pretrained network plain L2 is better than '
  'EWC and than distilling features (from the abstract; formulas and the local '
  'loss not confirmed against code, of which none was found).',
)

WIDTHS, SIZE, CLASSES = (64, 64), 64, 10


class Start(NamedTuple):
  """Data, and the network that learns them.

  Attributes:
    images: the data, maybe embedded.
    module: returns `(logits, features)`.
    rates: to choose from.
    options: steps and batches.
  """

  images: Images
  module: nn.Module
  rates: Sequence[float]
  options: dict[str, Any]


class _Scale(NamedTuple):
  steps: int
  pretrained_steps: int
  strengths: int
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]


_SCALES = {
  'smoke': _Scale(5, 2, 2, (100,), range(2)),
  'default': _Scale(100, 25, 5, range(100, 104), range(5)),
  'full': _Scale(400, 100, 5, range(100, 105), range(10)),
}

SCRATCH = (0.01, 0.03, 0.1, 0.3)
PRETRAINED = (0.01, 0.03, 0.1)


def load(size: claims.Size, data_dir: str | None) -> dict[str, Start]:
  """The beginnings by name; without data the digits alone."""
  scale, load_fashion = (
    _SCALES[size],
    functools.partial(load_images, 'fashion_mnist', data_dir),
  )
  scratch = lambda images: Start(
    images,
    runs.Perceptron(WIDTHS, CLASSES),
    SCRATCH,
    {'steps_per_task': scale.steps, 'batch_size': 16},
  )
  found = {'digits': scratch(load_images('digits'))}
  if data_dir is None:
    return found
  network = backbone.load_backbone(data_dir)
  few = load_fashion(train_rows=2000, test_rows=500)
  last = Start(
    runs.embed(network, few, SIZE),
    runs.LastLayer(*runs.fold(network), CLASSES),
    PRETRAINED,
    {'steps_per_task': scale.pretrained_steps, 'batch_size': 32},
  )
  fashion = scratch(load_fashion(train_rows=4000, test_rows=1000))
  return found | {'Fashion-MNIST': fashion, 'Fashion-MNIST, pretrained': last}


Results = Mapping[str, tuple[protocols.Tuned, protocols.Found]]


def measure(start: Start, scale: _Scale) -> Results:
  """Tunes and runs every contender."""
  every = [*scale.tuning_seeds, *scale.seeds]
  stream = sequences.split_stream(start.images, every, **start.options)
  found = {}
  for name, contender in runs.CONTENDERS.items():
    method = runs.make_method(contender, start.module, stream)
    trials = protocols.Trials(stream, every, *method)
    axes = {
      'rate': start.rates,
      'strength': contender.strengths[: scale.strengths],
    }
    found[name] = trials.tune(
      axes, tuning_seeds=scale.tuning_seeds, seeds=scale.seeds
    )
  return found


def judge(name: str, found: Results) -> dict[str, bool]:
  """The parts of the claim for one beginning, each by more than chance."""
  above = lambda a, b: claims.is_below(found[b][1].final, found[a][1].final)
  pairs = [('L2', 'none'), ('EWC', 'none')]
  if 'pretrained' in name:
    pairs = [('L2', 'EWC'), ('L2', 'FeatKD')]
  return {f'{a} above {b}': above(a, b) for a, b in pairs}


def run(size: claims.Size, data_dir: str | None = None) -> claims.Outcome:
  """Measures all contenders from every beginning."""
  scale, parts, words, table = _SCALES[size], {}, [], []
  starts = load(size, data_dir)
  for name, start in starts.items():
    found = measure(start, scale)
    parts[name] = judge(name, found)
    words.append(_words(name, found, parts[name]))
    table += _table(name, found) + _reference_table(name, start, scale)
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(words),
    table=table,
    setting='Five tasks of two classes, one head, no task ids at test time; '
    'SGD, cross-entropy among the classes of a batch (naive and joint: among '
    f'all). From scratch: MLP of {WIDTHS} ReLU units, {scale.steps} steps of '
    '16 rows a task, all digits and 4,000 images of Fashion-MNIST. '
    'Pretrained: last convolution (320 to 1280, its normalisation folded in) '
    f'and head of EfficientNet-Lite0 on 2,000 images at {SIZE} pixels, '
    f'{scale.pretrained_steps} steps of 32 rows a task. Penalties (proximal; '
    'sampled Fisher) and distillation hold or hear the model at the end of the '
    f'last task. Five strengths by tens and rates {SCRATCH} and {PRETRAINED}, '
    'tuned for final accuracy on seeds '
    f'{scale.tuning_seeds[0]} to {scale.tuning_seeds[-1]}; reported: seeds '
    f'{scale.seeds[0]} to {scale.seeds[-1]}, which draw weights, order of rows '
    'and, apart from them, classes.',
  )


def _words(name: str, found: Results, parts: Mapping[str, bool]) -> str:
  """Final accuracies and parts."""
  numbers = ', '.join(
    f'{method} {claims.format_interval(result.final)}'
    for method, (_, result) in found.items()
  )
  return f'{name}: {numbers}; {claims.format_parts(parts)}.'


def _table(name: str, found: Results) -> list[dict[str, Any]]:
  return [
    {
      'data': name,
      'method': method,
      'tuned': protocols.format_setting(tuned),
      'ACC': claims.format_interval(result.final),
      'forgetting': claims.format_interval(_forgetting(result)),
    }
    for method, (tuned, result) in found.items()
  ]


def _forgetting(found: protocols.Found) -> Any:
  return metrics.forgetting(found.matrix)


def _reference_table(
  name: str, start: Start, scale: _Scale
) -> list[dict[str, Any]]:
  rows = sequences.reference_rows(
    start.images,
    _plain_model(start.module),
    rates=start.rates,
    tuning_seeds=scale.tuning_seeds,
    seeds=scale.seeds,
    **start.options,
  )
  return [
    {
      'data': name,
      'method': method,
      'tuned': row.setting,
      'ACC': claims.format_interval(row.accuracy),
      'forgetting': '',
    }
    for method, row in rows.items()
  ]


def _plain_model(module: nn.Module) -> Callable[..., tuple[Any, Any]]:
  def make(stream):
    inner = models.from_module(module, stream.batch_spec['inputs'])
    return inner[0], runs.only_logits(inner[1])

  return make


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
