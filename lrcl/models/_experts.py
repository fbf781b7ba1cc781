"""A prediction by one of several experts, which the input chooses."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrcl.base import ApplyFn, Params


def route_experts(
  apply_fn: ApplyFn, selector_fn: Callable[[Params, Any], jax.Array]
) -> ApplyFn:
  """A model that trains one expert and predicts with all of them.

  Under `train=True` it is `apply_fn` on the parameters of one expert. Else its
  parameters are those of `lrcl.methods.expert_params`, and each row gets the
  logits of the expert whose score is highest.

  Args:
    apply_fn: the model of one expert.
    selector_fn: `selector_fn(selector, inputs) -> scores [batch, max_experts]`.

  Returns:
    An `apply_fn`. `model_state` belongs to all experts. Where there is no
    selector (None), the active expert predicts.

  Example:
    >>> apply_fn = lambda p, x, *, rng, model_state, train: (x * p, ())
    >>> routed = route_experts(apply_fn, lambda s, x: x @ s)
    >>> params = {'experts': jnp.array([1.0, 10.0, 0.0]), 'count': 2,
    ...   'active': 1, 'selector': jnp.array([[-1.0, 1.0, 9.0]])}
    >>> logits, _ = routed(params, jnp.array([[2.0], [-2.0]]),
    ...   rng=None, model_state=(), train=False)
    >>> print(logits)
    [[20.]
     [-2.]]

  References:
    Zhu et al., `TAME: task agnostic continual learning using multiple experts
    <https://arxiv.org/abs/2210.03869>`_, 2022
  """

  def routed(
    params: Params,
    inputs: jax.Array,
    *,
    rng: jax.Array | None,
    model_state: Any,
    train: bool,
  ) -> tuple[jax.Array, Any]:
    if train:
      return apply_fn(
        params, inputs, rng=rng, model_state=model_state, train=train
      )

    def one(expert: Params) -> jax.Array:
      logits, _ = apply_fn(
        expert, inputs, rng=rng, model_state=model_state, train=train
      )
      return logits

    logits = jax.lax.map(one, params['experts'])
    chosen = _choose(selector_fn, params, inputs, logits.shape[:2])
    return logits[chosen, jnp.arange(logits.shape[1])], model_state

  return routed


def _choose(
  selector_fn: Any, params: Any, inputs: Any, shape: tuple[int, ...]
) -> jax.Array:
  """The expert of each row, int32 `[batch]`."""
  experts, rows = shape
  if params['selector'] is None:
    return jnp.full(rows, params['active'], jnp.int32)
  scores = selector_fn(params['selector'], inputs)
  exists = jnp.arange(experts) < params['count']
  return jnp.argmax(jnp.where(exists, scores, -jnp.inf), axis=-1)
