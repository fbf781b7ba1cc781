"""Support sets of classes and of instances, and who learns them."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, Literal, NamedTuple
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import images, sequences
from lrcl import methods, protocols, streams, training

Test = Literal['classes', 'instances']
FEATURES = (100,)
SHOTS, QUERIES, STEPS = 5, 15, 30
NOISE = (0.2, 0.4, 0.8)
OCCLUSION = (0.1, 0.3, 0.6)
_DRAWS = 1000  # sets what is drawn apart from the weights


class Cell(NamedTuple):
  """A setting.

  Attributes:
    name: of the images; two sets may be joined, by 'mnist + fashion_mnist'.
    sets: support sets, one after the other.
    ways: new classes, or instances, in each.
    tests: what is measured.
  """

  name: str
  sets: int
  ways: int
  tests: tuple[Test, ...] = ('classes', 'instances')

  @property
  def label(self) -> str:
    """The setting in a few words."""
    return f'{self.name}, {self.sets} sets of {self.ways}'


Rows = Mapping[str, np.ndarray]


def load(name: str, data_dir: Any) -> dict[str, np.ndarray]:
  """Rows to draw support sets and queries from."""
  if name == 'digits':
    return images.load_images('digits').train
  first, *more = name.split(' + ')
  read = lambda name: images.load_images(name, data_dir, train_rows=4000).train
  rows = read(first)
  for number, other in enumerate(map(read, more), 1):
    shifted = other | {'labels': other['labels'] + 10 * number}
    rows = {k: np.concatenate([rows[k], shifted[k]]) for k in rows}
  return rows


def corruptions(pixels: int) -> dict[str, Any]:
  """What may be done to instances, by name: functions, or None."""
  side = round(pixels**0.5)

  def occlude(inputs, rng, share):
    square = inputs.reshape(-1, side, side)
    return streams.occlude(square, rng, share=share).reshape(inputs.shape)

  noisy = lambda scale: functools.partial(streams.add_noise, scale=scale)
  hidden = lambda share: functools.partial(occlude, share=share)
  made: dict[str, Any] = {'as shown': None}
  made |= {f'noise {x:g}': noisy(x) for x in NOISE}
  return made | {f'occluded {x:g}': hidden(x) for x in OCCLUSION}


def draw(
  rows: Rows, cell: Cell, test: Test, seed: int, corrupt: Any = None
) -> streams.Stream:
  """The stream of one seed."""
  options: dict[str, Any] = {
    'num_sets': cell.sets,
    'ways': cell.ways,
    'steps_per_set': STEPS,
    'seed': seed,
    'draw_seed': _DRAWS + seed,
  }
  if test == 'instances':
    return streams.instance_test(rows, corrupt=corrupt, **options)
  return streams.few_shot(rows, shots=SHOTS, queries=QUERIES, **options)


class Found(NamedTuple):
  """What one learner makes of one test.

  Attributes:
    curve: accuracy on the sets so far after each of them, `[seeds, sets]`.
    levels: accuracy at the end on corrupted instances, each `[seeds]`.
    setting: what was chosen, in words.
  """

  curve: np.ndarray
  levels: dict[str, np.ndarray]
  setting: str = ''

  @property
  def final(self) -> np.ndarray:
    """Accuracy on all sets after the last, `[seeds]`."""
    return self.curve[:, -1]


def average_so_far(matrix: np.ndarray) -> np.ndarray:
  """Mean of `A[..., i, :i + 1]` for every i; all sets are equally large."""
  sets = matrix.shape[-1]
  kept = np.tril(np.ones((sets, sets)))
  return (matrix * kept).sum(-1) / kept.sum(-1)


def _sgd(rate: Any, capacity: int, spec: Any, size: int) -> Any:
  del capacity, spec, size
  return optax.sgd(rate)


def _replay(rate: Any, capacity: int, spec: Any, size: int) -> Any:
  chain = optax.chain(methods.add_memory_gradient(), optax.sgd(rate))
  return methods.with_memory(chain, capacity, spec, size)


LEARNERS: Mapping[str, tuple[Callable[..., Any], bool]] = {
  'MLP': (_sgd, False),
  'MLP + replay': (_replay, False),
  'joint MLP': (_sgd, True),
}
"""Learners that are trained: their chain, and whether sets are mixed."""


def train(
  name: str,
  rows: Rows,
  cell: Cell,
  test: Test,
  rates: Sequence[float],
  *,
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
) -> Found:
  """Chooses a rate by the accuracy at the end, and trains with it."""
  make_tx, joint = LEARNERS[name]
  every = [*tuning_seeds, *seeds]
  drawn = [draw(rows, cell, test, seed) for seed in every]
  drawn = streams.pool_sources(drawn) if test == 'instances' else drawn
  drawn = [streams.joint(s) for s in drawn] if joint else drawn
  stream = streams.replicate(drawn)
  init_fn, apply_fn = sequences.make_mlp(stream, FEATURES)
  spec, size = stream.batch_spec, stream.batch_size
  # Every row of every step has room: all support sets, equally often.
  capacity = stream.num_steps * size

  def make_learner(setting):
    return training.Learner(
      make_tx(setting['rate'], capacity, spec, size), apply_fn
    )

  trials = protocols.Trials(
    stream,
    every,
    init_fn,
    make_learner,
    phases=cell.sets,
    read=lambda state: state.params,
  )
  tuned, found = trials.tune(
    {'rate': rates}, tuning_seeds=tuning_seeds, seeds=seeds
  )
  levels = {}
  if test == 'instances':
    params = jax.tree.map(lambda x: x[:, -1, -1], found.read)
    levels = _recognise(apply_fn, params, rows, cell, seeds)
  words = protocols.format_setting(tuned)
  return Found(average_so_far(found.matrix), levels, words)


def _recognise(
  apply_fn: Any, params: Any, rows: Rows, cell: Cell, seeds: Sequence[int]
) -> dict[str, np.ndarray]:
  """Accuracy on what each corruption makes of the instances, `[seeds]`."""

  @jax.jit
  def score(params, inputs, labels):
    logits, _ = apply_fn(params, inputs, rng=None, model_state={}, train=False)
    return (logits.argmax(-1) == labels).mean()

  found = {}
  for name, corrupt in corruptions(rows['inputs'].shape[1]).items():
    shown = [
      draw(rows, cell, 'instances', seed, corrupt).evaluation for seed in seeds
    ]
    found[name] = np.array(
      [
        score(jax.tree.map(lambda x, i=i: x[i], params), *_columns(sets))
        for i, sets in enumerate(shown)
      ]
    )
  return found


def _columns(sets: Any) -> tuple[np.ndarray, np.ndarray]:
  return sets.source['inputs'], sets.source['labels']


def compute(
  name: str, rows: Rows, cell: Cell, test: Test, seeds: Sequence[int]
) -> Found:
  """k-NN or nearest mean on the support sets so far."""
  curves, levels = [], {}
  names = corruptions(rows['inputs'].shape[1]) if test == 'instances' else {}
  for seed in seeds:
    stream = draw(rows, cell, test, seed)
    sets: Any = stream.evaluation
    plan: Any = stream.plan
    support = [_read(stream, pool, i) for i, pool in enumerate(plan.pools)]
    queries = [
      _read(sets, index[weight > 0], i)
      for i, (index, weight) in enumerate(
        zip(sets.indices, sets.weights, strict=True)
      )
    ]
    join = lambda parts: [np.concatenate(x) for x in zip(*parts, strict=True)]
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # classes of one row have no variance
      models = [
        _make(name).fit(*join(support[: i + 1])) for i in range(cell.sets)
      ]
    curves.append(
      [model.score(*join(queries[: i + 1])) for i, model in enumerate(models)]
    )
    for level, corrupt in names.items():
      shown = draw(rows, cell, test, seed, corrupt).evaluation
      score = models[-1].score(*_columns(shown))
      levels.setdefault(level, []).append(score)
  found = {level: np.array(x) for level, x in levels.items()}
  return Found(np.array(curves), found)


def _make(name: str) -> Any:
  from sklearn import neighbors

  if name == 'k-NN':
    return neighbors.KNeighborsClassifier(1)
  return neighbors.NearestCentroid()


def _read(
  source: Any, indices: np.ndarray, task: int
) -> tuple[np.ndarray, np.ndarray]:
  """Inputs and labels as learners see them."""
  batch = streams.make_batch(
    source.rows(indices),
    source.tables,
    jnp.int32(task),
    jnp.ones(len(indices)),
    source.prepare,
  )
  return np.asarray(batch['inputs']), np.asarray(batch['labels'])
