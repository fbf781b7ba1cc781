"""Trees of labels, replay that knows them or not, and accuracy by level."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
import warnings

import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import sequences
from experiments.papers.images import Images, Name, load_images
from lrcl import methods, protocols, schedules, streams, training

BATCH, CAPACITY, FEATURES = 16, 100, (100, 100)
ROWS, TEST_ROWS = 4000, 1000

_CLASSES = range(10)
_PARITY = [c % 2 for c in _CLASSES]
_QUARTERS = [2 * (c % 2) + (c >= 5) for c in _CLASSES]
# T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, boot.
_KINDS = [0, 1, 0, 0, 0, 2, 0, 2, 3, 2]
_WORN = [int(kind > 1) for kind in _KINDS]

TREES: dict[str, tuple[Name, list[list[int]]]] = {
  'digits, two levels': ('digits', [_PARITY]),
  'digits, three levels': ('digits', [_PARITY, _QUARTERS]),
  'Fashion-MNIST, two levels': ('fashion_mnist', [_KINDS]),
  'Fashion-MNIST, three levels': ('fashion_mnist', [_WORN, _KINDS]),
}
"""Parity, and 5 or more; clothes or not, and tops, bottoms, shoes, bags."""


class Scale(NamedTuple):
  """How much is done.

  Attributes:
    trees: names of `TREES`.
    steps: of a whole run, cut into tasks of one length.
    rates: to choose from.
    tuning_seeds: seeds on which to choose.
    seeds: seeds to report.
  """

  trees: Sequence[str]
  steps: int
  rates: Sequence[float]
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]


class Cell(NamedTuple):
  """One tree, with its data.

  Attributes:
    images: what to train and to test on.
    parents: the group of each class on each level above the classes.
    steps_per_task: steps in a task.
  """

  images: Images
  parents: list[list[int]]
  steps_per_task: int

  @property
  def tree(self) -> streams.LabelTree:
    """The tree with its classes."""
    return streams.label_tree(self.parents, len(_CLASSES))

  def stream(self, seeds: Sequence[int], joint: bool = False) -> streams.Stream:
    """One stream for each seed."""
    return sequences.hierarchical_stream(
      self.images,
      seeds,
      parents=self.parents,
      steps_per_task=self.steps_per_task,
      batch_size=BATCH,
      joint=joint,
    )


def load(name: str, steps: int, data_dir: str | None) -> Cell:
  """The cell of a tree, with runs of about so many steps."""
  images, parents = TREES[name]
  rows: dict[str, int] = {}
  if images != 'digits':
    rows = {'train_rows': ROWS, 'test_rows': TEST_ROWS}
  tasks = 1 + sum(max(groups) + 1 for groups in parents)
  data = load_images(images, data_dir, **rows)
  return Cell(data, parents, max(steps // tasks, 5))


SCHEDULES = ('constant', 're-warm', 'infinite')


def make_rate(setting: protocols.Setting, task_steps: int, steps: int) -> Any:
  """The schedule of a setting, so that all are one program.

  `re-warm` rises for a fifth of each task and decays to a tenth by a cosine;
  `infinite` rises for a fifth of the first one, cools down to a half in two
  fifths, stays there, and anneals to a tenth of that in the last fifth of the
  last one. The rate is the peak of each.
  """
  peak, fifth = setting['rate'], max(task_steps // 5, 1)
  found = (
    optax.constant_schedule(peak),
    schedules.repeated_cosine_schedule(
      peak, task_steps, fifth, end_value=0.1 * peak
    ),
    schedules.infinite_schedule(
      peak,
      0.5 * peak,
      fifth,
      2 * fifth,
      anneal_start=steps - fifth,
      anneal_steps=fifth,
    ),
  )
  kind = jnp.asarray(setting['schedule'], jnp.int32)
  return lambda step: jnp.stack([jnp.asarray(f(step)) for f in found])[kind]


class Program(NamedTuple):
  """What is compiled once, for all its settings.

  Attributes:
    kind: `'none'`, `'rows'` (each row under the label it came with) or
      `'labels'` (on every level).
    policy: of the memory.
    joint: whether all tasks are mixed.
  """

  kind: str
  policy: str = 'reservoir'
  joint: bool = False


class Contender(NamedTuple):
  """A program, and the values of what it leaves open besides the rate.

  Attributes:
    program: what is run.
    threshold: of pseudo-labels; 2 leaves the ancestors.
    schedule: an index of `SCHEDULES`.
  """

  program: Program
  threshold: float = 0.0
  schedule: int = 0


_LABELS = Program('labels')

CONTENDERS = {
  'naive': Contender(Program('none')),
  'ER': Contender(Program('rows')),
  'ER, ancestors': Contender(_LABELS, 2.0),
  'pseudo-labels': Contender(_LABELS),
  'pseudo-labels, gate 0.9': Contender(_LABELS, 0.9),
  'ER, balanced': Contender(Program('rows', 'class_balanced')),
  'pseudo-labels, balanced': Contender(Program('labels', 'class_balanced')),
  'joint': Contender(Program('none', joint=True)),
  **{
    f'{name}, {schedule}': Contender(Program(kind), schedule=index)
    for name, kind in (('ER', 'rows'), ('pseudo-labels', 'labels'))
    for index, schedule in enumerate(SCHEDULES)
    if index
  },
}


def make_trials(
  cell: Cell, program: Program, seeds: Sequence[int]
) -> protocols.Trials:
  """The program of some contenders.

  A memory that replays rows draws as many as the others have labels, so that
  the gradients of all take the same time.
  """
  stream, tree = cell.stream(seeds, program.joint), cell.tree
  init_fn, apply_fn = sequences.make_mlp(stream, FEATURES)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    schedule = make_rate(setting, cell.steps_per_task, stream.num_steps)
    rate = methods.scale_by_schedule_value(schedule)
    if program.kind == 'none':
      return training.Learner(rate, apply_fn)
    chain, drawn = optax.chain(methods.add_memory_gradient(), rate), BATCH
    if program.kind == 'labels':
      chain = methods.relabel_memory(
        chain, apply_fn, tree.parent, threshold=setting['threshold']
      )
    else:
      drawn *= tree.num_levels
    spec = stream.batch_spec
    tx = methods.with_memory(
      chain, CAPACITY, spec, drawn, policy=program.policy
    )
    return training.Learner(tx, apply_fn)

  return protocols.Trials(stream, seeds, init_fn, make_learner)


Results = Mapping[str, tuple[protocols.Tuned, protocols.Found]]


def measure(cell: Cell, scale: Scale) -> Results:
  """Tunes the rate of every contender, and runs it."""
  every = [*scale.tuning_seeds, *scale.seeds]
  programs = {contender.program for contender in CONTENDERS.values()}
  trials = {program: make_trials(cell, program, every) for program in programs}
  found = {}
  for name, contender in CONTENDERS.items():
    axes = {
      'rate': scale.rates,
      'threshold': [contender.threshold],
      'schedule': [contender.schedule],
    }
    found[name] = trials[contender.program].tune(
      axes, tuning_seeds=scale.tuning_seeds, seeds=scale.seeds
    )
  return found


def nearest_mean(cell: Cell, seeds: Sequence[int]) -> np.ndarray:
  """Accuracy `[seeds, levels]` of the nearest mean of each level's nodes.

  A row counts for its label and for the ancestors of it.
  """
  from sklearn.neighbors import NearestCentroid

  stream, tree, accuracy = cell.stream(seeds), cell.tree, []
  train, test = cell.images.train, cell.images.test
  plan: Any = stream.plan
  for single, levels in zip(plan.plans, stream.tables['level'], strict=True):
    row = []
    for level, node in enumerate(tree.node):
      pools = [
        p for p, n in zip(single.pools, levels, strict=True) if n >= level
      ]
      rows = np.concatenate(pools)
      with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # pixels that are always dark
        model = NearestCentroid().fit(
          train['inputs'][rows], node[train['labels'][rows]]
        )
      row.append(model.score(test['inputs'], node[test['labels']]))
    accuracy.append(row)
  return np.array(accuracy)


def chance(cell: Cell, seeds: Sequence[int]) -> np.ndarray:
  """Accuracy `[seeds, levels]` of a guess among the nodes of each level."""
  return np.tile(1 / cell.tree.level_mask.sum(1), (len(seeds), 1))
