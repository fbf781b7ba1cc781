"""A perceptron that learns some classes first and then the others in tasks."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import images
from lrcl import losses, methods, models, schedules

CLASSES, BASE, PER_TASK, TASKS = 10, 4, 2, 3
FEATURES = (128, 64)
ALIGN_RATES = (0.03, 0.3, 3.0, 30.0)
ALIGN_STEPS = 50
_ALIGN_ROWS = 26  # of a class in a step: with 50 steps, 5 epochs of 256 rows


class Sizes(NamedTuple):
  """How much of a set is used.

  Attributes:
    base_rows: of each class of the first training.
    task_rows: of each class of a task.
    test_rows: of each class, to choose on and, others, to report.
    base_epochs: of the first training.
    task_epochs: of each task.
    batch_size: of both.
  """

  base_rows: int
  task_rows: int
  test_rows: int
  base_epochs: int
  task_epochs: int
  batch_size: int


SIZES = {
  'digits': Sizes(96, 96, 30, 12, 6, 16),
  'mnist': Sizes(3000, 1000, 500, 2, 2, 32),
  'fashion_mnist': Sizes(3000, 1000, 500, 2, 2, 32),
}


class Data(NamedTuple):
  """Rows by class: `[classes, rows, pixels]` float32.

  Attributes:
    train: to train on.
    choice: others of the training split.
    test: of the test split.
  """

  train: np.ndarray
  choice: np.ndarray
  test: np.ndarray


def load(name: Any, data_dir: Any) -> Data:
  """Equally many rows of each class, in a random order."""
  sizes = SIZES[name]
  whole = images.load_images(name, data_dir)
  cut = lambda rows, start, count: np.stack(
    [_of_class(rows, c)[start : start + count] for c in range(CLASSES)]
  )
  return Data(
    cut(whole.train, 0, sizes.base_rows),
    cut(whole.train, sizes.base_rows, sizes.test_rows),
    cut(whole.test, 0, sizes.test_rows),
  )


def _of_class(rows: Mapping[str, np.ndarray], label: int) -> np.ndarray:
  own = rows['inputs'][rows['labels'] == label]
  return own[np.random.default_rng(label).permutation(len(own))]


_MODULE = models.MLP(FEATURES, CLASSES)
_GAUSSIANS = models.class_gaussians(FEATURES[-1], CLASSES)


def features(params: Any, inputs: jax.Array) -> jax.Array:
  """What the head of the perceptron reads, `[batch, 64]`."""
  for name in ('Dense_0', 'Dense_1'):
    inputs = inputs @ params[name]['kernel'] + params[name]['bias'][None]
    inputs = jax.nn.relu(inputs)
  return inputs


def _fit(tx, params, key, x, classes, epochs: int, batch_size: int):
  """Trains on rows `[n_classes, rows, pixels]`, with the losses of `classes`.

  The softmax is over these classes alone: the local cross-entropy of SLCA.
  """
  rows = x.shape[0] * x.shape[1]
  flat, labels = x.reshape(rows, -1), jnp.repeat(classes, x.shape[1])
  mask = jnp.zeros(CLASSES, bool).at[classes].set(True)
  orders = jax.vmap(lambda k: jax.random.permutation(k, rows))(
    jax.random.split(key, epochs)
  )
  steps = epochs * rows // batch_size
  orders = orders.ravel()[: steps * batch_size].reshape(steps, batch_size)

  def step(carry, taken):
    params, state = carry
    batch = {
      'inputs': flat[taken],
      'labels': labels[taken],
      'class_mask': jnp.broadcast_to(mask, (batch_size, CLASSES)),
    }

    def loss_fn(params):
      logits: Any = _MODULE.apply({'params': params}, batch['inputs'])
      return jnp.mean(losses.cross_entropy(logits, batch))

    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (params, tx.init(params)), orders)[0][0]


def _gather(statistics, params, x, classes, task: Any):
  labels = jnp.repeat(classes, x.shape[1])
  found = features(params, x.reshape(len(labels), -1))
  return _GAUSSIANS.update(statistics, found, labels, task_id=task)


@functools.partial(jax.jit, static_argnums=0)
def pretrain(sizes: Sizes, rate: Any, seed: Any, order: Any, train: Any):
  """Parameters and statistics after the first classes of an order."""
  key = jax.random.key(seed)
  init_key, fit_key = jax.random.split(key)
  params = _MODULE.init(init_key, train[0, :1])['params']
  classes = order[:BASE]
  x = train[classes]
  params = _fit(
    optax.sgd(rate), params, fit_key, x, classes, sizes.base_epochs,
    sizes.batch_size,
  )  # fmt: skip
  statistics = _gather(_GAUSSIANS.init(), params, x, classes, 0)
  return params, statistics


class _Run(NamedTuple):
  """What tells one run from another; stacked, all of them."""

  setting: Any
  start: Any
  seed: Any
  order: Any


def _one(sizes: Sizes, run: _Run, train: Any, test: Any) -> jax.Array:
  """Accuracies `[1 + ALIGN_RATES]`: without alignment, and with each rate."""
  setting, start, seed, order = run
  key = jax.random.fold_in(jax.random.key(seed), 1)
  tx = optax.chain(
    methods.scale_groups({'^head': 1.0}, default=setting['scale']),
    optax.scale_by_learning_rate(setting['rate']),
  )
  tasks = order[BASE:].reshape(TASKS, PER_TASK)

  def task(carry, xs):
    (params, statistics), (number, classes, key) = carry, xs
    x = train[classes, : sizes.task_rows]
    params = _fit(
      tx, params, key, x, classes, sizes.task_epochs, sizes.batch_size
    )
    return (params, _gather(statistics, params, x, classes, number)), None

  keys = jax.random.split(key, TASKS + 1)
  xs = jnp.arange(1, TASKS + 1), tasks, keys[1:]
  (params, statistics), _ = jax.lax.scan(task, start, xs)
  gaussians = _GAUSSIANS.readout(statistics)

  def align(rate):
    decay = schedules.wsd_schedule(rate, 0, 0, ALIGN_STEPS, decay='cosine')
    return models.align_head(
      keys[0], params['head'], gaussians, optax.sgd(decay), ALIGN_STEPS,
      rows_per_class=_ALIGN_ROWS,
    )  # fmt: skip

  flat = test.reshape(-1, test.shape[-1])
  labels = jnp.repeat(jnp.arange(CLASSES), test.shape[1])
  found = features(params, flat)

  def score(head):
    logits = found @ head['kernel'] + head['bias'][None]
    return jnp.mean((jnp.argmax(logits, -1) == labels).astype(jnp.float32))

  rates = jnp.asarray(ALIGN_RATES, jnp.float32)
  aligned = jax.lax.map(lambda rate: score(align(rate)), rates)
  return jnp.append(score(params['head']), aligned)


@functools.partial(jax.jit, static_argnums=0)
def _all(sizes: Sizes, settings, starts, seeds, orders, train, test):
  run = lambda row: _one(sizes, row, train, test)
  return jax.lax.map(run, _Run(settings, starts, seeds, orders))


def sweep(
  name: str,
  data: Data,
  settings: Mapping[str, np.ndarray],
  seeds: Sequence[int],
  *,
  base_rate: float,
  report: bool,
) -> np.ndarray:
  """Runs every setting with every seed, each with its own order of classes.

  Args:
    name: of the set.
    data: its rows.
    settings: `rate` and `scale`, arrays of one length.
    seeds: of order, weights and rows.
    base_rate: of the first training.
    report: whether to test on `data.test` instead of `data.choice`.

  Returns:
    `[settings, seeds, 1 + ALIGN_RATES]`, accuracies over all classes.
  """
  sizes, count = SIZES[name], len(settings['rate'])
  orders = np.stack(
    [np.random.default_rng(1000 + s).permutation(CLASSES) for s in seeds]
  )
  train = jnp.asarray(data.train)
  starts = [
    pretrain(sizes, base_rate, seed, order, train)
    for seed, order in zip(seeds, orders, strict=True)
  ]
  starts = jax.tree.map(lambda *x: jnp.stack(x * count), *starts)
  repeated = {
    k: jnp.repeat(jnp.asarray(v, jnp.float32), len(seeds))
    for k, v in settings.items()
  }
  found = _all(
    sizes,
    repeated,
    starts,
    jnp.tile(jnp.asarray(seeds), count),
    jnp.tile(orders, (count, 1)),
    train,
    jnp.asarray(data.test if report else data.choice),
  )
  return np.asarray(found, np.float64).reshape(count, len(seeds), -1)
