"""Metrics of classes, of learning curves, and against a joint learner."""

from typing import Any

import numpy as np

from lrcl.metrics._arrays import Array, as_float, namespace, undefined


def class_forgetting(accuracy: Any) -> Array:
  """Mean drop of each class from its best accuracy, `F_last`.

  Over the classes that were ever right, the mean of
  `max_{k<T} a[k, c] - a[T, c]`: forgetting where tasks share classes.

  Args:
    accuracy: `[..., n, C]`, accuracy on every class at every evaluation, such
      as at the end of each task.

  Returns:
    An array `[...]` of the same kind, at least float32; NaN for one evaluation
    or where no class was ever right before the last one.

  Raises:
    ValueError: if there are less than two axes.

  Example:
    >>> float(class_forgetting([[0.5, 0.0], [0.75, 0.0], [0.25, 1.0]]))
    0.5

  References:
    Koh et al., `Online Continual Learning on Class Incremental Blurry Task
    Configuration with Anytime Inference <https://arxiv.org/abs/2110.10031>`_,
    2022
  """
  a = as_float(accuracy)
  if a.ndim < 2 or not a.shape[-2]:
    raise ValueError(
      f'class_forgetting: accuracy has shape {a.shape}; it must be [..., n, '
      'C]: evaluations by classes.'
    )
  if a.shape[-2] == 1:
    return undefined(a, 2)
  xp = namespace(a)
  best = a[..., :-1, :].max(-2)
  known = best > 0
  drops = xp.where(known, best - a[..., -1, :], 0.0).sum(-1)
  count = known.astype(a.dtype).sum(-1)
  mean = drops / xp.maximum(count, 1)
  return xp.where(count > 0, mean, xp.nan).astype(a.dtype)


def intransigence(matrix: Any, joint: Any) -> Array:
  """Mean shortfall in learning a task, against a learner that sees all.

  `1/T sum_k (A*[k] - A[k, k])`, with `A*[k]` the accuracy on task k of a model
  trained on all tasks up to k at once. Below 0 where earlier tasks helped.

  Args:
    matrix: accuracies `[..., T, T]`, numpy or jax.
    joint: `[..., T]`, `A*`.

  Returns:
    An array `[...]` of the same kind, at least float32.

  Raises:
    ValueError: if `matrix` is not square in its last two axes, or `joint` has
      another number of tasks.

  Example:
    >>> matrix = [[0.75, 0.1], [0.7, 0.5]]
    >>> float(intransigence(matrix, [0.75, 1.0]))
    0.25

  References:
    Chaudhry et al., `Riemannian Walk <https://arxiv.org/abs/1801.10112>`_, 2018
  """
  a, best = as_float(matrix), as_float(joint)
  if a.ndim < 2 or a.shape[-1] != a.shape[-2] or not a.shape[-1]:
    raise ValueError(
      f'intransigence: matrix has shape {a.shape}; it must be [..., T, T].'
    )
  if not best.ndim or best.shape[-1] != a.shape[-1]:
    raise ValueError(
      f'intransigence: joint has shape {best.shape}; it must be [..., '
      f'{a.shape[-1]}].'
    )
  tasks = np.arange(a.shape[-1])
  return (best - a[..., tasks, tasks]).mean(-1)


def learning_curve_area(curves: Any) -> Array:
  """Mean accuracy over the first batches of each task, `LCA`.

  `1/(beta+1) sum_{b=0..beta} Z_b` with `Z_b` the mean over tasks of the
  accuracy on a task after `b` batches of it: how fast new tasks are learned.

  Args:
    curves: `[..., T, beta + 1]`: the accuracy on each task before its first
      batch, after one, ..., after `beta`.

  Returns:
    An array `[...]` of the same kind, at least float32.

  Raises:
    ValueError: if there are less than two axes.

  Example:
    >>> float(learning_curve_area([[0.0, 0.5, 1.0], [0.5, 0.5, 0.5]]))
    0.5

  References:
    Chaudhry et al., `Efficient Lifelong Learning with A-GEM
    <https://arxiv.org/abs/1812.00420>`_, 2019
  """
  a = as_float(curves)
  if a.ndim < 2 or 0 in a.shape[-2:]:
    raise ValueError(
      f'learning_curve_area: curves has shape {a.shape}; it must be [..., T, '
      'beta + 1].'
    )
  return a.mean((-2, -1))


def area_under_accuracy(accuracy: Any, samples: Any = None) -> Array:
  """Mean accuracy over a stream, `A_AUC`: how good the model is at any time.

  With evaluations at equal distances it is their mean; otherwise each counts
  for the samples since the one before (the first for those since the start).

  Args:
    accuracy: `[..., n]`, accuracy on all classes or tasks met so far, at every
      evaluation.
    samples: `[n]`, rows seen at each evaluation, increasing and above 0; None:
      equal distances.

  Returns:
    An array `[...]` of the same kind, at least float32.

  Raises:
    ValueError: if there is no evaluation or `samples` does not fit.

  Example:
    >>> float(area_under_accuracy([0.5, 1.0]))
    0.75
    >>> float(area_under_accuracy([0.5, 1.0], [300, 400]))
    0.625

  References:
    Koh et al., `Online Continual Learning on Class Incremental Blurry Task
    Configuration with Anytime Inference <https://arxiv.org/abs/2110.10031>`_,
    2022
  """
  a = as_float(accuracy)
  if not a.ndim or not a.shape[-1]:
    raise ValueError(
      f'area_under_accuracy: accuracy has shape {a.shape}; it must be [..., n].'
    )
  if samples is None:
    return a.mean(-1)
  seen = np.asarray(samples, np.float64)
  widths = np.diff(seen, prepend=0.0)
  if seen.shape != a.shape[-1:] or not (widths > 0).all():
    raise ValueError(
      f'area_under_accuracy: samples is {seen.tolist()}; it must be '
      f'{a.shape[-1]} increasing numbers above 0.'
    )
  share = namespace(a).asarray((widths / seen[-1]).astype(a.dtype))
  return (a * share).sum(-1)
