"""Small tools for pytrees: states inside states, masks, norms, digests."""

from collections.abc import Callable
import hashlib
import re
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

State = TypeVar('State')


def map_states(
  fn: Callable[[State], Any], opt_state: Any, cls: type[State]
) -> Any:
  """Applies `fn` to every state of class `cls`, under any optax wrapper.

  Example:
    >>> state = optax.chain(optax.scale_by_adam(), optax.scale(1.0)).init(1.0)
    >>> reset = lambda s: s._replace(count=jnp.int32(7))
    >>> state = map_states(reset, state, optax.ScaleByAdamState)
    >>> int(state[0].count)
    7
  """
  match = lambda node: isinstance(node, cls)
  visit = lambda node: fn(node) if match(node) else node
  return jax.tree.map(visit, opt_state, is_leaf=match)


def get_states(opt_state: Any, cls: type[State]) -> list[State]:
  """Lists every state of class `cls` inside `opt_state`, in tree order."""
  match = lambda node: isinstance(node, cls)
  return [n for n in jax.tree.leaves(opt_state, is_leaf=match) if match(n)]


def mask_like(tree: Any, like: Any) -> Any:
  """Drops from `tree` the leaves that `like` holds as `optax.MaskedNode`."""
  pick = lambda kept, leaf: kept if is_masked(kept) else leaf
  return jax.tree.map(pick, like, tree, is_leaf=is_masked)


def mask_out(tree: Any, mask: Any) -> Any:
  """Puts an `optax.MaskedNode` in place of the leaves where `mask` is False.

  Example:
    >>> mask_out({'a': 1.0, 'b': 2.0}, {'a': True, 'b': False})
    {'a': 1.0, 'b': MaskedNode()}
  """
  pick = lambda leaf, keep: leaf if keep else optax.MaskedNode()
  return jax.tree.map(pick, tree, mask)


def is_masked(node: Any) -> bool:
  """Whether `node` stands for a leaf that is masked."""
  return isinstance(node, optax.MaskedNode)


def leaf_name(path: Any) -> str:
  """Names a leaf as `a/b/kernel`, alike for linen and nnx trees.

  The entry for an nnx variable's `value` is left out.
  """
  parts = []
  for key in path:
    part = getattr(key, 'key', getattr(key, 'name', getattr(key, 'idx', key)))
    parts.append(str(part))
  if parts and parts[-1] in ('value', 'raw_value'):
    parts.pop()
  return '/'.join(parts)


def path_mask(pattern: str) -> Callable[[Any], Any]:
  """Makes a mask function: True where `pattern` is found in a leaf's name.

  Args:
    pattern: a regular expression, searched in names such as
      `Dense_0/kernel`.

  Returns:
    A function from a pytree to a pytree of bools, as `optax.masked` takes.

  Example:
    >>> params = {'layer': {'kernel': jnp.ones(2), 'bias': jnp.ones(2)}}
    >>> path_mask('kernel$')(params)
    {'layer': {'bias': False, 'kernel': True}}
  """
  compiled = re.compile(pattern)

  def mask_fn(tree: Any) -> Any:
    found = lambda path, _: compiled.search(leaf_name(path)) is not None
    return jax.tree_util.tree_map_with_path(found, tree)

  return mask_fn


def resolve_mask(mask: Any, params: Any, where: str) -> Any:
  """Turns `mask` (None, a tree of bools or a function) into a tree of bools.

  None means every leaf. Leaves that are masked already stay out. A tree
  without leaves (such as the placeholder of `optax.tree.map_params`) is
  returned as it is.

  Raises:
    ValueError: if the mask selects nothing.
  """
  if mask is None or not jax.tree.leaves(params):
    return jax.tree.map(lambda _: True, params)
  tree = mask(params) if callable(mask) else mask_like(mask, params)
  if not any(jax.tree.leaves(tree)):
    raise ValueError(
      f'{where}: the mask matches none of the parameters; check its pattern '
      'against the names of the leaves.'
    )
  return tree


def leaf_norms(tree: Any) -> Any:
  """Frobenius norm of each leaf, float32 scalars."""
  square = lambda x: jnp.sum(jnp.square(x.astype(jnp.float32)))
  return jax.tree.map(lambda x: jnp.sqrt(square(x)), tree)


def copy(tree: Any) -> Any:
  """Copies every array, so that both trees may be donated."""
  return jax.tree.map(jnp.copy, tree)


def digest(tree: Any) -> str:
  """sha256 over the path, dtype, shape and bytes of every leaf.

  Two trees have one digest only if they are bit-identical. Typed PRNG keys
  are read through their data. Needs fully addressable arrays.
  """
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = to_numpy(leaf)
    head = f'{leaf_name(path)}|{array.dtype}|{array.shape}|'
    sha.update(head.encode())
    sha.update(np.ascontiguousarray(array).tobytes())
  return sha.hexdigest()


def to_numpy(leaf: Any) -> np.ndarray:
  """One leaf as a numpy array; a typed PRNG key as its data."""
  if isinstance(leaf, jax.Array) and is_key(leaf):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


def is_key(leaf: Any) -> bool:
  """Whether `leaf` is a typed PRNG key (or an array of them)."""
  dtype = getattr(leaf, 'dtype', None)
  return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
