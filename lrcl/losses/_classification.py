"""Losses per example and predictions of classifiers and token models."""

import jax
import jax.numpy as jnp

from lrcl.base import Batch, restrict


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
  """Softmax cross-entropy of each example; the default loss of a learner.

  It computes in float32, whatever the dtype of the logits. Where the batch
  holds a `class_mask`, the classes outside it take no part in the softmax and
  get no gradient. A label that is itself masked costs about 1e9, which is
  finite and hard to miss; a label beyond the last class gives NaN, which stops
  a run.

  Args:
    logits: `[batch, classes]`, or `[batch, time, vocabulary]`.
    batch: `labels`, integers `[batch]` or `[batch, time]`; optionally
      `class_mask[batch, classes]`, True for a class that may be chosen. The
      `weight` is not applied here but by the training step.

  Returns:
    Losses `[batch]`, float32; of tokens, the mean over time.

  Raises:
    ValueError: if the shapes of logits, labels and mask do not fit.

  Example:
    >>> batch = {'labels': jnp.array([0, 1])}
    >>> print(cross_entropy(jnp.zeros((2, 4)), batch))
    [1.3862944 1.3862944]
    >>> mask = jnp.array([[True, True, False, False]] * 2)
    >>> print(cross_entropy(jnp.zeros((2, 4)), batch | {'class_mask': mask}))
    [0.6931472 0.6931472]

  References:
    Masked (multi-head) evaluation as task-incremental learning: van de Ven
    and Tolias, `Three scenarios for continual learning
    <https://arxiv.org/abs/1904.07734>`_, 2019
  """
  labels = batch['labels']
  logits = restrict(logits.astype(jnp.float32), batch, where='cross_entropy')
  if labels.shape != logits.shape[:-1]:
    raise ValueError(
      f'cross_entropy: labels have shape {labels.shape} and logits '
      f'{logits.shape}; labels must have the shape of logits without the last.'
    )
  log_probs = jax.nn.log_softmax(logits, axis=-1)
  losses = -jnp.take_along_axis(log_probs, labels[..., None], axis=-1)
  return jnp.mean(losses.reshape(losses.shape[0], -1), axis=1)


def argmax(logits: jax.Array, batch: Batch) -> jax.Array:
  """Predicts the class with the greatest logit; the default of a learner.

  Where the batch holds a `class_mask`, only classes inside it can win: this
  is the evaluation of task-incremental learning.

  Args:
    logits: `[batch, classes]`, or `[batch, time, vocabulary]`.
    batch: optionally `class_mask[batch, classes]`; nothing else is read.

  Returns:
    Labels, int32 `[batch]` or `[batch, time]`.

  Raises:
    ValueError: if the mask does not fit the logits.

  Example:
    >>> logits = jnp.array([[1.0, 3.0, 2.0]])
    >>> argmax(logits, {}).tolist()
    [1]
    >>> mask = jnp.array([[True, False, True]])
    >>> argmax(logits, {'class_mask': mask}).tolist()
    [2]

  References:
    van de Ven and Tolias, `Three scenarios for continual learning
    <https://arxiv.org/abs/1904.07734>`_, 2019
  """
  logits = restrict(logits.astype(jnp.float32), batch, where='argmax')
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)
