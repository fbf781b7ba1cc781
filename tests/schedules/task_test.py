"""Schedules that restart with the task, through a real chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import schedules

PART = ['0.333', '0.667', *6 * ['1.000'], '0.667', '0.333']
THIRD = 1 / 3


def trace(rate, task_ids):
  """The rates that a chain applies, one per task id."""
  link = optax.inject_hyperparams(optax.scale_by_learning_rate)(
    learning_rate=rate
  )
  tx = optax.chain(optax.identity(), link)
  params = jnp.ones([])

  @jax.jit
  def run(task_ids):
    def step(state, task_id):
      updates, state = tx.update(
        jnp.ones([]), state, params, task_id=task_id, value=jnp.ones([])
      )
      return state, (-updates, state[1].hyperparams['learning_rate'])

    return jax.lax.scan(step, tx.init(params), task_ids)[1]

  applied, kept = run(jnp.asarray(task_ids, jnp.int32))
  np.testing.assert_array_equal(applied, kept)
  return np.asarray(applied)


def show(rates):
  return [f'{rate:.3f}' for rate in rates]


def warm_and_cool():
  """Ten steps: 1/3, 2/3, six at the peak, 2/3, 1/3."""
  return schedules.wsd_schedule(1.0, 2, 5, 3, init_value=THIRD, end_value=0.0)


@pytest.mark.parametrize('ids', [(0, 1, 2), (1, 2, 3), (5, 0, 5)])
def test_the_same_trace_in_every_task(ids):
  rates = trace(schedules.per_task(warm_and_cool()), np.repeat(ids, 10))
  assert [show(part) for part in rates.reshape(3, 10)] == [PART] * 3
  np.testing.assert_array_equal(rates[:10], rates[10:20])
  np.testing.assert_array_equal(rates[:10], rates[20:])


def test_by_task_gives_the_same_trace_where_its_schedules_are_equal():
  rate = schedules.by_task([warm_and_cool()] * 2)
  rates = trace(rate, np.repeat([0, 1, 2], 10))
  assert [show(part) for part in rates.reshape(3, 10)] == [PART] * 3


def test_a_short_task_restarts_too():
  rates = trace(
    schedules.per_task(lambda count: 1 / (1 + count)), [0, 0, 0, 1, 1, 2, 0]
  )
  np.testing.assert_allclose(
    rates, [1, 1 / 2, 1 / 3, 1, 1 / 2, 1, 1], rtol=1e-6
  )


def test_by_task_picks_and_the_last_one_serves_later_tasks():
  parts = [optax.constant_schedule(0.5), schedules.wsd_schedule(1.0, 0, 1, 2)]
  rates = trace(schedules.by_task(parts), [0, 0, 1, 1, 1, 7, 7, 7, 0])
  np.testing.assert_array_equal(
    rates, [0.5, 0.5, 1.0, 1.0, 0.5, 1.0, 1.0, 0.5, 0.5]
  )


def test_gradients_through_by_task_are_finite():
  def rate(peak, task_id):
    parts = [
      schedules.wsd_schedule(peak, 0, 1, 2, decay='one_minus_sqrt'),
      schedules.wsd_schedule(1.0, 0, 1, 2),
    ]
    rate = schedules.by_task(parts)
    return rate(rate.init(), task_id=task_id)

  grad = jax.grad(rate)
  assert grad(0.1, jnp.int32(0)) == 1.0 and grad(0.1, jnp.int32(1)) == 0.0


def test_calls_before_the_update_know_the_new_task():
  rate = schedules.per_task(lambda count: count.astype(float))
  state = schedules.TaskScheduleState(jnp.int32(7), jnp.int32(3))
  assert rate(state) == 7.0
  assert rate(state, task_id=3, value=1.0) == 7.0
  assert rate(state, task_id=4) == 0.0
  assert rate.update(state, task_id=4) == (1, 4)


def test_satisfies_the_protocol_of_optax():
  rate = schedules.per_task(warm_and_cool())
  assert isinstance(rate, optax.schedules.StatefulSchedule)
  assert rate(rate.init()).dtype == jnp.float32


def test_a_missing_task_id_is_an_error():
  link = optax.inject_hyperparams(optax.scale_by_learning_rate)(
    schedules.per_task(warm_and_cool())
  )
  state = link.init(jnp.ones([]))
  with pytest.raises(TypeError, match='task_id'):
    link.update(jnp.ones([]), state, jnp.ones([]))


def test_a_decay_branch_belongs_inside():
  trunk = schedules.infinite_schedule(1.0, 0.5, 1, 1)
  with pytest.raises(ValueError, match=r'per_task\(decay_branch'):
    schedules.decay_branch(schedules.per_task(trunk), 4, 2)
  inside = schedules.per_task(schedules.decay_branch(trunk, 2, 2))
  rates = trace(inside, [0] * 5 + [1] * 5)
  np.testing.assert_array_equal(rates, 2 * [0.0, 1.0, 0.5, 0.25, 0.0])
