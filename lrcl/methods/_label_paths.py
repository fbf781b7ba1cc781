"""Labels on every level of a tree: ancestors, and what a model believes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lrcl import base
from lrcl.methods import _quadratic


def pseudo_labels(
  logits: jax.Array,
  labels: jax.Array,
  parents: Sequence[int] | np.ndarray,
  seen: jax.Array,
  *,
  threshold: float | jax.Array = 0.0,
) -> jax.Array:
  """The label of each row on every level of a tree, given the one it has.

  On its own level and above, these are the label and its ancestors. From there
  on down it is the child with the greatest logit, as long as all children of
  the label so far have been seen: among labels that were never trained on, the
  greatest logit means nothing. It counts if the probabilities of the children
  chosen so far, each by a softmax over its siblings, have a product of at least
  `threshold`; an only child is certain. Once a label is missing, so are all
  below it.

  Args:
    logits: `[rows, nodes]`.
    labels: integers `[rows]`, nodes of any level.
    parents: the parent of each node, -1 for those of level 0.
    seen: bool `[nodes]`, the labels that were trained on.
    threshold: the least confidence. 0 takes every child; above 1 none, which
      leaves the ancestors. May be traced.

  Returns:
    Nodes, int32 `[rows, levels]`; -1 where a row has no label.

  Raises:
    ValueError: if `parents` are no tree, `threshold` is below 0 or the logits
      have another number of nodes.

  Example:
    >>> parents = [-1, -1, 0, 0, 1, 1]
    >>> logits = jnp.array([[0, 0, 1.0, 2.0, 9.0, 0]] * 3)
    >>> seen = jnp.array([True, True, True, True, True, False])
    >>> pseudo_labels(logits, jnp.array([0, 1, 5]), parents, seen).tolist()
    [[0, 3], [1, -1], [1, 5]]

  References:
    Lee et al., `Online Continual Learning on Hierarchical Label Expansion
    <https://arxiv.org/abs/2308.14374>`_, 2023; see `relabel_memory`.
  """
  where = 'pseudo_labels'
  paths = paths_of(where, parents)
  base.check_value(where, 'threshold', threshold, minimum=0)
  if logits.shape[-1] != len(paths):
    raise ValueError(
      f'{where}: logits have shape {logits.shape}, but there are {len(paths)} '
      'parents; the model must have an output for each node of the tree.'
    )
  # One row more, for -1: what is missing has no children.
  nodes = np.arange(-1, len(paths))
  is_child = (np.asarray(parents) == nodes[:, None]) & (nodes[:, None] >= 0)
  logits = _quadratic.wide(logits)
  own = jnp.asarray(paths)[labels]
  node, found = own[:, 0], [own[:, 0]]
  confidence = jnp.ones(len(labels), jnp.float32)
  for level in range(1, paths.shape[1]):
    rivals = jnp.asarray(is_child)[node + 1]
    child, probability = _best(logits, rivals)
    known = own[:, level] >= 0
    confidence = jnp.where(known, 1.0, confidence * probability)
    expanded = jnp.any(rivals, 1) & jnp.all(seen[None] | ~rivals, 1)
    believed = jnp.where(expanded & (confidence >= threshold), child, -1)
    node = jnp.where(known, own[:, level], believed)
    found.append(node)
  return jnp.stack(found, axis=1)


def _best(logits: jax.Array, rivals: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The rival with the greatest logit, and its probability among them."""
  masked = jnp.where(rivals, logits, -jnp.inf)
  best = jnp.argmax(masked, axis=1).astype(jnp.int32)
  # Without any rival the logits stand in, lest there be NaN.
  safe = jnp.where(jnp.any(rivals, 1, keepdims=True), masked, logits)
  return best, jnp.max(jax.nn.softmax(safe, axis=1), axis=1)


def paths_of(where: str, parents: Sequence[int] | np.ndarray) -> np.ndarray:
  """`[nodes, levels]`: the ancestor of each node on each level; -1 below it."""
  parents = np.asarray(parents)
  count = len(parents) if parents.ndim == 1 else 0
  whole = np.issubdtype(parents.dtype, np.integer)
  if not (
    count and whole and (-1 <= parents).all() and (parents < count).all()
  ):
    raise ValueError(
      f'{where}: parents is {parents.tolist()}; it must be the number of the '
      'parent of each node, or -1.'
    )
  upwards = [np.arange(count)]
  while (upwards[-1] >= 0).any():
    above = upwards[-1]
    upwards.append(np.where(above >= 0, parents[above], -1))
    if len(upwards) > count + 1:
      raise ValueError(
        f'{where}: parents is {parents.tolist()}; a node is above itself.'
      )
  chain = np.stack(upwards[:-1], axis=1)
  depth = (chain >= 0).sum(1) - 1
  level = np.arange(chain.shape[1])
  place = depth[:, None] - level
  paths = np.take_along_axis(chain, np.maximum(place, 0), axis=1)
  return np.where(place >= 0, paths, -1).astype(np.int32)
