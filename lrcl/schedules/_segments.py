"""The primitive under every schedule: clipped segments over shapes.

A schedule is a row of segments. The lengths of what is done and of what is
left of a segment are taken in integers and only then made floats, and the
segment's shape joins its two values. Hence a decay that starts at step 2**30
is as exact as one that starts at 0.

Segments of one shape that go the same way are evaluated once, as a group, with
the lengths and values of the one that the step is in; what they agree on stays
a constant. The fractions are clipped, so no group is ever asked for what it
does not have, and the row's values and gradients are finite.
"""

from collections.abc import Sequence
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import is_concrete
from lrcl.schedules._families import Value
from lrcl.schedules._profiles import Shape, hold
from lrcl.schedules._steps import check_total, compiled, normal_step

_FEW = 64
"""Up to so many entries a chain of selects is faster than a table."""


class Segment(NamedTuple):
  """`steps` steps from `start` to `end`; a segment of no steps is left out."""

  steps: int
  start: Value
  end: Value
  shape: Shape


class _Placed(NamedTuple):
  """A segment in its row: read from step `begin` on, moving from `first`."""

  begin: int
  first: int
  steps: int
  start: Any
  end: Any
  shape: Shape


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
  total = check_total(where, sum(segment.steps for segment in row))
  placed = _place([segment for segment in row if segment.steps > 0])

  def evaluate(step: jax.Array) -> jax.Array:
    step = normal_step(where, step)
    if repeat_from is not None:
      again = jnp.maximum(step - repeat_from, 0)
      again = jax.lax.rem(again, jnp.full_like(again, total - repeat_from))
      step = jnp.where(step < repeat_from, step, repeat_from + again)
    return _evaluate(placed, step)

  return compiled(where, evaluate)


def fractions(
  step: jax.Array, first: Any, steps: Any, *, stays: bool = True
) -> tuple[jax.Array, jax.Array]:
  """What is done and what is left of a phase, each clipped, exact at 0 and 1.

  In between they are within an ulp: a product with the reciprocal of `steps`,
  where that is known, is what XLA makes of a quotient in any case.

  Args:
    step: what `normal_step` returns.
    first: the phase's first step.
    steps: its length, at least 1.
    stays: whether the phase is read after its end; if not, a 1 of what is done
      need not be exact.
  """
  first, whole = (jnp.asarray(x, step.dtype) for x in (first, steps))
  done = jnp.clip(step - first, 0, whole)
  left = whole - done
  if is_concrete(steps):
    part = lambda x: x.astype(jnp.float32) * np.float32(1 / steps)
  else:
    part = lambda x: x.astype(jnp.float32) / whole.astype(jnp.float32)
  of_done = jnp.where(left == 0, 1.0, part(done)) if stays else part(done)
  return of_done, jnp.where(done == 0, 1.0, part(left))


def _place(row: Sequence[Segment]) -> list[_Placed]:
  """Places the segments; a hold becomes part of what starts at its value."""
  firsts = itertools.accumulate((s.steps for s in row[:-1]), initial=0)
  placed, begin = [], None
  for first, segment, after in zip(firsts, row, [*row[1:], None], strict=True):
    start, end = _constant(segment.start), _constant(segment.end)
    begin = first if begin is None else begin
    if after is not None and segment.shape == hold and after.shape.tame:
      if _same(start, _constant(after.start)):
        continue
    placed.append(
      _Placed(begin, first, segment.steps, start, end, segment.shape)
    )
    begin = None
  return placed


def _constant(value: Value) -> Any:
  """A value on the host, so as to touch no device; or what is traced."""
  if is_concrete(value):
    return np.float32(np.asarray(value))
  return jnp.asarray(value, jnp.float32)


def _same(a: Any, b: Any) -> bool:
  known = (int, np.generic)
  return a is b or (isinstance(a, known) and isinstance(b, known) and a == b)


def _group_of(each: _Placed) -> tuple[Shape, bool | None]:
  """The shape, and whether the segment falls; None where that is traced."""
  known = is_concrete(each.start) and is_concrete(each.end)
  return each.shape, bool(each.start > each.end) if known else None


def _evaluate(placed: list[_Placed], step: jax.Array) -> jax.Array:
  """The value of the row at a step: that of the group it is in."""
  begins = [each.begin for each in placed]
  groups = [_group_of(each) for each in placed]
  values = {}
  for group in dict.fromkeys(groups):
    inside = [other == group for other in groups]
    members = list(itertools.compress(placed, inside))
    done, left = _fractions_of(members, step, stays=inside[-1])
    if not members[0].shape.tame:
      chosen = _pick(step, begins, inside)
      done, left = (jnp.where(chosen, part, 0.5) for part in (done, left))
    start, end = (_column(members, step, name) for name in ('start', 'end'))
    values[group] = members[0].shape.value(start, end, done, left)
  value = _select(step, _runs(begins, [values[group] for group in groups]))
  return jnp.broadcast_to(value, step.shape)


def _fractions_of(
  members: list[_Placed], step: jax.Array, *, stays: bool
) -> tuple[jax.Array, jax.Array]:
  first, steps = (_column(members, step, name) for name in ('first', 'steps'))
  return fractions(step, first, steps, stays=stays)


def _column(members: list[_Placed], step: jax.Array, name: str) -> Any:
  """One property of the segment, out of `members`, that the step is in."""
  begins = [each.begin for each in members]
  return _pick(step, begins, [getattr(each, name) for each in members])


_Runs = list[tuple[int, Any]]
"""Entries that differ from the one before, with the step they begin at."""


def _runs(begins: Sequence[int], column: Sequence[Any]) -> _Runs:
  before = [None, *column[:-1]]
  entries = zip(begins, column, before, strict=True)
  return [(begin, now) for begin, now, last in entries if not _same(now, last)]


def _pick(step: jax.Array, begins: Sequence[int], column: Sequence[Any]) -> Any:
  """The scalar of the segment that the step is in; as it is if all agree."""
  runs = _runs(begins, column)
  if len(runs) <= _FEW:
    return _select(step, runs)
  edges = jnp.asarray(np.array([begin for begin, _ in runs[1:]]), step.dtype)
  index = jnp.searchsorted(edges, step, side='right', method='scan_unrolled')
  return jnp.stack([jnp.asarray(entry) for _, entry in runs])[index]


def _select(step: jax.Array, runs: _Runs) -> Any:
  value = runs[-1][1]
  for (_, entry), (end, _) in reversed(list(itertools.pairwise(runs))):
    value = jnp.where(step < end, entry, value)
  return value
