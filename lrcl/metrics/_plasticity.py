"""Signs of lost plasticity: silent units, large weights, small steps."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl import base, tree


def dormant_fraction(
  activations: Any,
  threshold: Any = 0.1,
  *,
  weight: jax.Array | None = None,
) -> jax.Array:
  r"""The share of units that are nearly silent next to their layer.

  The score of unit i is :math:`\overline{|h_i|}` over the mean of that over
  its layer, with means over a batch (and over positions, for a convolution);
  a unit with a score of at most `threshold` is dormant. It is what
  `lrcl.methods.redo` recycles. Cost: a pass over the activations, which the
  caller computes (`lrcl.models.activations_from_module`).

  Args:
    activations: outputs after the nonlinearity, `[batch, ..., units]`: an
      array, or a tree with one for each layer, of which the units are counted
      together.
    threshold: at least 0; may be traced. 0.1 and 0.025 are common; 0 counts
      units that are silent on the whole batch.
    weight: `[batch]`, of the rows; 0 for padding. None: all alike.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: if there is no array, one has less than two axes, or
      `threshold` is negative.

  Example:
    >>> print(dormant_fraction(jnp.array([[1.0, 0.0], [3.0, 0.0]])))
    0.5

  References:
    Sokar et al., `The dormant neuron phenomenon in deep reinforcement
    learning <https://arxiv.org/abs/2302.12902>`_, 2023
  """
  base.check_value('dormant_fraction', 'threshold', threshold, minimum=0)
  limit = jnp.asarray(threshold, jnp.float32)

  def dormant(layer: jax.Array) -> jax.Array:
    size = base.unit_means(jnp.abs(layer), weight)
    return base.unit_scores(size) <= limit

  return _share('dormant_fraction', activations, dormant)


def active_fraction(
  activations: Any, *, weight: jax.Array | None = None
) -> jax.Array:
  """The share of activations above 0, as is natural for ReLU.

  Args:
    activations: as for `dormant_fraction`.
    weight: `[batch]`, of the rows; None: all alike.

  Returns:
    A float32 scalar: the mean over all units.

  Raises:
    ValueError: if there is no array, or one has less than two axes.

  Example:
    >>> print(active_fraction(jnp.array([[1.0, 0.0], [3.0, 2.0]])))
    0.75

  References:
    Abbas et al., `Loss of plasticity in continual deep reinforcement learning
    <https://arxiv.org/abs/2303.07507>`_, 2023
  """
  above = lambda layer: base.unit_means(layer > 0, weight)
  return _share('active_fraction', activations, above)


def weight_norm(params: base.Params, *, mask: Any = None) -> jax.Array:
  """The Euclidean norm of all selected parameters together.

  Args:
    params: of one run; map the function over a stack of them.
    mask: the leaves that count: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`.

  Returns:
    A float32 scalar, summed in float32 whatever the dtype.

  Raises:
    ValueError: if the mask selects nothing.

  Example:
    >>> print(weight_norm({'a': jnp.array([3.0]), 'b': jnp.array([4.0])}))
    5.0

  References:
    Lyle et al., `Disentangling the causes of plasticity loss in neural
    networks <https://arxiv.org/abs/2402.18762>`_, 2024
  """
  keep = tree.resolve_mask(mask, params, 'weight_norm')
  norms = jax.tree.leaves(tree.leaf_norms(tree.mask_out(params, keep)))
  return jnp.sqrt(jnp.sum(jnp.square(jnp.stack(norms))))


def update_to_weight_ratio(
  updates: Any, params: base.Params, *, mask: Any = None
) -> Any:
  """The norm of a step over that of the weights it moves, leaf by leaf.

  Some 1e-3 is usual for a healthy run. Where weights grow and the rate stays,
  it falls: the network learns more and more slowly (see
  `effective_learning_rate`, which tells it from the weights alone).

  Args:
    updates: what is added to the parameters: the last element's output of the
      chain, or a difference of parameters.
    params: before the step.
    mask: the leaves that count: None for all, a tree of bools, or a function.

  Returns:
    A tree of float32 scalars with `optax.MaskedNode` for what is left out; NaN
    for a leaf of norm 0.

  Raises:
    ValueError: if the mask selects nothing.

  Example:
    >>> print(update_to_weight_ratio(jnp.array([0.3]), jnp.array([3.0])))
    0.1

  References:
    Lyle et al., `Normalization and effective learning rates in reinforcement
    learning <https://arxiv.org/abs/2407.01800>`_, 2024
  """
  keep = tree.resolve_mask(mask, params, 'update_to_weight_ratio')
  pick = lambda t: tree.leaf_norms(tree.mask_out(t, keep))

  def leaf(step: jax.Array, size: jax.Array) -> jax.Array:
    some = size > 0
    return jnp.where(some, step / jnp.where(some, size, 1.0), jnp.nan)

  return jax.tree.map(leaf, pick(updates), pick(params))


def _share(where: str, activations: Any, measure: Any) -> jax.Array:
  """Mean over the units of all layers of what is measured of each."""
  layers = [jnp.asarray(layer) for layer in jax.tree.leaves(activations)]
  if not layers or any(layer.ndim < 2 for layer in layers):
    raise ValueError(
      f'{where}: activations has the shapes {[x.shape for x in layers]}; it '
      'must hold arrays [batch, ..., units].'
    )
  values = [measure(layer).astype(jnp.float32) for layer in layers]
  return jnp.mean(jnp.concatenate(values))
