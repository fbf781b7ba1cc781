"""Sequences of tasks made of images, and the rows every comparison has."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import optax

from experiments import references
from experiments.papers.images import Images
from lrcl import models, protocols, streams, training

_ORDERS = 1000  # sets the seeds of classes apart from those of the weights


class Reference(NamedTuple):
  """A row of reference.

  Attributes:
    accuracy: final accuracies `[seeds]`.
    setting: what was tuned, in words; empty where nothing was.
  """

  accuracy: Any
  setting: str


def split_stream(
  images: Images,
  seeds: Sequence[int],
  *,
  steps_per_task: int,
  num_tasks: int = 5,
  batch_size: int = 16,
  scenario: Literal['class', 'task', 'domain'] = 'class',
  joint: bool = False,
  change: Callable[[streams.Stream], streams.Stream] = lambda stream: stream,
) -> streams.Stream:
  """Classes in tasks of equally many, one stream for each seed.

  Args:
    images: the data.
    seeds: each draws an order of classes, and orders of rows.
    steps_per_task: steps in a task.
    num_tasks: into how many tasks the classes are split.
    batch_size: rows in a batch.
    scenario: what labels mean, see `lrcl.streams.split`.
    joint: mix all tasks, for the upper reference.
    change: what to do with the stream of each seed, before it is mixed, such
      as `lrcl.streams.repeat_views`.
  """
  make = lambda seed: change(
    streams.split(
      images.train,
      num_tasks=num_tasks,
      batch_size=batch_size,
      scenario=scenario,
      steps_per_task=steps_per_task,
      seed=seed,
      order_seed=_ORDERS + seed,
      test=images.test,
    )
  )
  return _stack(make, seeds, joint)


def permuted_stream(
  images: Images,
  seeds: Sequence[int],
  *,
  steps_per_task: int,
  num_tasks: int = 5,
  batch_size: int = 16,
  joint: bool = False,
  change: Callable[[streams.Stream], streams.Stream] = lambda stream: stream,
) -> streams.Stream:
  """All classes in every task, the pixels in another order each time.

  Args:
    images: the data.
    seeds: each draws the orders of pixels, and orders of rows.
    steps_per_task: steps in a task.
    num_tasks: number of tasks; the first has the pixels as they are.
    batch_size: rows in a batch.
    joint: mix all tasks, for the upper reference.
    change: as in `split_stream`.
  """
  make = lambda seed: streams.permuted(
    images.train,
    num_tasks=num_tasks,
    batch_size=batch_size,
    steps_per_task=steps_per_task,
    seed=seed,
    permutation_seed=_ORDERS + seed,
    test=images.test,
  )
  return _stack(lambda seed: change(make(seed)), seeds, joint)


def hierarchical_stream(
  images: Images,
  seeds: Sequence[int],
  *,
  parents: Sequence[Sequence[int]],
  steps_per_task: int,
  batch_size: int = 16,
  joint: bool = False,
) -> streams.Stream:
  """Coarse labels first, then group after group told apart further.

  Args:
    images: the data.
    seeds: each draws an order of groups, and which rows come when.
    parents: the group of each class on each level above the classes.
    steps_per_task: steps in a task.
    batch_size: rows in a batch.
    joint: mix all tasks, for the upper reference.
  """
  make = lambda seed: streams.hierarchical(
    images.train,
    parents=parents,
    batch_size=batch_size,
    steps_per_task=steps_per_task,
    seed=seed,
    split_seed=_ORDERS + seed,
    test=images.test,
  )
  return _stack(make, seeds, joint)


def make_mlp(
  stream: streams.Stream, features: Sequence[int], **options: Any
) -> tuple[models.InitFn, Any]:
  """`(init_fn, apply_fn)` of a perceptron that goes with a stream.

  Args:
    stream: gives the shape of the inputs and the number of classes.
    features: widths of the hidden layers.
    **options: of `lrcl.models.MLP`.
  """
  module = models.MLP(features, stream.num_classes, **options)
  return models.from_module(module, stream.batch_spec['inputs'])


def reference_rows(
  images: Images,
  features: Sequence[int] | Callable[[streams.Stream], tuple[Any, Any]],
  *,
  rates: Sequence[float],
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
  make_stream: Callable[..., streams.Stream] = split_stream,
  **options: Any,
) -> dict[str, Reference]:
  """The rows of every comparison: naive, joint, nearest class mean, chance.

  Args:
    images: the data.
    features: widths of the perceptron's hidden layers, or a function of the
      stream that makes another model's `(init_fn, apply_fn)`.
    rates: of SGD, a grid for naive and joint.
    tuning_seeds: seeds on which to choose the rate.
    seeds: seeds to report.
    make_stream: `split_stream` or `permuted_stream`.
    **options: of `make_stream`.

  Returns:
    The rows by name, all measured by the accuracy over all tasks at the end.
    In the task-incremental scenario the nearest mean is not told the task.
  """
  every = [*tuning_seeds, *seeds]
  rows: dict[str, Reference] = {}
  for name in ('naive', 'joint'):
    stream = make_stream(images, every, joint=name == 'joint', **options)
    make = features if callable(features) else _mlp_of(features)
    init_fn, apply_fn = make(stream)
    make_learner = lambda setting, apply_fn=apply_fn: training.Learner(
      optax.sgd(setting['rate']), apply_fn
    )
    trials = protocols.Trials(stream, every, init_fn, make_learner)
    tuned, found = trials.tune(
      {'rate': rates}, tuning_seeds=tuning_seeds, seeds=seeds
    )
    rows[name] = Reference(found.final, protocols.format_setting(tuned))
  stream = make_stream(images, seeds, **options)
  plain = {
    'nearest class mean': references.nearest_mean(stream),
    'chance': references.chance(stream),
  }
  return rows | {n: Reference(x.mean(1), '') for n, x in plain.items()}


def _mlp_of(features: Sequence[int]) -> Callable[..., tuple[Any, Any]]:
  return lambda stream: make_mlp(stream, features)


def _stack(
  make: Callable[[int], streams.Stream], seeds: Sequence[int], joint: bool
) -> streams.Stream:
  """The streams of all seeds side by side."""
  made = [make(seed) for seed in seeds]
  return streams.replicate([streams.joint(s) for s in made] if joint else made)
