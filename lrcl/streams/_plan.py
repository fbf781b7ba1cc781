"""The plan of a stream: which rows each step trains on."""

import bisect
from collections.abc import Iterable, Sequence
import dataclasses
import functools
import hashlib
from typing import NamedTuple

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._epochs import draw_epochs, pad_to_batches
from lrcl.streams._plan_checks import check_chunk, check_hold

ENDLESS = 2**31 - 1
"""The number of steps of a plan that does not end: the largest int32."""


class PlanChunk(NamedTuple):
  """What a run of consecutive steps trains on.

  Attributes:
    task_ids: `[steps]` int32, the phase of each step.
    indices: `[steps, batch]` int32, rows of the stream's source. A stack of
      `S` plans has `[steps, S, batch]`.
    weights: float32 in the shape of `indices`; 0 marks padding.
  """

  task_ids: np.ndarray
  indices: np.ndarray
  weights: np.ndarray


class Phase(NamedTuple):
  """A run of steps in one task.

  Attributes:
    task: which pool of rows it draws from.
    start: its first step.
    steps: its length.
    offset: how many steps the task has had in earlier phases. A task that
      returns goes on with its epochs instead of repeating them.
  """

  task: int
  start: int
  steps: int
  offset: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
  """A pure function from a step to rows, for one stream.

  Every epoch of a task visits each row of the task's pool once, in an order
  that depends on `(seed, task, epoch)` only. Epochs end in a batch of their
  own: where the pool does not divide into batches, the last batch of each
  epoch is filled up with rows of weight 0 (rows of the same pool), so there
  is one shape. A task's epoch takes `ceil(rows / batch_size)` steps.

  Attributes:
    pools: for each task the rows of the source it may visit, int32.
    phases: which task is trained when, without gaps from step 0 on.
    batch_size: rows in a batch.
    seed: a whole number that shuffles, or None: rows in their own order.
  """

  pools: tuple[np.ndarray, ...]
  phases: tuple[Phase, ...]
  batch_size: int
  seed: int | None

  @property
  def replicas(self) -> int | None:
    """None: this is a single plan."""
    return None

  @property
  def num_steps(self) -> int:
    """Length of the plan in steps."""
    return self.phases[-1].start + self.phases[-1].steps

  @property
  def boundaries(self) -> tuple[int, ...]:
    """Steps at which a new task begins, without 0."""
    return self._boundaries

  @functools.cached_property
  def _boundaries(self) -> tuple[int, ...]:
    pairs = zip(self.phases, self.phases[1:], strict=False)
    return tuple(b.start for a, b in pairs if a.task != b.task)

  @property
  def timetable(self) -> tuple[Phase, ...]:
    """What decides when a step is in which task: the phases."""
    return self.phases

  def next_boundary(self, step: int) -> int:
    """The first step after `step` at which a task begins, or the end."""
    after = bisect.bisect_right(self.boundaries, step)
    if after == len(self.boundaries):
      return self.num_steps
    return self.boundaries[after]

  @property
  def most_task_rows(self) -> int:
    """Rows of the largest task."""
    return max(len(pool) for pool in self.pools)

  @property
  def digest(self) -> str:
    """sha256 of everything that decides the plan, the pools included."""
    return self._digest

  @functools.cached_property
  def _digest(self) -> str:
    sha = hashlib.sha256()
    phases = [tuple(map(int, phase)) for phase in self.phases]
    sha.update(f'plan 1|{self.seed}|{self.batch_size}|{phases}|'.encode())
    for pool in self.pools:
      sha.update(f'{pool.shape}|'.encode())
      sha.update(np.ascontiguousarray(pool, '<i4').tobytes())
    return sha.hexdigest()

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """The rows of `steps` steps from `start` on; costs the same anywhere.

    Raises:
      ValueError: if a step lies outside the plan.
    """
    start, steps = check_chunk('Plan', start, steps, self.num_steps)
    shape = (steps, self.batch_size)
    out = PlanChunk(
      np.empty(steps, np.int32), np.empty(shape, np.int32), np.ones(shape, 'f4')
    )
    done = 0
    while done < steps:
      phase = self._phase_at(start + done)
      count = min(steps - done, phase.start + phase.steps - start - done)
      self._fill(
        phase, start + done, PlanChunk(*(a[done:][:count] for a in out))
      )
      done += count
    return out

  def hold(self, step: int) -> 'Plan':
    """The same plan up to `step`; from there on the task of `step - 1`.

    Raises:
      ValueError: if `step` is not in `[1, num_steps]`.
    """
    check_hold(step, self.num_steps)
    last = self._phase_at(step - 1)
    before = self.phases[: self.phases.index(last)]
    last = last._replace(steps=ENDLESS - last.start)
    return dataclasses.replace(self, phases=(*before, last))

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Every row of one task once, in the order of its pool.

    Args:
      task: which task.
      batch_size: rows in a batch; the last one is padded with weight 0.

    Returns:
      `(indices, weights)`, both `[batches, batch_size]`.
    """
    if not 0 <= task < len(self.pools):
      raise ValueError(
        f'task_batches: task is {task}; the stream has {len(self.pools)}.'
      )
    return pad_to_batches(self.pools[task], batch_size)

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    return np.array([phase.start for phase in self.phases])

  def _phase_at(self, step: int) -> Phase:
    return self.phases[int(np.searchsorted(self._starts, step, 'right')) - 1]

  def _fill(self, phase: Phase, start: int, out: PlanChunk) -> None:
    pool = self.pools[phase.task]
    local = phase.offset - phase.start + np.arange(start, start + len(out[0]))
    seed = None if self.seed is None else (self.seed, phase.task)
    rank, padding = draw_epochs(local, len(pool), self.batch_size, seed)
    if padding is not None:
      out.weights[padding] = 0.0
    out.task_ids[:] = phase.task
    np.take(pool, rank, out=out.indices, mode='clip')


def make_plan(
  pools: Sequence[np.ndarray],
  phases: Iterable[tuple[int, int]],
  *,
  batch_size: int,
  seed: int | None = 0,
) -> Plan:
  """Builds a plan from rows per task and an order of tasks.

  Args:
    pools: for each task the rows of the source that belong to it.
    phases: pairs `(task, steps)` in the order in which they are trained. A
      task may return; its epochs then go on.
    batch_size: rows in a batch.
    seed: decides the order of the rows within each epoch; None keeps the
      order of the pool.

  Raises:
    ValueError: if a pool is smaller than a batch, a phase names a task that
      does not exist, or nothing is left to train.

  Example:
    >>> plan = make_plan([np.arange(5), np.arange(5, 9)], [(0, 3), (1, 2)],
    ...                  batch_size=2)
    >>> plan.num_steps, plan.boundaries
    (5, (3,))
    >>> plan.chunk(2, 2).weights
    array([[1., 0.],
           [1., 1.]], dtype=float32)
  """
  batch_size = check_steps('make_plan', 'batch_size', batch_size, 1)
  pools = tuple(np.ascontiguousarray(pool, np.int32) for pool in pools)
  for task, pool in enumerate(pools):
    if not len(pool):
      raise ValueError(f'make_plan: task {task} has no training rows.')
    if batch_size > len(pool):
      raise ValueError(
        f'make_plan: batch_size is {batch_size}, but task {task} has only '
        f'{len(pool)} training rows; take a smaller batch or fewer tasks.'
      )
  laid_out = _lay_out(phases, len(pools))
  return Plan(pools, laid_out, batch_size, None if seed is None else int(seed))


def _lay_out(
  phases: Iterable[tuple[int, int]], num_tasks: int
) -> tuple[Phase, ...]:
  start, result, offsets = 0, [], [0] * num_tasks
  for task, steps in phases:
    if not 0 <= task < num_tasks:
      raise ValueError(
        f'make_plan: a phase names task {task}; there are {num_tasks} tasks.'
      )
    steps = check_steps('make_plan', f'steps of task {task}', steps, 1)
    result.append(Phase(int(task), start, steps, offsets[task]))
    offsets[task] += steps
    start += steps
  if not result:
    raise ValueError('make_plan: there are no phases; give at least one.')
  if start > ENDLESS:
    raise ValueError(f'make_plan: {start} steps do not fit an int32.')
  return tuple(result)
