"""The profiles of schedules for a budget of steps that is known."""

from typing import Any

import jax
import jax.numpy as jnp

from lrcl.base import check_value, is_concrete
from lrcl.schedules._families import Profile, Value, square_sine


def rex_profile(beta: Value = 0.5) -> Profile:
  """The profile `(1 - u) / (1 - beta u)`: reflected exponential.

  It holds the value up longer than `'linear'`, which is `beta=0`, and falls
  the more steeply at the end.

  Args:
    beta: at least 0 and less than 1. The paper's is 1/2; a repository of one
      of its authors has 0.9, which others copied.

  Returns:
    A callable of `u` in [0, 1], to be passed as `decay=` or `cooldown=`.

  Raises:
    ValueError: if `beta` is out of range.

  Example:
    >>> round(float(rex_profile()(0.5)), 4)
    0.6667

  References:
    Chen et al., 2021, `REX: Revisiting Budgeted Training with an Improved
    Schedule <https://arxiv.org/abs/2107.04197>`_. The formula is that of two
    public ports; https://github.com/wolfecameron/LRSchedules has 0.9.
  """
  check_beta('rex_profile', beta)
  # This sum does not cancel, and is exact at both ends.
  over = lambda left: (1.0 - beta) + beta * left
  return Profile(
    lambda done, left: left / over(left),
    lambda done, left: (1.0 - beta) * done / over(left),
  )


def check_beta(where: str, beta: Value) -> None:
  """Checks that a concrete `beta` is in [0, 1).

  Raises:
    ValueError: if it is not.
  """
  check_value(where, 'beta', beta, minimum=0.0)
  if is_concrete(beta) and beta >= 1:
    raise ValueError(f'{where}: beta is {beta}; it must be < 1.')


def uba_profile(phi: Value) -> Profile:
  """The profile `2 c / (2 phi + (2 - phi) c)` with `c = 1 + cos(pi u)`.

  A family from the constant (`phi=0`, 1 at `u = 1`, too) over the cosine
  (`phi=2`) to what falls like an exponential; its midpoint is `2 / (2 + phi)`.

  Args:
    phi: at least 0. Values around 5 for SGD and 0.5 for AdamW are attributed
      to the paper; they are unconfirmed.

  Returns:
    A callable of `u` in [0, 1], to be passed as `decay=` or `cooldown=`.

  Raises:
    ValueError: if `phi` is negative.

  Example:
    >>> round(float(uba_profile(1.0)(0.5)), 4)
    0.6667

  References:
    Tang et al., 2025, `Stepsize anything: A unified learning rate schedule for
    budgeted-iteration training <https://arxiv.org/abs/2505.24452>`_. The
    formula is that of a port that quotes the paper; no code of the authors was
    found. Their variant of several phases is left out.
  """
  check_value('uba_profile', 'phi', phi, minimum=0.0)

  half = 0.5 * phi

  # The formula over 4 is `risen / (risen + half * fallen)`, and at the end of
  # a phase, where nothing is risen, 0, or 1 for the constant. Apart from there
  # the sum is so far from 0 that its gradient is finite.
  def shares(done: jax.Array, left: jax.Array) -> tuple[Any, Any, Any]:
    small = square_sine(jnp.minimum(done, left))
    risen = jnp.where(left < done, small, 1.0 - small)
    fallen = jnp.where(left < done, 1.0 - small, small)
    few, many = half + (1.0 - half) * risen, 1.0 + (half - 1.0) * fallen
    both = jnp.where(half > 1.0, many, few)
    return risen, fallen, jnp.where(risen > 0, both, 1.0)

  def of_start(done: jax.Array, left: jax.Array) -> jax.Array:
    risen, _, both = shares(done, left)
    return jnp.where(risen > 0, risen / both, jnp.where(half > 0, 0.0, 1.0))

  def of_end(done: jax.Array, left: jax.Array) -> jax.Array:
    risen, fallen, both = shares(done, left)
    part = half * fallen / both
    return jnp.where(risen > 0, part, jnp.where(half > 0, 1.0, 0.0))

  return Profile(of_start, of_end)
