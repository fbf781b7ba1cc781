"""A move up the gradient, in the two forms of refresh learning."""

from collections.abc import Callable
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base, tree


class Form(NamedTuple):
  """What one form climbs by; `share` is 1 / (1 + c F).

  Attributes:
    noise: its own factor of the noise.
    climb: `climb(delta, share, gradient, param)`, in float32.
    spread: `spread(delta, share)`, the deviation of noise of factor 1.
  """

  noise: float
  climb: Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]
  spread: Callable[[Any, jax.Array], jax.Array]


def _rescale(
  delta: Any, share: jax.Array, gradient: jax.Array, param: jax.Array
) -> jax.Array:
  """The gradient, as long as the tensor is; 0 where there is no gradient."""
  norm = tree.leaf_norms(gradient)
  some = norm > 0
  factor = tree.leaf_norms(param) / jnp.where(some, norm, 1.0)
  return delta * share * (jnp.where(some, factor, 0.0) * gradient)


FORMS = {
  'official': Form(1e-3, _rescale, lambda delta, share: delta * share),
  'paper': Form(
    1.0,
    lambda delta, share, gradient, param: delta * share * gradient,
    lambda delta, share: jnp.sqrt(2 * delta * share),
  ),
}


class Move(NamedTuple):
  """A form with its numbers; `noise` is None where none is drawn."""

  form: Form
  delta: Any
  noise: Any
  fisher_scale: Any

  def draw(self, key: jax.Array, like: Any) -> tuple[jax.Array, Any]:
    """The next key, and normal noise like the Fisher."""
    if self.noise is None:
      return key, like
    leaves, structure = jax.tree.flatten(like)
    key, *keys = jax.random.split(key, 1 + len(leaves))
    normal = lambda key, leaf: jax.random.normal(key, leaf.shape, jnp.float32)
    return key, structure.unflatten(map(normal, keys, leaves))


def make_move(
  where: str, form: str, delta: Any, noise: Any, fisher_scale: Any
) -> Move:
  """Checks the numbers, and fills in the form's own noise."""
  if form not in FORMS:
    raise ValueError(
      f'{where}: form is {form!r}; it must be one of {tuple(FORMS)}.'
    )
  noise = FORMS[form].noise if noise is None else noise
  numbers_given = dict(delta=delta, noise=noise, fisher_scale=fisher_scale)
  for name, value in numbers_given.items():
    base.check_value(where, name, value, minimum=0)
  noise = None if is_zero(noise) else noise
  return Move(FORMS[form], delta, noise, fisher_scale)


def is_zero(value: Any) -> bool:
  """Whether it is 0 for good, so that what it multiplies may be left out."""
  return isinstance(value, numbers.Number) and value == 0


def unlearn(
  move: Move, fisher: Any, gradient: Any, params: base.Params, noises: Any
) -> Any:
  """One move up the gradient; zero for leaves that are masked out."""
  wide = lambda x: jnp.asarray(x, jnp.float32)
  delta = wide(move.delta)

  def leaf(fisher, gradient, param, noise):
    if tree.is_masked(fisher):
      return jnp.zeros_like(param)
    share = 1.0 / (1.0 + wide(move.fisher_scale) * fisher)
    away = move.form.climb(delta, share, wide(gradient), param)
    if move.noise is not None:
      away += wide(move.noise) * move.form.spread(delta, share) * noise
    return away.astype(param.dtype)

  return jax.tree.map(
    leaf, fisher, gradient, params, noises, is_leaf=tree.is_masked
  )
