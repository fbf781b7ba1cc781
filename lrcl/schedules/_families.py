"""Profiles, and the families of them that have a parameter.

A profile is a function of the fraction `u` of a phase, 1 at `u = 0`; most fall
to 0 at `u = 1`.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from lrcl.base import check_value

Value = float | jax.Array
"""A hyper-parameter: a float, or a scalar array that may be traced."""

Weight = Callable[[Any, Any], jax.Array]
"""`weight(done, left)` of one of a phase's two values; both sum to 1."""


@dataclasses.dataclass(frozen=True)
class Profile:
  """A profile that keeps its precision at both ends of a phase.

  Attributes:
    of_start: the weight of the phase's first value: the profile itself, as a
      function of the fractions that are done and left. `1 - u` is not exact.
    of_end: the weight of its last value. None says that the profile is
      symmetric: `of_end(done, left)` is `of_start(left, done)`.
  """

  of_start: Weight
  of_end: Weight | None = None

  def __call__(self, u: Value) -> jax.Array:
    """The profile at the fraction `u`, clipped to [0, 1]."""
    done = jnp.clip(jnp.asarray(u, jnp.float32), 0.0, 1.0)
    return self.of_start(done, 1.0 - done)

  def of_higher(self, falls: Any, done: Any, left: Any) -> jax.Array:
    """The weight of the higher value: the first one where the phase falls."""
    if self.of_end is None:  # one evaluation, whichever way the phase goes
      there, back = jnp.where(falls, done, left), jnp.where(falls, left, done)
      return self.of_start(there, back)
    start, end = self.of_start(done, left), self.of_end(done, left)
    return jnp.where(falls, start, end)


def square_sine(x: jax.Array) -> jax.Array:
  """`(1 - cos(pi x)) / 2`, without its cancellation near 0."""
  return jnp.square(jnp.sin(math.pi / 2 * x))


def power_profile(exponent: Value) -> Profile:
  """The profile `1 - u ** exponent`.

  An exponent of 1 is `'linear'`, of 1/2 `'one_minus_sqrt'`, of 2 `'square'`.

  Args:
    exponent: greater than 0; small ones fall at once, large ones at the end.

  Returns:
    A callable of `u` in [0, 1], to be passed as `decay=` or `cooldown=`.

  Raises:
    ValueError: if `exponent` is not greater than 0.

  Example:
    >>> round(float(power_profile(1.5)(0.25)), 4)
    0.875

  References:
    Hägele et al., 2024, `Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations <https://arxiv.org/abs/2405.18392>`_.
  """
  check_value('power_profile', 'exponent', exponent, above=0.0)

  def log_of_end(done: jax.Array, left: jax.Array) -> Any:
    inside = (done > 0) & (left > 0)
    late = jnp.log1p(-jnp.where(inside, left, 0.5))
    early = jnp.log(jnp.where(inside, done, 0.5))
    return inside, jnp.where(done < left, early, late) * exponent

  def of_start(done: jax.Array, left: jax.Array) -> jax.Array:
    inside, log = log_of_end(done, left)
    return jnp.where(inside, -jnp.expm1(log), jnp.where(done > 0, 0.0, 1.0))

  def of_end(done: jax.Array, left: jax.Array) -> jax.Array:
    inside, log = log_of_end(done, left)
    return jnp.where(inside, jnp.exp(log), jnp.where(done > 0, 1.0, 0.0))

  return Profile(of_start, of_end)


def half_life_profile(half_life: Value) -> Profile:
  """The profile `0.5 ** (u / half_life)`: halved again and again.

  It ends at `0.5 ** (1 / half_life)` and not at 0, so a decay by this profile
  ends that fraction of the way above `end_value`, and stays there.

  Args:
    half_life: the half-life as a fraction of the decay, greater than 0. A
      half-life of 25 steps in a decay of 100 steps is 0.25.

  Returns:
    A callable of `u` in [0, 1], to be passed as `decay=`.

  Raises:
    ValueError: if `half_life` is not greater than 0.

  Example:
    >>> float(half_life_profile(0.25)(0.5))
    0.25

  References:
    Hu et al., 2024, `MiniCPM: Unveiling the Potential of Small Language Models
    with Scalable Training Strategies <https://arxiv.org/abs/2404.06395>`_. The
    form of the decay is unconfirmed: their training code is not public.
  """
  check_value('half_life_profile', 'half_life', half_life, above=0.0)
  log = lambda done: -math.log(2.0) * (done / half_life)
  return Profile(
    lambda done, left: jnp.exp2(-(done / half_life)),
    lambda done, left: -jnp.expm1(log(done)),
  )


def inverse_sqrt_profile(timescale: Value = 10.0) -> Profile:
  """The profile `1 - g(u) / g(1)` with `g(u) = 1 - 1 / sqrt(1 + timescale u)`.

  An inverse square root that is stretched so as to end at 0. The greater the
  time scale, the steeper it falls at first; 0 is `'linear'`.

  Args:
    timescale: at least 0.

  Returns:
    A callable of `u` in [0, 1], to be passed as `decay=` or `cooldown=`; the
    cool-down `'inverse_sqrt'` is that of time scale 10.

  Raises:
    ValueError: if `timescale` is negative.

  Example:
    >>> round(float(inverse_sqrt_profile(10.0)(0.25)), 4)
    0.3336

  References:
    Ibrahim et al., 2024, `Simple and Scalable Strategies to Continually
    Pre-train Large Language Models <https://arxiv.org/abs/2403.08763>`_
    (https://github.com/EleutherAI/gpt-neox/pull/1194).
  """
  check_value('inverse_sqrt_profile', 'timescale', timescale, minimum=0.0)

  def roots(done: jax.Array) -> tuple[jax.Array, jax.Array]:
    root = lambda u: jnp.sqrt(1.0 + timescale * u)
    return root(done), root(jnp.ones([], jnp.float32))

  # The formula without its cancellation at either end.
  def of_start(done: jax.Array, left: jax.Array) -> jax.Array:
    now, last = roots(done)
    return left * (last + 1.0) / (now * (last + now))

  def of_end(done: jax.Array, left: jax.Array) -> jax.Array:
    del left
    now, last = roots(done)
    return done * (last * (last + 1.0)) / (now * (now + 1.0))

  return Profile(of_start, of_end)
