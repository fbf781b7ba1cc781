"""Tasks that meet in one batch, by weights that move with the step."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._joint import rows_per_task
from lrcl.streams._mixture_plan import MixturePlan, Weights
from lrcl.streams._mixture_weights import AgeWeights, Law, ScheduledWeights
from lrcl.streams._plan import Plan
from lrcl.streams._stream import Stream


def mixture(
  stream: Stream,
  weights: Sequence[Callable[[Any], Any] | float] | Weights,
  *,
  steps: int | None = None,
  seed: int | None = None,
) -> Stream:
  """Mixes the tasks of a stream by weights that are schedules of the step.

  There is one phase and no boundary: `task_id` is 0 throughout, and
  `batch['task']` says for each row which task it is from. Rows are drawn with
  replacement.

  Args:
    stream: a single stream with listed tasks, such as `split` makes.
    weights: one schedule (or constant) for each task; at every step they are
      normalised. Or one function of `[n]` steps to `[n, tasks]`.
    steps: length; None: that of `stream`.
    seed: draws the rows; None: the stream's own.

  Returns:
    The stream; its evaluation is that of `stream`.

  Raises:
    ValueError: if there are not as many weights as tasks, one is negative or
      not finite, or all are 0 in the beginning or at the end.

  Example:
    >>> import numpy as np, optax
    >>> from lrcl.streams import split
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> stream = mixture(
    ...   split(train, num_tasks=2, batch_size=2, steps_per_task=500),
    ...   [optax.linear_schedule(1.0, 0.0, 1000), 0.5],
    ... )
    >>> stream.num_steps, stream.boundaries
    (1000, ())
    >>> stream.plan.shares(np.array([0, 500])).round(2).tolist()
    [[0.67, 0.33], [0.5, 0.5]]
  """
  where = 'mixture'
  source, prepare, pools, listed = _rows(where, stream)
  if not callable(weights):
    if len(weights) != len(pools):
      raise ValueError(
        f'{where}: there are {len(weights)} weights for {len(pools)} tasks.'
      )
    weights = ScheduledWeights(tuple(weights))
  steps = stream.num_steps if steps is None else steps
  plan = MixturePlan(
    pools,
    weights,
    check_steps(where, 'steps', steps, 1),
    listed.batch_size,
    _seed(listed, seed),
  )
  plan.shares(np.array([0, plan.num_steps - 1]))  # checks them
  return dataclasses.replace(stream, source=source, plan=plan, prepare=prepare)


def reoccurring(
  stream: Stream,
  *,
  law: Law = 'power',
  share: float | None = None,
  exponent: float = 1.0,
  num_steps: int | None = None,
  seed: int | None = None,
) -> Stream:
  """Lets the tasks of a stream return, the less the older they are.

  An environment, in which what was met long ago is met again rarely but
  forever. Tasks still arrive one after the other, and `task_id` is the newest
  one; rows of earlier ones are among its own, as `batch['task']` says.

  Args:
    stream: a single stream whose tasks have equal numbers of steps.
    law: of the age of a task, in tasks: `'power'` is `age ** -exponent`,
      `'exponential'` `exp(-exponent * age)`, `'uniform'`, `'recency'` the task
      before only, `'none'` the stream as it was (rows with replacement).
    share: of each batch for earlier tasks, in expectation; the law says which.
      None: the law of `age + 1` decides over the current task, too.
    exponent: see `law`.
    num_steps: length; after the last task has arrived, its phase goes on. None:
      that of `stream`.
    seed: draws the rows; None: the stream's own.

  Returns:
    The stream; its evaluation is that of `stream`.

  Raises:
    ValueError: for tasks of unequal length or an argument out of range.

  Example:
    >>> import numpy as np
    >>> from lrcl.streams import split
    >>> train = {'inputs': np.zeros((8, 2), np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> stream = reoccurring(
    ...   split(train, num_tasks=4, batch_size=2, steps_per_task=10)
    ... )
    >>> stream.plan.shares(np.array([0, 30])).round(2).tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.12, 0.16, 0.24, 0.48]]

  References:
    Gandhi et al., `Natural Mitigation of Catastrophic Interference: Continual
    Learning in Power-Law Learning Environments
    <https://arxiv.org/abs/2401.10393>`_, 2024 (the power law of the time since
    a task was last met; its exponent is not confirmed against the paper, so it
    is an argument)
  """
  where = 'reoccurring'
  source, prepare, pools, listed = _rows(where, stream)
  lengths = {phase.steps for phase in listed.phases}
  in_order = [phase.task for phase in listed.phases] == [*range(len(pools))]
  if len(lengths) > 1 or not in_order:
    raise ValueError(
      f'{where}: the phases of the stream are {listed.phases}; every task must '
      'come once, in order, for the same number of steps.'
    )
  length = lengths.pop()
  plan = MixturePlan(
    pools,
    AgeWeights(law, len(pools), length, share, float(exponent)),
    check_steps(where, 'num_steps', num_steps or stream.num_steps, 1),
    listed.batch_size,
    _seed(listed, seed),
    length,
  )
  return dataclasses.replace(stream, source=source, plan=plan, prepare=prepare)


def _rows(where: str, stream: Stream) -> tuple[Any, Any, tuple, Plan]:
  """Source, prepare, pools and plan of a stream of listed tasks."""
  if not isinstance(stream.plan, Plan):
    raise ValueError(
      f'{where}: give a single stream of listed tasks, such as split makes; '
      'replicate the results.'
    )
  source, prepare, pools = rows_per_task(stream)
  return source, prepare, tuple(pools), stream.plan


def _seed(plan: Plan, seed: int | None) -> int:
  seed = plan.seed if seed is None else seed
  return 0 if seed is None else int(seed)
