"""What convex theory promises for a schedule: the bound on the last iterate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import check_value, is_concrete


class ConvexBound(NamedTuple):
  """A bound on the suboptimality of the last iterate.

  Attributes:
    bound: of the rates as they are.
    best_scale: the factor on all rates that makes the bound least: the best
      peak, where the rates have peak 1.
    best_bound: the bound under that factor.
  """

  bound: jax.Array
  best_scale: jax.Array
  best_bound: jax.Array


def convex_bound(
  lrs: Any, *, distance: Any = 1.0, gradient_norms: Any = 1.0
) -> ConvexBound:
  """Bounds the last iterate of subgradient descent under any schedule.

  For a convex function, a start at `distance` from its minimum and gradients
  of the given norms, the value at the last iterate is at most `bound` above
  the minimum. Without smoothness no schedule is promised more; what the bound
  says of schedules agrees well with what language models do.

  The last iterate is the one at which the last rate that is not 0 is used, so
  zeros at the end, which move nothing, are left out. A last rate that is
  merely tiny is another matter: the theory charges for it.

  Costs O(steps). Differentiable in all three arguments. Rates of any size are
  fine in float32: they are measured by their greatest.

  Args:
    lrs: `[steps]`, rates, at least 0, not all of them 0. Float64 is kept where
      JAX has it; all else counts as float32.
    distance: from the start to the minimum.
    gradient_norms: a scalar or `[steps]`: the norm of each step's gradient, or
      a bound on it.

  Returns:
    A `ConvexBound` of scalars. Where the rates are traced and all 0 the
    bounds are infinite.

  Raises:
    ValueError: if the rates are no row of numbers that are finite and at least
      0, all are 0, the norms do not fit, or the distance or a norm is not
      greater than 0.

  Example:
    >>> result = convex_bound([1.0, 1.0, 0.5])
    >>> f'{result.bound:.4f} {result.best_scale:.4f} {result.best_bound:.4f}'
    '1.7833 0.3554 1.1255'

  References:
    Schaipp et al., 2025, `The Surprising Agreement Between Convex Optimization
    Theory and Learning-Rate Scheduling for Large Model Training
    <https://arxiv.org/abs/2501.18965>`_, code at
    https://github.com/fabian-sp/lr-scheduling; the bound is of Defazio et al.,
    2023, `Optimal Linear Decay Learning Rate Schedules and Further Refinements
    <https://arxiv.org/abs/2310.07831>`_.
  """
  where = 'convex_bound'
  lrs, norms = _check(where, lrs, gradient_norms)
  check_value(where, 'distance', distance, above=0.0)
  return _bound(lrs, jnp.asarray(distance, lrs.dtype), norms)


class ConvexLaw(NamedTuple):
  """The bound in the form of a law, so that schedules can be judged by it.

  It is a bound and no forecast: its values are no losses, and only their order
  means anything. It knows the last iterate alone: what it predicts at a step is
  for a run that ends there. Hence each step that is asked for costs O(steps),
  and all of them O(steps**2).

  Attributes:
    distance: as for `convex_bound`.
    gradient_norms: as for `convex_bound`; where they are `[steps]`, every
      schedule that is asked about has as many steps.

  Example:
    >>> law = ConvexLaw()
    >>> [round(float(loss), 4) for loss in law.predict([1.0, 1.0, 0.5])]
    [1.0, 1.25, 1.7833]
  """

  distance: Any = 1.0
  gradient_norms: Any = 1.0

  def predict(self, lrs: Any, steps: Any = None) -> jax.Array:
    """Bounds at `steps`, each for a run that ends with that step.

    Args:
      lrs: `[total]`, rates as for `convex_bound`.
      steps: indices into `lrs`, of any shape; None is all of them.

    Returns:
      Bounds of the shape of `steps`; infinite before the first rate that is
      not 0.
    """
    where = 'ConvexLaw.predict'
    lrs, norms = _check(where, lrs, self.gradient_norms)
    check_value(where, 'distance', self.distance, above=0.0)
    distance = jnp.asarray(self.distance, lrs.dtype)
    places = jnp.arange(lrs.size)
    steps = places if steps is None else jnp.asarray(steps)

    def bound(step: jax.Array) -> jax.Array:
      begun = jnp.where(places <= step, lrs, 0.0)
      return _bound(begun, distance, norms).bound

    return jax.lax.map(bound, steps.reshape(-1)).reshape(steps.shape)


@jax.jit
def _bound(
  lrs: jax.Array, distance: jax.Array, norms: jax.Array
) -> ConvexBound:
  largest = jax.lax.stop_gradient(jnp.max(lrs))
  largest = jnp.where(largest > 0, largest, 1.0)
  drift, noise = _terms(lrs / largest, norms)
  drift *= distance / largest * distance
  noise *= largest
  best = 2.0 * jnp.sqrt(drift) * jnp.sqrt(noise)  # their product may overflow
  return ConvexBound(drift + noise, jnp.sqrt(drift / noise), best)


def _terms(lrs: jax.Array, norms: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The part of the bound that falls with the rates, and that which grows."""
  square = (lrs * norms) ** 2
  from_here, noise = _sums_from(lrs), _sums_from(square)
  later = jnp.append(from_here[1:], 0.0)
  # Without `ends` a gradient would meet the 0 / 0 of zeros at the end.
  ends = later <= 0
  weight = lrs / jnp.where(ends, 1.0, later)
  mean = noise / jnp.where(ends, 1.0, from_here)
  last = jnp.sum(jnp.where(ends, 0.0, weight * mean))
  whole = from_here[0]
  first = noise[0] / jnp.where(whole > 0, whole, 1.0)
  return 0.5 / whole, 0.5 * (first + last)


def _sums_from(values: jax.Array) -> jax.Array:
  """For each entry the sum of itself and all later ones, the last first."""
  return jnp.cumsum(values[::-1])[::-1]


def _check(where: str, lrs: Any, norms: Any) -> tuple[jax.Array, jax.Array]:
  """Returns rates and norms, both `[steps]`, in one floating dtype."""
  given, given_norms = lrs, norms  # under jit what jnp makes of them is traced
  lrs, norms = jnp.asarray(lrs), jnp.asarray(norms)
  dtype = jnp.float64 if lrs.dtype == jnp.float64 else jnp.float32
  lrs, norms = lrs.astype(dtype), norms.astype(dtype)
  if lrs.ndim != 1 or not lrs.size:
    raise ValueError(
      f'{where}: lrs has shape {lrs.shape}; it must be [steps], with at least '
      'one step.'
    )
  if norms.shape not in ((), lrs.shape):
    raise ValueError(
      f'{where}: gradient_norms has shape {norms.shape}; it must be a scalar '
      f'or [steps] = {lrs.shape}, as lrs.'
    )
  if is_concrete(given):
    _check_each(where, 'lrs', given, np.isfinite, 'finite')
    _check_each(where, 'lrs', given, lambda x: x >= 0, '>= 0')
    if not np.any(np.asarray(given) > 0):
      raise ValueError(f'{where}: lrs are all 0; one must be > 0.')
  if is_concrete(given_norms):
    _check_each(where, 'gradient_norms', given_norms, np.isfinite, 'finite')
    _check_each(where, 'gradient_norms', given_norms, lambda x: x > 0, '> 0')
  return lrs, jnp.broadcast_to(norms, lrs.shape)


def _check_each(
  where: str, name: str, array: Any, holds: Any, rule: str
) -> None:
  array = np.atleast_1d(np.asarray(array))
  wrong = np.flatnonzero(~holds(array))
  if wrong.size:
    raise ValueError(
      f'{where}: {name}[{wrong[0]}] is {array[wrong[0]]}; it must be {rule}.'
    )
