"""Binary weights that learn tasks, with and without metaplasticity.

  python -m experiments.papers.binary_metaplasticity

takes about half a minute of CPU time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import claims, sequences
from experiments.papers.images import Images, load_images
from lrcl import methods, metrics, models, protocols, streams, training

CLAIM = claims.Claim(
  name='binary_metaplasticity',
  title='Binary weights: a divergence from the last posterior',
  paper='Li, Huang, Zou and Huang, 2023, Statistical mechanics of continual '
  'learning, https://arxiv.org/abs/2212.02846',
  says='Networks of binary weights that are trained by their fields, with the '
  'divergence from the last posterior as metaplasticity, learn tasks one after '
  'another, better than the metaplasticity known before (abstract). That it '
  'is the divergence that makes them forget less is what is measured here.',
)

BATCH, TASKS = 64, 5
TUNING_SEEDS = (100, 101)
LOSS_OF_LEARNING = 0.02
"""By how much less a task may be learnt for forgetting to be compared."""


class _Scale(NamedTuple):
  features: Sequence[int]
  steps: int
  rates: Sequence[float]
  seeds: Sequence[int]


_RATES = (0.003, 0.01, 0.03, 0.1)
_SGD_RATES = (0.03, 0.1, 0.3)
_SCALES = {
  'smoke': _Scale((16,), 10, _RATES[1:2], range(2)),
  'default': _Scale((128, 128), 110, _RATES, range(5)),
  'full': _Scale((512, 512), 550, _RATES, range(10)),
}

STRENGTHS = {
  'no divergence': 0.0,
  "divergence, the code's weight": 1 / BATCH,
  f'divergence, times {BATCH}': 1.0,
}
"""The code adds it to a sum over the batch; here the loss is a mean."""


class Run(NamedTuple):
  """What one contender gave, `[seeds]` each."""

  tuned: protocols.Tuned
  accuracy: np.ndarray
  forgetting: np.ndarray
  learning: np.ndarray


def anneal(steps: int) -> optax.Schedule:
  """The inverse temperature over all tasks, of so many steps together.

  It is the code's `10 tanh(0.1 + 2 e / E)`, with steps for epochs.
  """

  def schedule(step: Any) -> Any:
    share = (jnp.asarray(step, jnp.float32) + 1.0) / steps
    return 10.0 * jnp.tanh(0.1 + 2.0 * share)

  return schedule


def run(size: claims.Size) -> claims.Outcome:
  """Tunes the rate of every contender by its accuracy over all tasks.

  The claim has two parts, one for each weight of the divergence: it forgets
  less than without, by more than chance, and has learnt each task as well to
  `LOSS_OF_LEARNING`.
  """
  scale, images = _SCALES[size], load_images('digits')
  runs = measure(images, scale)
  parts = judge(runs)
  forgot = ', '.join(
    f'{n} {claims.format_interval(list(r.forgetting))}' for n, r in runs.items()
  )
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'Forgets less than without: {claims.format_parts(parts)}. '
    f'Forgetting: {forgot}.',
    table=_rows(runs, images, scale),
    setting=f'{TASKS} tasks of {scale.steps} steps of {BATCH} digits with '
    f'permuted pixels; binary network {"-".join(map(str, scale.features))}, '
    'local reparametrisation, predictions by the mean field; inverse '
    'temperature 10 tanh(0.1 + 2 t) over the share t of all steps; Adam '
    f'(0.9, 0.99). Rates {tuple(scale.rates)} tuned by the accuracy over all '
    f'tasks on seeds {TUNING_SEEDS}, which are not reported; '
    f'{len(scale.seeds)} seeds. References: a network of real weights, SGD.',
  )


def measure(images: Images, scale: _Scale) -> dict[str, Run]:
  """All contenders: one program, their strength is an argument."""
  every = [*TUNING_SEEDS, *scale.seeds]
  stream = sequences.permuted_stream(images, every, **_options(scale))
  trials = make_trials(stream, every, scale.features)
  runs = {}
  for name, strength in STRENGTHS.items():
    tuned, found = trials.tune(
      {'rate': scale.rates, 'strength': [strength]},
      tuning_seeds=TUNING_SEEDS,
      seeds=scale.seeds,
    )
    runs[name] = Run(
      tuned,
      found.final,
      np.asarray(metrics.forgetting(found.matrix)),
      np.asarray(metrics.learning_accuracy(found.matrix)),
    )
  return runs


def make_trials(
  stream: streams.Stream, seeds: Sequence[int], features: Sequence[int]
) -> protocols.Trials:
  """The runs of a binary network by its rate and strength."""
  beta = anneal(stream.num_steps)
  module = models.BinaryMLP(tuple(features), stream.num_classes, beta)
  init_fn, apply_fn = models.from_module(module, stream.batch_spec['inputs'])

  def make_learner(setting: protocols.Setting) -> training.Learner:
    tx = optax.chain(
      methods.metaplastic_kl(beta, strength=setting['strength']),
      optax.scale_by_adam(b1=0.9, b2=0.99),
      methods.scale_by_schedule_value(setting['rate']),
    )
    return training.Learner(tx, apply_fn)

  return protocols.Trials(stream, seeds, init_fn, make_learner)


def judge(runs: Mapping[str, Run]) -> dict[str, bool]:
  """Whether each weight of the divergence forgets less than none."""
  none, *others = runs
  return {name: _forgets_less(runs[name], runs[none]) for name in others}


def _forgets_less(ours: Run, theirs: Run) -> bool:
  learnt = np.mean(ours.learning) >= np.mean(theirs.learning) - LOSS_OF_LEARNING
  less = claims.is_below(list(ours.forgetting), list(theirs.forgetting))
  return less and bool(learnt)


def _options(scale: _Scale) -> dict[str, Any]:
  return {
    'steps_per_task': scale.steps,
    'num_tasks': TASKS,
    'batch_size': BATCH,
  }


def _rows(
  runs: Mapping[str, Run], images: Images, scale: _Scale
) -> list[dict[str, Any]]:
  """The contenders, and the rows of every comparison."""

  def row(name, accuracy, forgetting='', learnt='', tuned=''):
    return {
      'method': name,
      'accuracy': claims.format_interval(list(accuracy)),
      'forgetting': forgetting,
      'learnt': learnt,
      'tuned': tuned,
    }

  interval = lambda values: claims.format_interval(list(values))
  rows = [
    row(
      name,
      r.accuracy,
      interval(r.forgetting),
      interval(r.learning),
      f'rate {r.tuned.setting["rate"]:g}'
      + (' (edge of the grid)' if 'rate' in r.tuned.edges else ''),
    )
    for name, r in runs.items()
  ]
  references = sequences.reference_rows(
    images,
    scale.features,
    rates=_SGD_RATES,
    tuning_seeds=TUNING_SEEDS,
    seeds=scale.seeds,
    make_stream=sequences.permuted_stream,
    **_options(scale),
  )
  return rows + [
    row(name, r.accuracy, tuned=r.setting) for name, r in references.items()
  ]


if __name__ == '__main__':
  claims.main(CLAIM, run)
