"""Dark experience: what the model used to say about past examples."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _quadratic, _replay
from lrcl.methods._passes import mark_pass

_WHERE = 'add_distillation_on_memory'


def add_distillation_on_memory(
  apply_fn: base.ApplyFn,
  weight: float | jax.Array = 1.0,
  *,
  model_state: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Adds the pull to the logits that were stored with rows of a memory (DER).

  Updates become :math:`g + w \nabla_\theta \, \mathrm{mean}
  \lVert f_\theta(x) - z \rVert^2`, with :math:`z` the logits that the model had
  when the row :math:`x` was stored. The mean is over the drawn rows, under
  their `weight`, and over all outputs: a source that sums over classes has a
  `weight` that is smaller by their number. Labels play no part, and neither
  does a `class_mask`. While the memory is empty, :math:`g` passes unchanged.

  The memory must keep the logits: `with_memory(..., store=('logits',))`, with
  their shape in `example`. Together with `add_memory_gradient` this is DER++.
  Both then see the same rows; independent draws, as published, are two halves
  of a memory's batch (`map_memory`).

  Place in the chain: first, on the raw gradient, inside `with_memory`. Not
  inside `optax.masked`, which hides parameters. The vocabulary has no outputs
  of the model at rows of one's choice, hence `apply_fn`. It is called with
  `rng=None` and `train=True`. Cost: one more gradient per step, over the
  memory's batch; under `pmap` every device computes all of it.

  Args:
    apply_fn: the model, see `lrcl.base.ApplyFn`.
    weight: the factor of the term; may be traced.
    model_state: what `apply_fn` needs besides parameters. It is constant here.

  Returns:
    A stateless transformation that needs `params` and the extra args `memory`
    and `memory_ready`. Outside `with_memory` they are missing and `update`
    raises a `TypeError`. Updates keep their dtype.

  Raises:
    ValueError: if `weight` is not a finite number or, when a step is traced,
      `params` are missing or the memory has no logits of the model's shape.

  Example:
    >>> apply_fn = lambda params, inputs, **_: (inputs @ params, ())
    >>> memory = {'inputs': jnp.ones((4, 1)), 'logits': jnp.full((4, 1), 3.0)}
    >>> tx = add_distillation_on_memory(apply_fn, 0.5)
    >>> params, gradient = jnp.ones((1, 1)), jnp.zeros((1, 1))
    >>> updates, _ = tx.update(gradient, tx.init(params), params,
    ...   memory=memory, memory_ready=True)
    >>> print(updates)
    [[-2.]]

  References:
    Buzzega et al., `Dark experience for general continual learning: a strong,
    simple baseline <https://arxiv.org/abs/2004.07211>`_, 2020

    Code: https://github.com/aimagelab/mammoth
  """
  base.check_value(_WHERE, 'weight', weight)
  model_state = {} if model_state is None else model_state

  def loss_fn(params: base.Params, memory: base.Batch) -> jax.Array:
    logits, _ = apply_fn(
      params, memory['inputs'], rng=None, model_state=model_state, train=True
    )
    logits = mark_pass(logits, memory['inputs'].shape[0])
    return _mean_square(logits, memory)

  def add_distillation_update(
    updates: Any,
    state: Any,
    params: Any = None,
    *,
    memory: base.Batch,
    memory_ready: Any,
    **extra_args: Any,
  ) -> tuple[Any, Any]:
    del extra_args
    _quadratic.check_params(params, _WHERE)
    if 'logits' not in memory:
      raise ValueError(
        f'{_WHERE}: the memory has no logits; write with_memory(..., '
        "store=('logits',))."
      )
    gradient = jax.grad(loss_fn)(params, memory)
    return _replay.add_term(updates, weight, gradient, memory_ready), state

  update_fn: Any = add_distillation_update
  return optax.GradientTransformationExtraArgs(
    optax.init_empty_state, update_fn
  )


def _mean_square(logits: jax.Array, memory: base.Batch) -> jax.Array:
  """Mean over rows, under their weight, and over outputs; in float32."""
  stored = memory['logits']
  if logits.shape != stored.shape:
    raise ValueError(
      f'{_WHERE}: the model gives logits {list(logits.shape)}, the memory has '
      f'{list(stored.shape)}.'
    )
  square = jnp.square(_quadratic.wide(logits) - _quadratic.wide(stored))
  losses = jnp.mean(square.reshape(square.shape[0], -1), axis=1)
  weight = memory.get('weight', jnp.ones_like(losses))
  return base.weighted_mean(losses, weight.astype(jnp.float32))
