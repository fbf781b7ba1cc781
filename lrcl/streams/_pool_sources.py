"""Streams over data of their own, brought to one source."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from lrcl.streams._plan import Plan
from lrcl.streams._sources import Source
from lrcl.streams._stream import Stream


def pool_sources(streams: Sequence[Stream]) -> list[Stream]:
  """Puts the data of several streams into one source, which they share.

  `replicate` takes streams over the same data only; those that draw data of
  their own (`instance_test`) come through here. Every stream has its rows
  behind those of the stream before it, for training and for testing, and
  gives the same batches as before.

  Args:
    streams: single streams of listed tasks over arrays in memory, with columns
      of equal names, shapes and dtypes.

  Returns:
    The streams in their order. The rows are copied once.

  Raises:
    ValueError: for other streams, or if columns do not fit together.

  Example:
    >>> from lrcl.streams import instance_test, replicate
    >>> train = {'inputs': np.random.rand(60, 4).astype(np.float32),
    ...          'labels': np.arange(60) % 3}
    >>> drawn = [
    ...   instance_test(train, num_sets=2, ways=5, draw_seed=i) for i in (0, 1)
    ... ]
    >>> replicate(pool_sources(drawn)).replicas
    2
  """
  streams = list(streams)
  if not streams:
    raise ValueError('pool_sources: there are no streams; give at least one.')
  source, starts = _join('training', [s.source for s in streams])
  found = [
    dataclasses.replace(s, source=source, plan=_shift(s.plan, start))
    for s, start in zip(streams, starts, strict=True)
  ]
  sets = [s.evaluation for s in streams if s.evaluation is not None]
  if not sets:
    return found
  if len(sets) < len(streams):
    raise ValueError('pool_sources: only some of the streams have test sets.')
  source, starts = _join('test', [one.source for one in sets])
  sets = [
    dataclasses.replace(
      one, source=source, indices=(one.indices + start).astype(np.int32)
    )
    for one, start in zip(sets, starts, strict=True)
  ]
  pairs = zip(found, sets, strict=True)
  return [dataclasses.replace(s, evaluation=one) for s, one in pairs]


def _join(
  which: str, sources: Sequence[Source]
) -> tuple[dict[str, np.ndarray], list[int]]:
  """All rows, and where those of each source begin."""
  columns: list[Mapping[str, np.ndarray]] = [
    source for source in sources if isinstance(source, Mapping)
  ]
  if len(columns) < len(sources):
    raise ValueError(f'pool_sources: {which} rows must be arrays in memory.')
  kinds = [
    {name: (x.shape[1:], x.dtype) for name, x in one.items()} for one in columns
  ]
  for number, kind in enumerate(kinds):
    if kind != kinds[0]:
      raise ValueError(
        f'pool_sources: {which} rows of stream {number} are {kind}; those of '
        f'stream 0 are {kinds[0]}.'
      )
  lengths = [len(one['labels']) for one in columns]
  joined = {
    name: np.concatenate([one[name] for one in columns]) for name in kinds[0]
  }
  return joined, [0, *np.cumsum(lengths)[:-1].tolist()]


def _shift(plan: Any, start: int) -> Plan:
  if not isinstance(plan, Plan):
    raise ValueError('pool_sources: give single streams of listed tasks.')
  pools = tuple((pool + start).astype(np.int32) for pool in plan.pools)
  return dataclasses.replace(plan, pools=pools)
