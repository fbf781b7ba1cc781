"""A quadratic penalty as one step, in three forms."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _rate

Form = Literal['coupled', 'decoupled', 'implicit']
_FORMS = ('coupled', 'decoupled', 'implicit')


class Quadratic(NamedTuple):
  """The penalty `strength / 2 * sum(importance * (params - anchor)^2)`.

  Attributes:
    strength: its factor; may be traced.
    anchor: a float32 tree; `optax.MaskedNode` for leaves that are free. Without
      an importance, nothing is held where it is `inf`.
    importance: a tree like it, or None for 1 everywhere.
  """

  strength: Any
  anchor: base.Params
  importance: base.Params = None


def update_penalized(
  inner: optax.GradientTransformationExtraArgs,
  form: Form,
  penalty: Quadratic,
  updates: Any,
  inner_state: Any,
  params: base.Params,
  extra_args: dict[str, Any],
) -> tuple[Any, Any]:
  """One update of `inner` under a penalty.

  The two forms that act on the step need the rate that it was multiplied by.
  They read it where `inner` has just written it. A schedule that is given a
  second time would be a second clock, and a restored branch, a rate that
  reacts or a step that was skipped would set it apart from the first.
  """
  if form == 'coupled':
    updates = add_gradient(penalty, updates, params)
    return inner.update(updates, inner_state, params, **extra_args)
  step, inner_state = inner.update(updates, inner_state, params, **extra_args)
  rate, _ = _rate.applied_rate(inner_state)
  pull = _decoupled if form == 'decoupled' else _implicit
  return _map(pull, penalty, rate, step, params), inner_state


def add_gradient(penalty: Quadratic, updates: Any, params: base.Params) -> Any:
  """Adds the gradient of the penalty, in float32; dtypes are kept."""
  return _map(_coupled, penalty, 1.0, updates, params)


def _coupled(update: Any, stiffness: Any, away: Any) -> jax.Array:
  return update + stiffness * away


def _decoupled(step: Any, stiffness: Any, away: Any) -> jax.Array:
  return step - stiffness * away


def _implicit(step: Any, stiffness: Any, away: Any) -> jax.Array:
  """The move from `p` to the minimum of |x - p - step|^2 + k |x - anchor|^2."""
  return (step - stiffness * away) / (1.0 + stiffness)


def _map(
  pull: Callable[[Any, Any, Any], jax.Array],
  penalty: Quadratic,
  factor: Any,
  updates: Any,
  params: base.Params,
) -> Any:
  """Applies `pull(update, stiffness, away)` to the leaves that are held."""
  scale = jnp.asarray(penalty.strength, jnp.float32) * factor

  def leaf(anchor, update, param, *importance):
    if tree.is_masked(anchor):
      return update
    if importance:
      stiffness, away = scale * importance[0], wide(param) - anchor
    else:
      held = jnp.isfinite(anchor)
      stiffness = jnp.where(held, scale, 0.0)
      away = jnp.where(held, wide(param) - anchor, 0.0)
    return pull(wide(update), stiffness, away).astype(update.dtype)

  rest = () if penalty.importance is None else (penalty.importance,)
  return jax.tree.map(
    leaf, penalty.anchor, updates, params, *rest, is_leaf=tree.is_masked
  )


def check_form(where: str, form: str) -> None:
  """Checks the name of a form."""
  if form not in _FORMS:
    raise ValueError(f'{where}: form is {form!r}; it must be one of {_FORMS}.')


def check_rate(where: str, form: str, inner_state: Any) -> None:
  """Checks that `inner` keeps the rate that it applies, where it is needed."""
  if form != 'coupled' and not any(True for _ in _rate._links(inner_state)):
    raise ValueError(
      f'{where}: form is {form!r}, which needs the rate, and the state of '
      'inner has none; inner must end with scale_by_schedule_value(schedule).'
    )


def check_params(params: Any, where: str) -> None:
  """Checks that a link which needs the parameters was given them."""
  if params is None:
    raise ValueError(
      f'{where}: params is None; call update(updates, state, params).'
    )


def select(params: base.Params, mask: Any, where: str) -> base.Params:
  """The parameters with those outside the mask taken out."""
  return tree.mask_out(params, tree.resolve_mask(mask, params, where))


def zeros(params: base.Params) -> base.Params:
  """A float32 tree of zeros."""
  return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=jnp.float32), params)


def wide(leaf: Any) -> jax.Array:
  """The leaf in float32."""
  return leaf.astype(jnp.float32)


def wide_copy(params: base.Params) -> base.Params:
  """A float32 copy that shares no buffer, so that both may be donated."""
  return jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)
