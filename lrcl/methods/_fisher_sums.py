"""Sums over the examples of one batch: layer by layer, or one by one.

What is summed is the size of the gradient of a single example: its square for
the estimators of the Fisher, its absolute value for `OUTPUTS`. Both are
products for an outer product, which is what makes the way by layers possible.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.methods import _dense_fisher
from lrcl.methods._dense_fisher import Forward

OUTPUTS = 'outputs'
"""The estimator that needs no label: the squared norm of the outputs."""


def choose_way(
  where: str,
  forward: Forward,
  leaves: Sequence[jax.Array],
  chosen: Sequence[bool],
  stack: base.Batch,
  estimator: str,
) -> Callable[[base.Batch, Any], list[jax.Array]]:
  """The function `(batch, keys) -> sums` for this model."""
  like = lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
  batch = jax.tree.map(like, stack)
  ndim = jax.eval_shape(forward, leaves, batch).ndim
  if ndim != 2 and (ndim != 3 or estimator == 'exact'):
    raise ValueError(
      f'{where}: logits have {ndim} axes, too many or too few for '
      f"{estimator!r}; it takes [batch, classes], and all but 'exact' take "
      '[batch, time, vocabulary].'
    )
  layers = None
  if ndim == 2:
    layers = _dense_fisher.find_dense_layers(forward, leaves, chosen, batch)
  if layers is None:
    return lambda batch, keys: _by_example(
      forward, leaves, chosen, batch, keys, estimator
    )
  return lambda batch, keys: _by_layer(
    forward, leaves, chosen, layers, batch, keys, estimator
  )


def _by_layer(
  forward: Forward,
  leaves: Sequence[jax.Array],
  chosen: Sequence[bool],
  layers: Sequence[_dense_fisher.DenseLayer],
  batch: base.Batch,
  keys: jax.Array | None,
  estimator: str,
) -> list[jax.Array]:
  """Weighted sums from the layers' inputs and cotangents."""
  logits, pullback, activations = _dense_fisher.dense_vjp(
    forward, leaves, chosen, layers, batch
  )
  zeros = [jnp.zeros(y.output.shape, jnp.float32) for y in layers]
  sizes = _add_sizes(pullback, logits, batch, keys, estimator, zeros)
  size = jnp.abs if estimator == OUTPUTS else jnp.square
  sums = _dense_fisher.sum_over_examples(layers, activations, sizes, size)
  unused = lambda leaf: jnp.zeros(leaf.shape, jnp.float32)
  return [
    sums[i] if i in sums else unused(leaf)
    for i, leaf in enumerate(leaves)
    if chosen[i]
  ]


def _by_example(
  forward: Forward,
  leaves: Sequence[jax.Array],
  chosen: Sequence[bool],
  batch: base.Batch,
  keys: jax.Array | None,
  estimator: str,
) -> list[jax.Array]:
  """Weighted sums, one example after the other."""
  where = [i for i, keep in enumerate(chosen) if keep]
  picked = [leaves[i] for i in where]

  def logits_of(picked, one):
    merged = list(leaves)
    for i, leaf in zip(where, picked, strict=True):
      merged[i] = leaf
    return forward(merged, one)

  def add(sums, row):
    one, one_key = jax.tree.map(lambda x: x[None], row)
    logits, vjp = jax.vjp(lambda picked: logits_of(picked, one), picked)
    pullback = lambda d: vjp(d)[0]
    return _add_sizes(pullback, logits, one, one_key, estimator, sums), None

  zeros = [jnp.zeros(leaf.shape, jnp.float32) for leaf in picked]
  return jax.lax.scan(add, zeros, (batch, keys))[0]


def _add_sizes(
  pullback: Callable[[jax.Array], list[jax.Array]],
  logits: jax.Array,
  batch: base.Batch,
  keys: Any,
  estimator: str,
  sums: list[jax.Array],
) -> list[jax.Array]:
  """Adds the sizes of what is pulled back from the logits."""
  if estimator != OUTPUTS:
    targets = _targets(logits, batch, keys, estimator)
    return _add_squares(pullback, logits, targets, sums)
  weight = batch['weight'].astype(jnp.float32) / math.prod(logits.shape[1:-1])
  weight = weight.reshape(weight.shape + (1,) * (logits.ndim - 1))
  pulled = pullback(2 * logits * weight)  # the gradient of the squared norm
  absolute = lambda s, x: s + jnp.abs(x.astype(jnp.float32))
  return jax.tree.map(absolute, sums, pulled)


def _targets(
  logits: jax.Array, batch: base.Batch, keys: Any, estimator: str
) -> tuple[jax.Array, jax.Array]:
  """The labels to differentiate, `[k, batch, ...]`, and their weights."""
  weight = batch['weight'].astype(jnp.float32)[None]
  if estimator == 'exact':
    classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    labels = jnp.broadcast_to(classes[:, None], logits.shape[::-1])
    return labels, weight * jax.nn.softmax(logits).T
  if estimator == 'sampled':
    labels = jax.vmap(jax.random.categorical)(keys, logits)
  elif estimator == 'predicted':
    labels = jnp.argmax(logits, axis=-1)
  else:
    labels = batch['labels']
  return labels[None], weight


def _add_squares(
  pullback: Callable[[jax.Array], list[jax.Array]],
  logits: jax.Array,
  targets: tuple[jax.Array, jax.Array],
  sums: list[jax.Array],
) -> list[jax.Array]:
  """Adds the squares of the weighted scores of every label.

  The score is the gradient of the log-likelihood, at the logits `e_y - p`.
  Since what is pulled back is squared, the weights enter by their root.
  """
  probs = jax.nn.softmax(logits)
  middle = probs.shape[1:-1]

  def add(sums, target):
    labels, weight = target
    root = jnp.sqrt(weight) / math.prod(middle)
    root = root.reshape(root.shape + (1,) * (probs.ndim - 1))
    score = jax.nn.one_hot(labels, probs.shape[-1], dtype=jnp.float32) - probs
    pulled = pullback(score * root)
    square = lambda s, x: s + jnp.square(x.astype(jnp.float32))
    return jax.tree.map(square, sums, pulled), None

  if targets[0].shape[0] == 1:
    return add(sums, jax.tree.map(lambda x: x[0], targets))[0]
  return jax.lax.scan(add, sums, targets)[0]
