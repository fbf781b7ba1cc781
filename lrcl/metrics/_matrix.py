"""Metrics of the accuracy matrix: what was learnt, kept and transferred.

`A[i, j]` is the accuracy on task j after training on task i, both counted
from 0 here. Leading axes (seeds, for one) are kept. Entries above the diagonal
belong to tasks that were not met yet; only `forward_transfer` reads them, so
NaN there reaches no other metric. NaN in an entry that is read gives NaN.
"""

from typing import Any

import numpy as np

from lrcl.metrics._arrays import Array, as_float, namespace, undefined


def average_accuracy(matrix: Any) -> Array:
  """Mean accuracy over all tasks after the last one: `1/T sum_j A[T, j]`.

  Args:
    matrix: accuracies `[..., T, T]`, numpy or jax.

  Returns:
    An array `[...]` of the same kind, at least float32.

  Raises:
    ValueError: if `matrix` is not square in its last two axes.

  Example:
    >>> float(average_accuracy([[0.9, 0.1], [0.7, 0.8]]))
    0.75

  References:
    Lopez-Paz and Ranzato, `Gradient episodic memory for continual learning
    <https://arxiv.org/abs/1706.08840>`_, 2017
  """
  a = _square('average_accuracy', matrix)
  return a[..., -1, :].mean(-1)


def average_incremental_accuracy(matrix: Any) -> Array:
  """Mean over k of the mean accuracy on the tasks met up to k.

  `1/T sum_k 1/k sum_{j<=k} A[k, j]`.

  Args:
    matrix: accuracies `[..., T, T]`, numpy or jax.

  Returns:
    An array `[...]` of the same kind, at least float32.

  Raises:
    ValueError: if `matrix` is not square in its last two axes.

  Example:
    >>> float(average_incremental_accuracy([[0.9, 0.1], [0.7, 0.8]]))
    0.825

  References:
    Rebuffi et al., `iCaRL <https://arxiv.org/abs/1611.07725>`_, 2017.
  """
  a = _square('average_incremental_accuracy', matrix)
  xp, tasks = namespace(a), a.shape[-1]
  met = np.tril(np.ones((tasks, tasks), bool))
  weight = met / np.arange(1, tasks + 1)[:, None] / tasks
  seen = xp.where(_like(met, a), a, 0.0)
  return (seen * _like(weight.astype(a.dtype), a)).sum((-2, -1))


def forgetting(matrix: Any) -> Array:
  """Mean drop of the earlier tasks from their best accuracy so far.

  `1/(T-1) sum_{j<T} (max_{j<=l<T} A[l, j] - A[T, j])`. The best is taken from
  the end of the task itself on and before the last task, so that a task which
  gains in the end has a negative share.

  Args:
    matrix: accuracies `[..., T, T]`, numpy or jax.

  Returns:
    An array `[...]` of the same kind, at least float32; NaN for one task.

  Raises:
    ValueError: if `matrix` is not square in its last two axes.

  Example:
    >>> round(float(forgetting([[0.9, 0.1], [0.7, 0.8]])), 6)
    0.2

  References:
    Chaudhry et al., `Riemannian Walk <https://arxiv.org/abs/1801.10112>`_,
    2018.
  """
  a = _square('forgetting', matrix)
  if a.shape[-1] == 1:
    return undefined(a, 2)
  xp, past = namespace(a), a[..., :-1, :-1]
  met = np.tril(np.ones(past.shape[-2:], bool))
  best = xp.where(_like(met, past), past, -np.inf).max(-2)
  return (best - a[..., -1, :-1]).mean(-1)


def backward_transfer(matrix: Any) -> Array:
  """Mean change of the earlier tasks since each one's own end.

  `1/(T-1) sum_{j<T} (A[T, j] - A[j, j])`; negative where tasks are forgotten.

  Args:
    matrix: accuracies `[..., T, T]`, numpy or jax.

  Returns:
    An array `[...]` of the same kind, at least float32; NaN for one task.

  Raises:
    ValueError: if `matrix` is not square in its last two axes.

  Example:
    >>> round(float(backward_transfer([[0.9, 0.1], [0.7, 0.8]])), 6)
    -0.2

  References:
    Lopez-Paz and Ranzato, `Gradient Episodic Memory
    <https://arxiv.org/abs/1706.08840>`_, 2017.
  """
  a = _square('backward_transfer', matrix)
  if a.shape[-1] == 1:
    return undefined(a, 2)
  return (a[..., -1, :-1] - _diagonal(a)[..., :-1]).mean(-1)


def forward_transfer(matrix: Any, baseline: Any) -> Array:
  """Mean head start on each task just before it is trained on.

  `1/(T-1) sum_{j>=2} (A[j-1, j] - b[j])`. The only metric that reads entries
  above the diagonal; `b[1]` is not read.

  Args:
    matrix: accuracies `[..., T, T]`, numpy or jax.
    baseline: accuracy on each task of a model at random initialisation,
      `[T]` or `[..., T]`.

  Returns:
    An array `[...]` of the same kind, at least float32; NaN for one task.

  Raises:
    ValueError: if the shapes do not fit.

  Example:
    >>> round(float(forward_transfer([[0.9, 0.3], [0.7, 0.8]], [0, 0.1])), 6)
    0.2

  References:
    Lopez-Paz and Ranzato, `Gradient Episodic Memory
    <https://arxiv.org/abs/1706.08840>`_, 2017.
  """
  a = _square('forward_transfer', matrix)
  base = namespace(a).asarray(as_float(baseline), a.dtype)
  if base.shape not in (a.shape[-1:], a.shape[:-1]):
    raise ValueError(
      f'forward_transfer: baseline has shape {base.shape}; it must be '
      f'{a.shape[-1:]} or {a.shape[:-1]}, one accuracy per task.'
    )
  if a.shape[-1] == 1:
    return undefined(a, 2)
  ahead = _diagonal(a[..., :-1, 1:])
  return (ahead - _like(base[..., 1:], ahead)).mean(-1)


def learning_accuracy(matrix: Any) -> Array:
  """Mean accuracy on each task at its own end: `1/T sum_j A[j, j]`.

  Args:
    matrix: accuracies `[..., T, T]`, numpy or jax.

  Returns:
    An array `[...]` of the same kind, at least float32.

  Raises:
    ValueError: if `matrix` is not square in its last two axes.

  Example:
    >>> round(float(learning_accuracy([[0.9, 0.1], [0.7, 0.8]])), 6)
    0.85

  References:
    Riemer et al., `Meta-Experience Replay
    <https://arxiv.org/abs/1810.11910>`_, 2019.
  """
  return _diagonal(_square('learning_accuracy', matrix)).mean(-1)


def _square(where: str, matrix: Any) -> Any:
  """`matrix` as a float array, checked to be `[..., T, T]` with T >= 1."""
  a = as_float(matrix)
  if a.ndim < 2 or a.shape[-1] != a.shape[-2] or a.shape[-1] == 0:
    raise ValueError(
      f'{where}: the accuracy matrix has shape {a.shape}; it must be '
      '[..., T, T]: after task i, on task j.'
    )
  return a


def _diagonal(a: Any) -> Any:
  return namespace(a).diagonal(a, axis1=-2, axis2=-1)


def _like(values: Any, a: Any) -> Any:
  """`values` spelled out in the shape of `a`: ranks are never promoted."""
  return namespace(a).broadcast_to(values, a.shape)
