"""The gradient that keeps binary weights near where they just were."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _quadratic

_WHERE = 'metaplastic_kl'


class MetaplasticState(NamedTuple):
  """State of `metaplastic_kl`.

  Attributes:
    previous: a float32 tree like the parameters, where they were at the last
      update; `optax.MaskedNode` where masked out.
    count: int32 scalar, the updates so far, the clock of `beta`.
  """

  previous: base.Params
  count: jax.Array


def metaplastic_kl(
  beta: optax.Schedule | float, *, strength: Any = 1.0, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Makes binary weights the stiffer the surer they are.

  The parameters are fields :math:`\theta` of binary weights with means
  :math:`m = \tanh(\beta \theta)`, as in `lrcl.models.BinaryMLP`. The link adds
  the gradient of the divergence from the distribution of one update before,
  to leading order:

  .. math:: s \, \beta^2 (1 - m^2) \, \Delta \theta,

  with :math:`\Delta \theta` the step of the previous update, whoever took it.
  The first update passes unchanged.

  Place in the chain: **first**, as a term of the loss. Cost: one float32 copy,
  one pass.

  Args:
    beta: the inverse temperature, at least 0: a number, or a function of the
      updates so far; the one that the model has.
    strength: the factor :math:`s`, at least 0; may be traced. The authors'
      code sums the loss over the batch: a mean over `n` rows needs `1 / n`.
    mask: which leaves are fields: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('field$')`.

  Returns:
    A transformation with the state `MetaplasticState`. It needs `params`.
    Updates keep their dtype.

  Raises:
    ValueError: if `strength` or a constant `beta` is below 0, or the mask
      selects nothing.

  Example:
    >>> tx = optax.chain(metaplastic_kl(2.0), optax.sgd(1.0))
    >>> params = jnp.array([0.0])
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...   updates, state = tx.update(jnp.array([-0.1]), state, params)
    ...   print(updates.round(3))
    ...   params = optax.apply_updates(params, updates)
    [0.1]
    [-0.284]

  References:
    Li et al., `Statistical mechanics of continual learning: variational
    principle and mean-field potential <https://arxiv.org/abs/2212.02846>`_,
    2023; code: https://github.com/Chan-Li/VCL
  """
  base.check_value(_WHERE, 'strength', strength, minimum=0)
  if not callable(beta):
    base.check_value(_WHERE, 'beta', beta, minimum=0)

  def init_fn(params: base.Params) -> MetaplasticState:
    selected = _quadratic.select(params, mask, _WHERE)
    return MetaplasticState(_quadratic.wide_copy(selected), jnp.int32(0))

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    _quadratic.check_params(params, _WHERE)
    now = beta(state.count) if callable(beta) else beta
    now, factor = (jnp.asarray(x, jnp.float32) for x in (now, strength))

    def leaf(previous, update, param):
      if tree.is_masked(previous):
        return update
      field = _quadratic.wide(param)
      stiffness = factor * now**2 * (1.0 - jnp.tanh(now * field) ** 2)
      step = stiffness * (field - previous)
      pull = jnp.where(state.count > 0, step, 0.0)
      return (_quadratic.wide(update) + pull).astype(update.dtype)

    updates = jax.tree.map(
      leaf, state.previous, updates, params, is_leaf=tree.is_masked
    )
    params = tree.mask_like(params, state.previous)
    count = jnp.asarray(optax.safe_increment(state.count))
    return updates, MetaplasticState(_quadratic.wide_copy(params), count)

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)
