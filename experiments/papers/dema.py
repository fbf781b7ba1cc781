"""Dynamic averages of the parameters against constant ones and none.

  python -m experiments.papers.dema --data_dir=DIR

takes about 2 minutes of CPU time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import claims, sequences
from experiments.papers.images import Images, Name, load_images
from lrcl import methods, metrics, protocols, training, tree

CLAIM = claims.Claim(
  name='dema',
  title='DEMA: an average whose weight follows the gradients',
  paper='Qiao et al., 2025, Large Continual Instruction Assistant, '
  'https://arxiv.org/abs/2410.10868',
  says='An exponential average forgets less than plain fine-tuning, and one '
  'whose weight is set by gradients and parameters less than one with a '
  'constant weight, without losing the new task; with LLaVA-7B forgetting '
  'falls from 5.42 to 1.93 (abstract).',
)

BATCH, TASKS, DECAY, WINDOW = 16, 5, 0.99, 10
TUNING_SEEDS = (100, 101)
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2)
LOSS_OF_LEARNING = 0.02
"""By how much less a task may be learnt for forgetting to be compared."""


class _Scale(NamedTuple):
  features: Mapping[Name, Sequence[int]]
  rows: Mapping[str, int]
  steps: int
  rates: Sequence[float]
  seeds: Sequence[int]


_FEATURES: dict[Name, Sequence[int]] = {
  'digits': (128, 128),
  'mnist': (100, 100),
}
_rows_of = lambda train, test: {'train_rows': train, 'test_rows': test}
_SCALES = {
  'smoke': _Scale({'digits': (16,)}, {}, 20, RATES[2:3], range(2)),
  'default': _Scale(_FEATURES, _rows_of(5000, 1000), 300, RATES, range(5)),
  'full': _Scale(_FEATURES, _rows_of(8000, 10000), 4000, RATES, range(10)),
}


_KINDS = (
  methods.ParamsAverageState,
  methods.ParamsWindowState,
  methods.DynamicEmaState,
)


def averages(steps: int) -> dict[str, optax.GradientTransformation | None]:
  """The contenders, for tasks of so many steps."""
  return {
    'none': None,
    f'EMA {DECAY}': methods.params_ema(DECAY),
    f'last {WINDOW} checkpoints': methods.params_window(
      WINDOW, every=max(1, steps // (2 * WINDOW))
    ),
    'DEMA': methods.dynamic_ema(),
  }


class Run(NamedTuple):
  """What one contender gave on one set of images, `[seeds]` each.

  Attributes:
    tuned: its rate.
    accuracy: over all tasks at the end.
    forgetting: best minus final accuracy.
    learning: accuracy on each task right after it.
    distance: of the average from the parameters at ends of tasks, over the
      norm of the latter.
  """

  tuned: protocols.Tuned
  accuracy: np.ndarray
  forgetting: np.ndarray
  learning: np.ndarray
  distance: np.ndarray


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Tunes the rate of every contender by its accuracy, on each set of images.

  Each set gives the claim two parts: the constant average forgets less than
  none, and the dynamic one less than the constant one, both by more than chance
  and with at most `LOSS_OF_LEARNING` less learnt of each task.
  """
  scale = _SCALES[size]
  found, parts, table = {}, {}, []
  for name, features in scale.features.items():
    sizes = {} if name == 'digits' else scale.rows
    images = load_images(name, data_dir, **sizes)
    found[name] = measure(images, features, scale)
    parts |= {f'{name}, {k}': v for k, v in judge(found[name]).items()}
    table += _rows(name, found[name], images, features, scale)
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'{claims.format_parts(parts)}. '
    + ' '.join(_words(name, runs) for name, runs in found.items()),
    table=table,
    setting=f'{TASKS} tasks of {scale.steps} steps with permuted pixels, '
    f'batches of {BATCH}, ReLU networks {_describe(scale)}, SGD with a '
    'constant rate. The average is evaluated, and the next task starts from '
    'it. DEMA in the form of its code. Rates of all contenders from '
    f'{scale.rates[0]} to {scale.rates[-1]}, tuned by the accuracy over all '
    f'tasks on seeds {TUNING_SEEDS}, which are not reported; '
    f'{len(scale.seeds)} seeds.',
  )


def measure(
  images: Images, features: Sequence[int], scale: _Scale
) -> dict[str, Run]:
  """Every contender on one set of images."""
  every = [*TUNING_SEEDS, *scale.seeds]
  stream = sequences.permuted_stream(images, every, **_options(scale))
  init_fn, apply_fn = sequences.make_mlp(stream, features)
  runs = {}
  for name, link in averages(scale.steps).items():
    make_learner = learners(apply_fn, link)
    trials = protocols.Trials(
      stream, every, init_fn, make_learner, read=_distance
    )
    tuned, found = trials.tune(
      {'rate': scale.rates}, tuning_seeds=TUNING_SEEDS, seeds=scale.seeds
    )
    runs[name] = Run(
      tuned,
      found.final,
      np.asarray(metrics.forgetting(found.matrix)),
      np.asarray(metrics.learning_accuracy(found.matrix)),
      found.read.mean((1, 2)),
    )
  return runs


def learners(
  apply_fn: Any, link: optax.GradientTransformation | None
) -> Callable[[protocols.Setting], training.Learner]:
  """`make_learner` of one contender."""

  def make_learner(setting: protocols.Setting) -> training.Learner:
    sgd = methods.scale_by_schedule_value(setting['rate'])
    if link is None:
      return training.Learner(sgd, apply_fn)
    return training.Learner(
      optax.chain(link, sgd),
      apply_fn,
      on_task_end=methods.start_from_average,
      eval_params=lambda state, task: methods.averaged_params(
        state.opt_state, state.params
      ),
    )

  return make_learner


def judge(runs: Mapping[str, Run]) -> dict[str, bool]:
  """The parts of the claim on one set of images."""
  none, constant, dynamic = (runs[n] for n in ('none', f'EMA {DECAY}', 'DEMA'))
  return {
    'EMA below none': _forgets_less(constant, none),
    'DEMA below EMA': _forgets_less(dynamic, constant),
  }


def _forgets_less(ours: Run, theirs: Run) -> bool:
  learnt = np.mean(ours.learning) >= np.mean(theirs.learning) - LOSS_OF_LEARNING
  less = claims.is_below(list(ours.forgetting), list(theirs.forgetting))
  return less and bool(learnt)


def _distance(state: training.TrainState) -> jax.Array:
  """How far the average is from the parameters, 0 where there is none."""
  if not any(tree.get_states(state.opt_state, kind) for kind in _KINDS):
    return jnp.float32(0.0)
  average = methods.averaged_params(state.opt_state, state.params)
  away = jax.tree.map(jnp.subtract, average, state.params)
  return optax.tree.norm(away) / optax.tree.norm(state.params)


def _options(scale: _Scale) -> dict[str, Any]:
  return {
    'steps_per_task': scale.steps,
    'num_tasks': TASKS,
    'batch_size': BATCH,
  }


def _rows(
  name: str,
  runs: Mapping[str, Run],
  images: Images,
  features: Sequence[int],
  scale: _Scale,
) -> list[dict[str, Any]]:
  """The contenders, and the rows of every comparison."""
  references = sequences.reference_rows(
    images,
    features,
    rates=scale.rates,
    tuning_seeds=TUNING_SEEDS,
    seeds=scale.seeds,
    make_stream=sequences.permuted_stream,
    **_options(scale),
  )
  rows = [
    {
      'images': name,
      'average': label,
      'accuracy': claims.format_interval(list(r.accuracy)),
      'forgetting': claims.format_interval(list(r.forgetting)),
      'learnt': claims.format_interval(list(r.learning)),
      'tuned': protocols.format_setting(r.tuned),
    }
    for label, r in runs.items()
  ]
  return rows + [
    {
      'images': name,
      'average': label,
      'accuracy': claims.format_interval(list(r.accuracy)),
      'forgetting': '',
      'learnt': '',
      'tuned': r.setting,
    }
    for label, r in references.items()
    if label != 'naive'  # which is that without an average
  ]


def _words(name: str, runs: Mapping[str, Run]) -> str:
  forgot = ', '.join(
    f'{n} {claims.format_interval(list(r.forgetting))}' for n, r in runs.items()
  )
  away = ', '.join(
    f'{n} {np.mean(r.distance):.3f}' for n, r in runs.items() if n != 'none'
  )
  return (
    f'{name}: forgetting {forgot}; distance of the average from the parameters '
    f'over their norm at ends of tasks: {away}.'
  )


def _describe(scale: _Scale) -> str:
  return ' and '.join(
    f'{"-".join(map(str, f))} ({name})' for name, f in scale.features.items()
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
