"""The learning rate that a weight without a scale of its own really has."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from lrcl import base, tree


def effective_learning_rate(
  params: base.Params,
  learning_rate: jax.typing.ArrayLike,
  kind: Literal['sgd', 'adam'] = 'sgd',
  *,
  mask: Any = None,
) -> Any:
  r"""How far a step turns each weight: the rate, less the weight's growth.

  Where a normalisation follows a weight :math:`w`, only its direction counts,
  and the gradient shrinks as the weight grows. A step then turns it as far as
  a step of :math:`\eta / \lVert w \rVert^2` (SGD) or of
  :math:`\eta / \lVert w \rVert` (Adam, signs: updates whose size does not
  depend on the gradient's) turns a weight of norm 1. As weights grow in
  training this decays on its own; with
  `lrcl.methods.normalize_and_project` it follows the schedule. Of a weight
  that no normalisation follows it says nothing: leave it out with `mask`. A
  momentum of :math:`\beta` multiplies it by :math:`1 / (1 - \beta)` where the
  gradient changes slowly, which is left to the reader.

  `lrcl.training.Learner.effective_rate` has it written into every record.
  The cost is one reduction over the selected leaves.

  Args:
    params: the parameters of one run; map the function over a stack of them.
    learning_rate: scalar, the rate that the last step applied, see
      `lrcl.methods.applied_rate`.
    kind: `'sgd'` or `'adam'`.
    mask: the leaves that a normalisation follows: None for all, a tree of
      bools, or a function such as `lrcl.models.nap_mask`.

  Returns:
    A tree of float32 scalars with `optax.MaskedNode` for what is left out. A
    leaf of norm 0 has no direction: NaN.

  Raises:
    ValueError: if `kind` is unknown, the mask selects nothing, or the rate is
      not a scalar.

  Example:
    >>> weight = jnp.array([[2.0, 0.0]])
    >>> print(effective_learning_rate(weight, 0.1, 'sgd'))
    0.025
    >>> print(effective_learning_rate(weight, 0.1, 'adam'))
    0.05

  References:
    Lyle et al., `Normalization and effective learning rates in reinforcement
    learning <https://arxiv.org/abs/2407.01800>`_, 2024; both powers are from
    memory of the paper and not confirmed against it.
  """
  where = 'effective_learning_rate'
  if kind not in ('sgd', 'adam'):
    raise ValueError(f"{where}: kind is {kind!r}; it must be 'sgd' or 'adam'.")
  rate = jnp.asarray(learning_rate, jnp.float32)
  if rate.ndim:
    raise ValueError(
      f'{where}: learning_rate has shape {rate.shape}; it must be a scalar '
      '(map the function over a stack of runs).'
    )

  def leaf(norm: jax.Array) -> jax.Array:
    some = norm > 0
    size = jnp.where(some, norm, 1.0)
    size = size * size if kind == 'sgd' else size
    return jnp.where(some, rate / size, jnp.nan)

  chosen = tree.mask_out(params, tree.resolve_mask(mask, params, where))
  return jax.tree.map(leaf, tree.leaf_norms(chosen))
