"""Replayed rows mixed where classes are near to each other."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.base import Batch, LossFn
from lrcl.losses._classification import cross_entropy

_WHERE = 'prototypical_feedback'


def class_prototypes(
  projections: jax.Array,
  labels: jax.Array,
  num_classes: int,
  weight: jax.Array | None = None,
) -> jax.Array:
  """The normalised mean of the normalised projections of each class.

  Args:
    projections: `[batch, features]`.
    labels: whole numbers `[batch]`.
    num_classes: how many prototypes there are.
    weight: `[batch]`, 0 for padding; all ones by default.

  Returns:
    float32 `[num_classes, features]`; zeros for a class without rows.

  Example:
    >>> rows = jnp.array([[2.0, 0.0], [0.0, 3.0], [0.0, 5.0]])
    >>> print(class_prototypes(rows, jnp.array([0, 2, 2]), 3))
    [[1. 0.]
     [0. 0.]
     [0. 1.]]

  References:
    Wei et al., `Online prototype learning for online continual learning
    <https://arxiv.org/abs/2308.00301>`_, 2023
  """
  member = jax.nn.one_hot(labels, num_classes)
  if weight is not None:
    member *= weight.astype(jnp.float32)[:, None]
  return _unit(member.T @ _unit(projections))


def prototypical_feedback(
  memory: Batch,
  prototypes: jax.Array,
  key: jax.Array,
  *,
  base_share: float = 0.75,
  probability: float | jax.Array = 0.6,
  base_range: tuple[float, float] = (0.0, 0.6),
  concentration: float | jax.Array = 0.4,
) -> dict[str, Any]:
  r"""Mixes rows of a memory, most of all those of near classes (OnPro's APF).

  Of m rows the first `base_share` m are mixed at random: with a probability, a
  row becomes :math:`(1 - \lambda) x + \lambda x'`, with x' another of the m
  rows and :math:`\lambda` uniform in `base_range`. The other n rows are pairs
  of classes: classes i and j get their share of n by the softmax of
  :math:`1 / \lVert p_i - p_j \rVert` over all pairs of prototypes but zeros,
  rounded, and corrected at random pairs so that the sum is n. Their rows are
  drawn from those of the two classes in the memory, and mixed with the same
  probability, :math:`\lambda` from a Beta distribution. So classes that are
  taken for each other are mixed most.

  It has fixed shapes, for `jit`. The published code tosses one coin for a
  pair's rows together, here there is one for each. It draws them from the whole
  memory, here from the rows that are given, so draw enough of them; a class
  without rows is replaced by a random row, as there by a random class.

  Use it by `lrcl.methods.map_memory(..., seed=0)`, with `mixed_labels` around
  the loss.

  Args:
    memory: `inputs`, `labels[m]` and optionally `weight[m]`, with further
      fields. Inputs are mixed in float32.
    prototypes: `[classes, features]`, such as `class_prototypes` makes.
    key: PRNG key.
    base_share: part of the rows that are mixed at random, in [0, 1].
    probability: of mixing a row, in [0, 1]; may be traced.
    base_range: least and greatest :math:`\lambda` of these.
    concentration: both parameters of the Beta distribution, above 0; may be
      traced.

  Returns:
    `memory` with `inputs` mixed, and with `mixed_labels[m]`, the labels of what
    was mixed in, and `mix[m]`, float32, how much of it. The weight of a row is
    the lesser of both; its other fields are those of x. Where fewer than two
    classes have a prototype, all rows are mixed at random.

  Raises:
    ValueError: if a number is out of range.

  Example:
    >>> memory = {'inputs': jnp.eye(8), 'labels': jnp.arange(8) % 4}
    >>> rows = prototypical_feedback(memory, jnp.eye(4), jax.random.key(0))
    >>> rows['inputs'].shape, rows['mix'].shape
    ((8, 8), (8,))
    >>> bool(jnp.allclose(rows['inputs'].sum(1), 1.0))
    True

  References:
    Wei et al., `Online prototype learning for online continual learning
    <https://arxiv.org/abs/2308.00301>`_, 2023

    Code: https://github.com/weilllllls/OnPro
  """
  _check(base_share, probability, base_range, concentration)
  size = memory['labels'].shape[0]
  count = size - int(base_share * size)  # of pairs
  keys = jax.random.split(key, 6)
  weight = memory.get('weight', jnp.ones(size))
  first, second = jnp.arange(size), jax.random.permutation(keys[0], size)
  low, high = base_range
  mix = jax.random.uniform(keys[1], (size,), jnp.float32, low, high)

  pairs, counts = pair_counts(prototypes, count, keys[2])
  slot = jnp.arange(size) - (size - count)  # of a pair, where not negative
  pair = jnp.searchsorted(jnp.cumsum(counts), slot, side='right')
  classes = pairs[jnp.minimum(pair, len(pairs) - 1)]
  chosen = _rows_of(keys[3], classes, memory['labels'], weight)
  paired = (slot >= 0) & (jnp.sum(counts) == count)
  beta = jax.random.beta(
    keys[4], concentration, concentration, (size,), jnp.float32
  )
  first = jnp.where(paired, chosen[:, 0], first)
  second = jnp.where(paired, chosen[:, 1], second)
  mixes = jax.random.uniform(keys[5], (size,)) < probability
  mix = jnp.where(mixes, jnp.where(paired, beta, mix), 0.0)
  return _mixed(memory, first, second, mix)


def pair_counts(
  prototypes: jax.Array, count: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """How many rows each pair of classes gets.

  Args:
    prototypes: `[classes, features]`, zeros for classes that were not seen.
    count: of all pairs together.
    key: PRNG key of the corrections.

  Returns:
    `(pairs, counts)`: classes `[pairs, 2]` and int32 `[pairs]`, whose sum is
    `count`, or 0 where there is no pair.
  """
  classes = prototypes.shape[0]
  first, second = jnp.triu_indices(classes, 1)
  pairs = jnp.stack([first, second], axis=1)
  wide = prototypes.astype(jnp.float32)
  seen = jnp.any(wide != 0, axis=1)
  valid = seen[first] & seen[second]
  distance = jnp.linalg.norm(wide[first] - wide[second], axis=1)
  scores = jnp.where(valid, 1.0 / jnp.maximum(distance, 1e-6), -jnp.inf)
  share = jnp.where(valid, jax.nn.softmax(scores), 0.0)  # all NaN for no pair
  counts = jnp.round(share * count).astype(jnp.int32)
  missing = jnp.where(jnp.any(valid), count - jnp.sum(counts), 0)
  eligible = jnp.where(missing > 0, valid, counts > 0)
  order = jnp.where(eligible, jax.random.uniform(key, valid.shape), 2.0)
  rank = jnp.argsort(jnp.argsort(order))
  step = jnp.where(eligible & (rank < jnp.abs(missing)), jnp.sign(missing), 0)
  return pairs, counts + step


def mixed_labels(loss_fn: LossFn = cross_entropy) -> LossFn:
  r"""The loss of mixed rows: :math:`(1 - \lambda)` and :math:`\lambda` of two.

  It is the loss on `labels`, and on `mixed_labels` by the share `mix`. A batch
  without these fields, such as the incoming one, has `loss_fn` alone. For the
  cross-entropy this is the one with mixed labels.

  Args:
    loss_fn: a loss of one label per row.

  Example:
    >>> batch = {'labels': jnp.array([0]), 'mixed_labels': jnp.array([1]),
    ...   'mix': jnp.array([0.25])}
    >>> print(mixed_labels()(jnp.array([[0.0, 1.0]]), batch))
    [1.0632616]

  References:
    Zhang et al., `mixup: beyond empirical risk minimization
    <https://arxiv.org/abs/1710.09412>`_, 2018
  """

  def mixed(logits: jax.Array, batch: Batch) -> jax.Array:
    losses = loss_fn(logits, batch)
    if 'mix' not in batch:
      return losses
    others = loss_fn(logits, {**batch, 'labels': batch['mixed_labels']})
    return (1.0 - batch['mix']) * losses + batch['mix'] * others

  return mixed


def _rows_of(
  key: jax.Array, classes: jax.Array, labels: jax.Array, weight: jax.Array
) -> jax.Array:
  """A random row of each class in `classes` `[..., 2]`; any, if it has none."""
  draw = jax.random.uniform(key, (*classes.shape, labels.size))
  labels, there = (x.reshape(1, 1, -1) for x in (labels, weight > 0))
  score = draw + (there & (labels == classes[..., None])).astype(jnp.float32)
  return jnp.argmax(jnp.where(there, score, draw - 1.0), axis=-1)


def _mixed(
  memory: Batch, first: jax.Array, second: jax.Array, mix: jax.Array
) -> dict[str, Any]:
  one, other = (
    jax.tree.map(lambda x, i=i: x[i], dict(memory)) for i in (first, second)
  )

  def blend(x: jax.Array, y: jax.Array) -> jax.Array:
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    share = mix.reshape(-1, *(1,) * (x.ndim - 1))
    wide = (1.0 - share) * x.astype(jnp.float32)
    return (wide + share * y.astype(jnp.float32)).astype(dtype)

  rows = {
    **one,
    'inputs': jax.tree.map(blend, one['inputs'], other['inputs']),
    'mixed_labels': other['labels'],
    'mix': mix,
  }
  if 'weight' in memory:
    rows['weight'] = jnp.minimum(one['weight'], other['weight'])
  return rows


def _unit(x: jax.Array) -> jax.Array:
  """Rows over their norms; rows of zeros stay zero."""
  wide = x.astype(jnp.float32)
  square = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
  return wide * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def _check(
  base_share: Any, probability: Any, base_range: Any, concentration: Any
) -> None:
  share = {'minimum': 0, 'maximum': 1}
  base.check_value(_WHERE, 'base_share', base_share, **share)
  base.check_value(_WHERE, 'probability', probability, **share)
  base.check_value(_WHERE, 'concentration', concentration, above=0)
  low, high = base_range
  if not 0 <= low <= high <= 1:
    raise ValueError(
      f'{_WHERE}: base_range is {base_range!r}; it must be two numbers in '
      'order between 0 and 1.'
    )
