"""The primitive under every schedule: clipped segments over shapes.

A schedule is a row of segments. A step is looked up in the row, the lengths
of what is done and of what is left of its segment are taken in integers and
only then made floats, and the segment's shape joins its two values. Hence a
decay that starts at step 2**30 is as exact as one that starts at 0.
"""

from collections.abc import Callable, Sequence
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import is_concrete
from lrcl.schedules._profiles import Shape, Value

LAST_STEP = 2**31 - 1
"""The last step that an int32 counter can reach."""


class Segment(NamedTuple):
  """`steps` steps from `start` to `end`; a segment of no steps is left out."""

  steps: int
  start: Value
  end: Value
  shape: Shape


class _Tables(NamedTuple):
  """The columns of a row of segments, each indexed by the segment."""

  first: np.ndarray
  last: np.ndarray
  kind: np.ndarray
  start: Any
  end: Any


def segments(
  where: str, row: Sequence[Segment], *, repeat_from: int | None = None
) -> optax.Schedule:
  """Makes a schedule of a row of segments.

  After the last segment the value stays at that segment's end.

  Args:
    where: the name of the schedule, for the messages.
    row: the segments; at least one has steps.
    repeat_from: where given, the steps from here to the end of the row are
      repeated for ever.

  Returns:
    A schedule, int or float steps to float32, elementwise over arrays. Steps
    below 0 count as 0.

  Raises:
    ValueError: if the row is longer than int32 can count; and when called, if
      a concrete step is.
  """
  row = [segment for segment in row if segment.steps > 0]
  total = check_total(where, sum(segment.steps for segment in row))
  shapes = list(dict.fromkeys(segment.shape for segment in row))
  tables = _make_tables(row, shapes)

  def evaluate(step: jax.Array) -> jax.Array:
    step = normal_step(where, step)
    if repeat_from is not None:
      later = repeat_from + (step - repeat_from) % (total - repeat_from)
      step = jnp.where(step < repeat_from, step, later)
    return _look_up(tables, shapes, step)

  return compiled(where, evaluate)


def compiled(
  where: str, evaluate: Callable[[jax.Array], jax.Array]
) -> optax.Schedule:
  """Makes a schedule of a traceable function that is named after `where`.

  Compiled as one function a schedule gives outside of jit the very bits that
  it gives inside: op by op, no sum would be fused with its product.
  """
  evaluate.__name__ = where
  evaluate = jax.jit(evaluate)

  def schedule(step: Any) -> jax.Array:
    check_step(where, step)
    return evaluate(step)

  return schedule


def check_total(where: str, total: int) -> int:
  """Returns `total`, the length of a schedule, if int32 can count it.

  Raises:
    ValueError: if it cannot.
  """
  if total > LAST_STEP:
    raise ValueError(
      f'{where}: all phases together take {total} steps; they must end by '
      f'step {LAST_STEP}, the last that int32 holds.'
    )
  return total


def check_step(where: str, step: Any) -> None:
  """Refuses a concrete step, or an array of them, that int32 cannot hold.

  Raises:
    ValueError: if it is beyond int32. A traced one of a wider type is clipped.
  """
  if not is_concrete(step) or isinstance(step, jax.Array):
    return
  array = np.asarray(step)
  if array.dtype.kind not in 'iuO' or not array.size:
    return
  if array.max() > LAST_STEP or array.min() < -LAST_STEP:
    raise ValueError(
      f'{where}: the step is {step}; it must be <= {LAST_STEP}, the last that '
      'int32 holds.'
    )


def normal_step(where: str, step: Any) -> jax.Array:
  """Turns a step, or an array of them, into int32 or float32, at least 0.

  Raises:
    TypeError: if it is no number.
  """
  step = jnp.asarray(step)
  if jnp.issubdtype(step.dtype, jnp.floating):
    return jnp.maximum(step.astype(jnp.float32), 0.0)
  if not jnp.issubdtype(step.dtype, jnp.integer):
    raise TypeError(
      f'{where}: the step is of type {step.dtype}; it must be an int or float.'
    )
  if jnp.iinfo(step.dtype).max > LAST_STEP:
    step = jnp.minimum(step, LAST_STEP)
  return jnp.maximum(step.astype(jnp.int32), 0)


def fractions(
  step: jax.Array, first: Value, last: Value
) -> tuple[jax.Array, jax.Array]:
  """What is done and what is left of a phase; each exact, each clipped.

  The phase must have steps, and `first`, `last` the type of `step`.
  """
  done = jnp.clip(step - first, 0, last - first)
  left = jnp.clip(last - step, 0, last - first)
  # Their sum is the length. Were it a constant, XLA would multiply by its
  # rounded reciprocal instead of dividing, and n / n need not be 1.
  length = (done + left).astype(jnp.float32)
  return done.astype(jnp.float32) / length, left.astype(jnp.float32) / length


def apply_shape(
  shape: Shape, chosen: Any, start: Any, end: Any, done: Any, left: Any
) -> jax.Array:
  """The value of `shape` where `chosen`, else some finite value.

  Where it is not chosen the shape sees harmless arguments: a `where` around
  its value alone would let a NaN into the gradient.
  """
  start, end = (jnp.where(chosen, value, 1.0) for value in (start, end))
  done, left = (jnp.where(chosen, part, 0.5) for part in (done, left))
  return shape(start, end, done, left)


def _make_tables(row: Sequence[Segment], shapes: list[Shape]) -> _Tables:
  edges = list(itertools.accumulate((s.steps for s in row), initial=0))
  return _Tables(
    first=np.array(edges[:-1], np.int32),
    last=np.array(edges[1:], np.int32),
    kind=np.array([shapes.index(s.shape) for s in row], np.int32),
    start=_column([s.start for s in row]),
    end=_column([s.end for s in row]),
  )


def _column(values: Sequence[Value]) -> np.ndarray | jax.Array:
  """Stacks values; on the host where possible, so as to touch no device."""
  if all(is_concrete(value) for value in values):
    return np.array([np.asarray(value) for value in values], np.float32)
  return jnp.stack([jnp.asarray(value, jnp.float32) for value in values])


def _look_up(
  tables: _Tables, shapes: Sequence[Shape], step: jax.Array
) -> jax.Array:
  edges = jnp.asarray(tables.first[1:], step.dtype)
  index = jnp.searchsorted(edges, step, side='right', method='compare_all')
  at = jax.tree.map(lambda column: jnp.asarray(column)[index], tables)
  first, last = at.first.astype(step.dtype), at.last.astype(step.dtype)
  done, left = fractions(step, first, last)
  value = at.start
  for kind, shape in enumerate(shapes):
    chosen = at.kind == kind
    shaped = apply_shape(shape, chosen, at.start, at.end, done, left)
    value = jnp.where(chosen, shaped, value)
  return value
