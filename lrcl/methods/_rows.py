"""What one item of a memory is made of, and whether a batch looks like it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base, tree


def valid(batch: base.Batch) -> jax.Array:
  """Which rows are examples; all of them where a batch has no weights."""
  if 'weight' in batch:
    return batch['weight'] > 0
  return jnp.ones(jax.tree.leaves(batch)[0].shape[:1], bool)


def specs(example: Mapping[str, Any], store: tuple[str, ...]) -> Any:
  """Shapes and dtypes of one item."""
  missing = [name for name in store if name not in example]
  if missing:
    raise ValueError(
      f'with_memory: store names {missing[0]!r}; add this field to example.'
    )

  def spec(x: Any) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    return jax.ShapeDtypeStruct(x.shape[1:], dtype)

  return jax.tree.map(spec, dict(example))


def collect(
  want: Any,
  batch: base.Batch,
  extra_args: Mapping[str, Any],
  store: tuple[str, ...],
  where: str = 'with_memory',
) -> dict[str, Any]:
  """The batch's rows with the stored extra args, checked against `want`."""
  rows = dict(batch)
  for name in store:
    if name not in extra_args:
      raise TypeError(
        f'{where}: store names {name!r}; pass this extra arg to update.'
      )
    if name in batch:
      raise ValueError(
        f'{where}: store names {name!r}, but the batch has such a field.'
      )
    rows[name] = extra_args[name]
  _check_rows(want, rows, where)
  return rows


def _check_rows(specs: Any, rows: dict[str, Any], where: str) -> None:
  """Raises if fields, shapes or dtypes are not those of the example."""
  want, have = _flat(specs), _flat(rows)
  if want.keys() != have.keys():
    raise ValueError(
      f'{where}: the step has the fields {", ".join(sorted(have))}; the '
      f'example has {", ".join(sorted(want))}.'
    )
  size = jnp.shape(jax.tree.leaves(rows)[0])[:1]
  for name, x in have.items():
    spec, dtype = want[name], jax.dtypes.canonicalize_dtype(x.dtype)
    if jnp.shape(x) != (*size, *spec.shape) or dtype != spec.dtype:
      shape = ', '.join(map(str, ('batch', *spec.shape)))
      raise ValueError(
        f'{where}: field {name!r} is {dtype}{list(jnp.shape(x))}; '
        f'by the example it must be {spec.dtype}[{shape}].'
      )


def _flat(fields: Any) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(fields)
  return {tree.leaf_name(path): leaf for path, leaf in leaves}
