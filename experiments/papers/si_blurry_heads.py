"""Heads that are computed along a blurry stream, and from all rows at once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import si_blurry_runs as runs
from experiments.papers.si_blurry_runs import CLASSES, Cell, Scores
from lrcl import models, protocols

WIDTH = 500
"""Random ReLU units in front of the analytic head."""


class Head(NamedTuple):
  """A head that is computed.

  Attributes:
    make: `make(num_features, num_classes, value) -> StreamingHead`.
    lifts: whether the random layer is in front.
  """

  make: Callable[[int, int, Any], models.StreamingHead]
  lifts: bool


def _mean(num_features: int, num_classes: int, value: Any):
  del value
  return models.nearest_class_mean(num_features, num_classes)


HEADS = {
  'G-ACIL': Head(models.analytic_ridge, True),
  'nearest class mean': Head(_mean, False),
}


class Joint(NamedTuple):
  """The analytic head at the end of streams, against ridge on all rows.

  Attributes:
    kernel: largest difference of kernels, over the largest entry.
    predictions: test rows that are told apart differently, in all seeds.
  """

  kernel: float
  predictions: int


def compute(
  head: Head,
  cell: Cell,
  ridges: Sequence[float],
  *,
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
) -> tuple[Scores, np.ndarray, float]:
  """Chooses the ridge as rates are chosen, and learns with it in float64.

  Returns:
    Its metrics, the kernels at the end `[seeds, features, classes]`, and the
    ridge.
  """
  ridges = ridges if head.lifts else [0.0]
  with jax.enable_x64(True):
    tried, seen, _ = _learn(head, cell, ridges, tuning_seeds)
    chosen = runs.score(tried[..., :CLASSES], seen).area
    setting, edges = protocols.choose({'ridge': ridges}, 1 - chosen)
    best = setting['ridge']
    found, seen, kernels = _learn(head, cell, [best], seeds)
  scores = runs.score(found[0, ..., CLASSES:], seen)
  words = protocols.format_setting(protocols.Tuned(setting, edges, 1 - chosen))
  words = words if head.lifts else ''
  return scores._replace(setting=words), kernels[0], best


def _learn(
  head: Head, cell: Cell, values: Sequence[float], seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Learns once and reads out for all values at every evaluation.

  Returns:
    Accuracies `[values, seeds, times, 2 * classes]`, the classes seen `[seeds,
    times, classes]`, and kernels at the end.
  """
  stream = runs.make_stream(cell, seeds)
  sets: Any = stream.evaluation
  source: Any = stream.source
  chunk = stream.chunk(0, stream.num_steps)
  times = stream.num_steps // cell.evaluate_every
  cut = lambda x: np.moveaxis(x, 1, 0).reshape(len(seeds), times, -1)
  rows = (cut(chunk.indices), cut(chunk.weights))
  data = (lift(head, source['inputs']), source['labels'])
  test = (lift(head, sets.source['inputs']), sets.source['labels'])
  run = jax.jit(_runner(head))
  at = np.asarray(values, np.float64)
  found = [
    jax.device_get(run(at, data, test, *own, which))
    for *own, which in zip(*rows, sets.indices, strict=True)
  ]
  accuracy, kernels = (np.stack(x) for x in zip(*found, strict=True))
  front = lambda x, axis: np.moveaxis(x, axis, 0)
  seen = runs.find_seen(cell, stream)
  return front(accuracy, 2), seen, front(kernels, 1)


def _runner(head: Head) -> Callable[..., Any]:
  """A run of one seed, in chunks that end with an evaluation."""

  def run(values, data, test, rows, weights, test_rows):
    make = lambda value: head.make(data[0].shape[1], CLASSES, value)
    learner = make(1.0)

    def measure(state, value):
      right = make(value).predict(state, test[0]) == test[1]
      return right[test_rows].mean(-1, dtype=jnp.float64)

    def phase(state, xs):
      rows, weights = xs
      state = learner.update(state, data[0][rows], data[1][rows], weights)
      return state, jax.lax.map(lambda v: measure(state, v), values)

    state, accuracy = jax.lax.scan(phase, learner.init(), (rows, weights))
    kernels = [make(value).readout(state)['kernel'] for value in values]
    return accuracy, jnp.stack(kernels)

  return run


def lift(head: Head, rows: np.ndarray) -> np.ndarray:
  """Rows in float64, behind the random layer where there is one."""
  rows = np.asarray(rows, np.float64)
  if not head.lifts:
    return rows
  kernel = np.random.default_rng(1).normal(size=(rows.shape[1], WIDTH))
  return np.maximum(rows @ (kernel * np.sqrt(2 / rows.shape[1])), 0)


def compare_to_joint(cell: Cell, kernels: np.ndarray, ridge: float) -> Joint:
  """Solves ridge regression on all rows at once, by scikit-learn."""
  from sklearn.linear_model import Ridge

  head = HEADS['G-ACIL']
  train, test = cell.images.train, cell.images.test
  model = Ridge(ridge, fit_intercept=False, solver='cholesky')
  model.fit(lift(head, train['inputs']), np.eye(CLASSES)[train['labels']])
  wanted = model.coef_.T
  gap = np.abs(kernels - wanted).max() / np.abs(wanted).max()
  rows = lift(head, test['inputs'])
  said = (rows @ kernels).argmax(-1)
  changed = said != (rows @ wanted).argmax(-1)
  return Joint(float(gap), int(changed.sum()))
