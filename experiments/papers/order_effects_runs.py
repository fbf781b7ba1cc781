"""One run, its estimates for other orders, and these orders retrained."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers.images import Images
from lrcl import analysis, losses, models, schedules

TASKS, PER_TASK, BATCH = 5, 8, 32
STEPS = TASKS * PER_TASK
HIDDEN = 32
WARMUP, DECAY = STEPS // 10, 3 * STEPS // 10

SCHEDULES = {
  'constant': optax.constant_schedule(1.0),
  'cosine': optax.cosine_decay_schedule(1.0, STEPS),
  'WSD': schedules.wsd_schedule(
    1.0, WARMUP, STEPS - WARMUP - DECAY, DECAY, init_value=1 / (1 + WARMUP)
  ),
}

Kind = Literal['tasks', 'batches']
"""Tasks of two classes each in another order, or batches of all classes."""


class Measured(NamedTuple):
  """What came of it, arrays that begin with `[schedules, rates, seeds]`.

  Attributes:
    true: `[..., orders]`, test losses after retraining.
    estimated: `[..., 2, orders]`, those of the estimates of order 0 and 1.
    missed: `[..., 2]`, root mean squared distance of the estimated parameters
      from the true ones over that of the run's own end from these: 1 is as
      good as to say that the order has no effect.
    distance: `[..., 2]`, mean of the distances that the estimate tells.
  """

  true: Any
  estimated: Any
  missed: Any
  distance: Any


class _Data(NamedTuple):
  """Batches `[STEPS, BATCH, ...]` and orders `[orders, STEPS]` of a seed."""

  inputs: np.ndarray
  labels: np.ndarray
  orders: np.ndarray
  key: Any


def draw(images: Images, kind: Kind, seed: int, orders: int) -> _Data:
  """Batches and orders; in the order of the run, task after task."""
  rng = np.random.default_rng(seed)
  labels = images.train['labels']
  if kind == 'tasks':
    rows = [
      rng.choice(np.flatnonzero(np.isin(labels, pair)), PER_TASK * BATCH)
      for pair in rng.permutation(10).reshape(TASKS, -1)
    ]
    steps = np.arange(STEPS).reshape(TASKS, PER_TASK)
    found = _permutations(rng, TASKS, orders)
    order = steps[found].reshape(orders, STEPS)
  else:
    rows = rng.choice(len(labels), STEPS * BATCH)
    order = _permutations(rng, STEPS, orders)
  rows = np.reshape(rows, (STEPS, BATCH))
  return _Data(images.train['inputs'][rows], labels[rows], order, seed)


def measure(
  images: Images,
  kind: Kind,
  rates: Any,
  seeds: Any,
  orders: int,
) -> Measured:
  """Runs, estimates and retrains all schedules, rates and seeds.

  Adam, and a perceptron with one hidden layer. One program for all.
  """
  init_fn, apply_fn = models.from_module(
    models.MLP((HIDDEN,), 10, activation=jax.nn.tanh),
    images.train['inputs'][:1],
  )
  drawn = [draw(images, kind, seed, orders) for seed in seeds]
  data = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *drawn)
  values = np.stack(
    [jax.vmap(s)(jnp.arange(STEPS)) for s in SCHEDULES.values()]
  )
  shape = len(SCHEDULES), len(rates), len(drawn)
  which = np.meshgrid(*(np.arange(n) for n in shape), indexing='ij')
  schedule, rate, seed = (index.ravel() for index in which)
  given = jnp.asarray(values[schedule] * np.asarray(rates, 'f4')[rate][:, None])

  @jax.jit
  def run(given: jax.Array, seed: jax.Array, data: _Data, test: Any) -> Any:
    def one(row: Any) -> Measured:
      values, seed = row
      mine = jax.tree.map(lambda x: x[seed], data)
      params, _ = init_fn(jax.random.key(mine.key))
      return _one(apply_fn, params, lambda n: values[n], mine, test)

    return jax.lax.map(one, (given, seed))

  found = jax.device_get(run(given, jnp.asarray(seed), data, images.test))
  return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), found)


def _one(
  apply_fn: Any, params: Any, schedule: Any, data: _Data, test: Any
) -> Any:
  def loss_fn(params: Any, batch: Any) -> jax.Array:
    logits, _ = apply_fn(
      params, batch['inputs'], rng=None, model_state={}, train=True
    )
    return losses.cross_entropy(logits, batch).mean()

  batches = {'inputs': data.inputs, 'labels': data.labels}
  run = optax.adam(schedule), jax.grad(loss_fn), params, batches
  ends = analysis.retrain(*run, data.orders)
  own = analysis.retrain(*run, jnp.arange(STEPS)[None])
  estimates = [
    analysis.order_effects(*run, data.orders, expansion=n) for n in (0, 1)
  ]
  each = jax.vmap(lambda params: loss_fn(params, test))
  none = _apart(own, ends)
  return Measured(
    true=each(ends),
    estimated=jnp.stack([each(e.params) for e in estimates]),
    missed=jnp.stack([_apart(e.params, ends) / none for e in estimates]),
    distance=jnp.stack([e.distance.mean() for e in estimates]),
  )


def _apart(first: Any, second: Any) -> jax.Array:
  """Root mean squared distance of parameters `[orders, ...]`."""
  squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), first, second)
  count = jax.tree.leaves(second)[0].shape[0]
  return jnp.sqrt(sum(jax.tree.leaves(squares)) / count)


def _permutations(
  rng: np.random.Generator, size: int, count: int
) -> np.ndarray:
  """`[count, size]`, no two alike and none the one of the run."""
  seen = {tuple(range(size)): None}
  while len(seen) <= count:
    seen[tuple(rng.permutation(size).tolist())] = None
  return np.array(list(seen)[1:])
