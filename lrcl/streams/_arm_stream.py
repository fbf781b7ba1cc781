"""A stream whose tasks are drawn by a bandit that learns as the run goes on."""

from collections.abc import Mapping
import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.streams._arms import ArmSampler
from lrcl.streams._mixtures import mixture
from lrcl.streams._stream import Prepare, Stream

Signal = Literal['loss', 'progress']


@dataclasses.dataclass(frozen=True)
class PrepareInner:
  """Applies `prepare` with the tables of the stream that was given.

  `tables` holds them as `stream`, beside `rows` and `sizes` of the arms.
  """

  prepare: Prepare

  def __call__(
    self, rows: Mapping[str, jax.Array], tables: Any, task_id: jax.Array
  ) -> Mapping:
    """Makes a batch."""
    return self.prepare(rows, tables['stream'], task_id)


@dataclasses.dataclass(frozen=True)
class DrawnArms:
  """What `draw_tasks` puts into a stream; see `lrcl.streams.Arms`.

  Attributes:
    sampler: decides which task a row is from.
    num_arms: number of tasks.
    signal: what the sampler is told of a row.
    seed: draws tasks and rows.
  """

  sampler: ArmSampler
  num_arms: int
  signal: Signal
  seed: int

  @property
  def looks_twice(self) -> bool:
    """Whether `told` reads the losses after the step."""
    return self.signal == 'progress'

  def init(self) -> Any:
    """The state of the sampler in the beginning."""
    return self.sampler.init(self.num_arms)

  def probs(self, state: Any, step: Any) -> jax.Array:
    """`[num_arms]`: how likely each task is."""
    return self.sampler.probs(state, step)

  def draw(
    self, state: Any, step: jax.Array, tables: Any, batch_size: int
  ) -> tuple[jax.Array, jax.Array]:
    """The tasks and the rows of one batch, each `[batch_size]` int32."""
    key = jax.random.fold_in(jax.random.key(self.seed), step)
    arm_key, row_key = jax.random.split(key)
    chances = jnp.log(self.probs(state, step))
    arms = jax.random.categorical(arm_key, chances, shape=(batch_size,))
    arms = arms.astype(jnp.int32)
    place = jax.random.randint(row_key, (batch_size,), 0, tables['sizes'][arms])
    return arms, tables['rows'][arms, place]

  def told(self, before: jax.Array, after: jax.Array) -> jax.Array:
    """`[batch_size]`: the signal of each row, from its losses."""
    return before - after if self.looks_twice else before

  def update(
    self, state: Any, arms: jax.Array, signal: jax.Array, weight: jax.Array
  ) -> Any:
    """The state of the sampler after a batch."""
    return self.sampler.update(state, arms, signal, weight)


def draw_tasks(
  stream: Stream,
  sampler: ArmSampler,
  *,
  signal: Signal = 'progress',
  steps: int | None = None,
  seed: int | None = None,
) -> Stream:
  """Draws the task of every row by a bandit, instead of a plan.

  Whatever the sampler has learned is the state of the stream: it is kept in
  `TrainState.stream_state`, saved with the run, and forks with its branches.
  Start a run with

    state = state._replace(stream_state=stream.init_state())

  There is one phase: `task_id` is 0 throughout, and `batch['task']` says for
  each row which task it is from. Rows are drawn with replacement. The records
  hold the probabilities of the tasks as `arm_probabilities`.

  Cost: a forward pass over the batch per step for `signal='loss'`, two for
  `'progress'`. The data must be in memory and lie on the device.

  Args:
    stream: a single stream with listed tasks, such as `split` makes.
    sampler: from `ucb_arms`, `td0_arms`, ...
    signal: what the sampler is told of each row: its `'loss'` before the step,
      or by how much the step lowered it, `'progress'`.
    steps: length; None: that of `stream`.
    seed: draws tasks and rows; None: the stream's own.

  Returns:
    The stream; its evaluation is that of `stream`.

  Raises:
    ValueError: for another signal, a stream that is not single and listed, or
      data that is gathered on the host.

  Example:
    >>> from lrcl.streams import split, ucb_arms
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> tasks = split(train, num_tasks=2, batch_size=2)
    >>> stream = draw_tasks(tasks, ucb_arms(), steps=1000)
    >>> stream.init_state().pulls.tolist(), stream.boundaries
    ([0.0, 0.0], ())

  References:
    See `ucb_arms`, `td0_arms`, `exp3_arms`.
  """
  where = 'draw_tasks'
  if signal not in ('loss', 'progress'):
    raise ValueError(
      f"{where}: signal is {signal!r}; it must be 'loss' or 'progress'."
    )
  even = mixture(stream, [1.0] * stream.num_tasks, steps=steps, seed=seed)
  if not isinstance(even.source, Mapping):
    raise ValueError(
      f'{where}: the data is gathered on the host; what comes next is known on '
      'the device only, so the data must be arrays in memory.'
    )
  pools: Any = getattr(even.plan, 'pools', ())
  longest = max(len(pool) for pool in pools)
  tables = {
    'stream': even.tables,
    'rows': np.stack([np.resize(pool, longest) for pool in pools]),
    'sizes': np.array([len(pool) for pool in pools], np.int32),
  }
  arms = DrawnArms(sampler, len(pools), signal, getattr(even.plan, 'seed', 0))
  arms.init()  # a sampler may refuse the number of arms
  prepare = PrepareInner(even.prepare)
  return dataclasses.replace(even, tables=tables, prepare=prepare, arms=arms)
