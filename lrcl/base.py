"""The vocabulary that every part of LRCL speaks: types, extra args, checks."""

from collections.abc import Callable, Mapping
import numbers
from typing import Any, NamedTuple, Protocol

import jax
from jax import core
import jax.numpy as jnp
import numpy as np
import optax

Params = Any
"""A pytree of arrays."""

Batch = Mapping[str, jax.Array]
"""One minibatch: `inputs`, `labels`, `weight[batch]`, `task[batch]`, and
`class_mask[batch, classes]` where a scenario masks classes."""

LossFn = Callable[[jax.Array, Batch], jax.Array]
"""`loss_fn(logits, batch) -> losses[batch]`, float32, unweighted."""

ScheduleLike = optax.Schedule | optax.schedules.StatefulSchedule | float
"""What sets a rate: a schedule, a schedule with a state, or a constant."""

EXTRA_ARGS = ('value', 'grad_fn', 'value_fn', 'batch', 'task_id', 'logits')
"""The extra args that a training step passes to every transformation.

`value`: scalar loss of the batch, weighted by `batch['weight']`.
`grad_fn(params, batch)`: gradient of that loss.
`value_fn(params, batch)`: per-example losses, shape `[batch]`.
`batch`: the incoming minibatch.
`task_id`: int32 scalar, the current phase of the stream.
`logits`: the model's outputs for `batch` at `params`.
"""


class UnitLayer(NamedTuple):
  """A hidden layer, and who reads its units.

  Attributes:
    name: of the layer, such as `Dense_0` or `block/Dense_0`. Its leaves are
      `name/kernel` `[..., inputs, units]` and, if there is one, `name/bias`.
    activation: the name of its outputs after the nonlinearity.
    readers: the names of all layers that take these outputs as their inputs,
      with a kernel `[..., units, outputs]`; `[..., positions * units, outputs]`
      behind a flattened image, the units last.
    initializer: draws a new kernel, as in `jax.nn.initializers`.
  """

  name: str
  activation: str
  readers: tuple[str, ...]
  initializer: Callable[..., jax.Array] = jax.nn.initializers.lecun_normal()


ActivationsFn = Callable[[Params, Batch], Mapping[str, jax.Array]]
"""`activations_fn(params, batch)`: outputs of hidden layers after their
nonlinearity, by name, each `[batch, ..., units]`."""


class ApplyFn(Protocol):
  """A model as a pure function."""

  def __call__(
    self,
    params: Params,
    inputs: jax.Array,
    *,
    rng: jax.Array | None,
    model_state: Any,
    train: bool,
  ) -> tuple[jax.Array, Any]:
    """Returns `(logits, model_state)`."""
    ...


def weighted_mean(losses: jax.Array, weight: jax.Array) -> jax.Array:
  """Mean of `losses` under `weight`, both `[batch]`; 0 where all weigh 0."""
  total = jnp.sum(weight)
  mean = jnp.sum(losses * weight) / jnp.maximum(total, 1e-12)
  return jnp.where(total > 0, mean, 0.0)


def unit_means(values: jax.Array, weight: jax.Array | None) -> jax.Array:
  """Means `[units]` of `[batch, ..., units]`, in float32.

  Args:
    values: one value per row, position and unit.
    weight: `[batch]`, of the rows; None: all alike. Where all weigh 0, so do
      the means.
  """
  wide = values.astype(jnp.float32)
  rows = wide.mean(tuple(range(1, values.ndim - 1)))
  if weight is None:
    return rows.mean(0)
  total = jnp.sum(weight, dtype=jnp.float32)
  mean = weight.astype(jnp.float32) @ rows / jnp.maximum(total, 1e-12)
  return jnp.where(total > 0, mean, 0.0)


def unit_scores(size: jax.Array) -> jax.Array:
  """Mean absolute activations `[units]` over their mean in the layer."""
  return size / (jnp.mean(size) + 1e-9)


def restrict(logits: jax.Array, batch: Batch, *, where: str) -> jax.Array:
  """Puts the classes outside `batch['class_mask']` out of reach, if any.

  Args:
    logits: `[batch, ..., classes]`.
    batch: optionally `class_mask[batch, classes]`.
    where: the public function that was called, for the message.

  Returns:
    `logits`, with -1e9 for every class outside the mask: finite, so that
    neither a loss nor a gradient is ever NaN.

  Raises:
    ValueError: if the mask does not fit the logits.
  """
  mask = batch.get('class_mask')
  if mask is None:
    return logits
  if mask.shape != (logits.shape[0], logits.shape[-1]):
    raise ValueError(
      f'{where}: class_mask has shape {mask.shape} and logits {logits.shape}; '
      'the mask must be [batch, classes].'
    )
  middle = (1,) * (logits.ndim - 2)
  mask = mask.reshape(mask.shape[0], *middle, mask.shape[-1])
  return jnp.where(jnp.broadcast_to(mask, logits.shape), logits, -1e9)


def is_concrete(value: Any) -> bool:
  """Whether `value` can be read now, that is, is not traced by JAX."""
  return not isinstance(value, core.Tracer)


def check_steps(where: str, name: str, value: Any, minimum: int = 0) -> int:
  """Returns `value` as an int; phases are static and never too short.

  Args:
    where: the public function that was called, for the message.
    name: the argument's name, for the message.
    value: what the caller passed.
    minimum: the least number of steps that makes sense.

  Raises:
    ValueError: if `value` is not a whole number or below `minimum`.
  """
  whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not whole:
    raise ValueError(
      f'{where}: {name} is {value!r}; it must be a whole number of steps.'
    )
  if int(value) < minimum:
    raise ValueError(f'{where}: {name} is {value}; it must be >= {minimum}.')
  return int(value)


def check_value(
  where: str,
  name: str,
  value: Any,
  *,
  above: float | None = None,
  minimum: float | None = None,
  maximum: float | None = None,
) -> None:
  """Checks the range of a number that may be traced; skips one that is.

  Args:
    where: the public function that was called, for the message.
    name: the argument's name, for the message.
    value: what the caller passed.
    above: the value must be greater than this.
    minimum: the value must not be less than this.
    maximum: the value must not be greater than this.

  Raises:
    ValueError: if a concrete `value` is not finite or out of range.
  """
  if not is_concrete(value):
    return
  value = np.asarray(value)  # not jnp: under jit its result would be traced
  rules = []
  if not bool(np.isfinite(value)):
    rules.append('finite')
  if above is not None and not bool(value > above):
    rules.append(f'> {above:g}')
  if minimum is not None and not bool(value >= minimum):
    rules.append(f'>= {minimum:g}')
  if maximum is not None and not bool(value <= maximum):
    rules.append(f'<= {maximum:g}')
  if rules:
    raise ValueError(
      f'{where}: {name} is {value}; it must be {" and ".join(rules)}.'
    )
