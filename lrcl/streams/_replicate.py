"""Streams side by side, so that a sweep over seeds is one program."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from lrcl.streams._iterator import IteratorPlan
from lrcl.streams._sources import Source
from lrcl.streams._stacked import StackedPlan
from lrcl.streams._stream import EvalSet, Stream


def replicate(streams: Sequence[Stream]) -> Stream:
  """Stacks streams over the same data that differ in seed or class order.

  Args:
    streams: `S` streams with one source, the same phases, batch size and
      shapes. Their plans, tables and test rows may differ. Give all of them
      one and the same `transform` function.

  Returns:
    A stream whose chunks have indices and weights `[steps, S, batch]`, and
    whose tables and test rows have a leading axis `S`. Test sets of
    different sizes are padded with weight 0.

  Raises:
    ValueError: naming what differs, where something other than that does.

  Example:
    >>> from lrcl.streams import split
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.array([0, 1, 2, 3, 0, 1, 2, 3])}
    >>> stack = replicate([
    ...   split(train, num_tasks=2, batch_size=2, seed=seed) for seed in (0, 1)
    ... ])
    >>> stack.replicas, stack.chunk(0, 3).indices.shape
    (2, (3, 2, 2))
  """
  streams = list(streams)
  if not streams:
    raise ValueError('replicate: there are no streams; give at least one.')
  if any(isinstance(s.plan, IteratorPlan | StackedPlan) for s in streams):
    raise ValueError('replicate: only single plans can be stacked.')
  if any(s.arms is not None for s in streams):
    raise ValueError(
      'replicate: a stream that learns which task comes next cannot be '
      'stacked; run its seeds one by one.'
    )
  for number, other in enumerate(streams[1:], 1):
    for name, differs in _DIFFERENCES.items():
      if differs(streams[0], other):
        raise ValueError(
          f'replicate: stream {number} and stream 0 differ in {name}; they '
          'may differ in their seeds, rows and tables only.'
        )
  return dataclasses.replace(
    streams[0],
    plan=StackedPlan(tuple(s.plan for s in streams)),
    tables=_stack([s.tables for s in streams]),
    evaluation=_stack_sets([s.evaluation for s in streams]),
  )


def _stack(trees: Sequence[Any]) -> Any:
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _stack_sets(sets: Sequence[EvalSet | None]) -> EvalSet | None:
  found = [one for one in sets if one is not None]
  if not found:
    return None
  most = max(one.indices.shape[1] for one in found)
  fill = lambda array, mode: np.pad(
    array, ((0, 0), (0, most - array.shape[1])), mode
  )
  return dataclasses.replace(
    found[0],
    indices=np.stack([fill(one.indices, 'edge') for one in found]),
    weights=np.stack([fill(one.weights, 'constant') for one in found]),
    tables=_stack([one.tables for one in found]),
  )


def _shapes(tree: Any) -> Any:
  leaves, structure = jax.tree.flatten(tree)
  return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _same_source(a: Source, b: Source) -> bool:
  if not (isinstance(a, Mapping) and isinstance(b, Mapping)):
    return a == b
  same = lambda x, y: (
    x is y
    or (x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y))
  )
  return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)


def _test_sets_differ(a: Stream, b: Stream) -> bool:
  first, second = a.evaluation, b.evaluation
  if first is None or second is None:
    return first is not second
  return (
    len(first.indices) != len(second.indices)
    or not _same_source(first.source, second.source)
    or first.prepare != second.prepare
  )


_DIFFERENCES: Mapping[str, Callable[[Stream, Stream], bool]] = {
  'batch size': lambda a, b: a.batch_size != b.batch_size,
  'steps per task or boundaries': lambda a, b: (
    a.plan.timetable != b.plan.timetable
  ),
  'number of tasks': lambda a, b: a.num_tasks != b.num_tasks,
  'number of classes': lambda a, b: a.num_classes != b.num_classes,
  'the shapes of tables': lambda a, b: _shapes(a.tables) != _shapes(b.tables),
  'transform or prepare': lambda a, b: a.prepare != b.prepare,
  'source': lambda a, b: not _same_source(a.source, b.source),
  'test sets': _test_sets_differ,
}
