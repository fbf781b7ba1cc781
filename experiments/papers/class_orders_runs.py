"""Five classes in every order: what to measure, and the Designer's scores."""

from collections.abc import Callable, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.papers import sequences
from experiments.papers.images import Images
from lrcl import methods, metrics, models, protocols, streams, training

CLASSES, BATCH, CAPACITY = 5, 32, 50
FEATURES = (64, 64)
ORDERS = tuple(itertools.permutations(range(CLASSES)))

CONDITIONS = {
  'the tuned rate': (1.0, 1.0),
  'a quarter of it': (0.25, 1.0),
  'twice it': (2.0, 1.0),
  'linear to 0': (1.0, 0.0),
}
"""Rates: the first as a multiple of the tuned one, the last of the first."""


class Scale(NamedTuple):
  """How much to measure.

  Attributes:
    rows: to train on, of each class.
    test_rows: of each class.
    rates: to choose from.
    tuning_seeds: to choose on.
    seeds: to report, in two halves.
    tuning_stride: of the orders, those this far apart are tuned on.
    stride: and those this far apart are reported.
    feature_steps: of the network that gives the features.
  """

  rows: int
  test_rows: int
  rates: Sequence[float]
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]
  tuning_stride: int
  stride: int
  feature_steps: int


class Runs(NamedTuple):
  """What one method gave.

  Attributes:
    tuned: its rate.
    accuracy: final accuracies by condition, `[orders, seeds]`.
    forgetting: the same of the forgetting.
  """

  tuned: protocols.Tuned
  accuracy: Mapping[str, np.ndarray]
  forgetting: Mapping[str, np.ndarray]


def take_classes(
  images: Images, classes: Sequence[int], scale: Scale
) -> Images:
  """Some classes, equally many rows of each, with labels from 0 on."""

  def take(rows: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    found = [np.flatnonzero(rows['labels'] == c)[:count] for c in classes]
    labels = [np.full(len(x), i, np.int32) for i, x in enumerate(found)]
    inputs = rows['inputs'][np.concatenate(found)]
    return {'inputs': inputs, 'labels': np.concatenate(labels)}

  return Images(
    take(images.train, scale.rows), take(images.test, scale.test_rows)
  )


def make_stream(
  images: Images, order: Sequence[int], seeds: Sequence[int]
) -> streams.Stream:
  """One class a task in an order, one pass; a stream for each seed."""
  rows = np.bincount(images.train['labels']).min()
  make = lambda seed: streams.split(
    images.train,
    num_tasks=CLASSES,
    batch_size=BATCH,
    steps_per_task=int(rows) // BATCH,
    class_order=order,
    seed=seed,
    test=images.test,
  )
  return streams.replicate([make(seed) for seed in seeds])


def _naive(inner: Any, spec: Any) -> Any:
  del spec
  return inner


def _replay(inner: Any, spec: Any) -> Any:
  chain = optax.chain(methods.add_memory_gradient(), inner)
  return methods.with_memory(chain, CAPACITY, spec, BATCH)


METHODS: Mapping[str, Callable[[Any, Any], Any]] = {
  'naive': _naive,
  'replay': _replay,
}


def measure(images: Images, method: str, scale: Scale) -> Runs:
  """Tunes a method's rate over some orders, and runs it in all of them."""
  every = [*scale.tuning_seeds, *scale.seeds]
  first = _make_trials(make_stream(images, ORDERS[0], every), method, every)
  on = lambda order: first.on(make_stream(images, order, every))
  axes = {'rate': scale.rates, 'end': [1.0]}
  tuning = [
    on(order).sweep(protocols.grid(axes), scale.tuning_seeds).errors
    for order in ORDERS[:: scale.tuning_stride]
  ]
  setting, edges = protocols.choose(axes, np.concatenate(tuning, 1))
  settings = {
    'rate': setting['rate'] * np.array([x for x, _ in CONDITIONS.values()]),
    'end': np.array([x for _, x in CONDITIONS.values()]),
  }
  found = [
    on(order).sweep(settings, scale.seeds) for order in ORDERS[:: scale.stride]
  ]
  # [conditions, orders, seeds]
  accuracy = np.stack([x.final for x in found], 1)
  lost = np.stack([metrics.forgetting(x.matrix) for x in found], 1)
  return Runs(
    protocols.Tuned({'rate': setting['rate']}, edges, 1 - accuracy[0]),
    dict(zip(CONDITIONS, accuracy, strict=True)),
    dict(zip(CONDITIONS, lost, strict=True)),
  )


def _make_trials(
  stream: streams.Stream, method: str, seeds: Sequence[int]
) -> protocols.Trials:
  init_fn, apply_fn = sequences.make_mlp(stream, FEATURES)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    rate = setting['rate']
    end = rate * setting['end']
    schedule = optax.linear_schedule(rate, end, stream.num_steps)
    inner = methods.scale_by_schedule_value(schedule)
    return training.Learner(METHODS[method](inner, stream.batch_spec), apply_fn)

  return protocols.Trials(stream, seeds, init_fn, make_learner)


def trained_features(
  ours: Images, others: Images, *, steps: int, rate: float = 0.1, seed: int = 0
) -> np.ndarray:
  """Our rows in the last layer of a network trained on other classes.

  Args:
    ours: whose rows to train on are embedded.
    others: what the network learns, all classes mixed.
    steps: of its training.
    rate: of SGD.
    seed: of weights and batches.

  Returns:
    `[rows, width]`.
  """
  stream = sequences.split_stream(
    others,
    [seed],
    steps_per_task=steps // CLASSES,
    num_tasks=CLASSES,
    batch_size=BATCH,
    joint=True,
  )
  module = models.MLP(FEATURES, CLASSES)
  init_fn, apply_fn = models.from_module(module, stream.batch_spec['inputs'])
  make = lambda setting: training.Learner(optax.sgd(setting['rate']), apply_fn)
  trials = protocols.Trials(
    stream, [seed], init_fn, make, read=lambda state: state.params
  )
  found = trials.sweep({'rate': np.array([rate])}, [seed])
  params = jax.tree.map(lambda x: x[0, 0, -1, -1], found.read)
  _, sown = module.apply(
    {'params': params}, ours.train['inputs'], mutable='intermediates'
  )
  (hidden,) = sown['intermediates'][f'hidden_{len(FEATURES) - 1}']
  return np.asarray(hidden)
