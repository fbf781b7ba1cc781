"""Epochs of different sizes, drawn by scores: a curriculum of the data."""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib

import numpy as np
import numpy.typing as npt

from lrcl.base import check_steps, check_value
from lrcl.streams._digest import describe
from lrcl.streams._epochs import pad_to_batches
from lrcl.streams._hash import hash_uniforms
from lrcl.streams._plan import ENDLESS, Plan, PlanChunk
from lrcl.streams._plan_checks import check_chunk
from lrcl.streams._stream import Stream


@dataclasses.dataclass(frozen=True, eq=False)
class CurriculumPlan:
  """Epoch `k` has a share `sizes[k]` of the rows, drawn by their scores.

  Rows of an epoch are drawn without replacement, the first one in proportion
  to the scores, each further one to those of what is left; then they are
  shuffled. There is one task.
  After the last size the sizes begin again.

  Attributes:
    rows: `[n]` int32, rows of the source.
    scores: `[n]`, above 0.
    sizes: shares of the rows, in (0, 1].
    num_steps: steps in all.
    batch_size: rows in a batch.
    seed: draws the rows.
  """

  rows: np.ndarray
  scores: np.ndarray
  sizes: tuple[float, ...]
  num_steps: int
  batch_size: int
  seed: int

  @property
  def replicas(self) -> int | None:
    """None: this is a single plan."""
    return None

  @property
  def timetable(self) -> int:
    """The length of the single task."""
    return self.num_steps

  @property
  def boundaries(self) -> Sequence[int]:
    """None: there is one task."""
    return ()

  @property
  def most_task_rows(self) -> int:
    """All rows."""
    return len(self.rows)

  @property
  def digest(self) -> str:
    """sha256 of everything that decides the plan."""
    return self._digest

  @functools.cached_property
  def _digest(self) -> str:
    parts = [getattr(self, field.name) for field in dataclasses.fields(self)]
    return hashlib.sha256(
      f'curriculum 1|{describe(parts)}'.encode()
    ).hexdigest()

  def next_boundary(self, step: int) -> int:
    """The end: there is one task."""
    return self.num_steps

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """The rows of `steps` steps from `start` on; costs the same anywhere.

    Raises:
      ValueError: if a step lies outside the plan.
    """
    start, steps = check_chunk('CurriculumPlan', start, steps, self.num_steps)
    shape = (steps, self.batch_size)
    indices, weights = np.empty(shape, np.int32), np.empty(shape, np.float32)
    done = 0
    while done < steps:
      epoch, first = self._epoch_at(start + done)
      found, weight = self._draw(epoch)
      count = min(steps - done, len(found) - (start + done - first))
      part = slice(start + done - first, start + done - first + count)
      indices[done : done + count] = found[part]
      weights[done : done + count] = weight[part]
      done += count
    return PlanChunk(np.zeros(steps, np.int32), indices, weights)

  def hold(self, step: int) -> 'CurriculumPlan':
    """The same without an end: there is no other task to stay away from."""
    check_steps('hold', 'step', step)
    return dataclasses.replace(self, num_steps=ENDLESS)

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Every row once, whatever its score."""
    return pad_to_batches(self.rows, batch_size)

  @functools.cached_property
  def _counts(self) -> np.ndarray:
    """Rows of the epochs of one cycle."""
    counts = np.round(np.array(self.sizes) * len(self.rows)).astype(np.int64)
    return np.maximum(counts, 1)

  @functools.cached_property
  def _ends(self) -> np.ndarray:
    """Steps of one cycle after each of its epochs."""
    return np.cumsum(-(-self._counts // self.batch_size))

  def _epoch_at(self, step: int) -> tuple[int, int]:
    """The epoch of a step, and that epoch's first step."""
    cycle, within = divmod(step, int(self._ends[-1]))
    turn = int(np.searchsorted(self._ends, within, 'right'))
    before = int(self._ends[turn - 1]) if turn else 0
    return cycle * len(self.sizes) + turn, step - within + before

  def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The batches of one epoch, and their weights."""
    cached = self.__dict__.get('_last')
    if cached is None or cached[0] != epoch:
      numbers = np.arange(len(self.rows))
      uniform = hash_uniforms((self.seed, 0), epoch, numbers)
      with np.errstate(divide='ignore'):
        keys = np.log(self.scores) - np.log(-np.log(uniform))
      chosen = np.argsort(-keys)[: self._counts[epoch % len(self.sizes)]]
      # They were drawn in turn, those of high scores first.
      turn = np.argsort(hash_uniforms((self.seed, 1), epoch, chosen))
      drawn = pad_to_batches(self.rows[chosen[turn]], self.batch_size)
      cached = (epoch, drawn)
      self.__dict__['_last'] = cached  # a pure function's last value
    return cached[1]


def cyclical_sizes(
  epochs: float,
  *,
  start: float = 0.25,
  end: float = 1.0,
  factor: float = 0.5,
) -> tuple[float, ...]:
  """Shares of the data that grow to `end` and fall back to `start`, in turns.

  Args:
    epochs: how many full epochs they are to add up to, at least.
    start: the first and smallest share, in (0, 1].
    end: the largest share.
    factor: by which the share falls, and by whose inverse it grows; in (0, 1).

  Raises:
    ValueError: if a number is out of range.

  Example:
    >>> cyclical_sizes(4)
    (0.25, 0.5, 1.0, 0.5, 0.25, 0.5, 1.0)

  References:
    See `cyclical_curriculum`.
  """
  where = 'cyclical_sizes'
  check_value(where, 'epochs', epochs, above=0)
  check_value(where, 'start', start, above=0, maximum=1)
  check_value(where, 'end', end, minimum=start, maximum=1)
  check_value(where, 'factor', factor, above=0)
  if factor >= 1:
    raise ValueError(f'{where}: factor is {factor}; it must be below 1.')
  sizes, rising = [float(start)], True
  while sum(sizes) < epochs:
    size = sizes[-1]
    if size == start:
      rising = True
    if size == end:
      rising = False
    following = min(size / factor, end) if rising else max(size * factor, start)
    sizes.append(float(following))
  return tuple(sizes)


def cyclical_curriculum(
  stream: Stream,
  scores: npt.ArrayLike,
  *,
  sizes: Sequence[float] | None = None,
  seed: int | None = None,
) -> Stream:
  """Epochs whose size goes up and down, with easy rows more often.

  Args:
    stream: a single stream with one task, such as `joint` makes.
    scores: `[rows of the task]`, above 0: how often a row is to come, such as
      the inverse of its loss under a network trained before, in the order of
      `stream.plan.pools[0]`. What that network cost counts.
    sizes: shares of the rows, epoch by epoch, in (0, 1]; they begin again after
      the last one. None: `cyclical_sizes`, for the length of the stream.
    seed: draws the rows; None: the stream's own.

  Returns:
    The stream, as long as `stream`.

  Raises:
    ValueError: if the stream has several tasks, scores do not fit its rows or
      are not above 0, or a share is out of range.

  Example:
    >>> from lrcl.streams import joint, split
    >>> train = {'inputs': np.zeros((16, 2), np.float32),
    ...          'labels': np.arange(16) % 4}
    >>> whole = joint(split(train, num_tasks=2, batch_size=2, epochs=5))
    >>> stream = cyclical_curriculum(whole, np.ones(16))
    >>> stream.num_steps, stream.plan.sizes[:4]
    (40, (0.25, 0.5, 1.0, 0.5))

  References:
    Kesgin and Amasyali, `Cyclical Curriculum Learning
    <https://arxiv.org/abs/2202.05531>`_, 2022
  """
  where, plan = 'cyclical_curriculum', stream.plan
  if not isinstance(plan, Plan) or len(plan.phases) != 1:
    raise ValueError(f'{where}: give a single stream with one task (joint).')
  rows = plan.pools[plan.phases[0].task]
  scores = np.asarray(scores, np.float64)
  if scores.shape != rows.shape or not (scores > 0).all():
    raise ValueError(
      f'{where}: scores have shape {scores.shape} and a least value of '
      f'{scores.min(initial=np.inf):.6g}; they must be {len(rows)} numbers '
      'above 0.'
    )
  if not np.isfinite(scores).all():
    raise ValueError(f'{where}: scores must be finite.')
  if sizes is None:
    sizes = cyclical_sizes(stream.num_steps * plan.batch_size / len(rows))
  sizes = tuple(float(size) for size in sizes)
  if not sizes or not all(0 < size <= 1 for size in sizes):
    raise ValueError(
      f'{where}: sizes is {sizes}; it must be shares of the rows, above 0 and '
      'at most 1.'
    )
  seed = plan.seed if seed is None else seed
  found = CurriculumPlan(
    rows, scores, sizes, stream.num_steps, plan.batch_size, int(seed or 0)
  )
  return dataclasses.replace(stream, plan=found)
