"""A value that moves on once it is mastered: the length of a task, say."""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl.base import check_steps, check_value


class MasteryState(NamedTuple):
  """What `mastery_staircase` remembers; both int32 scalars."""

  index: jax.Array
  """Which value holds."""
  streak: jax.Array
  """Measurements in a row above the threshold."""


def mastery_staircase(
  values: Sequence[float], threshold: float, *, patience: int = 1
) -> optax.schedules.StatefulSchedule:
  """Moves on to the next value once a metric has stayed above a threshold.

  Args:
    values: one after the other, such as the lengths of a task that grows.
    threshold: the metric must be greater than this.
    patience: how many updates in a row; a lower metric starts the count anew,
      and so does a move.

  Returns:
    A stateful schedule; its state is a `MasteryState`. `update` needs the
    keyword `metric`, a scalar. A call gives the value that holds, in float32;
    the last one holds for ever.

  Raises:
    ValueError: if there is no value, or a number is impossible.

  Example:
    >>> length = mastery_staircase([2, 3, 4], 0.98, patience=2)
    >>> state, lengths = length.init(), []
    >>> for accuracy in (0.99, 0.99, 1.0, 0.5, 1.0, 1.0):
    ...   state = length.update(state, metric=accuracy)
    ...   lengths.append(int(length(state)))
    >>> lengths
    [2, 3, 3, 3, 3, 4]

  References:
    Khajehabdollahi et al., 2024, `Emergent mechanisms for long timescales
    depend on training curriculum and affect performance in memory tasks
    <https://arxiv.org/abs/2309.12927>`_
    (https://github.com/LevinaLab/rnn_timescale_public: one more bit once the
    accuracy is above 0.98).
  """
  where = 'mastery_staircase'
  values = tuple(values)
  if not values:
    raise ValueError(f'{where}: values is empty; it must hold a number.')
  for index, value in enumerate(values):
    check_value(where, f'values[{index}]', value)
  check_value(where, 'threshold', threshold)
  patience = check_steps(where, 'patience', patience, 1)
  return _Staircase(values, threshold, patience)


@dataclasses.dataclass(frozen=True)
class _Staircase:
  """A stateful schedule of a metric."""

  values: tuple[float, ...]
  threshold: float
  patience: int

  def init(self) -> MasteryState:
    return MasteryState(jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32))

  def update(
    self, state: MasteryState, *, metric: Any, **extra_args: Any
  ) -> MasteryState:
    del extra_args
    above = jnp.asarray(metric, jnp.float32) > self.threshold
    streak = jnp.where(above, state.streak + 1, 0)
    moves = streak >= self.patience
    index = jnp.minimum(
      state.index + moves.astype(jnp.int32), len(self.values) - 1
    )
    return MasteryState(index, jnp.where(moves, 0, streak))

  def __call__(self, state: MasteryState, **extra_args: Any) -> jax.Array:
    del extra_args
    return jnp.asarray(self.values, jnp.float32)[state.index]
