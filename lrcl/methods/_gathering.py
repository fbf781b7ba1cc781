"""What methods share that gather importance while they train."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _boundary, _quadratic
from lrcl.methods._quadratic import Form, Quadratic

Observe = Callable[[Any, Any, jax.Array], Any]
"""`observe(state, gradient, first) -> state`, at each update."""


def gather(
  where: str,
  inner: optax.GradientTransformation,
  strength: Any,
  init_state: Callable[[base.Params], Any],
  observe: Observe = lambda state, *_: state,
  *,
  form: Form,
  mask: Any,
  settings: Mapping[str, Any],
  enter: Callable[[Any, base.Params, Any], Any] = _boundary.enter,
) -> optax.GradientTransformationExtraArgs:
  """An optimizer under the penalty that its own steps give rise to.

  Args:
    where: the public function, for messages.
    inner: the optimizer.
    strength: factor of the penalty.
    init_state: a new state for the selected parameters. States have the fields
      `task_id`, `importance`, `anchor` and `inner_state`, and a method
      `consolidate`; what a field `path` holds is summed here.
    observe: takes in a gradient, and whether it is the run's first.
    form: of the penalty's step.
    mask: which leaves are held.
    settings: scalars that `consolidate` needs, by the names of the state's
      fields that hold them. A restored state follows those given here.
    enter: what comes before an update: ends a task, by default.
  """
  base.check_value(where, 'strength', strength, minimum=0)
  _quadratic.check_form(where, form)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> Any:
    selected = _quadratic.select(params, mask, where)
    inner_state = inner.init(params)
    _quadratic.check_rate(where, form, inner_state)
    return init_state(selected)._replace(inner_state=inner_state)

  def gather_update(updates, state, params=None, *, task_id, **extra_args):
    _quadratic.check_params(params, where)
    first = _boundary.is_first(state.task_id)
    as_kept = lambda name: getattr(state, name).dtype
    given = {k: jnp.asarray(v, as_kept(k)) for k, v in settings.items()}
    state = state._replace(**given)
    state = enter(state, params, task_id)
    penalty = Quadratic(strength, state.anchor, state.importance)
    step, inner_state = _quadratic.update_penalized(
      inner,
      form,
      penalty,
      updates,
      state.inner_state,
      params,
      extra_args | {'task_id': task_id},
    )
    state = observe(state, updates, first)
    if 'path' in state._fields:
      path, step = add_path(state.path, updates, step, task_id)
      state = state._replace(path=path)
    return step, state._replace(inner_state=inner_state)

  update_fn: Any = gather_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def add_path(
  path: base.Params, gradient: Any, step: Any, task_id: Any
) -> tuple[base.Params, Any]:
  """Adds the loss that each parameter saved: minus gradient times step.

  The step that is returned is the same one. To go on with it spares a CPU
  passes over the parameters, see `_boundary.compute_once`.
  """

  def leaf(total, g, d):
    if tree.is_masked(total):
      return total
    return total - _quadratic.wide(g) * _quadratic.wide(d)

  def add(path, step):
    return jax.tree.map(leaf, path, gradient, step, is_leaf=tree.is_masked)

  return _boundary.compute_once(add, path, step, task_id)


def add_square(
  average: base.Params, gradient: Any, decay: Any, first: jax.Array
) -> base.Params:
  """Moves the average of squares; the first square takes its place."""
  old = jnp.where(first, 0.0, jnp.asarray(decay, jnp.float32))

  def leaf(kept, g):
    if tree.is_masked(kept):
      return kept
    return old * kept + (1.0 - old) * jnp.square(_quadratic.wide(g))

  return jax.tree.map(leaf, average, gradient, is_leaf=tree.is_masked)


def to_unit_range(values: base.Params) -> base.Params:
  """Scales all leaves together to [0, 1]; to 0 where they are all equal."""
  leaves = jax.tree.leaves(values)
  low = jnp.min(jnp.stack([jnp.min(x) for x in leaves]))
  span = jnp.max(jnp.stack([jnp.max(x) for x in leaves])) - low
  share = jnp.where(span > 0, 1.0 / jnp.where(span > 0, span, 1.0), 0.0)
  return jax.tree.map(lambda x: (x - low) * share, values)
