"""Cross-entropy among the classes at hand."""

import jax
import jax.numpy as jnp

from lrcl.base import Batch
from lrcl.losses._classification import cross_entropy


def local_cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
  """Cross-entropy among the classes that occur in the batch (ER-ACE).

  The logits of all other classes get no gradient, so a batch of new classes
  does not push down what the model says of old ones. Padding (rows of weight 0)
  brings no class in.

  A batch with a `class_mask` keeps it, and this is `cross_entropy`. ER-ACE
  relies on that: its replayed rows compete among all classes, which a mask that
  is True everywhere says (see `lrcl.methods.map_memory`). The published code
  also leaves in the classes that were never seen, and replays from the second
  task on; here, as in the paper, the batch's own classes are all there is.

  Under `pmap` a device counts the classes of its own slice; under `jit`, on a
  mesh too, they are those of the whole batch.

  Args:
    logits: `[batch, classes]`, or `[batch, time, vocabulary]`.
    batch: `labels`, integers `[batch]` or `[batch, time]`; optionally `weight`
      and `class_mask[batch, classes]`.

  Returns:
    Losses `[batch]`, float32; of tokens, the mean over time. A row of padding
    whose class does not occur costs about 1e9, under its weight of 0.

  Raises:
    ValueError: if the shapes of logits, labels and mask do not fit.

  Example:
    >>> batch = {'labels': jnp.array([0, 1, 0]), 'weight': jnp.ones(3)}
    >>> print(local_cross_entropy(jnp.zeros((3, 8)), batch))
    [0.6931472 0.6931472 0.6931472]
    >>> mask = {'class_mask': jnp.ones((3, 8), bool)}
    >>> print(local_cross_entropy(jnp.zeros((3, 8)), batch | mask))
    [2.0794415 2.0794415 2.0794415]

  References:
    Caccia et al., `New insights on reducing abrupt representation change in
    online continual learning <https://arxiv.org/abs/2104.05025>`_, 2022

    Code: https://github.com/aimagelab/mammoth
  """
  if 'class_mask' in batch:
    return cross_entropy(logits, batch)
  rows, classes = logits.shape[0], logits.shape[-1]
  mask = jnp.broadcast_to(_present(batch, classes)[None], (rows, classes))
  return cross_entropy(logits, {**batch, 'class_mask': mask})


def _present(batch: Batch, classes: int) -> jax.Array:
  """Which classes have a row that counts: bool `[classes]`."""
  labels = batch['labels']
  counts = labels >= 0
  if 'weight' in batch:
    weight = batch['weight'].reshape(-1, *(1,) * (labels.ndim - 1))
    counts &= jnp.broadcast_to(weight > 0, labels.shape)
  found = jnp.where(counts, labels, classes).reshape(-1)
  return jnp.zeros([classes], bool).at[found].set(True, mode='drop')
