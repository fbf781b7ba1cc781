"""Short continual lifetimes on digits, for schedules that must know their end.

A lifetime is three tasks, each to tell one digit from another, learned one
after the other by one small network with one output. What counts is the loss
on all three at the end: to keep the first, and still to learn the last.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import base, methods

TASKS = 3
BATCH = 8
HIDDEN = 16

_TRAIN = 140
_TEST = 34


class Life(NamedTuple):
  """What came of a lifetime.

  Attributes:
    loss: mean over the test images of all tasks, at the end.
    rates: `[TASKS]`, the mean learning rate in each task.
  """

  loss: jax.Array
  rates: jax.Array


class Lifetimes:
  """The images of each digit, and what a lifetime makes of them."""

  def __init__(self):
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    images = (images - images.mean(0)) / (images.std(0) + 1e-3)
    rows = [images[labels == digit][: _TRAIN + _TEST] for digit in range(10)]
    stacked = np.stack(rows).astype(np.float32)
    self._train = jnp.asarray(stacked[:, :_TRAIN])
    self._test = jnp.asarray(stacked[:, _TRAIN:])

  def live(
    self, schedule: base.ScheduleLike, total_steps: Any, key: jax.Array
  ) -> Life:
    """Learns the tasks one after the other.

    Args:
      schedule: sets the rate of plain gradient descent; one with a state is
        given the loss of the batch.
      total_steps: of the lifetime, a third to each task; may be traced.
      key: of the digits, the initial network and the batches.
    """
    digits_key, init_key, key = jax.random.split(key, 3)
    digits = jax.random.permutation(digits_key, 10)[: 2 * TASKS]
    pairs = digits.reshape(TASKS, 2)
    tx = methods.scale_by_schedule_value(schedule)

    def step(n: jax.Array, carry: Any) -> Any:
      params, state, rates = carry
      task = n * TASKS // total_steps
      batch = self._draw(pairs[task], jax.random.fold_in(key, n))
      value, grads = jax.value_and_grad(_loss)(params, *batch)
      updates, state = tx.update(grads, state, params, value=value)
      rate, _ = methods.applied_rate(state)
      rates = rates.at[:, task].add(jnp.stack([rate, jnp.ones(())]))
      return optax.apply_updates(params, updates), state, rates

    params = _init(init_key)
    start = params, tx.init(params), jnp.zeros((2, TASKS))
    params, _, rates = jax.lax.fori_loop(0, total_steps, step, start)
    images = self._test[pairs].reshape(-1, self._test.shape[-1])
    labels = jnp.tile(jnp.repeat(jnp.arange(2), _TEST), TASKS)
    return Life(_loss(params, images, labels), rates[0] / rates[1])

  def _draw(
    self, pair: jax.Array, key: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    row_key, label_key = jax.random.split(key)
    labels = jax.random.bernoulli(label_key, shape=(BATCH,)).astype(jnp.int32)
    rows = jax.random.randint(row_key, (BATCH,), 0, _TRAIN)
    return self._train[pair[labels], rows], labels


def _init(key: jax.Array) -> dict[str, jax.Array]:
  kernel = jax.random.normal(key, (64, HIDDEN)) / 8.0
  return {
    'kernel': kernel,
    'bias': jnp.zeros(HIDDEN),
    'head': jnp.zeros(HIDDEN),
    'head_bias': jnp.zeros(()),
  }


def _loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
  hidden = jax.nn.relu(images @ params['kernel'] + params['bias'][None])
  logits = hidden @ params['head'] + params['head_bias']
  targets = labels.astype(jnp.float32)
  return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets))
