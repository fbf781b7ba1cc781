"""muP: updates and initial weights that do not depend on the width."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods._widths import Width, compare_widths

Kind = Literal['adam', 'sgd']


def scale_by_mup(
  base_shapes: Any,
  *,
  kind: Kind = 'adam',
  readout_multiplier: bool = True,
) -> optax.GradientTransformationExtraArgs:
  r"""Scales each update so that one learning rate serves every width.

  With :math:`m` the width over that of the base model, an update is
  multiplied by

  ================================ ================ ==================
  leaf, by the axes that grow      `kind='adam'`    `kind='sgd'`
  ================================ ================ ==================
  hidden matrix (two)              1 / m_in         m_out / m_in
  input matrix, bias, scale (last) 1                m_out
  readout (another than the last)  1, else 1 / m_in m_in, else 1 / m_in
  fixed (none)                     1                1
  ================================ ================ ==================

  where "else" is for a readout without multiplier in the forward pass. All
  of it follows from a comparison of shapes and is static. At the width of the
  base every factor is 1, so that muP and the standard parametrisation are one
  run there.

  It is one of three parts. The others: `mup_init`, and with
  `readout_multiplier` a network whose readout is multiplied by
  `base_width / width` (the models' `readout_multiplier`). In attention let the
  number of heads grow and not their depth; where the depth grows, scores are
  to be divided by it and not by its root.

  Place in the chain: after the preconditioner and before
  `optax.add_decayed_weights` and the rate. Then a weight shrinks by
  `rate * decay` at every width, which is what the mup package does when it
  multiplies the decay by the inverse of the rate's factor; decay in front of
  this link would change with the width. It has no state; cost: one pass over
  the leaves whose factor is not 1.

  Args:
    base_shapes: shapes of the base model's parameters: a tree like them of
      arrays, `jax.ShapeDtypeStruct`, or tuples of ints, such as
      `jax.eval_shape(init_fn, key)[0]`. An axis that is as long as there
      counts as fixed: let all widths grow together. Anything else that
      changes shapes (classes, tokens, depth) must be the same in both.
    kind: `'adam'` for preconditioners that make the size of an update
      independent of the gradient's (Adam, RMSProp, signs); `'sgd'` for
      updates linear in the gradient, momentum included.
    readout_multiplier: whether the network multiplies its readout.

  Returns:
    A transformation without state.

  Raises:
    ValueError: if `kind` is unknown; from `init` and `update`, naming the
      leaf, if the trees differ, a leaf has another number of axes than in the
      base, or more than two of its axes grow.

  Example:
    >>> params = {'kernel': jnp.ones((8, 8)), 'bias': jnp.ones(8)}
    >>> tx = scale_by_mup({'kernel': (2, 2), 'bias': (2,)})
    >>> updates, _ = tx.update(params, tx.init(params))
    >>> print(updates['kernel'][0, 0], updates['bias'][0])
    0.25 1.0

  References:
    Yang and Hu, `Feature learning in infinite-width neural networks
    <https://arxiv.org/abs/2011.14522>`_, 2021

    Yang et al., `Tensor programs V: tuning large neural networks via zero-shot
    hyperparameter transfer <https://arxiv.org/abs/2203.03466>`_, 2022; the
    factors with the multiplier are those of `mup
    <https://github.com/microsoft/mup>`_, those without it are given from
    memory of the paper's table 3 and not confirmed against it.
  """
  where = 'scale_by_mup'
  _check_kind(where, kind)

  def init_fn(params: base.Params) -> optax.EmptyState:
    if jax.tree.leaves(params):  # not the placeholder of optax's tree tools
      compare_widths(where, params, base_shapes)
    return optax.EmptyState()

  def update_fn(updates, state, params=None, **extra_args):
    del params, extra_args
    widths = compare_widths(where, updates, base_shapes)
    scale = lambda u, w: _scale(u, _factor(w, kind, readout_multiplier))
    return jax.tree.map(scale, updates, widths), state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def mup_multipliers(
  params: base.Params,
  base_shapes: Any,
  *,
  kind: Kind = 'adam',
  readout_multiplier: bool = True,
) -> Any:
  """The factor of each leaf's update in `scale_by_mup`, to look at or to use.

  Args:
    params: the parameters, or their shapes in any form of `base_shapes`
      but tuples.
    base_shapes: see `scale_by_mup`.
    kind: see `scale_by_mup`.
    readout_multiplier: see `scale_by_mup`.

  Returns:
    A tree of Python floats with the structure of `params`.

  Raises:
    ValueError: as `scale_by_mup` does.

  Example:
    >>> head = jnp.ones((8, 3))
    >>> mup_multipliers({'head': head}, {'head': (2, 3)}, kind='sgd')
    {'head': 4.0}

  References:
    Yang et al., `Tensor programs V: tuning large neural networks via zero-shot
    hyperparameter transfer <https://arxiv.org/abs/2203.03466>`_, 2022
  """
  _check_kind('mup_multipliers', kind)
  widths = compare_widths('mup_multipliers', params, base_shapes)
  return jax.tree.map(lambda w: _factor(w, kind, readout_multiplier), widths)


def mup_init(
  params: base.Params,
  base_shapes: Any,
  *,
  readout_multiplier: bool = True,
  zero: Any = None,
) -> base.Params:
  r"""Turns the initial weights of flax into those of muP.

  Kernels are taken to have a variance in proportion to `1 / fan_in`
  (`lecun_normal` and its like), which hidden and input matrices keep. The
  readout's becomes `1 / base_fan_in` with a multiplier in the forward pass
  and `base_fan_in / fan_in**2` without, which is the same function. An
  `embedding` of flax has the variance `1 / width` and gets `1 / base_width`.
  Biases stay: zeros and constants need nothing; those drawn in proportion to
  `fan_in` (`initializer='uniform'` of the models) are not muP's. At the width
  of the base nothing changes.

  Args:
    params: fresh parameters; they are rescaled each time this is called.
    base_shapes: see `scale_by_mup`.
    readout_multiplier: see `scale_by_mup`.
    zero: mask of the leaves to start at 0: None for none, a tree of bools, or
      a function such as `lrcl.tree.path_mask('head/kernel$')`. The paper
      advises it for the readout and the queries of attention: then networks
      of all widths begin as the same function. Give it at every width, that
      of the base included.

  Returns:
    The parameters, in their dtypes.

  Raises:
    ValueError: naming the leaf, if the trees do not go together; if `zero`
      selects nothing.

  Example:
    >>> params = {'head': jnp.ones((8, 3))}
    >>> float(mup_init(params, {'head': (2, 3)})['head'][0, 0])
    2.0

  References:
    Yang et al., `Tensor programs V: tuning large neural networks via zero-shot
    hyperparameter transfer <https://arxiv.org/abs/2203.03466>`_, 2022
  """
  power = 0.5 if readout_multiplier else -0.5

  def rescale(path: Any, leaf: jax.Array, width: Width) -> jax.Array:
    if width.is_readout:
      return _scale(leaf, width.fan_in**power)
    is_embedding = tree.leaf_name(path).split('/')[-1] == 'embedding'
    return _scale(leaf, width.fan_out**0.5) if is_embedding else leaf

  widths = compare_widths('mup_init', params, base_shapes)
  scaled = jax.tree_util.tree_map_with_path(rescale, params, widths)
  if zero is None:
    return scaled
  drop = tree.resolve_mask(zero, params, 'mup_init')
  clear = lambda leaf, is_zero: jnp.zeros_like(leaf) if is_zero else leaf
  return jax.tree.map(clear, scaled, drop)


def _factor(width: Width, kind: Kind, readout_multiplier: bool) -> float:
  """The table of `scale_by_mup`."""
  if width.is_readout and readout_multiplier:
    return width.fan_in if kind == 'sgd' else 1.0
  return (width.fan_out if kind == 'sgd' else 1.0) / width.fan_in


def _scale(leaf: jax.Array, factor: float) -> jax.Array:
  """`leaf * factor` in its dtype, with the factor in float32 at least."""
  if factor == 1.0:
    return leaf
  dtype = leaf.dtype if leaf.dtype.itemsize > 2 else jnp.float32
  return (leaf.astype(dtype) * factor).astype(leaf.dtype)


def _check_kind(where: str, kind: str) -> None:
  if kind not in ('adam', 'sgd'):
    raise ValueError(f"{where}: kind is {kind!r}; it must be 'adam' or 'sgd'.")
