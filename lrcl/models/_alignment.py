"""Aligns a head after training, on rows drawn from what is known of classes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base


class ClassGaussians(NamedTuple):
  """What is kept of the features of each class; `class_gaussians` gathers it.

  Attributes:
    means: `[classes, features]`.
    covariances: `[classes, features, features]`.
    tasks: the task a class came with, counted from 0, or -1 for a class that
      has not been seen; int `[classes]`, below the number of classes.
  """

  means: jax.Array
  covariances: jax.Array
  tasks: jax.Array


def align_head(
  key: jax.Array,
  params: Any,
  statistics: ClassGaussians,
  tx: optax.GradientTransformation,
  steps: int,
  *,
  rows_per_class: int = 4,
  logit_norm: float | jax.Array = 0.1,
  shrink: float | jax.Array = 0.1,
  jitter: float | jax.Array = 1e-4,
) -> dict[str, jax.Array]:
  r"""Trains a linear head on features drawn from Gaussians (SLCA).

  Trained task after task, a head has never seen two tasks side by side. Here
  each step draws rows of all seen classes alike, from their means and
  covariances, and minimises the cross-entropy of :math:`z / (n \tau)`, where n
  is the mean over tasks of the norm of the logits of a task's classes. The
  mean of a class of task t, with k the newest task, is shrunk by :math:`1 - s
  + s (t + 1) / (k + 1)`: features drift away from what was noted long ago.

  The published code shuffles 256 rows per class into batches of 256, once per
  epoch; here every step has `rows_per_class` fresh rows of each class. The
  result is for prediction: SLCA goes on training from the head before it.
  Cost: a Cholesky per class at once, then `rows_per_class * classes *
  features**2` per step.

  Args:
    key: typed PRNG key.
    params: `{'kernel': [features, classes]}` and optionally `'bias':
      [classes]`, as of `nn.Dense`.
    statistics: of the classes; what is said of unseen ones is not used.
    tx: any optimizer, with its schedule over `steps`.
    steps: number of steps, at least 1.
    rows_per_class: rows that a step draws of each class, at least 1.
    logit_norm: tau, above 0; may be traced.
    shrink: s, in [0, 1]; may be traced.
    jitter: added to the diagonal of the covariances, above 0; may be traced.

  Returns:
    The head's new parameters, of the same form. Those of unseen classes are
    unchanged.

  Raises:
    ValueError: if a number is out of range, or the shapes do not fit.

  Example:
    >>> means = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> noise = jnp.stack([0.01 * jnp.eye(2)] * 2)
    >>> statistics = ClassGaussians(means, noise, jnp.array([0, 1]))
    >>> newest = {'kernel': jnp.array([[0.1, 0.5], [0.0, 1.0]])}
    >>> jnp.argmax(means @ newest['kernel'], axis=1).tolist()
    [1, 1]
    >>> tx = optax.sgd(0.1)
    >>> params = align_head(jax.random.key(0), newest, statistics, tx, 20)
    >>> jnp.argmax(means @ params['kernel'], axis=1).tolist()
    [0, 1]

  References:
    Zhang et al., `SLCA: slow learner with classifier alignment for continual
    learning on a pre-trained model <https://arxiv.org/abs/2303.05118>`_, 2023

    Code: https://github.com/GengDavid/SLCA
  """
  where = 'align_head'
  base.check_steps(where, 'steps', steps, minimum=1)
  base.check_steps(where, 'rows_per_class', rows_per_class, minimum=1)
  base.check_value(where, 'logit_norm', logit_norm, above=0)
  base.check_value(where, 'shrink', shrink, minimum=0, maximum=1)
  base.check_value(where, 'jitter', jitter, above=0)
  _check_shapes(where, params, statistics)
  seen = statistics.tasks >= 0
  means, factors = _prepare(statistics, shrink, jitter)

  def loss_fn(params, rows):
    logits = _logits(params, rows)
    logits = logits / (_group_norm(logits, statistics.tasks) * logit_norm)
    logits = jnp.where(jnp.broadcast_to(seen, logits.shape), logits, -1e9)
    losses = -jnp.diagonal(jax.nn.log_softmax(logits), axis1=1, axis2=2)
    return base.weighted_mean(jnp.mean(losses, axis=0), seen.astype('float32'))

  def step(carry, key):
    params, opt_state = carry
    rows = _draw(key, means, factors, rows_per_class)
    gradient = jax.grad(loss_fn)(params, rows)
    updates, opt_state = tx.update(gradient, opt_state, params)
    keep = lambda u: jnp.where(jnp.broadcast_to(seen, u.shape), u, 0)
    params = optax.apply_updates(params, jax.tree.map(keep, updates))
    return (params, opt_state), None

  carry = params, tx.init(params)
  (params, _), _ = jax.lax.scan(step, carry, jax.random.split(key, steps))
  return params


def _prepare(statistics, shrink, jitter) -> tuple[jax.Array, jax.Array]:
  """The shrunk means, and factors of the covariances; of unseen classes, 0."""
  means, covariances, tasks = statistics
  age = (tasks + 1).astype(means.dtype)
  age = age / jnp.max(age)
  factor = (1 - shrink + shrink * age)[:, None]
  seen = tasks >= 0
  eye = jnp.eye(means.shape[1], dtype=covariances.dtype)[None]
  known = jnp.where(seen[:, None, None], covariances, 0) + jitter * eye
  return (
    jnp.where(seen[:, None], means * factor, 0),
    jnp.linalg.cholesky(known),
  )


def _draw(key, means, factors, rows: int) -> jax.Array:
  """Rows of each class, `[rows, classes, features]`."""
  noise = jax.random.normal(key, (rows, *means.shape), means.dtype)
  return means[None] + jnp.einsum('cij,rcj->rci', factors, noise)


def _logits(params: Any, rows: jax.Array) -> jax.Array:
  """`[rows, classes, classes]`: of each drawn row, the logit of each class."""
  logits = rows @ params['kernel']
  bias = params.get('bias', jnp.zeros(logits.shape[-1]))
  return (logits + bias[None, None]).astype(jnp.float32)


def _group_norm(logits: jax.Array, tasks: jax.Array) -> jax.Array:
  """The norm over the classes of a task, averaged over tasks; `[..., 1]`."""
  groups = jax.nn.one_hot(tasks, len(tasks))
  square = jnp.square(logits) @ groups
  norms = jnp.sqrt(jnp.maximum(square, 1e-14))
  present = jnp.max(groups, axis=0)
  return (norms @ present / jnp.sum(present))[..., None]


def _check_shapes(where: str, params: Any, statistics: ClassGaussians) -> None:
  features, classes = params['kernel'].shape
  want = (classes, features), (classes, features, features), (classes,)
  got = tuple(part.shape for part in statistics)
  if got != want:
    raise ValueError(
      f'{where}: means, covariances and tasks have shapes {got}; for this '
      f'kernel they must have {want}.'
    )
