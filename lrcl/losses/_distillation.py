"""Losses that hold a model to what a teacher said about the same rows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.base import Batch, LossFn
from lrcl.losses._classification import cross_entropy


def distill_predictions(
  loss_fn: LossFn = cross_entropy,
  weight: float | jax.Array = 1.0,
  temperature: float | jax.Array = 2.0,
) -> LossFn:
  r"""Adds the divergence from a teacher's softened predictions (LwF).

  Each loss grows by :math:`w\,T^2\,\mathrm{KL}(p_T \Vert q_T)`, where
  :math:`p_T` and :math:`q_T` are the softmax of teacher and model at
  temperature T. :math:`T^2` keeps the size of the gradient, which falls as
  :math:`1 / T^2`; sources without it (such as Mammoth's LwF, w = 0.5, T = 2)
  have a w that is :math:`T^2` times as large. The teacher gets no gradient.

  The teacher's outputs come with the batch: computed once when a task begins
  and stored next to its inputs, as LwF does, or kept by a memory. A batch
  without them, as in evaluation, has `loss_fn` alone.

  Args:
    loss_fn: the loss on labels.
    weight: w, at least 0; may be traced.
    temperature: T, above 0; may be traced.

  Returns:
    `loss_fn(logits, batch) -> losses[batch]`, float32. It reads
    `teacher_logits` of the shape of the logits, and optionally
    `teacher_mask[batch, classes]`: the classes that the teacher knows, among
    which both softmaxes are taken. A row whose mask is False everywhere has no
    term, which is how a first task goes without a teacher. A `class_mask` is
    left to `loss_fn`.

  Raises:
    ValueError: if `weight` or `temperature` is out of range or, when a step is
      traced, the shapes do not fit.

  Example:
    >>> loss_fn = distill_predictions(weight=0.5, temperature=2.0)
    >>> logits = jnp.array([[2.0, 0.0]])
    >>> batch = {'labels': jnp.array([0]), 'teacher_logits': logits}
    >>> print(loss_fn(logits, batch) - cross_entropy(logits, batch))
    [0.]
    >>> batch['teacher_logits'] = -logits
    >>> bool(loss_fn(logits, batch)[0] > 1)
    True

  References:
    Hinton et al., `Distilling the knowledge in a neural network
    <https://arxiv.org/abs/1503.02531>`_, 2015

    Li and Hoiem, `Learning without forgetting
    <https://arxiv.org/abs/1606.09282>`_, 2017

    Code: https://github.com/aimagelab/mammoth
  """
  where = 'distill_predictions'
  base.check_value(where, 'weight', weight, minimum=0)
  base.check_value(where, 'temperature', temperature, above=0)

  def distilled(logits: jax.Array, batch: Batch) -> jax.Array:
    losses = loss_fn(logits, batch)
    if 'teacher_logits' not in batch:
      return losses
    teacher = _teacher(where, logits, batch['teacher_logits'])
    mask = batch.get('teacher_mask')
    known = {} if mask is None else {'class_mask': mask}
    soften = lambda x: jax.nn.log_softmax(
      base.restrict(x.astype(jnp.float32) / temperature, known, where=where)
    )
    p, q = soften(teacher), soften(logits)
    term = jnp.sum(jnp.exp(p) * (p - q), axis=-1)
    return losses + weight * temperature**2 * _per_row(term)

  return distilled


def distill_features(
  loss_fn: LossFn = cross_entropy, weight: float | jax.Array = 1.0
) -> Callable[..., jax.Array]:
  r"""Adds the squared distance from a teacher's features.

  Each loss grows by :math:`w \lVert h - h' \rVert^2`, summed over features. The
  model has to give its features away: its outputs are a pair `(logits,
  features)`, and the learner's `predict` is then `lambda outputs, batch:
  argmax(outputs[0], batch)`. The teacher gets no gradient, and a batch without
  one has `loss_fn` alone.

  Args:
    loss_fn: the loss on labels; it sees the logits. Both distillations are
      `distill_features(distill_predictions())`.
    weight: w, at least 0; may be traced.

  Returns:
    `loss_fn((logits, features), batch) -> losses[batch]`, float32. It reads
    `teacher_features` of the shape of the features.

  Raises:
    ValueError: if `weight` is out of range or, when a step is traced, the
      shapes do not fit.

  Example:
    >>> loss_fn = distill_features(weight=0.1)
    >>> outputs = jnp.zeros((1, 4)), jnp.array([[1.0, 2.0]])
    >>> batch = {'labels': jnp.array([0])}
    >>> print(loss_fn(outputs, batch))
    [1.3862944]
    >>> print(loss_fn(outputs, batch | {'teacher_features': jnp.zeros((1, 2))}))
    [1.8862944]

  References:
    Smith et al., `A closer look at rehearsal-free continual learning
    <https://arxiv.org/abs/2203.17269>`_, 2023 (its code was not found)
  """
  where = 'distill_features'
  base.check_value(where, 'weight', weight, minimum=0)

  def distilled(outputs: tuple[jax.Array, jax.Array], batch: Batch):
    logits, features = outputs
    losses = loss_fn(logits, batch)
    if 'teacher_features' not in batch:
      return losses
    teacher = _teacher(where, features, batch['teacher_features'])
    gap = features.astype(jnp.float32) - teacher.astype(jnp.float32)
    return losses + weight * _per_row(jnp.sum(jnp.square(gap), axis=-1))

  return distilled


def _teacher(where: str, outputs: jax.Array, teacher: jax.Array) -> jax.Array:
  """The teacher's outputs as constants, once they fit the model's."""
  if teacher.shape != outputs.shape:
    raise ValueError(
      f"{where}: the teacher's outputs have shape {teacher.shape} and the "
      f"model's {outputs.shape}; they must be the same."
    )
  return jax.lax.stop_gradient(teacher)


def _per_row(term: jax.Array) -> jax.Array:
  """Means over everything but the rows."""
  return jnp.mean(term.reshape(term.shape[0], -1), axis=1)
