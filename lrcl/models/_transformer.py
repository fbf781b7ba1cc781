"""A small decoder-only transformer for tokens."""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl.models._layers import standardize


class GPT(nn.Module):
  """A causal language model: learned positions, blocks that normalise first.

  It has no biases, and its layer normalisations have neither scale nor
  offset. With `normalize` there are more of them: on both embeddings, on
  queries and keys, before the nonlinearity, and on what each branch adds to
  the residual stream. Then no matrix but the head's has a scale of its own.

  Tokens are integers `[batch, time]`, time at most `length`; logits are
  `[batch, time, vocab_size]`, float32, each from the tokens up to its own.
  Parameters are float32.

  Attributes:
    vocab_size: number of tokens.
    length: number of positions.
    width: of the residual stream; a multiple of `heads`.
    layers: number of blocks, `Block_0`, `Block_1`, ...
    heads: number of attention heads.
    normalize: whether every matrix but the head's feeds a normalisation.
    dropout: rate of dropout on the embedding and on each branch, while
      training.
    readout_multiplier: what the input of the head is multiplied by:
      `base_width / width` in muP (`lrcl.methods.scale_by_mup`).
    dtype: of the computation, such as `jnp.bfloat16`; None means float32.

  Example:
    >>> model = GPT(vocab_size=11, length=8, width=16, layers=1, heads=2)
    >>> tokens = jnp.zeros((2, 5), jnp.int32)
    >>> variables = model.init(jax.random.key(0), tokens)
    >>> model.apply(variables, tokens).shape
    (2, 5, 11)

  References:
    Radford et al., `Language models are unsupervised multitask learners
    <https://github.com/openai/gpt-2>`_, 2019

    Henry et al., `Query-key normalization for transformers
    <https://arxiv.org/abs/2010.04245>`_, 2020
  """

  vocab_size: int
  length: int
  width: int = 128
  layers: int = 4
  heads: int = 4
  normalize: bool = False
  dropout: float = 0.0
  readout_multiplier: float = 1.0
  dtype: Any = None

  @nn.compact
  def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
    """Maps tokens `[batch, time]` to logits `[batch, time, vocab_size]`."""
    time = tokens.shape[1]
    if time > self.length:
      raise ValueError(
        f'GPT: {time} tokens in a row, and length is {self.length}.'
      )
    options = {'dtype': self.dtype or jnp.float32}
    x = nn.Embed(self.vocab_size, self.width, name='tokens', **options)(tokens)
    places = nn.Embed(self.length, self.width, name='positions', **options)
    x, at = _norms(self.normalize, x, places(jnp.arange(time))[None])
    x = x + jnp.broadcast_to(at, x.shape)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for _ in range(self.layers):
      x = Block(self.heads, self.normalize, self.dropout, self.dtype)(x, train)
    head = nn.Dense(self.vocab_size, False, name='head', **options)
    x = standardize(x) * self.readout_multiplier
    return head(x).astype(jnp.float32)


class Block(nn.Module):
  """Attention, then two dense layers; both add to the residual stream.

  Attributes:
    heads: number of attention heads.
    normalize: whether every matrix feeds a normalisation.
    dropout: rate of dropout on each branch, while training.
    dtype: of the computation.
  """

  heads: int
  normalize: bool = False
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, time, width]` to the same shape."""
    drop = lambda y: nn.Dropout(self.dropout, deterministic=not train)(y)
    (y,) = _norms(self.normalize, self._attend(standardize(x)))
    x = x + drop(y)
    (y,) = _norms(self.normalize, self._transform(standardize(x)))
    return x + drop(y)

  def _attend(self, x: jax.Array) -> jax.Array:
    batch, time, width = x.shape
    split = (batch, time, self.heads, width // self.heads)
    query = self._dense(width, 'query')(x).reshape(split)
    key = self._dense(width, 'key')(x).reshape(split)
    value = self._dense(width, 'value')(x).reshape(split)
    query, key = _norms(self.normalize, query, key)
    y = _causal_attention(query, key, value)
    return self._dense(width, 'out')(y.reshape(batch, time, width))

  def _transform(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    (y,) = _norms(self.normalize, self._dense(4 * width, 'up')(x))
    return self._dense(width, 'down')(nn.gelu(y))

  def _dense(self, features: int, name: str) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=self.dtype, name=name)


def _causal_attention(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """Softmax attention to earlier positions; the softmax is in float32.

  `jax.nn.dot_product_attention` does the same, but not on bfloat16 where
  implicit promotion of dtypes is off.

  Args:
    query: `[batch, time, heads, depth]`.
    key: of the same shape.
    value: of the same shape.
  """
  scores = jnp.einsum('bqhd,bkhd->bhqk', query, key).astype(jnp.float32)
  time, depth = query.shape[1], query.shape[3]
  past = jnp.tril(jnp.ones((time, time), bool)).reshape(1, 1, time, time)
  past = jnp.broadcast_to(past, scores.shape)
  weights = jax.nn.softmax(jnp.where(past, scores / depth**0.5, -1e9))
  return jnp.einsum('bhqk,bkhd->bqhd', weights.astype(value.dtype), value)


def _norms(normalize: bool, *arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Each array normalised over its last axis, or as it is."""
  return tuple(map(standardize, arrays)) if normalize else arrays
