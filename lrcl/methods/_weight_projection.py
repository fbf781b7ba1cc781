"""Normalize-and-project: weights on spheres, the learning rate explicit."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import base, tree


class NormState(NamedTuple):
  """State of `normalize_and_project`.

  Attributes:
    radius: norms at init, float32: a scalar for each projected leaf, or with
      `axis` an array whose reduced axes have length 1; `optax.MaskedNode` for
      leaves that are not projected.
    count: int32 scalar, the updates so far.
  """

  radius: base.Params
  count: jax.Array


def normalize_and_project(
  *,
  mask: Any = None,
  axis: int | Sequence[int] | None = None,
  every: int = 1,
) -> optax.GradientTransformationExtraArgs:
  r"""Puts each weight matrix back on the sphere it started from (NaP).

  After every update a leaf :math:`W` becomes
  :math:`\rho W / \lVert W \rVert`, with :math:`\rho` its Frobenius norm at
  init. Where a normalisation follows, :math:`W` has no scale of its own, so
  that the function is unchanged; but the effective step,
  :math:`\eta / \lVert W \rVert^2` for SGD and :math:`\eta / \lVert W \rVert`
  for Adam, no longer decays as weights grow. The decay must then come from
  the schedule: NaP with a constant rate is not what the unprojected run did.
  The output layer is usually followed by no normalisation; leave it out with
  `mask` (the models' `nap_mask`).

  Place in the chain: **last**, after learning rate and weight decay; anywhere
  else the weights drift off the sphere. `optax.MultiSteps` and averages of
  points go around it or after it. Weight decay on projected leaves has no
  effect but a larger step; mask it. Cost: no second gradient; one reduction
  and one pass over the projected leaves; the state is one scalar a matrix.

  A leaf (or a part of one, with `axis`) whose norm was 0 at init has no
  sphere and is never projected; one that an update moves to exactly 0 stays
  there, since it has no direction. Norms and projection are in float32.
  The result leaves as an update in the parameter's dtype, so that bfloat16
  parameters meet the sphere to bfloat16's rounding (some 1e-5 of the norm of
  a large matrix); keep master weights in float32.

  Args:
    mask: which leaves are projected: None for every leaf with two axes or
      more, a tree of bools, or a function such as
      `lrcl.tree.path_mask('kernel$')`. The names are the same for flax.linen
      trees and `nnx.state(model, nnx.Param)`.
    axis: the axes that one norm is **taken over**, as in `jnp.linalg.norm`;
      None means all of them. Every index of the other axes gets a radius of
      its own: `(-2, -1)` gives one per matrix of a scanned stack
      `[layers, in, out]` (and for a plain matrix the same as None), and one
      per tap of a convolution `[height, width, in, out]`; `-2` gives one per
      output unit, which is another method than NaP: the units of a layer can
      then no longer trade norm with each other. Leaves that need different
      axes: chain two with masks.
    every: project at each `every`-th update only.

  Returns:
    A transformation with the state `NormState`. It needs `params`.

  Raises:
    ValueError: if `every` is less than 1, the mask selects nothing, or `axis`
      does not exist in a selected leaf.

  Example:
    >>> tx = optax.chain(optax.sgd(0.1), normalize_and_project())
    >>> params = jnp.array([[3.0, 4.0]])
    >>> updates, _ = tx.update(jnp.ones((1, 2)), tx.init(params), params)
    >>> print(jnp.linalg.norm(optax.apply_updates(params, updates)).round(3))
    5.0

  References:
    Lyle et al., `Normalization and effective learning rates in reinforcement
    learning <https://arxiv.org/abs/2407.01800>`_, 2024. There is no official
    code. Learned scales and offsets of the normalisations: `project_scales`.
  """
  where = 'normalize_and_project'
  every = base.check_steps(where, 'every', every, minimum=1)
  axes = None if axis is None else tuple(int(a) for a in np.atleast_1d(axis))

  def init_fn(params: base.Params) -> NormState:
    if mask is None:
      keep = jax.tree.map(lambda p: p.ndim >= 2, params)
    else:
      keep = tree.resolve_mask(mask, params, where)
    measure = lambda path, p: _norm(p, axes, path)
    chosen = tree.mask_out(params, keep)
    radius = jax.tree_util.tree_map_with_path(measure, chosen)
    return NormState(radius, jnp.zeros([], jnp.int32))

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    if params is None:
      raise ValueError(
        f'{where}: params is None; call update(updates, state, params).'
      )
    count = jnp.asarray(optax.safe_increment(state.count))
    project = lambda u, p: _project(u, p, state.radius, axes)
    if every == 1:
      return project(updates, params), NormState(state.radius, count)
    plain = lambda u, p: _in_dtype(u, p, state.radius)
    due = count % every == 0
    updates = jax.lax.cond(due, project, plain, updates, params)
    return updates, NormState(state.radius, count)

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _norm(leaf: jax.Array, axes: Any, path: Any = ()) -> jax.Array:
  """Norm over `axes` (kept, with length 1), or a scalar over all of them."""
  if axes is not None and any(not -leaf.ndim <= a < leaf.ndim for a in axes):
    raise ValueError(
      f'normalize_and_project: axis is {axes}, but {tree.leaf_name(path)!r} '
      f'has shape {leaf.shape}; leave it out with mask.'
    )
  square = jnp.square(leaf.astype(jnp.float32))
  total = jnp.sum(square, axes, keepdims=axes is not None)
  some = total > 0  # the root has no derivative at 0
  return jnp.where(some, jnp.sqrt(jnp.where(some, total, 1.0)), 0.0)


def _project(updates: Any, params: Any, radius: Any, axes: Any) -> Any:
  """The updates that end on the spheres, in the parameters' dtypes."""

  def leaf(r, update, param):
    if tree.is_masked(r):
      return update
    start = param.astype(jnp.float32)
    end = start + update.astype(jnp.float32)
    norm = _norm(end, axes)
    ready = (r > 0) & (norm > 0)
    scale = jnp.where(ready, r / jnp.where(ready, norm, 1.0), 1.0)
    return (end * scale - start).astype(param.dtype)

  return jax.tree.map(leaf, radius, updates, params, is_leaf=tree.is_masked)


def _in_dtype(updates: Any, params: Any, radius: Any) -> Any:
  """The updates as they are, in the dtypes that `_project` would give."""
  cast = lambda r, u, p: u if tree.is_masked(r) else u.astype(p.dtype)
  return jax.tree.map(cast, radius, updates, params, is_leaf=tree.is_masked)
