"""A decay that leaves any schedule at any step."""

import jax
import jax.numpy as jnp
import optax

from lrcl.base import check_steps
from lrcl.schedules import _checks, _segments
from lrcl.schedules import _profiles as profiles
from lrcl.schedules._profiles import Decay, Value


def decay_branch(
  schedule: optax.Schedule,
  start_step: int | jax.Array,
  decay_steps: int,
  *,
  end_value: Value = 0.0,
  decay: Decay = 'linear',
) -> optax.Schedule:
  """Leaves a schedule at a step and decays from there.

  Before `start_step` this is `schedule`, bit for bit. From there on it goes
  from `schedule(start_step)` to `end_value`, and stays.

  Args:
    schedule: the trunk; a function of the step. One with a state, such as
      `per_task(...)`, is refused: a branch has its trunk's state, and a decay
      of its clock belongs inside, `per_task(decay_branch(...))`.
    start_step: the step at which the decay starts. It may be a traced int32,
      so that one compiled program serves every branch of a run; the trunk
      itself is then the branch of a step that is never reached.
    decay_steps: steps of the decay, at least 1.
    end_value: the value at the end of the decay and after it. Greater than 0
      for the decays 'exponential' and 'inverse', which need a trunk that is
      greater than 0 at `start_step`, too.
    decay: as for `wsd_schedule`.

  Returns:
    A schedule: int or float steps to float32.

  Raises:
    ValueError: if `schedule` is no function of the step, the decay has no
      steps, or its end is impossible.

  Example:
    >>> from lrcl.schedules import infinite_schedule
    >>> trunk = infinite_schedule(1.0, 0.5, 2, 2)
    >>> branch = decay_branch(trunk, 6, 2)
    >>> [float(branch(step)) for step in (1, 5, 6, 7, 8, 9)]
    [0.5, 0.5, 0.5, 0.25, 0.0, 0.0]

  References:
    Hägele et al., 2024, `Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations <https://arxiv.org/abs/2405.18392>`_.
  """
  where = 'decay_branch'
  _checks.check_schedule(where, 'schedule', schedule)
  decay_steps = check_steps(where, 'decay_steps', decay_steps, 1)
  if not isinstance(start_step, jax.Array):
    start_step = check_steps(where, 'start_step', start_step)
    _segments.check_total(where, start_step + decay_steps)
  _checks.check_values(where, end_value=end_value)
  shape = profiles.resolve_shape(
    where, 'decay', decay, {'end_value': end_value}
  )

  def evaluate(step: jax.Array) -> jax.Array:
    step = _segments.normal_step(where, step)
    # The trunk is never asked beyond the fork, so nothing it does there, a
    # NaN in a gradient say, comes along.
    fork = jnp.asarray(start_step, step.dtype)
    trunk = jnp.asarray(schedule(jnp.minimum(step, fork)), jnp.float32)
    top = jnp.asarray(schedule(fork), jnp.float32)
    done, left = _segments.fractions(step, fork, decay_steps)
    chosen = step >= fork
    if not shape.tame:
      done, left = (jnp.where(chosen, part, 0.5) for part in (done, left))
    end = jnp.asarray(end_value, jnp.float32)
    return jnp.where(chosen, shape.value(top, end, done, left), trunk)

  return _segments.compiled(where, evaluate)
