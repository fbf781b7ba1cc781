"""Learned scales and offsets of normalisations, each pair on a sphere."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _units

_WHERE = 'project_scales'


class ProjectScalesState(NamedTuple):
  """State of `project_scales`.

  Attributes:
    count: int32 scalar, the updates so far.
  """

  count: jax.Array


def project_scales(
  *, mask: Any = None, every: int = 1
) -> optax.GradientTransformationExtraArgs:
  r"""Puts scale and offset of each normalisation layer back on one sphere.

  The part of NaP for layers with learned parameters: after an update the scale
  :math:`\sigma` and the offset :math:`\mu` of d features become

  .. math:: (\sigma, \mu) \frac{\sqrt d}{\sqrt{|\sigma|^2 + |\mu|^2}},

  the norm they have at the usual start of ones and zeros. Behind a nonlinearity
  that is positively homogeneous (ReLU, leaky ReLU) a common factor of both is a
  factor of the layer's output, and if another normalisation follows before the
  next nonlinearity, it changes no output of the network. With any other
  activation, or in front of the head, it does change what is computed: leave
  such layers out with `mask` (a small decay towards ones and zeros, or no scale
  at all, are what is done there).

  Place in the chain: last, next to `normalize_and_project`, which takes the
  matrices. Cost: a pass over small vectors. Computed in float32.

  Args:
    mask: which leaves are projected; those of one layer together. None: every
      vector called `scale` and, beside it, the `bias`, as flax.linen and
      flax.nnx name them; or a tree of bools, or a function such as
      `lrcl.tree.path_mask('LayerNorm_[01]/(scale|bias)$')`.
    every: project at each `every`-th update only.

  Returns:
    A transformation with the state `ProjectScalesState`. It needs `params`.
    The update of a projected leaf gets the dtype of its parameter.

  Raises:
    ValueError: if `every` is less than 1, `params` is missing, there is no such
      leaf, or the selected leaves of a layer differ in shape.

  Example:
    >>> norm = {'scale': jnp.array([2.0, 1.0]), 'bias': jnp.array([1.0, 0.0])}
    >>> tx, zero = project_scales(), jax.tree.map(jnp.zeros_like, norm)
    >>> updates, _ = tx.update(zero, tx.init(norm), norm)
    >>> [f'{x:.4f}' for x in norm['scale'] + updates['scale']]
    ['1.1547', '0.5774']

  References:
    Lyle et al., `Normalization and effective learning rates in reinforcement
    learning <https://arxiv.org/abs/2407.01800>`_, 2024. There is no official
    code; the rule is that of a port, and not confirmed against the paper.
    Plasticine's code takes the norm 2**0.5 whatever the width.
  """
  every = base.check_steps(_WHERE, 'every', every, minimum=1)

  def init_fn(params: base.Params) -> ProjectScalesState:
    _group(params, mask)
    return ProjectScalesState(jnp.zeros([], jnp.int32))

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    if params is None:
      raise ValueError(
        f'{_WHERE}: params is None; call update(updates, state, params).'
      )
    count = jnp.asarray(optax.safe_increment(state.count))
    due = True if every == 1 else count % every == 0
    layers = _group(params, mask)
    return _project(updates, params, layers, due), ProjectScalesState(count)

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _group(params: base.Params, mask: Any) -> list[list[str]]:
  """The names of the leaves that are projected, layer by layer."""
  named, _ = _units.by_name(params)
  if not named:  # the placeholder of `map_params`
    return []
  if mask is None:
    parents = {_parent(n) for n, x in named.items() if _is_scale(n, x)}
    chosen = [n for n in named if _parent(n) in parents and _is_affine(n)]
  else:
    keep, _ = _units.by_name(tree.resolve_mask(mask, params, _WHERE))
    chosen = [name for name in named if keep[name]]
  if not chosen:
    raise ValueError(
      f"{_WHERE}: the parameters have no vector called 'scale'; they have "
      f'{sorted(named)}. Say by mask what to project.'
    )
  layers: dict[str, list[str]] = {}
  for name in chosen:
    layers.setdefault(_parent(name), []).append(name)
  for parent, names in layers.items():
    shapes = {name: named[name].shape for name in names}
    if len(set(shapes.values())) > 1:
      raise ValueError(
        f'{_WHERE}: the leaves of {parent!r} are {shapes}; scale and offset '
        'must have one shape.'
      )
  return list(layers.values())


def _parent(name: str) -> str:
  return name.rpartition('/')[0]


def _is_affine(name: str) -> bool:
  return name.rpartition('/')[2] in ('scale', 'bias')


def _is_scale(name: str, leaf: jax.Array) -> bool:
  return name.rpartition('/')[2] == 'scale' and leaf.ndim == 1


def _project(
  updates: Any, params: Any, layers: list[list[str]], due: Any
) -> Any:
  """The updates that end on the spheres, where it is due."""
  starts, _ = _units.by_name(params)
  steps, rebuild = _units.by_name(updates)
  wide = lambda x: x.astype(jnp.float32)
  for names in layers:
    ends = {name: wide(starts[name]) + wide(steps[name]) for name in names}
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(end)) for end in ends.values()))
    radius = math.sqrt(starts[names[0]].size)
    ready = due & (norm > 0)
    factor = jnp.where(ready, radius / jnp.where(norm > 0, norm, 1.0), 1.0)
    for name, end in ends.items():
      new = (end * factor - wide(starts[name])).astype(starts[name].dtype)
      old = steps[name].astype(new.dtype)
      steps[name] = jnp.where(ready, new, old)
  return rebuild(steps)
