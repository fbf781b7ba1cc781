"""The stream: data, plan and the function that makes batches of them."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.streams._digest import describe
from lrcl.streams._plan import PlanChunk
from lrcl.streams._sources import Source, gather, is_resident
from lrcl.streams._stream_plan import StreamPlan

Prepare = Callable[[Mapping[str, jax.Array], Any, jax.Array], Mapping]
"""`prepare(rows, tables, task_id) -> batch`, pure, runs on the device.

`rows` are the gathered columns of the source in their own dtype, `[B, ...]`;
`tables` is the stream's pytree of small arrays. The batch it returns needs no
`weight`, and no `task` where all rows belong to `task_id`.
"""


class Arms(Protocol):
  """A sampler that learns which task comes next; what `draw_tasks` makes."""

  @property
  def looks_twice(self) -> bool:
    """Whether `told` reads the losses after the step."""
    ...

  def init(self) -> Any:
    """Its state in the beginning, a pytree of arrays."""
    ...

  def probs(self, state: Any, step: Any) -> jax.Array:
    """`[num_arms]`: how likely each task is."""
    ...

  def draw(
    self, state: Any, step: jax.Array, tables: Any, batch_size: int
  ) -> tuple[jax.Array, jax.Array]:
    """The tasks and the rows of one batch, each `[batch_size]` int32."""
    ...

  def told(self, before: jax.Array, after: jax.Array) -> jax.Array:
    """`[batch_size]`: the signal of each row, from its losses."""
    ...

  def update(
    self, state: Any, arms: jax.Array, signal: jax.Array, weight: jax.Array
  ) -> Any:
    """Its state after a batch."""
    ...


def make_batch(
  rows: Mapping[str, jax.Array],
  tables: Any,
  task_id: jax.Array,
  weights: jax.Array,
  prepare: Prepare,
) -> dict[str, jax.Array]:
  """Makes the batch of one step from gathered rows; runs on the device.

  Both data paths (rows gathered on the device or on the host) go through
  this one function, so that their batches are bit-identical.

  Args:
    rows: columns of the source, each `[batch, ...]`.
    tables: the stream's tables.
    task_id: int32 scalar, the phase.
    weights: `[batch]` float32, 0 for padding.
    prepare: the stream's `prepare`.

  Returns:
    What `prepare` makes, with `weight` and, where it made none, `task`
    (`task_id` for every row).

  Example:
    >>> rows = {'inputs': jnp.ones((2, 3)), 'labels': jnp.array([0, 1])}
    >>> batch = make_batch(
    ...   rows, {}, jnp.int32(4), jnp.ones(2), lambda rows, *_: rows)
    >>> sorted(batch), batch['task'].tolist()
    (['inputs', 'labels', 'task', 'weight'], [4, 4])
  """
  batch = dict(prepare(rows, tables, task_id))
  if 'task' not in batch:
    batch['task'] = jnp.broadcast_to(task_id, weights.shape).astype(jnp.int32)
  batch['weight'] = weights
  return batch


@dataclasses.dataclass(frozen=True, eq=False)
class EvalSet:
  """Test rows of every task, in one shape, so evaluation is one program.

  Attributes:
    source: where the rows are.
    indices: `[tasks, n]` int32 rows of `source`; a task with fewer rows is
      filled up with rows of weight 0. A stack of `S` streams: `[S, tasks, n]`.
    weights: float32 in the shape of `indices`.
    tables: as in `Stream`.
    prepare: as in `Stream`.
  """

  source: Source
  indices: np.ndarray
  weights: np.ndarray
  tables: Any
  prepare: Prepare

  @property
  def num_tasks(self) -> int:
    """Number of test sets."""
    return self.indices.shape[-2]

  @property
  def resident(self) -> bool:
    """Whether the rows may be kept on the device."""
    return is_resident(self.source)

  def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Gathers rows on the host."""
    return gather(self.source, indices)


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
  """Data and the plan by which it arrives.

  A stream has no state: what a step sees is a function of the step. To
  resume is to remember the step.

  Attributes:
    source: columns of equal length (`inputs`, `labels`, ...) in memory, or a
      `HostSource`.
    plan: which rows each step trains on.
    tables: pytree of small arrays that `prepare` reads, such as one pixel
      permutation per task. A stack of `S` streams has a leading axis `S`.
    prepare: makes a batch of gathered rows, on the device.
    evaluation: the test rows of every task, or None.
    num_classes: number of different labels in the batches.
    num_tasks: number of tasks. `evaluation` has a test set for each, or for
      each class where tasks share classes (`scole`, `blurry`).
    arms: what draws the task of every row in place of the plan, or None; see
      `draw_tasks`.
  """

  source: Source
  plan: StreamPlan
  tables: Any
  prepare: Prepare
  evaluation: EvalSet | None
  num_classes: int
  num_tasks: int
  arms: Arms | None = None

  def init_state(self) -> Any:
    """What `TrainState.stream_state` is before the first step."""
    return () if self.arms is None else self.arms.init()

  @property
  def num_steps(self) -> int:
    """Length in steps."""
    return self.plan.num_steps

  @property
  def batch_size(self) -> int:
    """Rows in a batch."""
    return self.plan.batch_size

  @property
  def boundaries(self) -> Sequence[int]:
    """Steps at which a new task begins, without 0."""
    return self.plan.boundaries

  def next_boundary(self, step: int) -> int:
    """The first step after `step` at which a task begins, or the end."""
    return self.plan.next_boundary(step)

  @property
  def replicas(self) -> int | None:
    """None, or how many streams are stacked."""
    return self.plan.replicas

  @property
  def resident(self) -> bool:
    """Whether `source` may be kept on the device."""
    return is_resident(self.source)

  @functools.cached_property
  def digest(self) -> str:
    """sha256 of all that decides the stream: data, plan, tables, `prepare`.

    Functions count by their name and bound values, not by their code; host
    sources by what they say of themselves (`describe()`), not by their rows.
    """
    parts = (self.plan.digest, self.source, self.tables, self.prepare)
    parts += () if self.arms is None else (self.arms,)
    return describe([*parts, self.num_classes, self.num_tasks])

  @property
  def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of one batch; what `with_memory` takes as `example`.

    Of a stack of streams, that of one replica.
    """
    lead = () if self.replicas is None else (0,)
    rows = self.rows(np.zeros((1, self.batch_size), np.int32))
    rows = {name: column[0] for name, column in rows.items()}
    tables = jax.tree.map(lambda x: np.asarray(x)[lead], self.tables)
    weights = np.ones(self.batch_size, np.float32)
    make = functools.partial(make_batch, prepare=self.prepare)
    return jax.eval_shape(make, rows, tables, np.int32(0), weights)

  def chunk(self, start: int, steps: int) -> PlanChunk:
    """The plan of `steps` steps from `start` on."""
    return self.plan.chunk(start, steps)

  def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Gathers rows on the host, each column `[*indices.shape, ...]`."""
    return gather(self.source, indices)

  def hold(self, step: int) -> 'Stream':
    """The same stream up to `step`, then for ever the task of `step - 1`.

    This is what a decay branch trains on that forks near the end of a task:
    its task's epochs go on instead of the next task. The result has
    `ENDLESS` steps.
    """
    return dataclasses.replace(self, plan=self.plan.hold(step))

  def task_batches(
    self, task: int, batch_size: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Every training row of one task once.

    Returns:
      `(indices, weights)`, both `[batches, batch_size]`; in a stack of `S`
      streams `[batches, S, batch_size]`.
    """
    return self.plan.task_batches(task, batch_size)
