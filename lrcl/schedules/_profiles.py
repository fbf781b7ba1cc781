"""How a phase bends between its two values: shapes, by name or by profile.

A *profile* is a function of the fraction `u` of a phase, 1 at `u = 0`. A
*shape* is what `segments` evaluates: a function of the phase's two values and
of both fractions, the one that is done and the one that is left. Both come of
whole steps and are exact at the ends; `1 - u` would not be.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import difflib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import check_value
from lrcl.schedules._families import (
  Profile,
  Value,
  inverse_sqrt_profile,
  square_sine,
)

Decay = str | Callable[[Any], Any]
"""The name of a profile, or a profile: a callable of `u` in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Shape:
  """The shape of a phase.

  Attributes:
    value: `value(start, end, done, left)`.
    tame: whether it is `start` to the last bit where nothing is done, and its
      gradients are finite at both ends. One that is not is never asked
      outside its phase.
  """

  value: Callable[[Any, Any, Any, Any], Any]
  tame: bool = True


def blend(profile: Callable[[Any], Any]) -> Shape:
  """The shape that mixes a phase's two values by a profile."""
  tame = isinstance(profile, Profile)
  exact = profile if tame else _bare(profile)

  def value(start: Any, end: Any, done: Any, left: Any) -> jax.Array:
    # Measured from the lower value: exact where that is 0. One product and one
    # sum leave the compiler one way to fuse them, hence the same bits in jit,
    # vmap and scan; `start * p + end * q` leaves it two.
    falls, low, high = _order(start, end)
    of_high = exact.of_higher(falls, done, left)
    mixed = low + (high - low) * of_high
    if _known(low + (high - low) == high):
      return mixed
    # At the higher value the rounding of the two sums shows. Selecting `high`
    # there would cut a profile's parameters off from their gradient.
    missing = high - (low + (high - low))
    return mixed + jnp.where(of_high == 1.0, missing, 0.0)

  return Shape(value, tame)


def _bare(profile: Callable[[Any], Any]) -> Profile:
  """A profile that is only known as a function of what is done."""
  of_start = lambda done, left: jnp.asarray(profile(done), jnp.float32)
  return Profile(of_start, lambda done, left: 1.0 - of_start(done, left))


def _root(done: jax.Array) -> jax.Array:
  # The slope of a square root at 0 is infinite; a clipped step has none.
  root = jnp.sqrt(jnp.where(done > 0, done, 1.0))
  return jnp.where(done > 0, root, 0.0)


def _order(start: Any, end: Any) -> tuple[Any, Any, Any]:
  """Whether a phase falls, its lower and its higher value."""
  falls = start > end
  if _known(falls):
    return falls, end, start
  if _known(start <= end):
    return falls, start, end
  return falls, jnp.where(falls, end, start), jnp.where(falls, start, end)


def _known(condition: Any) -> bool:
  """Whether a condition is no array, and true: then nothing is computed."""
  return isinstance(condition, bool | np.bool_) and bool(condition)


def _exponential(start: Any, end: Any, done: Any, left: Any) -> jax.Array:
  # From 0 there is no such decay: it stays there, and is not NaN.
  del left
  ratio = jnp.where(start > 0, end / jnp.where(start > 0, start, 1.0), 1.0)
  value = start * jnp.exp(done * jnp.log(ratio))
  return jnp.where(done < 1.0, value, end)


def _inverse(start: Any, end: Any, done: Any, left: Any) -> jax.Array:
  # 1 / value is linear, here measured from the lower value: again one product
  # and one sum, and no cancellation.
  falls, low, high = _order(start, end)
  of_low = jnp.where(falls, done, left)
  excess = (
    high / (low if _known(low > 0) else jnp.where(low > 0, low, 1.0)) - 1.0
  )
  value = high / (1.0 + of_low * excess)
  if not _known(high / (1.0 + excess) == low):
    value = jnp.where(of_low < 1.0, value, low)
  if _known(low > 0):
    return value
  # From 0 there is no such decay: it stays there to the end.
  return jnp.where(low > 0, value, jnp.where(done < 1.0, start, end))


hold = Shape(lambda start, end, done, left: start)
"""The shape of a phase that does not move."""

linear = blend(Profile(lambda done, left: left))
cosine = blend(Profile(lambda done, left: square_sine(left)))
one_minus_sqrt = blend(
  Profile(
    lambda done, left: left / (1.0 + _root(done)),
    lambda done, left: _root(done),
  )
)
square = blend(
  Profile(
    lambda done, left: left * (1.0 + done),
    lambda done, left: jnp.square(done),
  )
)
mirror_cosine = blend(
  Profile(lambda done, left: 2.0 * left - square_sine(left))
)
exponential = Shape(_exponential)
inverse = Shape(_inverse)

DECAYS: Mapping[str, Shape] = {
  'linear': linear,
  'cosine': cosine,
  'one_minus_sqrt': one_minus_sqrt,
  'square': square,
  'exponential': exponential,
  'inverse': inverse,
  'mirror_cosine': mirror_cosine,
}

COOLDOWNS: Mapping[str, Shape] = {
  'cosine': cosine,
  'inverse_sqrt': blend(inverse_sqrt_profile(10.0)),
  'linear': linear,
}


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
  if known[choice] in (exponential, inverse):
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
