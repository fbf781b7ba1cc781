"""A small language model: a network that predicts a byte from those before."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import texts
from lrcl import methods

CONTEXT = 8
BATCH = 128
"""Predictions of a step, each from a place of the text that is drawn anew."""

_WIDTHS = (8, 64)
_BLOCK = 1000
_TEST_EVERY = 20
_TEST_ROWS = 16_384


class NGrams:
  """The model and its text; every 20th block of 1000 bytes is for testing.

  Args:
    tokens: `[bytes]`, each below `texts.VOCABULARY`.
  """

  def __init__(self, tokens: np.ndarray):
    blocks = tokens[: len(tokens) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    is_test = np.arange(len(blocks)) % _TEST_EVERY == 0
    self._train = jnp.asarray(blocks[~is_test])
    test = jnp.asarray(blocks[is_test])
    self._test = self._draw(test, jax.random.key(0), _TEST_ROWS)

  def init(self, key: jax.Array) -> dict[str, jax.Array]:
    """Parameters whose predictions are all equally likely."""
    embed, hidden = _WIDTHS
    keys = jax.random.split(key)
    wide = embed * CONTEXT
    normal = lambda key, *shape: jax.random.normal(key, shape)
    return {
      'embedding': normal(keys[0], texts.VOCABULARY, embed),
      'hidden': normal(keys[1], wide, hidden) / jnp.sqrt(float(wide)),
      'hidden_bias': jnp.zeros(hidden),
      'head': jnp.zeros((hidden, texts.VOCABULARY)),
      'head_bias': jnp.zeros(texts.VOCABULARY),
    }

  @property
  def num_params(self) -> int:
    """How many numbers are learned."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))

  def loss(self, params: Any, windows: jax.Array) -> jax.Array:
    """Nats per byte at the last byte of windows `[rows, CONTEXT + 1]`."""
    seen = params['embedding'][windows[:, :-1]]
    x = seen.reshape(seen.shape[0], -1) @ params['hidden']
    x = jax.nn.gelu(x + params['hidden_bias'][None])
    logits = x @ params['head'] + params['head_bias'][None]
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, windows[:, -1]
    )
    return jnp.mean(losses)

  def test_loss(self, params: Any) -> jax.Array:
    """Nats per byte on windows of the blocks that are for testing."""
    return self.loss(params, self._test)

  def train(self, rates: jax.Array, steps: Any, key: jax.Array) -> Any:
    """Adam for `steps` steps, which may be traced, of the given `rates`.

    Args:
      rates: `[max_steps]`.
      steps: at most `max_steps`.
      key: of the initial parameters and of what is drawn.
    """
    init_key, key = jax.random.split(key)
    tx = optax.chain(
      optax.scale_by_adam(b2=0.99),
      methods.scale_by_schedule_value(lambda n: rates[n]),
    )

    def step(n: jax.Array, carry: Any) -> Any:
      params, state = carry
      windows = self._draw(self._train, jax.random.fold_in(key, n), BATCH)
      grads = jax.grad(self.loss)(params, windows)
      updates, state = tx.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    params = self.init(init_key)
    return jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0]

  def _draw(self, blocks: jax.Array, key: jax.Array, rows: int) -> jax.Array:
    """Windows `[rows, CONTEXT + 1]`, each inside of one block."""
    keys = jax.random.split(key)
    block = jax.random.randint(keys[0], (rows, 1), 0, blocks.shape[0])
    first = jax.random.randint(keys[1], (rows, 1), 0, _BLOCK - CONTEXT)
    places = first + jnp.arange(CONTEXT + 1)[None]
    return blocks[block, places].astype(jnp.int32)
