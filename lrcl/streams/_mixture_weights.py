"""Weights of mixtures: schedules of the step, and tasks that grow old."""

from collections.abc import Callable
import dataclasses
from typing import Any, Literal, get_args

import jax
import numpy as np

from lrcl.base import check_steps, check_value

Law = Literal['power', 'exponential', 'recency', 'uniform', 'none']


@dataclasses.dataclass(frozen=True)
class ScheduledWeights:
  """One schedule of the step for each pool.

  Attributes:
    schedules: functions of an integer step to a scalar, such as optax
      schedules; numbers are constant.
  """

  schedules: tuple[Callable[[Any], Any] | float, ...]

  def __call__(self, steps: np.ndarray) -> np.ndarray:
    """`[n]` steps to `[n, pools]`."""
    columns = []
    for schedule in self.schedules:
      if callable(schedule):
        column = jax.vmap(schedule)(np.asarray(steps, np.int32))
        columns.append(np.broadcast_to(column, steps.shape))
      else:
        columns.append(np.full(steps.shape, schedule))
    return np.stack(columns, axis=1).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class AgeWeights:
  """Tasks arrive one after the other, and old ones return ever less.

  In phase `t` task `t` has the weight `1 - share` and the tasks before it
  have `share` together, in proportion to a law of their age `t - j`. With
  `share=None` the law decides everything, and the current task has age 0:
  `(age + 1) ** -exponent` is the environment of the power law.

  Attributes:
    law: `'power'`: `age ** -exponent`; `'exponential'`: `exp(-exponent *
      age)`; `'uniform'`; `'recency'`: the task before only; `'none'`.
    num_tasks: how many tasks there are.
    phase_steps: steps until the next task arrives. After the last one the law
      goes on with its phase.
    share: of the batch for earlier tasks, or None.
    exponent: see `law`.
  """

  law: Law
  num_tasks: int
  phase_steps: int
  share: float | None = None
  exponent: float = 1.0

  def __post_init__(self):
    where = 'AgeWeights'
    if self.law not in get_args(Law):
      raise ValueError(
        f'{where}: law is {self.law!r}; it must be one of {get_args(Law)}.'
      )
    check_steps(where, 'num_tasks', self.num_tasks, 1)
    check_steps(where, 'phase_steps', self.phase_steps, 1)
    check_value(where, 'exponent', self.exponent, minimum=0)
    if self.share is not None:
      check_value(where, 'share', self.share, minimum=0, maximum=1)

  def __call__(self, steps: np.ndarray) -> np.ndarray:
    """`[n]` steps to `[n, tasks]`."""
    phase = np.minimum(steps // self.phase_steps, self.num_tasks - 1)
    age = phase[:, None] - np.arange(self.num_tasks)
    old = age > 0 if self.share is not None else age >= 0
    law = np.where(old, self._of_age(age, old), 0.0)
    if self.share is None:
      return law
    total = law.sum(1, keepdims=True)
    past = np.divide(law, total, out=np.zeros_like(law), where=total > 0)
    # Nothing is old in the first phase, and with 'none' it never is.
    share = np.where(total > 0, self.share, 0.0)
    return share * past + (1 - share) * (age == 0)

  def _of_age(self, age: np.ndarray, old: np.ndarray) -> np.ndarray:
    since = np.where(old, age, 1).astype(np.float64)
    since += self.share is None
    if self.law == 'power':
      return since**-self.exponent
    if self.law == 'exponential':
      return np.exp(-self.exponent * since)
    if self.law == 'uniform':
      return np.ones_like(since)
    return (age <= {'recency': 1, 'none': 0}[self.law]).astype(np.float64)
