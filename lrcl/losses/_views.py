"""Views of one row that are to be answered alike."""

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.base import Batch, LossFn
from lrcl.losses._classification import cross_entropy


def view_consistency(
  loss_fn: LossFn = cross_entropy, weight: float | jax.Array = 1.0
) -> LossFn:
  r"""Adds the divergence of later views of a row from its first one.

  With :math:`p_1, \dots, p_R` the predictions for the views of a row in one
  batch, the mean loss over the batch grows by
  :math:`w \frac{1}{R-1} \sum_{r > 1} \mathrm{KL}(p_1 \Vert p_r)`, in the mean
  over rows. The first view is the teacher and gets no gradient.

  Views are what `batch['row']` says is the same row; `repeat_views` in
  `lrcl.streams` sets it. They should be augmented, each in its own way, by the
  model in training mode. A batch without `row`, as in evaluation, has `loss_fn`
  alone.

  Args:
    loss_fn: the loss on labels.
    weight: w, at least 0; may be traced.

  Returns:
    `loss_fn(logits, batch) -> losses[batch]`, float32. Rows of weight 0 are no
    views. It takes `rows ** 2` comparisons of whole numbers. With a
    `class_mask` the divergence is among its classes.

  Raises:
    ValueError: if `weight` is out of range.

  Example:
    >>> loss_fn = view_consistency()
    >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    >>> batch = {'labels': jnp.zeros(3, jnp.int32), 'row': jnp.array([5, 5, 7])}
    >>> print(loss_fn(logits, batch) - cross_entropy(logits, batch))
    [0. 0. 0.]

  References:
    Kang et al., `Do Your Best and Get Enough Rest for Continual Learning
    <https://arxiv.org/abs/2503.18371>`_, 2025 (the direction of the divergence
    is that of the authors' code, which switches it on after five epochs)
  """
  where = 'view_consistency'
  base.check_value(where, 'weight', weight, minimum=0)

  def consistent(logits: jax.Array, batch: Batch) -> jax.Array:
    losses = loss_fn(logits, batch)
    if 'row' not in batch:
      return losses
    first, count = _views(batch['row'], batch.get('weight'))
    scores = base.restrict(logits.astype(jnp.float32), batch, where=where)
    log_p = jax.nn.log_softmax(scores)
    taught = jax.lax.stop_gradient(log_p[first])
    # Where a mask leaves no chance both logarithms are -inf or nearly so.
    gap = jnp.where(jnp.exp(taught) > 0, taught - log_p, 0.0)
    term = jnp.sum(jnp.exp(taught) * gap, axis=-1)
    later = first != jnp.arange(len(first), dtype=first.dtype)
    share = count / jnp.maximum(count - 1, 1)
    return losses + weight * jnp.where(later, share * term, 0.0)

  return consistent


def _views(
  row: jax.Array, weight: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """For each row its first view in the batch, and how many views it has."""
  places = jnp.arange(row.shape[0], dtype=jnp.int32)
  same = row[:, None] == row[None]
  if weight is not None:
    real = weight > 0
    same = same & real[:, None] & real[None]
  same = same | (places[:, None] == places[None])
  first = jnp.argmax(same, axis=1).astype(jnp.int32)
  return first, same.sum(1).astype(jnp.float32)
