"""Infinite schedules by fractions, and warm-ups at tasks of any length."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import schedules

STEPS = np.arange(2001)


def test_fractions_of_a_run_are_counted_from_the_warm_up():
  by_steps = schedules.infinite_schedule(
    3e-4, 1e-4, 7, 420, anneal_start=7 + 595, anneal_steps=98
  )
  by_fractions = schedules.infinite_run_schedule(3e-4, 1e-4, 700)
  np.testing.assert_array_equal(by_fractions(STEPS), by_steps(STEPS))


def test_fractions_of_a_task_are_end_points():
  by_steps = schedules.infinite_schedule(
    3e-4, 1e-4, 35, 315, anneal_start=560, anneal_steps=140
  )
  first = schedules.infinite_task_schedule(3e-4, 1e-4, 700)
  np.testing.assert_array_equal(first(STEPS), by_steps(STEPS))
  later = schedules.infinite_task_schedule(3e-4, 1e-4, 700, is_first=False)
  np.testing.assert_array_equal(later(STEPS[560:]), by_steps(STEPS[560:]))
  np.testing.assert_array_equal(later(STEPS[:561]), np.float32(1e-4))


def test_by_task_gives_the_first_task_its_warm_up():
  first, later = (
    schedules.infinite_task_schedule(1.0, 0.5, 10, is_first=is_first)
    for is_first in (True, False)
  )
  rate = schedules.by_task([first, later])

  @jax.jit
  def run(task_ids):
    step = lambda s, t: (rate.update(s, task_id=t), rate(s, task_id=t))
    return jax.lax.scan(step, rate.init(), task_ids)[1]

  rates = run(jnp.repeat(jnp.arange(3, dtype=jnp.int32), 10))
  np.testing.assert_array_equal(rates[:10], first(np.arange(10)))
  np.testing.assert_array_equal(rates[10:20], later(np.arange(10)))
  np.testing.assert_array_equal(rates[10:20], rates[20:])


def descend(schedule, steps, x, state):
  """Adam on a parabola."""
  tx = optax.adam(schedule)

  def step(carry, _):
    x, state = carry
    update, state = tx.update(2 * x, state, x)
    return (x + update, state), None

  with jax.numpy_dtype_promotion('standard'):
    return jax.lax.scan(step, (x, state), length=steps)[0]


def test_the_next_task_restarts_from_the_state_before_the_anneal():
  # The trunk rests at the constant; the result of a task is a branch of it,
  # and the next task is the trunk that goes on.
  first, later = (
    schedules.infinite_task_schedule(0.1, 0.05, 20, is_first=is_first)
    for is_first in (True, False)
  )
  trunk, x = schedules.infinite_schedule(0.1, 0.05, 1, 9), jnp.float32(3.0)
  x_fork, fork = descend(trunk, 16, x, optax.adam(trunk).init(x))
  branch = descend(first, 4, x_fork, fork)
  alone = descend(first, 20, x, optax.adam(first).init(x))
  jax.tree.map(np.testing.assert_array_equal, branch, alone)
  # Moments go on, the clock of the task starts anew: that is the trunk's rate.
  fresh = optax.adam(later).init(x)
  by_task = descend(later, 16, x_fork, (fork[0], fresh[1]))
  by_trunk = descend(trunk, 16, x_fork, fork)
  np.testing.assert_array_equal(by_task[0], by_trunk[0])
  # With fresh moments the first update is the whole constant, whatever the
  # gradient is; the moments of the fork know better.
  step = lambda state: abs(descend(later, 1, x_fork, state)[0] - x_fork)
  np.testing.assert_allclose(step(fresh), 0.05, rtol=1e-5)
  assert abs(step((fork[0], fresh[1])) - 0.05) > 1e-3


def test_a_schedule_of_all_tasks_is_one_schedule_per_task():
  lengths = [7, 3, 12, 5]
  whole = schedules.rewarmed_schedule(
    1.0, lengths, 2, end_value=0.1, init_value=0.05, peak_decay=0.8
  )
  parts = [
    schedules.wsd_schedule(
      0.8**task,
      2,
      0,
      length - 2,
      init_value=0.1 if task else 0.05,
      end_value=0.1,
      decay='cosine',
    )(np.arange(length))
    for task, length in enumerate(lengths)
  ]
  got = whole(np.arange(sum(lengths)))
  np.testing.assert_allclose(got, np.concatenate(parts), rtol=1e-6)
  assert whole(sum(lengths)) == whole(10**6) == np.float32(0.1)


def test_equal_tasks_are_repeated_cosines_until_they_end():
  tasks = schedules.rewarmed_schedule(3e-4, [50] * 4, 5, end_value=1e-5)
  cycles = schedules.repeated_cosine_schedule(3e-4, 50, 5, end_value=1e-5)
  np.testing.assert_array_equal(tasks(STEPS[:201]), cycles(STEPS[:201]))


def test_the_shrinking_of_peaks_may_be_swept():
  def at(decay, step):
    schedule = schedules.rewarmed_schedule(1.0, [4, 4, 4], 2, peak_decay=decay)
    return schedule(step)

  slopes = jax.vmap(jax.grad(at), (None, 0))(0.5, jnp.arange(24))
  # Peaks are at steps 2, 6, 10: the derivatives of d**0, d**1, d**2.
  np.testing.assert_allclose(slopes[jnp.array([2, 6, 10])], [0, 1, 1.0])
  assert np.all(np.isfinite(slopes))


RUN = {'peak_value': 1.0, 'constant_value': 0.5, 'total_steps': 100}
TASK = {'peak_value': 1.0, 'constant_value': 0.5, 'task_steps': 100}
REWARMED = {'peak_value': 1.0, 'task_steps': [5, 8], 'warmup_steps': 2}
WRONG = [
  ('infinite_run_schedule', RUN, {'total_steps': 0}, 'total_steps is 0'),
  ('infinite_run_schedule', RUN, {'warmup_fraction': -0.1}, 'is -0.1.*>= 0'),
  (
    'infinite_run_schedule',
    RUN,
    {'cooldown_fraction': 0.9},
    'constant_fraction is 85 steps; it must be >= cooldown_fraction',
  ),
  (
    'infinite_run_schedule',
    RUN,
    {'warmup_fraction': 0.15},
    r'warmup_fraction \+ constant_fraction is 100 steps; it must be < 100',
  ),
  ('infinite_run_schedule', RUN, {'end_value': 0.0}, 'end_value is 0.0.*> 0'),
  ('infinite_run_schedule', RUN, {'cooldown': 'inverse'}, 'cooldown is'),
  ('infinite_task_schedule', TASK, {'peak_value': -1.0}, 'peak_value is -1.0'),
  (
    'infinite_task_schedule',
    TASK,
    {'warmup_end': 0.6},
    'cooldown_end is 50 steps; it must be >= warmup_end, which is 60 steps',
  ),
  ('infinite_task_schedule', TASK, {'constant_end': 1.0}, 'is 100 steps.*<'),
  ('infinite_task_schedule', TASK, {'cooldown_end': 1.5}, 'cooldown_end is'),
  ('rewarmed_schedule', REWARMED, {'task_steps': []}, 'task_steps is empty'),
  (
    'rewarmed_schedule',
    REWARMED,
    {'warmup_steps': 5},
    r'task_steps\[0\] is 5; it must be > warmup_steps, which is 5',
  ),
  ('rewarmed_schedule', REWARMED, {'peak_decay': 0.0}, 'peak_decay is 0.0'),
  (
    'rewarmed_schedule',
    REWARMED,
    {'decay': 'inverse'},
    'end_value is 0.0.*> 0',
  ),
]


@pytest.mark.parametrize(('name', 'good', 'wrong', 'message'), WRONG)
def test_refused(name, good, wrong, message):
  with pytest.raises(ValueError, match=f'^{name}.*{message}') as caught:
    getattr(schedules, name)(**{**good, **wrong})
  assert '\n' not in str(caught.value)
