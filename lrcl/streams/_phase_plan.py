"""A plan without end, whose phases are drawn and never listed."""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
from typing import Any, Protocol

import numpy as np

from lrcl.streams._digest import describe
from lrcl.streams._epochs import draw_epochs, pad_to_batches
from lrcl.streams._plan import ENDLESS, PlanChunk
from lrcl.streams._plan_checks import check_chunk, check_hold

_LOOK_AHEAD = 64  # phases


class PhaseSampler(Protocol):
  """Which pools each phase trains on; a pure function of its number."""

  def draw(self, phases: np.ndarray) -> np.ndarray:
    """`[n]` numbers of phases to `[n, k]` different pools each."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class PhasePlan:
  """Phases of equal length, each on the rows of a few pools.

  A phase visits the rows of its pools in an order of its own, epoch after epoch
  as in `Plan`. Nothing is kept of the phases before, so that any step costs the
  same and the plan takes no more memory for being longer.

  Attributes:
    pools: rows of the source, int32: those of a class, of a task.
    sampler: which of them make a phase.
    phase_steps: steps in a phase.
    num_steps: steps in all.
    batch_size: rows in a batch.
    seed: shuffles.
    named: what `task_id` counts: `'phase'`, or the `'pool'` where a phase has
      just one. A pool may return; a phase does not.
    held: the phase that goes on for ever, or None.
  """

  pools: tuple[np.ndarray, ...]
  sampler: PhaseSampler
  phase_steps: int
  num_steps: int
  batch_size: int
  seed: int
  named: str = 'phase'
  held: int | None = None

  @property
  def replicas(self) -> int | None:
    """None: this is a single plan."""
    return None

  @property
  def timetable(self) -> Any:
    """What decides `task_id`."""
    drawn = self.sampler if self.named == 'pool' else None
    return (self.phase_steps, self.num_steps, self.held, drawn)

  @property
  def boundaries(self) -> Sequence[int]:
    """Steps at which a new task begins, without 0."""
    ends = range(self.phase_steps, self.num_steps, self.phase_steps)
    if self.held is not None:
      ends = ends[: self.held]
    if self.named == 'phase':
      return ends
    tasks = self._tasks(np.arange(len(ends) + 1))
    return tuple(ends[i] for i in np.flatnonzero(tasks[1:] != tasks[:-1]))

  def next_boundary(self, step: int) -> int:
    """The first step after `step` at which a task begins, or the end."""
    last = (self.num_steps - 1) // self.phase_steps
    last = last if self.held is None else self.held
    first = int(self._phases(np.array([step]))[0])
    for phase in range(first, last, _LOOK_AHEAD):
      tasks = self._tasks(np.arange(phase, min(phase + _LOOK_AHEAD, last) + 1))
      changes = np.flatnonzero(tasks[1:] != tasks[:-1])
      if changes.size:
        return int(phase + changes[0] + 1) * self.phase_steps
    return self.num_steps

  @property
  def most_task_rows(self) -> int:
    """Rows of the largest task that can be drawn."""
    sizes = sorted(len(pool) for pool in self.pools)
    if self.named == 'pool':
      return sizes[-1]
    per_phase = self.sampler.draw(np.zeros(1, np.int64)).shape[1]
    return sum(sizes[-per_phase:])

  @property
  def digest(self) -> str:
    """sha256 of everything that decides the plan, the pools included."""
    return self._digest

  @functools.cached_property
  def _digest(self) -> str:
    parts = [getattr(self, field.name) for field in dataclasses.fields(self)]
    return hashlib.sha256(f'phases 1|{describe(parts)}'.encode()).hexdigest()

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """The rows of `steps` steps from `start` on; costs the same anywhere.

    Raises:
      ValueError: if a step lies outside the plan.
    """
    start, steps = check_chunk('PhasePlan', start, steps, self.num_steps)
    numbers = np.arange(start, start + steps)
    phases = self._phases(numbers)
    shape = (steps, self.batch_size)
    out = PlanChunk(
      self._tasks(phases), np.empty(shape, np.int32), np.ones(shape, 'f4')
    )
    for phase in np.unique(phases):
      at = np.flatnonzero(phases == phase)
      indices, padding = self._rows(phase, numbers[at])
      out.indices[at] = indices
      if padding is not None:
        out.weights[at] -= padding
    return out

  def hold(self, step: int) -> 'PhasePlan':
    """The same plan up to `step`; from there on the phase of `step - 1`.

    Raises:
      ValueError: if `step` is not in `[1, num_steps]`.
    """
    check_hold(step, self.num_steps)
    held = int(self._phases(np.array([step - 1]))[0])
    return dataclasses.replace(self, held=held, num_steps=ENDLESS)

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Every row of one task once: of a phase, or of a pool.

    Args:
      task: which task, as `task_id` counts them.
      batch_size: rows in a batch; the last one is padded with weight 0.

    Returns:
      `(indices, weights)`, both `[batches, batch_size]`.
    """
    chosen = [task]
    if self.named == 'phase':
      chosen = self.sampler.draw(np.array([task]))[0]
    rows = np.concatenate([self.pools[pool] for pool in chosen])
    return pad_to_batches(rows, batch_size)

  def _phases(self, steps: np.ndarray) -> np.ndarray:
    last = ENDLESS if self.held is None else self.held
    return np.minimum(steps // self.phase_steps, last)

  def _tasks(self, phases: np.ndarray) -> np.ndarray:
    if self.named == 'phase':
      return phases.astype(np.int32)
    return self.sampler.draw(phases)[:, 0].astype(np.int32)

  def _rows(
    self, phase: int, steps: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of some steps of one phase, and which of them are padding."""
    chosen = self.sampler.draw(np.array([phase]))[0]
    ends = np.cumsum([len(self.pools[pool]) for pool in chosen])
    seed = (self.seed, int(phase))
    local = steps - phase * self.phase_steps
    rank, padding = draw_epochs(local, int(ends[-1]), self.batch_size, seed)
    which = np.searchsorted(ends, rank, 'right')
    begin = np.concatenate([[0], ends[:-1]])
    within = self._offsets[chosen][which] + rank - begin[which]
    return self._flat[within], padding

  @functools.cached_property
  def _flat(self) -> np.ndarray:
    return np.concatenate(self.pools).astype(np.int32)

  @functools.cached_property
  def _offsets(self) -> np.ndarray:
    sizes = [0, *(len(pool) for pool in self.pools[:-1])]
    return np.cumsum(sizes)
