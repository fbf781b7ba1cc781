"""One mean over all examples of a task, however its batches come."""

from collections.abc import Iterable, Mapping, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base, tree
from lrcl.methods._fisher_sums import choose_way

_Sums = tuple[list[jax.Array], jax.Array]  # of the chosen leaves, of weights


def mean_over_examples(
  where: str,
  apply_fn: base.ApplyFn,
  params: base.Params,
  batches: base.Batch | Iterable[base.Batch],
  estimator: str,
  *,
  key: jax.Array | None,
  mask: Any,
  model_state: Any,
) -> base.Params:
  """The weighted mean of what `estimator` measures on single examples.

  Args:
    where: the public function, for messages.
    apply_fn: the model.
    params: its parameters.
    batches: one batch, a stack of them, or an iterable of either.
    estimator: see `_fisher_sums`.
    key: of the draws; None if there are none.
    mask: which leaves are wanted.
    model_state: what `apply_fn` needs besides parameters.
  """
  keep = tree.resolve_mask(mask, params, where)
  chosen = tuple(bool(k) for k in jax.tree.leaves(keep))
  model_state = {} if model_state is None else model_state
  sums, rows = _zeros(params, chosen), 0
  for stack in _stacks(batches):
    options = where, apply_fn, estimator, chosen
    start = jnp.int32(rows)
    sums = _add_stack(*options, sums, params, model_state, stack, key, start)
    rows += stack['weight'].size
  if not rows:
    raise ValueError(f'{where}: batches is empty; pass at least one.')
  return _mean(sums, params, keep)


def _zeros(params: base.Params, chosen: Sequence[bool]) -> _Sums:
  leaves = jax.tree.leaves(params)
  zero = lambda p: jnp.zeros_like(p, dtype=jnp.float32)
  picked = [zero(p) for p, keep in zip(leaves, chosen, strict=True) if keep]
  return picked, jnp.zeros([], jnp.float32)


def _mean(sums: _Sums, params: base.Params, keep: Any) -> base.Params:
  """Divides by the total weight and puts the leaves back into their tree."""
  totals, total = sums
  share = jnp.where(total > 0, 1.0 / jnp.where(total > 0, total, 1.0), 0.0)
  structure = jax.tree.structure(tree.mask_out(params, keep))
  return jax.tree.unflatten(structure, [s * share for s in totals])


def _stacks(batches: Any) -> Iterable[base.Batch]:
  """Every form of `batches` as an iterable of stacks `[n, batch, ...]`."""
  for batch in [batches] if isinstance(batches, Mapping) else batches:
    weight = batch.get('weight')
    if weight is None:
      weight = jnp.ones(batch['inputs'].shape[0], jnp.float32)
    if weight.ndim == 2:
      yield batch
    else:
      yield jax.tree.map(lambda x: x[None], {**batch, 'weight': weight})


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _add_stack(
  where: str,
  apply_fn: base.ApplyFn,
  estimator: str,
  chosen: tuple[bool, ...],
  sums: _Sums,
  params: base.Params,
  model_state: Any,
  stack: base.Batch,
  key: jax.Array | None,
  start: jax.Array,
) -> _Sums:
  """Adds the examples of a stack, whose first one is number `start`."""
  leaves, structure = jax.tree.flatten(params)

  def forward(leaves: Sequence[jax.Array], batch: base.Batch) -> jax.Array:
    logits, _ = apply_fn(
      jax.tree.unflatten(structure, leaves),
      batch['inputs'],
      rng=None,
      model_state=model_state,
      train=False,
    )
    wide = logits.astype(jnp.float32)
    return base.restrict(wide, batch, where=where)

  measure = choose_way(where, forward, leaves, chosen, stack, estimator)

  def add(carry, batch):
    (total, weight), position = carry
    rows = position + jnp.arange(batch['weight'].size, dtype=jnp.int32)
    keys = None if key is None else _keys(key, rows)
    total = jax.tree.map(jnp.add, total, measure(batch, keys))
    weight = weight + jnp.sum(batch['weight'].astype(jnp.float32))
    return ((total, weight), position + rows.size), None

  return jax.lax.scan(add, (sums, start), stack)[0][0]


def _keys(key: jax.Array, rows: jax.Array) -> jax.Array:
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
