"""Batches of a grain pipeline, from any step on."""

from collections.abc import Mapping
import copy
from typing import Any

from lrcl.base import check_steps
from lrcl.streams._iterator import SeekableIterator

_MOST = 1000
"""States that are kept at a time."""


def seekable(batches: Any, *, keep_every: int = 100) -> SeekableIterator:
  """Lets `from_iterator` read a grain pipeline of batches, and resume it.

  * A `grain.MapDataset`, or anything else that has its batches by number: a
    seek costs nothing. Beyond its last batch a map dataset goes on with its
    next epoch, shuffled anew.
  * A `grain.IterDataset` or `grain.DataLoader`, or any iterator with
    `get_state` and `set_state`: states are kept in memory, one every so many
    batches, and a seek sets the nearest one before it and reads on from there.
    Where there would be more than 1,000 of them every other one is let go, so
    that a stream without an end takes no memory without an end. After a restart
    the first seek reads all batches before its step once more: give a map
    dataset where that is too long.

  Either gives the same batches at the same steps, whatever was read before, if
  the pipeline is deterministic; so put the seed into its own operations. Its
  elements are batches: dicts of `inputs` and `labels`, all of one shape
  (`.batch(n, drop_remainder=True)`). Nothing here imports grain.

  Args:
    batches: the pipeline.
    keep_every: batches between the states that are kept, at first.

  Returns:
    What `from_iterator` takes.

  Raises:
    TypeError: if `batches` has neither batches by number nor a state.
    ValueError: if `keep_every` is not positive.

  Example:
    >>> batches = [{'inputs': [[i]], 'labels': [0]} for i in range(9)]
    >>> pipeline = seekable(batches)
    >>> pipeline.seek(7)
    >>> next(pipeline)
    {'inputs': [[7]], 'labels': [0]}
  """
  keep_every = check_steps('seekable', 'keep_every', keep_every, 1)
  if hasattr(batches, '__getitem__'):
    return _ByNumber(batches)
  iterator = iter(batches) if hasattr(batches, '__iter__') else batches
  if not (hasattr(iterator, 'get_state') and hasattr(iterator, 'set_state')):
    raise TypeError(
      f'seekable: batches is {type(batches).__qualname__}; it must have '
      'batches by number, or an iterator with get_state and set_state, such as '
      'a grain MapDataset, IterDataset or DataLoader.'
    )
  return _ByState(iterator, keep_every)


class _ByNumber:
  """Batches that are read by their number."""

  def __init__(self, batches: Any):
    self._batches, self._step = batches, 0

  def seek(self, step: int) -> None:
    self._step = step

  def __next__(self) -> Mapping[str, Any]:
    try:
      batch = self._batches[self._step]
    except IndexError:
      raise StopIteration from None
    self._step += 1
    return batch


class _ByState:
  """Batches behind an iterator whose state can be set."""

  def __init__(self, iterator: Any, keep_every: int):
    self._iterator, self._keep_every = iterator, keep_every
    self._step, self._states = 0, {}
    self._keep()

  def seek(self, step: int) -> None:
    nearest = max(kept for kept in self._states if kept <= step)
    if not nearest <= self._step <= step:
      self._iterator.set_state(copy.deepcopy(self._states[nearest]))
      self._step = nearest
    while self._step < step:
      next(self)

  def __next__(self) -> Mapping[str, Any]:
    batch = next(self._iterator)
    self._step += 1
    if self._step % self._keep_every == 0:
      self._keep()
    return batch

  def _keep(self) -> None:
    if len(self._states) >= _MOST:
      self._keep_every *= 2
      every = self._keep_every
      self._states = {n: s for n, s in self._states.items() if n % every == 0}
    if self._step not in self._states and self._step % self._keep_every == 0:
      # A copy: an iterator may hand out the state that it goes on to change.
      self._states[self._step] = copy.deepcopy(self._iterator.get_state())
