"""Wrappers that repair how extra args travel through optax's own."""

from collections.abc import Callable
from typing import Any

import optax

from lrcl import base


def accumulate(
  inner: optax.GradientTransformation,
  every_k: int | Callable[[Any], Any],
) -> optax.GradientTransformationExtraArgs:
  """Averages the updates of `every_k` steps before `inner` sees them.

  `optax.MultiSteps` inside a chain silently drops extra args, because it looks
  like a transformation that takes none. This is the same accumulation, and the
  same `optax.MultiStepsState`, with all of them passed on.

  What it means for the parts of a chain:

  * `inner` counts accumulated steps. A schedule inside must be written in
    those, `applied_rate` reports that count, and it falls behind the count of
    batches.
  * `inner` runs at every step and its new state is kept at every `every_k`-th
    only, together with the extra args of that step. Task changes are still
    noticed, as methods compare `task_id` with the one they have kept. A memory
    inside would see one batch of `every_k` and its `grad_fn` would be paid at
    each: write `with_memory(chain(add_memory_gradient(), accumulate(...)))`.
  * Between emissions the updates are zero, so a constraint on the point
    (`normalize_and_project`) is right inside and outside.

  The sum is kept in float32.

  Args:
    inner: the transformation that acts once in `every_k` steps.
    every_k: how many steps, at least 1; or a function of the number of
      accumulated steps so far.

  Returns:
    A transformation that needs what `inner` needs.

  Raises:
    ValueError: if `every_k` is a number below 1 or not whole.

  Example:
    >>> import jax.numpy as jnp
    >>> tx = accumulate(optax.sgd(1.0), 2)
    >>> state = tx.init(jnp.zeros(1))
    >>> for gradient in (1.0, 3.0):
    ...   updates, state = tx.update(jnp.full(1, gradient), state, task_id=0)
    ...   print(updates + 0.0)
    [0.]
    [-2.]
  """
  if not callable(every_k):
    every_k = base.check_steps('accumulate', 'every_k', every_k, minimum=1)
  multi = optax.MultiSteps(inner, every_k)
  update_fn: Any = multi.update
  return optax.GradientTransformationExtraArgs(multi.init, update_fn)


def keep_extra_args(
  inner: optax.GradientTransformation, *names: str
) -> optax.GradientTransformationExtraArgs:
  """Passes on the extra args in `names` and hides all others from `inner`.

  Some transformations refuse extra args that they do not know, among them
  optax's line searches and `optax.contrib.sam`. Inside this wrapper they may
  share a chain with continual-learning methods.

  Args:
    inner: a transformation.
    *names: the extra args that it may see. None at all is allowed.

  Returns:
    A transformation with the state of `inner`, which takes any extra arg.

  Example:
    >>> def update_fn(updates, state, params=None, *, value):
    ...   return value * updates, state
    >>> strict = optax.GradientTransformationExtraArgs(
    ...   lambda _: optax.EmptyState(), update_fn)
    >>> tx = keep_extra_args(strict, 'value')
    >>> tx.update(2.0, tx.init(0.0), value=3.0, task_id=0)[0]
    6.0
  """
  inner = optax.with_extra_args_support(inner)

  def update_fn(
    updates: Any, state: Any, params: Any = None, **extra_args: Any
  ) -> tuple[Any, Any]:
    kept = {k: v for k, v in extra_args.items() if k in names}
    return inner.update(updates, state, params, **kept)

  return optax.GradientTransformationExtraArgs(inner.init, update_fn)
