"""The parity of the last N bits, and a recurrent network with timescales.

The core of `parity_curricula`: what is drawn, what is right, and the network.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

FIRST = 2
"""The least N; level 0 is the parity of this many bits."""


class Params(NamedTuple):
  """Weights of the network.

  Attributes:
    recurrent: `[units, units]`; its diagonal is not read.
    inputs: `[units]`.
    bias: `[units]`.
    tau: `[units]`, timescales in steps; what lies below 1 counts as 1.
    heads: `[levels, units, 2]`.
    head_biases: `[levels, 2]`.
  """

  recurrent: jax.Array
  inputs: jax.Array
  bias: jax.Array
  tau: jax.Array
  heads: jax.Array
  head_biases: jax.Array


class Bits(NamedTuple):
  """Sequences of one length, the last bit last.

  Attributes:
    bits: `[batch, longest]` float32, 0 or 1.
    length: int32 scalar: only so many of the last ones are shown.
    start: `[batch, units]`, where the network begins.
  """

  bits: jax.Array
  length: jax.Array
  start: jax.Array


def longest(num_levels: int) -> int:
  """Bits in the longest sequence of `num_levels` levels.

  Example:
    >>> longest(1), longest(7)
    (9, 33)
  """
  last = FIRST + num_levels - 1
  return 4 * last + 1


def draw_bits(
  key: jax.Array, level: Any, *, num_levels: int, batch: int, units: int
) -> Bits:
  """Draws sequences for a level, the rate of ones anew for each.

  With N = `FIRST + level` the length is uniform in `[N + 2, 4 N + 2)`, the
  same for the batch.

  Args:
    key: of the draw.
    level: int32 scalar, may be traced.
    num_levels: of the curriculum; gives the shape.
    batch: number of sequences.
    units: of the network that begins at `start`, uniform in `[0, 0.1)`.

  Example:
    >>> drawn = draw_bits(
    ...   jax.random.key(0), 1, num_levels=2, batch=4, units=3
    ... )
    >>> drawn.bits.shape, 5 <= int(drawn.length) < 14
    ((4, 13), True)
  """
  length_key, rate_key, bit_key, start_key = jax.random.split(key, 4)
  n = FIRST + jnp.asarray(level, jnp.int32)
  length = jax.random.randint(length_key, (), n + 2, 4 * n + 2)
  rate = jax.random.uniform(rate_key, (batch, 1))
  noise = jax.random.uniform(bit_key, (batch, longest(num_levels)))
  start = 0.1 * jax.random.uniform(start_key, (batch, units))
  return Bits((noise < rate).astype(jnp.float32), length, start)


def parities(bits: jax.Array, num_levels: int) -> jax.Array:
  """The parity of the last `FIRST`, `FIRST + 1`, ... bits.

  Args:
    bits: `[batch, longest]`, 0 or 1.
    num_levels: how many of them.

  Returns:
    `[batch, num_levels]` int32.

  Example:
    >>> parities(jnp.array([[1.0, 1.0, 0.0, 1.0]]), 3).tolist()
    [[1, 0, 1]]
  """
  last = bits[:, ::-1][:, : FIRST + num_levels - 1].astype(jnp.int32)
  return (jnp.cumsum(last, axis=1) % 2)[:, FIRST - 1 :]


def majority(n: int) -> float:
  """Share of the more frequent parity of N bits, their rate being uniform.

  For a rate r, the mean of (-1)^ones is (1 - 2r)^N, and that of this over all
  rates 1 / (N + 1) for an even N and 0 for an odd one.

  Example:
    >>> majority(3), majority(4)
    (0.5, 0.6)
  """
  return 0.5 if n % 2 else 0.5 + 0.5 / (n + 1)


def init_params(key: jax.Array, *, units: int, num_levels: int) -> Params:
  """Weights as PyTorch's linear layers begin, timescales in `[1, 2)`."""
  keys = jax.random.split(key, 6)
  bound = units**-0.5

  def uniform(key: jax.Array, shape: Any, bound: float) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

  return Params(
    uniform(keys[0], (units, units), bound),
    uniform(keys[1], (units,), 1.0),
    uniform(keys[2], (units,), 1.0),
    1 + jax.random.uniform(keys[3], (units,)),
    uniform(keys[4], (num_levels, units, 2), bound),
    uniform(keys[5], (num_levels, 2), bound),
  )


def cell(params: Params, state: jax.Array, bit: jax.Array) -> jax.Array:
  """One step: `LeakyReLU((1 - 1/tau) h + (W h + b + u x) / tau)`.

  Args:
    params: the weights.
    state: `[batch, units]`.
    bit: `[batch]`.

  Returns:
    `[batch, units]`.
  """
  units = params.bias.shape[0]
  weights = params.recurrent * (1 - jnp.eye(units))
  rate = 1 / jnp.maximum(params.tau, 1.0)
  drive = (
    state @ weights.T + params.bias[None] + bit[:, None] * params.inputs[None]
  )
  return jax.nn.leaky_relu((1 - rate)[None] * state + rate[None] * drive)


def run_network(params: Params, drawn: Bits) -> jax.Array:
  """The state `[batch, units]` after the last bit.

  The steps before a sequence begins are skipped, not masked: not under `vmap`,
  which would make them all.
  """
  steps = drawn.bits.shape[1]

  def step(state: jax.Array, inputs: Any) -> Any:
    bit, count = inputs
    shown = count >= steps - drawn.length
    advance = lambda state: cell(params, state, bit)
    return jax.lax.cond(shown, advance, lambda state: state, state), None

  inputs = drawn.bits.T, jnp.arange(steps)
  return jax.lax.scan(step, drawn.start, inputs)[0]


def read_out(params: Params, state: jax.Array) -> jax.Array:
  """Logits `[batch, levels, 2]` of all heads."""
  return (
    jnp.einsum('bu,luc->blc', state, params.heads) + params.head_biases[None]
  )
