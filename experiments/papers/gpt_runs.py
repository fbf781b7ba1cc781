"""A small GPT on bytes of text, and runs of it that share what they can."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import texts
from lrcl import models

LENGTH = 32
BATCH = 16
"""Windows of `LENGTH` bytes in a step, each drawn anew."""

_BLOCK = 1000
_TEST_EVERY = 20
_TEST_WINDOWS = 512


class Trainer:
  """The model and its text; every 20th block of 1000 bytes is for testing.

  Args:
    tokens: `[bytes]`, each below `texts.VOCABULARY`.
    width: of the residual stream.
    layers: number of blocks.
  """

  def __init__(self, tokens: np.ndarray, width: int = 32, layers: int = 2):
    self._module = models.GPT(texts.VOCABULARY, LENGTH, width, layers, heads=4)
    blocks = tokens[: len(tokens) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    is_test = np.arange(len(blocks)) % _TEST_EVERY == 0
    self._train = jnp.asarray(blocks[~is_test])
    test = jnp.asarray(blocks[is_test])
    self._test = _draw(test, jax.random.key(0), _TEST_WINDOWS)
    self._tx = optax.scale_by_adam(b2=0.99)
    self.advance = jax.jit(self._advance)
    self.test_loss = jax.jit(lambda state: self._loss(state[0], self._test))

  def init(self, seed: int) -> Any:
    """Parameters and the state of Adam."""
    tokens = jnp.zeros((1, LENGTH), jnp.int32)
    params: Any = self._module.init(jax.random.key(seed), tokens)
    return params, self._tx.init(params)

  @property
  def num_params(self) -> int:
    """How many numbers are learned."""
    shapes: Any = jax.eval_shape(lambda: self.init(0)[0])
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))

  def _advance(
    self, state: Any, rates: Any, first: Any, key: Any, done: Any
  ) -> Any:
    """Steps `first` to `done`, whose data the key and their number draw.

    Args:
      state: what `init` gives.
      rates: of the steps, `[at least done - first]`.
      first: the number of the first step.
      key: of the data.
      done: the number after the last step.
    """

    def step(n: Any, state: Any) -> Any:
      params, opt_state = state
      windows = _draw(self._train, jax.random.fold_in(key, n), BATCH)
      grads = jax.grad(self._loss)(params, windows)
      updates, opt_state = self._tx.update(grads, opt_state)
      updates = optax.tree.scale(-rates[n - first], updates)
      return optax.apply_updates(params, updates), opt_state

    return jax.lax.fori_loop(first, done, step, state)

  def _loss(self, params: Any, windows: jax.Array) -> jax.Array:
    """Nats per byte, over all bytes of windows `[rows, LENGTH + 1]`."""
    logits: Any = self._module.apply(params, windows[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, windows[:, 1:]
    )
    return jnp.mean(losses)


def _draw(blocks: jax.Array, key: jax.Array, rows: int) -> jax.Array:
  """Windows `[rows, LENGTH + 1]`, each inside of one block."""
  keys = jax.random.split(key)
  block = jax.random.randint(keys[0], (rows, 1), 0, blocks.shape[0])
  first = jax.random.randint(keys[1], (rows, 1), 0, _BLOCK - LENGTH)
  places = first + jnp.arange(LENGTH + 1)[None]
  return blocks[block, places].astype(jnp.int32)


def plan_forks(
  rates: Mapping[str, np.ndarray], every: int
) -> dict[str, tuple[str | None, int]]:
  """For every run the earlier one that it forks from, and after which step.

  Args:
    rates: `[steps]` of each run, in the order in which they are trained.
    every: forks are at multiples of so many steps.

  Example:
    >>> rows = {'a': np.array([1, 1, 1, 1]), 'b': np.array([1, 1, 1, 0])}
    >>> plan_forks(rows, 2)
    {'a': (None, 0), 'b': ('a', 2)}
  """
  plan: dict[str, tuple[str | None, int]] = {}
  for name, row in rates.items():
    forks = {other: _agree(row, rates[other], every) for other in plan}
    # Of those that agree for as long, the first has trained these steps.
    parent = max(forks, key=lambda other: forks[other], default=None)
    fork = forks[parent] if parent is not None else 0
    plan[name] = (parent, fork) if fork else (None, 0)
  return plan


def _agree(a: np.ndarray, b: np.ndarray, every: int) -> int:
  length = min(len(a), len(b))
  differ = np.flatnonzero(a[:length] != b[:length])
  return (int(differ[0]) if differ.size else length) // every * every


def train_runs(
  trainer: Trainer, rates: Mapping[str, np.ndarray], seed: int, every: int
) -> dict[str, np.ndarray]:
  """Test losses after every so many steps; what runs share is trained once.

  Args:
    trainer: of the model.
    rates: `[steps]` of each run, multiples of `every` many.
    seed: of the initial parameters and of the data.
    every: steps between readings.

  Returns:
    For each run `[steps / every]`, its losses after `every`, `2 * every`, ...
    steps; those before its fork are its parent's.
  """
  plan = plan_forks(rates, every)
  kept: dict[tuple[str | None, int], Any] = dict.fromkeys(plan.values())
  losses: dict[str, np.ndarray] = {}
  key = jax.random.fold_in(jax.random.key(seed), 1)
  for name, row in rates.items():
    parent, fork = plan[name]
    state = trainer.init(seed) if parent is None else kept[parent, fork]
    read = [] if parent is None else list(losses[parent][: fork // every])
    for first in range(fork, len(row), every):
      done = first + every
      state = trainer.advance(state, row[first:done], first, key, done)
      read.append(float(trainer.test_loss(state)))
      if (name, done) in kept:
        kept[name, done] = state
    losses[name] = np.array(read)
  return losses
