"""Unbiased experience replay: angles for what is new, products for the old."""

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.base import Batch, LossFn
from lrcl.losses._classification import argmax, cross_entropy


def uer(scale: float | jax.Array = 10.0) -> LossFn:
  r"""Cross-entropy of cosines for current rows, of products for replayed ones.

  A linear head prefers the classes of the current task. UER lets current rows
  train :math:`s \cos(w_c, h)` only, so that they cannot raise the norms of
  their classes, and rows of a memory :math:`w_c^T h`, which balances them. It
  predicts by the product: `uer_argmax`.

  The outputs are those of `lrcl.models.CosineDotHead`. Rows of a memory are
  marked by the field `from_memory`: as a column of a batch that holds both, or
  for a memory of the chain by

      map_memory(add_memory_gradient(), lambda memory: {
        **memory, 'from_memory': jnp.ones(32, bool)})

  The second is the paper's sum of two means; one batch of both has the mean of
  all rows.

  Args:
    scale: s, above 0; may be traced. The paper's value is unconfirmed (its
      code was never published); 10 worked on digits.

  Returns:
    `loss_fn(outputs, batch) -> losses[batch]` of `outputs[batch, 2, classes]`:
    products, then cosines. Without `from_memory` every row counts as current.

  Raises:
    ValueError: if `scale` is not above 0 or, when a step is traced, the
      outputs are not those of `CosineDotHead`.

  Example:
    >>> outputs = jnp.array([[[3.0, 0.0], [0.1, 0.0]]] * 2)
    >>> memory = jnp.array([False, True])
    >>> batch = {'labels': jnp.array([0, 0]), 'from_memory': memory}
    >>> loss = uer()(outputs, batch)
    >>> [f'{x:.4f}' for x in loss]  # of a gap of 10 * 0.1, and of 3
    ['0.3133', '0.0486']

  References:
    Lin et al., `UER: a heuristic bias addressing approach for online continual
    learning <https://arxiv.org/abs/2309.04081>`_, 2023
  """
  base.check_value('uer', 'scale', scale, above=0)

  def loss_fn(outputs: jax.Array, batch: Batch) -> jax.Array:
    product, cosine = _factors('uer', outputs)
    cosine = cosine.astype(jnp.float32) * scale
    if 'from_memory' not in batch:
      return cross_entropy(cosine, batch)
    replayed = jnp.broadcast_to(batch['from_memory'][:, None], cosine.shape)
    logits = jnp.where(replayed, product.astype(jnp.float32), cosine)
    return cross_entropy(logits, batch)

  return loss_fn


def uer_argmax(outputs: jax.Array, batch: Batch) -> jax.Array:
  """Predicts the class with the greatest product: the `predict` of `uer`.

  Args:
    outputs: of `lrcl.models.CosineDotHead`, `[batch, 2, classes]`.
    batch: optionally `class_mask[batch, classes]`; nothing else is read.

  Returns:
    Labels, int32 `[batch]`.

  Raises:
    ValueError: if the outputs are of another shape, or the mask does not fit.

  Example:
    >>> outputs = jnp.array([[[1.0, 3.0], [0.9, 0.1]]])
    >>> uer_argmax(outputs, {}).tolist()
    [1]

  References:
    Lin et al., `UER: a heuristic bias addressing approach for online continual
    learning <https://arxiv.org/abs/2309.04081>`_, 2023
  """
  return argmax(_factors('uer_argmax', outputs)[0], batch)


def _factors(where: str, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Products and cosines, `[batch, classes]` each."""
  if outputs.ndim != 3 or outputs.shape[1] != 2:
    raise ValueError(
      f'{where}: outputs have shape {outputs.shape}; they must be those of '
      'lrcl.models.CosineDotHead, [batch, 2, classes].'
    )
  return outputs[:, 0], outputs[:, 1]
