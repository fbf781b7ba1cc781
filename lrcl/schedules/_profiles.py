"""How a phase bends between its two values: profiles and shapes.

A *profile* is a function of the fraction `u` of a phase, 1 at `u = 0`; most
fall to 0 at `u = 1`. A *shape* is what `segments` evaluates: a function of
the phase's two values and of both fractions, the one that is done and the one
that is left. Both are exact quotients of whole steps; `1 - u` would not be.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import difflib
import math
from typing import Any

import jax
import jax.numpy as jnp

from lrcl.base import check_value

Value = float | jax.Array
"""A hyper-parameter: a float, or a scalar array that may be traced."""

Decay = str | Callable[[Any], Any]
"""The name of a profile, or a profile: a callable of `u` in [0, 1]."""

Shape = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""`shape(start, end, done, left) -> value` of one phase."""

Weights = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`weights(done, left)` of a phase's first and last value; they sum to 1."""


@dataclasses.dataclass(frozen=True)
class Profile:
  """A profile that keeps its precision at both ends of a phase."""

  weights: Weights

  def __call__(self, u: Value) -> jax.Array:
    """The profile at the fraction `u`, clipped to [0, 1]."""
    done = jnp.clip(jnp.asarray(u, jnp.float32), 0.0, 1.0)
    return self.weights(done, 1.0 - done)[0]


def _linear(done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
  return left, done


def _cosine(done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
  # (1 + cos(pi u)) / 2 cancels at the end, the square of a sine does not.
  square_sine = lambda x: jnp.square(jnp.sin(math.pi / 2 * x))
  return square_sine(left), square_sine(done)


def _mirror(done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
  start, end = _cosine(done, left)
  return 2.0 * left - start, 2.0 * done - end


def _one_minus_sqrt(
  done: jax.Array, left: jax.Array
) -> tuple[jax.Array, jax.Array]:
  # The slope of a square root at 0 is infinite; a clipped step has none.
  root = jnp.sqrt(jnp.where(done > 0, done, 1.0))
  root = jnp.where(done > 0, root, 0.0)
  return left / (1.0 + root), root


def _square(done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
  return left * (1.0 + done), jnp.square(done)


def _inverse_sqrt(
  done: jax.Array, left: jax.Array
) -> tuple[jax.Array, jax.Array]:
  # g(u) / g(1) with g(t) = 1 - 1 / sqrt(1 + 10 t), without its cancellation.
  del left
  root = jnp.sqrt(1.0 + 10.0 * done)
  full = 1.0 - 1.0 / math.sqrt(11.0)
  end = 10.0 / full * done / (root * (1.0 + root))
  return 1.0 - end, end


def blend(profile: Callable[[Any], Any]) -> Shape:
  """The shape that mixes a phase's two values by a profile."""

  def weights(done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
    if isinstance(profile, Profile):
      return profile.weights(done, left)
    start = jnp.asarray(profile(done), jnp.float32)
    return start, 1.0 - start

  def shape(start, end, done, left):
    # Measured from the lower value: exact where that is 0. One product and one
    # sum leave the compiler one way to fuse them, hence the same bits in jit,
    # vmap and scan; `start * p + end * q` leaves it two.
    of_start, of_end = weights(done, left)
    falls = start > end
    low, high = jnp.where(falls, end, start), jnp.where(falls, start, end)
    of_high = jnp.where(falls, of_start, of_end)
    mixed = low + (high - low) * of_high
    return jnp.where(of_high == 1.0, high, mixed)

  return shape


def hold(start: Any, end: Any, done: Any, left: Any) -> jax.Array:
  """The shape of a phase that does not move."""
  del end, done, left
  return start


def _exponential(start: Any, end: Any, done: Any, left: Any) -> jax.Array:
  # From 0 there is no such decay: it stays there, and is not NaN.
  ratio = jnp.where(start > 0, end / jnp.where(start > 0, start, 1.0), 1.0)
  value = start * jnp.exp(done * jnp.log(ratio))
  return jnp.where(left > 0, value, end)


def _inverse(start: Any, end: Any, done: Any, left: Any) -> jax.Array:
  value = start / (left + done * (start / end))
  return jnp.where(left > 0, value, end)


linear = blend(Profile(_linear))
cosine = blend(Profile(_cosine))

DECAYS: Mapping[str, Shape] = {
  'linear': linear,
  'cosine': cosine,
  'one_minus_sqrt': blend(Profile(_one_minus_sqrt)),
  'square': blend(Profile(_square)),
  'exponential': _exponential,
  'inverse': _inverse,
  'mirror_cosine': blend(Profile(_mirror)),
}

COOLDOWNS: Mapping[str, Shape] = {
  'cosine': cosine,
  'inverse_sqrt': blend(Profile(_inverse_sqrt)),
  'linear': linear,
}


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

  def weights(done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
    inside = (done > 0) & (left > 0)
    log = jnp.log1p(-jnp.where(inside, left, 0.5)) * exponent
    edge = jnp.where(done > 0, 0.0, 1.0)
    of_start = jnp.where(inside, -jnp.expm1(log), edge)
    return of_start, jnp.where(inside, jnp.exp(log), 1.0 - edge)

  return Profile(weights)


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

  def weights(done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
    del left
    halvings = done / half_life
    return jnp.exp2(-halvings), -jnp.expm1(-math.log(2.0) * halvings)

  return Profile(weights)


def resolve_shape(
  where: str,
  argument: str,
  choice: Any,
  values: Mapping[str, Value],
  known: Mapping[str, Shape] = DECAYS,
) -> Shape:
  """Turns a name or a profile into a shape.

  Args:
    where: the public function that was called, for the messages.
    argument: the argument's name, for the messages.
    choice: one of the names in `known`, or a callable of `u`.
    values: the values that the phase joins, by the names of the arguments.
      Those of 'exponential' and 'inverse' must be greater than 0.
    known: the names and their shapes.

  Raises:
    ValueError: if the name is unknown, or a value too small for it.
  """
  if callable(choice):
    return blend(choice)
  if not isinstance(choice, str) or choice not in known:
    raise unknown_name(where, argument, choice, known)
  if known[choice] in (_exponential, _inverse):
    for name, value in values.items():
      check_value(f'{where} ({argument}={choice!r})', name, value, above=0.0)
  return known[choice]


def unknown_name(
  where: str, argument: str, name: Any, known: Iterable[str]
) -> ValueError:
  """The error for a name that is not in a table, with the nearest that is."""
  known = list(known)
  near = difflib.get_close_matches(str(name), known, 1, 0.5)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  return ValueError(
    f'{where}: {argument} is {name!r}; it must be one of '
    f'{", ".join(map(repr, known))}.{hint}'
  )
