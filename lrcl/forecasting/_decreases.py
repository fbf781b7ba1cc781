"""What the decreases of a rate have paid off so far, in linear time.

By its definition the multi-power law adds, for every step, over all decreases
before it: O(steps**2) powers. Here a decrease and a reading in one block of
steps meet as defined, and those farther apart through

  (a + D)**-b = integral of exp(b x - exp(x) (a + D)) dx / gamma(b),

a row of exponentials of `a`, of the way to the end of the block and of the way
from there to the reading: a product, which can be added up block by block.
The trapezoidal rule on the integral converges as fast as the exponential of
the number of nodes, so that the result is that of the definition up to
rounding. The substitution `x = y - exp(-y)` cuts the long tail to the left.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import special
import numpy as np

from lrcl.forecasting import _rates
from lrcl.forecasting._rates import BLOCK


class Steps(NamedTuple):
  """The steps of one or several runs, in whole blocks.

  An entry may stand for several steps of one rate.

  Attributes:
    area: `[blocks, BLOCK]`, sum of the rates of each entry.
    rate: `[blocks, BLOCK]`, greater than 0.
    decrease: `[blocks, BLOCK]`, by how much the rate is below the last one.
    begins: `[blocks]`, 1 where a run begins, else 0.
  """

  area: Any
  rate: Any
  decrease: Any
  begins: Any


class Speed(NamedTuple):
  """How fast a decrease pays off: the multi-power law's C, beta and gamma."""

  rate: Any
  gain_exponent: Any
  rate_exponent: Any


def one_run(area: jax.Array, rate: jax.Array, decrease: jax.Array) -> Steps:
  """The steps of a single run, from rows `[n]`."""
  rows = ((area, 0.0), (rate, 1.0), (decrease, 0.0))
  blocks = [_rates.in_blocks(jnp, *row) for row in rows]
  begins = jnp.zeros(blocks[0].shape[0], area.dtype).at[0].set(1.0)
  return Steps._make([*blocks, begins])


def paid_off(
  steps: Steps, speed: Speed, readings: jax.Array | None = None
) -> jax.Array:
  """Every decrease so far, times the part of it that has paid off.

  Args:
    steps: of one or several runs.
    speed: parameters greater than 0.
    readings: the entries, counted over all blocks, after which the sum is
      wanted; of any shape. None is all, `[blocks, BLOCK]`, padding included.

  Returns:
    Sums of the shape of `readings`, in the dtype of the steps.
  """
  exponent = speed.gain_exponent
  softness = steps.rate**speed.rate_exponent / speed.rate
  reached = jnp.cumsum(steps.area, axis=1)
  before = reached - steps.area
  power, weight, left = _far(steps, softness, reached, before, exponent)
  place, of_block = jnp.arange(steps.area.size), lambda x: x[:, None]
  place = place.reshape(steps.area.shape)
  if readings is not None:
    place, of_block = readings, lambda x: x[readings // BLOCK]
    reached = reached[readings // BLOCK, readings % BLOCK]
  met = jnp.subtract.outer(place % BLOCK, jnp.arange(BLOCK)) >= 0
  way = jnp.where(met, reached[..., None] - of_block(before), 0.0)
  gone = exponent * jnp.log1p(way / of_block(softness))
  near = jnp.sum(of_block(steps.decrease) * -jnp.expm1(-gone), axis=-1)
  far = jnp.exp(-jnp.multiply.outer(reached, power)) * of_block(left)
  far = jnp.matmul(far, weight, precision='highest')
  return of_block(_before_block(steps)) + near - far


def _before_block(steps: Steps) -> jax.Array:
  """Sum of all decreases of a run before each block."""
  whole = jnp.sum(steps.decrease, axis=1)
  return _rates.carry(1.0 - steps.begins, jnp.ones_like(whole), whole)


def _far(
  steps: Steps,
  softness: jax.Array,
  reached: jax.Array,
  before: jax.Array,
  exponent: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Exponents and weights `[nodes]`, and what is left, `[blocks, nodes]`.

  What is left of the decreases of all earlier blocks at a reading is the sum
  over nodes of `weights * left * exp(-exponents * area of this block)`.
  """
  span = jnp.sum(reached[:, -1]) + jnp.max(softness)
  power, log_power, log_weight = _nodes(exponent, jnp.min(softness), span)
  total, outer = reached[:, -1:], jnp.multiply.outer
  # In one exponential, since either power alone may leave the range of floats.
  powers = exponent * jnp.add.outer(jnp.log(softness), log_power)
  terms = jnp.exp(powers - outer(total - before + softness, power))
  new = jnp.einsum('bk,bkn->bn', steps.decrease, terms, precision='highest')
  fade = jnp.exp(-outer(total[:, 0], power))
  left = _rates.carry(1.0 - steps.begins, fade, new)
  return power, jnp.exp(log_weight), left


def _nodes(
  exponent: jax.Array, shortest: jax.Array, longest: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Nodes of the integral for arguments in [shortest, longest].

  Returns:
    The nodes, their logarithms, and the logarithms of their weights, but for
    the power of the node that belongs to the integrand.
  """
  double = shortest.dtype == jnp.float64
  count, digits = (64, 14) if double else (48, 8)
  reach = digits * np.log(10.0)
  fixed = jax.lax.stop_gradient  # the value does not depend on the places
  origin = -jnp.log(fixed(longest))
  first = origin + jnp.log(fixed(exponent) / reach)
  last = np.log(reach) - jnp.log(fixed(shortest))
  places, width = jnp.linspace(first, last, count, retstep=True)
  bend = jnp.exp(origin - places)
  log_node = places - bend
  log_weight = jnp.log(width * (1.0 + bend)) - special.gammaln(exponent)
  return jnp.exp(log_node), log_node, log_weight
