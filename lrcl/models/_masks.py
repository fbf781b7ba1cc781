"""Which parameters a rule on scale may touch."""

import re
from typing import Any

import jax

from lrcl import tree as tree_lib

_MATRIX = re.compile(r'(^|/)(kernel|embedding)$')


def nap_mask(params: Any, *, head: str | None = 'head') -> Any:
  """Selects every matrix that feeds a normalisation: all but the head's.

  It goes by the names of the leaves, so it fits flax.linen parameters as well
  as `nnx.state(model, nnx.Param)`: a leaf called `kernel` or `embedding` with
  two axes or more is selected unless `head` is part of its path. It does not
  look at the network: that each such matrix does feed a normalisation (as in
  this package's models with `normalize=True`) is up to the caller.

  Args:
    params: a tree of arrays, or of anything with an `ndim`.
    head: the name of the output layer, which no normalisation follows and
      whose scale therefore matters; None for a network without one.

  Returns:
    A tree of bools with the structure of `params`, as
    `lrcl.methods.normalize_and_project(mask=nap_mask)` takes.

  Raises:
    ValueError: if no leaf is selected, or `head` is in no leaf's path.

  Example:
    >>> import jax.numpy as jnp
    >>> layer = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
    >>> nap_mask({'Dense_0': layer, 'head': layer})['Dense_0']
    {'bias': False, 'kernel': True}
    >>> nap_mask({'Dense_0': layer, 'head': layer})['head']
    {'bias': False, 'kernel': False}

  References:
    Lyle et al., `Normalization and effective learning rates in reinforcement
    learning <https://arxiv.org/abs/2407.01800>`_, 2024
  """
  leaves = jax.tree_util.tree_leaves_with_path(params)
  names = [tree_lib.leaf_name(path) for path, _ in leaves]
  if head is not None and not any(head in n.split('/') for n in names):
    raise ValueError(
      f'nap_mask: no layer is called {head!r}; give the name of the output '
      'layer as `head`, or None where there is none.'
    )

  def select(path: Any, leaf: Any) -> bool:
    name = tree_lib.leaf_name(path)
    inside = head is not None and head in name.split('/')
    return leaf.ndim >= 2 and not inside and bool(_MATRIX.search(name))

  mask = jax.tree_util.tree_map_with_path(select, params)
  if not any(jax.tree.leaves(mask)):
    raise ValueError(
      'nap_mask: no leaf is a `kernel` or `embedding` outside the head.'
    )
  return mask
