"""Small problems on the data sets that come with scikit-learn.

No file is fetched. Inputs are standardised with the rows of the pool, and the
rows for testing are the same whatever the seed.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import sweeps
from lrcl import models


def digits_network(features: Sequence[int] = (64, 64)) -> sweeps.Problem:
  """A multilayer perceptron on the digits: 1,297 rows, 500 more to test.

  Of the pool every seed sets 297 rows aside, so it trains on 1,000.
  """
  inputs, labels = _load('digits')
  order = np.random.default_rng(0).permutation(len(labels))
  return _network(features, inputs[order] / 16, labels[order], 1297, 297)


def teacher_network(
  features: Sequence[int] = (64, 64), rows: int = 20_000
) -> sweeps.Problem:
  """A perceptron that learns what another one, drawn at random, answers.

  Inputs are 20 normal numbers, labels the greatest of the teacher's 10 outputs.
  There is no noise and little repetition, so what counts is how well a schedule
  optimises. Every seed sets 1,000 rows aside; 4,000 more are to test.
  """
  keys = jax.random.split(jax.random.key(0))
  inputs = jax.random.normal(keys[0], (rows + 4000, 20))
  init_fn, logits_fn = _perceptron((64,), inputs[:1])
  labels = logits_fn(init_fn(keys[1]), inputs).argmax(-1)
  return _network(features, np.asarray(inputs), np.asarray(labels), rows, 1000)


def logistic_regression(
  name: str, *, positive: int | None = None
) -> sweeps.Problem:
  """Convex: logistic regression from 0 on all rows of a set.

  Args:
    name: of scikit-learn's set: 'breast_cancer', 'digits', 'wine'.
    positive: a class that is told from the rest; None tells all apart.
  """
  inputs, labels = _load(name)
  if positive is not None:
    labels = np.int32(labels == positive)
  inputs, classes = _standardize(inputs), int(labels.max()) + 1
  start = {
    'kernel': jnp.zeros((inputs.shape[1], classes)),
    'bias': jnp.zeros(classes),
  }
  return sweeps.Problem(
    init_fn=lambda key: start,
    measure_fn=_classification(_linear),
    pool=(inputs, labels),
  )


def least_squares(name: str = 'diabetes') -> sweeps.Problem:
  """Convex: linear regression from 0 on all rows of a set, all standardised."""
  inputs, targets = map(_standardize, _load(name))

  def measure_fn(params: Any, data: sweeps.Data) -> dict[str, jax.Array]:
    inputs, targets = data
    residuals = _linear(params, inputs)[:, 0] - targets
    return {'loss': 0.5 * jnp.square(residuals).mean()}

  start = {'kernel': jnp.zeros((inputs.shape[1], 1)), 'bias': jnp.zeros(1)}
  return sweeps.Problem(lambda key: start, measure_fn, (inputs, targets))


def _linear(params: Any, inputs: jax.Array) -> jax.Array:
  return inputs @ params['kernel'] + params['bias'][None]


def _network(
  features: Sequence[int],
  inputs: np.ndarray,
  labels: np.ndarray,
  rows: int,
  validation: int,
) -> sweeps.Problem:
  """A perceptron on the first `rows`; the others are to test."""
  init_fn, logits_fn = _perceptron(features, inputs[:1])
  return sweeps.Problem(
    init_fn=init_fn,
    measure_fn=_classification(logits_fn),
    pool=(inputs[:rows], labels[:rows]),
    validation=validation,
    test=(inputs[rows:], labels[rows:]),
  )


def _perceptron(features: Sequence[int], example: Any) -> tuple[Any, Any]:
  """`init_fn(key) -> params` and `logits_fn(params, inputs)`, ten classes."""
  module = models.MLP(features=tuple(features), num_classes=10)
  init_fn, apply_fn = models.from_module(module, example)

  def logits_fn(params: Any, inputs: jax.Array) -> jax.Array:
    return apply_fn(params, inputs, rng=None, model_state={}, train=True)[0]

  return lambda key: init_fn(key)[0], logits_fn


def _classification(logits_fn: Any) -> Any:
  def measure_fn(params: Any, data: sweeps.Data) -> dict[str, jax.Array]:
    inputs, labels = data
    logits = logits_fn(params, inputs)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    wrong = logits.argmax(-1) != labels
    return {'loss': losses.mean(), 'error': wrong.mean(dtype=jnp.float32)}

  return measure_fn


def _load(name: str) -> tuple[Any, Any]:
  """Inputs `[rows, columns]`, float32, and labels or targets `[rows]`."""
  from sklearn import datasets

  load = {
    'breast_cancer': datasets.load_breast_cancer,
    'diabetes': datasets.load_diabetes,
    'digits': datasets.load_digits,
    'wine': datasets.load_wine,
  }
  data: Any = load[name]()
  classes = hasattr(data, 'target_names')
  targets = data.target.astype(np.int32 if classes else np.float32)
  return data.data.astype(np.float32), targets


def _standardize(inputs: np.ndarray) -> np.ndarray:
  """Mean 0 and deviation 1 in every column that is not constant."""
  deviation = inputs.std(0)
  return (inputs - inputs.mean(0)) / np.where(deviation > 0, deviation, 1)
