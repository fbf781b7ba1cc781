"""Where the entries of sparse networks for tasks are best placed.

  python -m experiments.papers.sparse_densities --data_dir=DIR

takes about 8 minutes of CPU time.
"""

from collections.abc import Callable, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np
import optax

from experiments.papers import claims, sequences
from experiments.papers.images import Images, Name, load_images
from lrcl import methods, metrics, protocols, training, tree

CLAIM = claims.Claim(
  name='sparse_densities',
  title='Sparse networks for tasks: ERK or uniform densities',
  paper='Yildirim et al., 2024, Continual Learning with Dynamic Sparse '
  'Training, https://arxiv.org/abs/2308.14831',
  says='With a sparse part of the network for each task, found by dynamic '
  'sparse training, ERK densities are better at low sparsity (80%) and uniform '
  'ones at high sparsity (95% and more); which growth is best depends on '
  'both (abstract).',
)

BATCH, TASKS = 32, 5
DENSITIES, INITS, GROWS = (
  (0.2, 0.05),
  ('erk', 'uniform'),
  ('random', 'gradient'),
)
TUNING_SEEDS = (100, 101)


class _Scale(NamedTuple):
  images: Name
  features: Sequence[int]
  rows: int | None
  steps: int
  rates: Sequence[float]
  seeds: Sequence[int]


_RATES = (0.001, 0.003, 0.01)
_SGD_RATES = (0.03, 0.1, 0.3)
_SCALES = {
  'smoke': _Scale('digits', (24, 16), None, 20, _RATES[1:2], range(2)),
  'default': _Scale('fashion_mnist', (200, 100), 2000, 150, _RATES, range(5)),
  'full': _Scale('fashion_mnist', (300, 100), 10000, 1000, _RATES, range(10)),
}


class Cell(NamedTuple):
  """What is varied."""

  density: float
  init: Any
  grow: Any


CELLS = [Cell(*cell) for cell in itertools.product(DENSITIES, INITS, GROWS)]


class Run(NamedTuple):
  """What one contender gave, `[seeds]` each."""

  tuned: protocols.Tuned
  accuracy: np.ndarray
  transfer: np.ndarray


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Tunes the rate of each cell and of a dense network by accuracy.

  The two parts of the claim: at density 0.2 ERK is above uniform densities, at
  0.05 it is below, by more than chance, with the mean over both growths. That
  no task is forgotten is a matter of construction: a backward transfer that is
  not 0 to the bit is an error.
  """
  scale = _SCALES[size]
  images = load_images(scale.images, data_dir, test_rows=scale.rows)
  runs, dense = measure(images, scale)
  parts = judge(runs)
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'{claims.format_parts(parts)}. {_words(runs)} Backward transfer '
    'of all sparse runs is 0 to the bit; of the dense one it is '
    f'{claims.format_interval(list(dense.transfer))}.',
    table=_rows(runs, dense, images, scale),
    setting=f'{scale.images} in {TASKS} tasks, task-incremental, {scale.steps} '
    f'steps of {BATCH} rows each; ReLU network '
    f'{"-".join(map(str, scale.features))}, its hidden kernels sparse, biases '
    'and head once per task; Adam; of the least magnitude a share falling from '
    '0.5 to 0.005 over a task is exchanged ten times. Rates '
    f'{scale.rates} tuned by the accuracy over all tasks on seeds '
    f'{TUNING_SEEDS}, which are not reported; {len(scale.seeds)} seeds.',
  )


def measure(images: Images, scale: _Scale) -> tuple[dict[Cell, Run], Run]:
  """All cells, and the dense network that forgets."""
  every = [*TUNING_SEEDS, *scale.seeds]
  stream = sequences.split_stream(images, every, **_options(scale))
  init_fn, apply_fn = sequences.make_mlp(stream, scale.features)

  def tune(cell: Cell | None) -> Run:
    make_learner = learners(apply_fn, cell, scale.steps)
    trials = protocols.Trials(stream, every, init_fn, make_learner)
    tuned, found = trials.tune(
      {'rate': scale.rates}, tuning_seeds=TUNING_SEEDS, seeds=scale.seeds
    )
    transfer = np.asarray(metrics.backward_transfer(found.matrix))
    if cell is not None and np.any(transfer != 0):
      raise AssertionError(f'{cell}: backward transfer is {transfer}, not 0.')
    return Run(tuned, found.final, transfer)

  return {cell: tune(cell) for cell in CELLS}, tune(None)


def learners(
  apply_fn: Any, cell: Cell | None, steps: int
) -> Callable[[protocols.Setting], training.Learner]:
  """`make_learner` of a cell, or of the dense network."""

  def make_learner(setting: protocols.Setting) -> training.Learner:
    adam = optax.chain(
      optax.scale_by_adam(), methods.scale_by_schedule_value(setting['rate'])
    )
    if cell is None:
      return training.Learner(adam, apply_fn)
    tx = methods.drop_and_grow(
      adam,
      cell.density,
      TASKS,
      init=cell.init,
      grow=cell.grow,
      every=max(1, steps // 11),
      death_rate=optax.cosine_decay_schedule(0.5, steps, alpha=0.01),
      mask=tree.path_mask('^Dense_.*kernel$'),
    )
    return training.Learner(
      tx,
      apply_fn,
      eval_params=lambda state, task: methods.params_of_task(
        state.opt_state, state.params, task
      ),
    )

  return make_learner


def judge(runs: Mapping[Cell, Run]) -> dict[str, bool]:
  """The parts of the claim."""
  low, high = (
    [list(_mean(runs, density, init)) for init in INITS]
    for density in DENSITIES
  )
  return {
    f'ERK above uniform at {DENSITIES[0]}': claims.is_below(low[1], low[0]),
    f'uniform above ERK at {DENSITIES[1]}': claims.is_below(high[0], high[1]),
  }


def _mean(runs: Mapping[Cell, Run], density: float, init: str) -> np.ndarray:
  """Accuracies `[seeds]`, the mean over both growths."""
  return np.mean(
    [runs[Cell(density, init, grow)].accuracy for grow in GROWS], axis=0
  )


def _options(scale: _Scale) -> dict[str, Any]:
  return {
    'steps_per_task': scale.steps,
    'num_tasks': TASKS,
    'batch_size': BATCH,
    'scenario': 'task',
  }


def _words(runs: Mapping[Cell, Run]) -> str:
  """The differences that the claim is about, with their intervals."""
  differ = lambda a, b: claims.format_interval(list(a - b), 4)
  inits = (
    f'{d}: {differ(_mean(runs, d, "erk"), _mean(runs, d, "uniform"))}'
    for d in DENSITIES
  )
  pairs = itertools.product(DENSITIES, INITS)
  gain = lambda d, i: differ(
    *(runs[Cell(d, i, grow)].accuracy for grow in ('gradient', 'random'))
  )
  grows = (f'{d} {i}: {gain(d, i)}' for d, i in pairs)
  return (
    f'Accuracy of ERK minus uniform at {", ".join(inits)}. Of growth by '
    f'gradient minus random: {", ".join(grows)}.'
  )


def _rows(
  runs: Mapping[Cell, Run], dense: Run, images: Images, scale: _Scale
) -> list[dict[str, Any]]:
  """The contenders, and the rows of every comparison."""

  def row(density, init, grow, accuracy, transfer='', tuned=''):
    return {
      'density': density,
      'init': init,
      'growth': grow,
      'accuracy': claims.format_interval(list(accuracy)),
      'backward transfer': transfer,
      'tuned': tuned,
    }

  rows = [
    row(*cell, r.accuracy, '0', protocols.format_setting(r.tuned))
    for cell, r in runs.items()
  ]
  moved = claims.format_interval(list(dense.transfer))
  tuned = protocols.format_setting(dense.tuned)
  rows.append(row('dense, naive', '', '', dense.accuracy, moved, tuned))
  references = sequences.reference_rows(
    images,
    scale.features,
    rates=_SGD_RATES,
    tuning_seeds=TUNING_SEEDS,
    seeds=scale.seeds,
    **_options(scale),
  )
  return rows + [
    row(f'dense, {name}, SGD', '', '', r.accuracy, '', r.setting)
    if r.setting
    else row(name, '', '', r.accuracy)
    for name, r in references.items()
  ]


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
