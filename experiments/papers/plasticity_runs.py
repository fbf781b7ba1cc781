"""Runs on images whose labels are drawn anew again and again.

All of a run, from the first weights to the last task, is one compiled program
per contender; rate, strength, seed, the number of tasks and whether labels are
drawn at all are its arguments.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import images
from lrcl import losses, methods, metrics, models, training

WIDTHS, CLASSES = (64, 64), 10
BATCH = 64

Optimizer = optax.GradientTransformation


class Network(NamedTuple):
  """A network as methods take it.

  Attributes:
    module: what `models.unit_graph` understands.
    init_fn: `init_fn(key) -> params`.
  """

  module: models.MLP
  init_fn: Callable[[jax.Array], Any]


MakeTx = Callable[[Any, Any, Any, Network], Optimizer]
"""`make_tx(rate, strength, seed, network)`, numbers that may be traced."""


class Contender(NamedTuple):
  """A way to stay able to learn.

  Attributes:
    make_tx: makes the chain.
    normalize: whether a layer normalisation stands before each ReLU.
    strengths: what to tune besides the rate; no method has more than one.
  """

  make_tx: MakeTx
  normalize: bool = False
  strengths: tuple[float, ...] = (0.0,)


class Found(NamedTuple):
  """What was measured at the ends of tasks, each `[tasks]`.

  Attributes:
    train: accuracy on all images, with the labels of the task.
    test: accuracy on other images, with their true labels.
    dormant: share of dormant units (a score of at most 0.1).
    rank: effective rank of the last hidden layer.
    norm: of all kernels but the head's.
  """

  train: Any
  test: Any
  dormant: Any
  rank: Any
  norm: Any


def load(rows: int) -> images.Images:
  """As many digits to train on, less their mean, and 397 others.

  With pixels that are never negative a unit falls silent much more easily.
  """
  data = images.load_images('digits', train_rows=rows)
  mean = data.train['inputs'].mean(0)
  shift = lambda part: {**part, 'inputs': part['inputs'] - mean}
  return images.Images(shift(data.train), shift(data.test))


def adam(rate: Any) -> Optimizer:
  """Adam with a constant rate."""
  link = methods.scale_by_schedule_value(rate)
  return optax.chain(optax.scale_by_adam(), link)


def _plain(rate: Any, strength: Any, seed: Any, network: Network) -> Optimizer:
  return adam(rate)


def _nap(rate: Any, strength: Any, seed: Any, network: Network) -> Optimizer:
  nap = methods.normalize_and_project(mask=models.nap_mask)
  return optax.chain(adam(rate), nap)


def _l2_init(
  rate: Any, strength: Any, seed: Any, network: Network
) -> Optimizer:
  """Under the penalty `strength * sum((params - start)^2)`."""
  anchor = methods.consolidate_at_init(methods.add_l2_anchor(2 * strength))
  return optax.chain(anchor, adam(rate))


def _shrink(rate: Any, strength: Any, seed: Any, network: Network) -> Optimizer:
  """At each task, with a part of a new network and a new Adam."""
  perturb = methods.shrink_and_perturb(
    strength, 1 - strength, init_fn=network.init_fn, seed=seed
  )
  restart = methods.reset_on_task(optax.scale_by_adam())
  link = methods.scale_by_schedule_value(rate)
  return optax.chain(restart, link, perturb)


def _redo(rate: Any, strength: Any, seed: Any, network: Network) -> Optimizer:
  """With a look in every 100 updates."""
  return methods.redo(
    adam(rate), *_units(network), threshold=strength, every=100, seed=seed
  )


def _cbp(rate: Any, strength: Any, seed: Any, network: Network) -> Optimizer:
  return methods.continual_backprop(
    adam(rate), *_units(network), replacement_rate=strength, seed=seed
  )


def _units(network: Network) -> tuple[Any, Any]:
  module = network.module
  return models.unit_graph(module), models.activations_from_module(module)


CONTENDERS = {
  'plain': Contender(_plain),
  'LayerNorm': Contender(_plain, normalize=True),
  'NaP': Contender(_nap, normalize=True),
  'L2-init': Contender(_l2_init, strengths=(1e-4, 1e-3, 1e-2)),
  'shrink & perturb': Contender(_shrink, strengths=(0.8, 0.6, 0.4)),
  'ReDo': Contender(_redo, strengths=(0.025, 0.1, 0.3)),
  'CBP': Contender(_cbp, strengths=(1e-4, 1e-3, 1e-2)),
}


def make_run(
  contender: Contender, data: images.Images, steps: int, max_tasks: int
) -> Callable[..., Found]:
  """Compiles the run of a contender.

  Args:
    contender: the method.
    data: the images; those for training have labels drawn for each task.
    steps: of a task.
    max_tasks: of the longest run.

  Returns:
    `run(rate, strength, seed, tasks, stationary=False)`, numpy arrays `[tasks]`
    in a `Found`. A stationary run keeps the true labels and is all one task.
  """
  network, step, measure = _make_parts(contender, data)
  inputs, truth = map(jnp.asarray, data.train.values())

  def task(number: Any, carry: Any, make_step: Any, stationary: Any) -> Any:
    state, found, key = carry
    drawn = jax.random.randint(
      jax.random.fold_in(key, number), truth.shape, 0, CLASSES, jnp.int32
    )
    labels = jnp.where(stationary, truth, drawn)
    rows = _order(jax.random.fold_in(key, -1 - number), len(labels), steps)

    def body(n, state):
      weight = jnp.ones(BATCH)
      batch = {
        'inputs': inputs[rows[n]],
        'labels': labels[rows[n]],
        'weight': weight,
      }
      return make_step(state, batch, jnp.where(stationary, 0, number))[0]

    state = jax.lax.fori_loop(0, steps, body, state)
    put = lambda all_, one: all_.at[number].set(one)
    return state, jax.tree.map(put, found, measure(state.params, labels)), key

  @jax.jit
  def run(rate, strength, seed, tasks, stationary):
    init_key, key = jax.random.split(jax.random.key(seed))
    tx = contender.make_tx(rate, strength, seed, network)
    init_fn = lambda key: (network.init_fn(key), {})
    state = training.create_state(init_fn, tx, init_key)
    found = Found(*(jnp.full(max_tasks, jnp.nan) for _ in Found._fields))
    turn = functools.partial(task, make_step=step(tx), stationary=stationary)
    return jax.lax.fori_loop(0, tasks, turn, (state, found, key))[1]

  def take(rate, strength, seed, tasks, stationary=False):
    numbers = jnp.float32(rate), jnp.float32(strength), jnp.int32(seed)
    found = run(*numbers, jnp.int32(tasks), jnp.bool_(stationary))
    return jax.tree.map(lambda x: np.asarray(x)[:tasks], found)

  return take


def _make_parts(contender: Contender, data: images.Images) -> Any:
  """The network, its step under a chain, and what is measured."""
  module = models.MLP(WIDTHS, CLASSES, normalize=contender.normalize)
  init_fn, apply_fn = models.from_module(module, data.train['inputs'][:1])
  network = Network(module, lambda key: init_fn(key)[0])
  activations_fn = models.activations_from_module(module)
  inputs, test = data.train['inputs'], data.test

  def predict(params: Any, inputs: Any) -> jax.Array:
    logits, _ = apply_fn(params, inputs, rng=None, model_state={}, train=False)
    return logits.argmax(-1)

  def measure(params: Any, labels: jax.Array) -> Found:
    hidden = activations_fn(params, {'inputs': jnp.asarray(inputs)})
    right = predict(params, inputs) == labels
    return Found(
      train=right.mean(dtype=jnp.float32),
      test=jnp.mean(
        predict(params, test['inputs']) == test['labels'], dtype=jnp.float32
      ),
      dormant=metrics.dormant_fraction(hidden),
      rank=metrics.effective_rank(hidden[f'hidden_{len(WIDTHS) - 1}']),
      norm=metrics.weight_norm(params, mask=models.nap_mask),
    )

  step = functools.partial(
    training.make_train_step, apply_fn, losses.cross_entropy
  )
  return network, step, measure


def _order(key: jax.Array, rows: int, steps: int) -> jax.Array:
  """Indices `[steps, BATCH]`: whole epochs, each in a new order."""
  epochs = -(-steps * BATCH // rows)
  keys = jax.random.split(key, epochs)
  order = jax.vmap(lambda key: jax.random.permutation(key, rows))(keys)
  return order.ravel()[: steps * BATCH].reshape(steps, BATCH)


def sweep(
  run: Callable[..., Found],
  axes: Mapping[str, Any],
  seeds: Sequence[int],
  tasks: int,
  stationary: bool = False,
) -> Found:
  """Runs every rate with every strength and seed.

  Returns:
    Arrays `[rates * strengths, seeds, tasks]`, strengths the fastest.
  """
  rows = itertools.product(axes['rate'], axes['strength'], seeds)
  found = [run(*row, tasks, stationary) for row in rows]
  shape = (-1, len(seeds), tasks)
  return Found(*(np.reshape(x, shape) for x in zip(*found, strict=True)))
