"""How much wider a network is than another, leaf by leaf, from its shapes."""

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax

from lrcl import tree


@dataclasses.dataclass(frozen=True)
class Width:
  """By how much a leaf has grown.

  Attributes:
    fan_in: ratio of its inputs to those of the base; 1 where they are fixed.
    fan_out: the same of its outputs.
    is_readout: whether only the inputs have grown.
  """

  fan_in: float = 1.0
  fan_out: float = 1.0
  is_readout: bool = False


def compare_widths(where: str, params: Any, base_shapes: Any) -> Any:
  """A `Width` for each leaf of `params`; masked ones stay as they are."""
  shapes = dict(_named_shapes(base_shapes))
  names = {
    tree.leaf_name(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(
      params, is_leaf=tree.is_masked
    )
  }
  for name in sorted(names ^ set(shapes)):
    owner = 'base_shapes' if name in shapes else 'the parameters'
    raise ValueError(f'{where}: only {owner} have a leaf {name!r}.')

  def compare(path: Any, leaf: Any) -> Width:
    name = tree.leaf_name(path)
    return _compare(where, name, tuple(leaf.shape), shapes[name])

  return jax.tree_util.tree_map_with_path(compare, params)


def _named_shapes(base_shapes: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
  is_shape = lambda x: type(x) is tuple and all(isinstance(n, int) for n in x)
  leaves = jax.tree_util.tree_leaves_with_path(base_shapes, is_leaf=is_shape)
  for path, leaf in leaves:
    yield tree.leaf_name(path), leaf if is_shape(leaf) else tuple(leaf.shape)


def _compare(
  where: str, name: str, shape: tuple[int, ...], base_shape: tuple[int, ...]
) -> Width:
  """Which axes have grown: of two, the first is the fan-in."""
  what = f'{where}: {name!r} has shape {shape} and {base_shape} in base_shapes'
  if len(shape) != len(base_shape) or 0 in shape + base_shape:
    raise ValueError(f'{what}; both must have the same axes, none empty.')
  grown = [i for i, n in enumerate(shape) if n != base_shape[i]]
  ratios = [shape[i] / base_shape[i] for i in grown]
  if len(grown) > 2:
    raise ValueError(f'{what}; at most two axes of a leaf may grow.')
  if len(grown) == 2:
    return Width(ratios[0], ratios[1])
  if not grown:
    return Width()
  if grown[0] == len(shape) - 1:
    return Width(fan_out=ratios[0])
  return Width(fan_in=ratios[0], is_readout=True)
