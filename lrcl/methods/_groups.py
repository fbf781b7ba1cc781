"""Learning rates of groups of parameters, named by patterns."""

from collections.abc import Mapping
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree

_WHERE = 'scale_groups'


def scale_groups(
  factors: Mapping[str, Any], *, default: Any = 1.0
) -> optax.GradientTransformationExtraArgs:
  """Multiplies the updates of groups of leaves: a rate for each group.

  With a small factor for a pre-trained backbone and 1 for the head this is the
  slow learner of SLCA, whose own factor is 0.01; its second half, the alignment
  of the head, is `lrcl.models.align_head`, and without it the slow learner was
  worse than none on classes that come one after another.

  Place in the chain: after the preconditioner and after decoupled weight decay,
  in front of the rate or behind it. There a factor of 0 freezes a group
  exactly, whatever its updates are (NaN included); in front of Adam a factor
  does nothing, and decay behind this link still moves a frozen group. It has no
  state; cost: one pass over the leaves whose factor is not 1.

  Args:
    factors: from a regular expression, searched in names of leaves such as
      `Dense_0/kernel` (`'^backbone/'` is a prefix), to a factor of at least 0,
      which may be traced. A leaf takes the factor of the first pattern that is
      found in its name.
    default: the factor of all other leaves.

  Returns:
    A transformation without state. Updates keep their dtype.

  Raises:
    ValueError: if there are no patterns, one is no regular expression, or a
      factor is below 0; from `init`, if a pattern is the first one of no leaf.

  Example:
    >>> params = {'backbone': jnp.ones(2), 'head': jnp.ones(2)}
    >>> tx = scale_groups({'^backbone': 0.01})
    >>> updates, _ = tx.update(params, tx.init(params))
    >>> print(updates['backbone'], updates['head'])
    [0.01 0.01] [1. 1.]

  References:
    Zhang et al., `SLCA: slow learner with classifier alignment for continual
    learning on a pre-trained model <https://arxiv.org/abs/2303.05118>`_, 2023;
    code: https://github.com/GengDavid/SLCA
  """
  patterns = {_compile(pattern): f for pattern, f in factors.items()}
  if not patterns:
    raise ValueError(f'{_WHERE}: factors is empty; name a group.')
  for name, factor in (*factors.items(), ('default', default)):
    base.check_value(_WHERE, f'the factor of {name!r}', factor, minimum=0)

  def group(path: Any) -> re.Pattern[str] | None:
    name = tree.leaf_name(path)
    return next((p for p in patterns if p.search(name)), None)

  def init_fn(params: base.Params) -> optax.EmptyState:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    found = {group(path) for path, _ in leaves}
    for pattern in patterns if leaves else ():
      if pattern not in found:
        raise ValueError(
          f'{_WHERE}: the pattern {pattern.pattern!r} is the first one of no '
          f'leaf; the leaves are {[tree.leaf_name(p) for p, _ in leaves]}.'
        )
    return optax.EmptyState()

  def update_fn(updates, state, params=None, **extra_args):
    del params, extra_args

    def scale(path: Any, leaf: jax.Array) -> jax.Array:
      found = group(path)
      return _scale(leaf, default if found is None else patterns[found])

    return jax.tree_util.tree_map_with_path(scale, updates), state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _scale(leaf: jax.Array, factor: Any) -> jax.Array:
  """`leaf * factor` in its dtype, and exactly 0 where the factor is 0."""
  if base.is_concrete(factor) and factor == 1:
    return leaf
  wide = leaf.dtype if leaf.dtype.itemsize > 2 else jnp.float32
  factor = jnp.asarray(factor, wide)
  return jnp.where(factor == 0, 0.0, leaf.astype(wide) * factor).astype(
    leaf.dtype
  )


def _compile(pattern: str) -> re.Pattern[str]:
  try:
    return re.compile(pattern)
  except (re.error, TypeError) as error:
    raise ValueError(
      f'{_WHERE}: {pattern!r} must be a regular expression: {error}.'
    ) from None
