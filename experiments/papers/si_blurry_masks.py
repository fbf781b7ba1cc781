"""The head of MVP without its prompts: masks of logits, and a focal loss."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl import base, losses

ALPHA, GAMMA = 0.5, 2.0  # of the focal loss, as in the authors' code


class Outputs(NamedTuple):
  """What a masked network gives.

  Attributes:
    logits: `[batch, classes]`, masked.
    gate: `[batch, classes]`, by what the logits were multiplied.
    features: `[batch, features]`, what the head sees.
    key_loss: `[batch]`, how badly keys go with the inputs.
  """

  logits: jax.Array
  gate: jax.Array
  features: jax.Array
  key_loss: jax.Array


class MaskedPerceptron(nn.Module):
  """A perceptron whose logits are multiplied by a mask that the input picks.

  The raw inputs, which nothing trains, are the query; the nearest of `pool`
  keys by cosine picks the mask, in training with a handicap for keys that
  were picked often before.

  Attributes:
    widths: of the hidden layers.
    num_classes: width of the head.
    pool: number of keys and of masks.
  """

  widths: Sequence[int]
  num_classes: int
  pool: int

  @nn.compact
  def __call__(self, inputs: jax.Array, train: bool = False) -> Outputs:
    """Maps inputs `[batch, ...]` to masked logits."""
    query = inputs.reshape(len(inputs), -1)
    uniform = nn.initializers.uniform(1.0)
    keys = self.param('keys', uniform, (self.pool, query.shape[1]))
    masks = self.param(
      'masks', nn.initializers.constant(-1.0), (self.pool, self.num_classes)
    )
    zeros = lambda: jnp.zeros([self.pool])
    picked = self.variable('usage', 'picked', zeros)
    distance = 1.0 - _cosines(query, keys)
    handicap = picked.value + 1.0 if train else jnp.ones([self.pool])
    which = jnp.argmin(distance * handicap[None], axis=-1)
    one_hot = jax.nn.one_hot(which, self.pool)
    if train and not self.is_initializing():
      picked.value = picked.value + jax.lax.stop_gradient(one_hot.sum(0))
    features = query
    for width in self.widths:
      features = nn.relu(nn.Dense(width)(features))
    gate = 2.0 * jax.nn.sigmoid(masks[which])
    logits = gate * nn.Dense(self.num_classes, name='head')(features)
    return Outputs(logits, gate, features, _key_loss(distance, keys, one_hot))


def masked_loss(outputs: Outputs, batch: base.Batch) -> jax.Array:
  """Cross-entropy, focal by gradients, and the loss of the keys, `[batch]`.

  A row counts the more the less its gradient of the head goes with the sum of
  those of its class: `(1 - ALPHA) l + ALPHA (1 - cos)**GAMMA mean(l)`, with the
  mean over the batch, as in the authors' code. Of a row's gradient that of its
  own class is compared, which is a multiple of its features, so that no second
  pass is needed.
  """
  plain = losses.cross_entropy(outputs.logits, batch)
  mean = base.weighted_mean(plain, batch['weight'])
  focal = ignorance(outputs, batch) ** GAMMA * mean
  return (1.0 - ALPHA) * plain + ALPHA * focal + outputs.key_loss


def ignorance(outputs: Outputs, batch: base.Batch) -> jax.Array:
  """1 - cosine of a row's gradient and its class's, of the head `[batch]`."""
  logits, gate, features, _ = jax.lax.stop_gradient(outputs)
  labels = batch['labels']
  wanted = jax.nn.one_hot(labels, logits.shape[-1])
  slopes = (jax.nn.softmax(logits) - wanted) * gate * batch['weight'][:, None]
  of_class = slopes.T @ features
  return 1.0 - _cosine(-features, of_class[labels])


def predict(outputs: Outputs, batch: base.Batch) -> jax.Array:
  """The class of the greatest masked logit."""
  return losses.argmax(outputs.logits, batch)


def _key_loss(distance: Any, keys: Any, one_hot: Any) -> jax.Array:
  """Keys near to their inputs and far from each other: a contrast, `[batch]`.

  The mean over keys of `exp` of their distances to the picked one, against that
  and `exp` of the distance of the input to it.
  """
  own = jnp.sum(distance * one_hot, axis=-1)
  apart = jnp.mean(jnp.exp(1.0 - one_hot @ _cosines(keys, keys)), axis=-1)
  return -jnp.log(apart / (jnp.exp(own) + apart))


def _cosines(a: jax.Array, b: jax.Array) -> jax.Array:
  """`[a, b]`, 0 for a row of zeros."""
  return _unit(a) @ _unit(b).T


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.sum(_unit(a) * _unit(b), axis=-1)


def _unit(x: jax.Array) -> jax.Array:
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
