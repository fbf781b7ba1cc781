"""One objective of which replay, dark experience and LwF are cases."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.base import Batch, LossFn
from lrcl.losses._classification import cross_entropy

TargetFn = Callable[[jax.Array, Batch], jax.Array]
"""`target(logits, batch) -> logits` that the model is pulled to."""


def bregman_divergence(phi: Callable[[Any], jax.Array], x: Any, y: Any) -> Any:
  r"""Distance :math:`\Phi(x) - \Phi(y) - \langle\nabla\Phi(y), x - y\rangle`.

  It is not negative if phi is convex, and 0 at x = y. It is formed by
  differences: a value far below those of phi has lost its digits, while the
  gradient with respect to `x` has not.

  Args:
    phi: a differentiable function; of rows, where it gives a value per row.
    x: a tree of floats.
    y: a tree like `x`.

  Returns:
    What `phi` returns: one divergence, or one per row.

  Example:
    >>> x, y = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]])
    >>> print(bregman_divergence(half_square, x, y))
    [2.5]

  References:
    Banerjee et al., `Clustering with Bregman divergences
    <https://jmlr.org/papers/v6/banerjee05b.html>`_, 2005
  """
  gap = jax.tree.map(jnp.subtract, x, y)
  value, slope = jax.jvp(phi, (y,), (gap,))
  return phi(x) - value - slope


def half_square(logits: jax.Array) -> jax.Array:
  """Half the sum of squares over the last axis: distances are Euclidean.

  Example:
    >>> print(half_square(jnp.array([[3.0, 4.0]])))
    [12.5]
  """
  return jnp.sum(jnp.square(logits), axis=-1) / 2


def log_partition(temperature: float | jax.Array = 1.0) -> Any:
  r"""Builds :math:`T^2 \log \sum_c e^{z_c / T}`: distances are those of LwF.

  Its divergence of the logits x from y is :math:`T^2` times KL(softmax(y / T)
  || softmax(x / T)). It is the conjugate of the negative entropy: the paper
  states its cases on probabilities, where a one-hot target would have to be
  divided by zero; on logits they are the same numbers without.

  Args:
    temperature: T, above 0; may be traced.

  Raises:
    ValueError: if `temperature` is not above 0.

  Example:
    >>> print(log_partition()(jnp.zeros((1, 4))))
    [1.3862944]
  """
  base.check_value('log_partition', 'temperature', temperature, above=0)
  scaled = lambda z: jax.nn.logsumexp(z / temperature, axis=-1)
  return lambda logits: temperature**2 * scaled(logits)


def label_target(logits: jax.Array, batch: Batch) -> jax.Array:
  """Logits that are sure of the label: 0 there and -1e9 elsewhere.

  Example:
    >>> print(label_target(jnp.ones((1, 2)), {'labels': jnp.array([1])}))
    [[-1.e+09  0.e+00]]
  """
  classes = logits.shape[-1]
  return (jax.nn.one_hot(batch['labels'], classes) - 1) * 1e9


def teacher_target(logits: jax.Array, batch: Batch) -> jax.Array:
  """The logits that come with the batch, `batch['teacher_logits']`.

  A batch without them, as in evaluation, gives the model's own: no distance.

  Example:
    >>> batch = {'teacher_logits': jnp.ones((1, 2))}
    >>> print(teacher_target(jnp.zeros((1, 2)), batch))
    [[1. 1.]]
  """
  return batch.get('teacher_logits', logits)


def unified_loss(
  alpha: float | jax.Array,
  phi: Callable[[jax.Array], jax.Array],
  target: TargetFn = teacher_target,
  *,
  loss_fn: LossFn = cross_entropy,
) -> LossFn:
  r"""The loss on labels, and a divergence from outputs worth keeping.

  Losses are :math:`\ell(x, y) + \alpha D_\Phi(f(x), z)`, with a Bregman
  divergence :math:`D_\Phi` on logits and :math:`z` from `target`. Where the
  batch says which rows are `from_memory`, those have the second term only and
  the others the first only. The cases:

  - Replay: `unified_loss(1.0, log_partition(), label_target)`.
  - DER: `unified_loss(2 * weight / classes, half_square)` on rows of a memory;
    the weight is that of a mean square over classes.
  - LwF: `unified_loss(weight, log_partition(temperature))`, which is
    `distill_predictions(weight=weight, temperature=temperature)`.
  - Pull to the uniform distribution (CPR): `log_partition()` and the target
    `lambda logits, batch: jnp.zeros_like(logits)`.

  The paper's third term, a divergence of parameters, is no function of logits
  and a batch. It is a link of the chain: `add_l2_anchor` and `add_ewc_penalty`
  of `lrcl.methods` add its gradient for half the square of the parameters,
  plain or weighted by the Fisher diagonal.

  Args:
    alpha: weight of the divergence, at least 0; may be traced.
    phi: convex, `[..., classes] -> [...]`, such as `half_square` or
      `log_partition()`.
    target: `target(logits, batch) -> logits`; it gets no gradient.
    loss_fn: the loss on labels.

  Returns:
    `loss_fn(logits, batch) -> losses[batch]`, float32. It reads what `target`
    and `loss_fn` read and, optionally, `from_memory`, bool `[batch]`.

  Raises:
    ValueError: if `alpha` is negative or not finite or, when a step is traced,
      the target is not of the shape of the logits.

  Example:
    >>> der = unified_loss(1.0, half_square)
    >>> batch = {
    ...   'labels': jnp.array([0, 0]),
    ...   'teacher_logits': jnp.array([[9.0, 9.0], [3.0, 1.0]]),
    ...   'from_memory': jnp.array([False, True]),
    ... }
    >>> print(der(jnp.ones((2, 2)), batch))
    [0.6931472 2.       ]

  References:
    Wang et al., `A unified and general framework for continual learning
    <https://arxiv.org/abs/2403.13249>`_, 2024

    Code: https://github.com/joey-wang123/CL-refresh-learning (of its refresh
    step only)
  """
  base.check_value('unified_loss', 'alpha', alpha, minimum=0)

  def unified(logits: jax.Array, batch: Batch) -> jax.Array:
    z = jax.lax.stop_gradient(target(logits, batch))
    if z.shape != logits.shape:
      raise ValueError(
        f'unified_loss: the target has shape {z.shape} and the logits '
        f'{logits.shape}; they must be the same.'
      )
    wide = logits.astype(jnp.float32), z.astype(jnp.float32)
    kept = bregman_divergence(phi, *wide)
    kept = alpha * jnp.mean(kept.reshape(kept.shape[0], -1), axis=1)
    losses = loss_fn(logits, batch)
    if 'from_memory' not in batch:
      return losses + kept
    return jnp.where(batch['from_memory'], kept, losses)

  return unified
