"""The rate link: the trace is the schedule, and the state knows the rate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, schedules

RAMP = optax.linear_schedule(0.0, 1.0, 8)
DECAY = lambda count: 1.0 / (1.0 + jnp.asarray(count, jnp.float32))
TASKS = (0, 0, 0, 1, 1, 0, 2, 2)


class ValueState(NamedTuple):
  best: jax.Array


class OwnRateState(NamedTuple):
  learning_rate: jax.Array
  count: jax.Array


def scale_by_own_rate():
  """A link that is no schedule: its rate is its count, and in its state."""

  def update_fn(updates, state, params=None):
    state = OwnRateState(state.learning_rate + 1, state.count + 1)
    scale = lambda u: -state.learning_rate * u
    return jax.tree.map(scale, updates), state

  init = lambda _: OwnRateState(jnp.float32(0.25), jnp.int32(0))
  return optax.GradientTransformation(init, update_fn)


class FollowsValue:
  """A schedule that reacts to the loss: a tenth of the least value so far."""

  def init(self):
    return ValueState(jnp.float32(1.0))

  def update(self, state, *, value=None, **extra_args):
    return ValueState(self._best(state, value))

  def __call__(self, state, *, value=None, **extra_args):
    return 0.1 * self._best(state, value)

  def _best(self, state, value):
    return state.best if value is None else jnp.minimum(state.best, value)


def trace(tx, tasks=TASKS, values=None, read=lambda state: state):
  """The rate after each update, the factor it applied, and the count."""
  updates = {'w': jnp.ones(3)}
  state, out = tx.init(updates), []
  for i, task in enumerate(tasks):
    value = jnp.float32(0 if values is None else values[i])
    extra = {'task_id': jnp.int32(task), 'value': value}
    new, state = tx.update(updates, state, updates, **extra)
    rate, count = methods.applied_rate(read(state))
    out.append((float(rate), -float(new['w'][0]), int(count)))
  return map(np.array, zip(*out, strict=True))


@pytest.mark.parametrize('schedule', [0.3, 2, np.float32(0.3), RAMP, DECAY])
def test_trace_is_the_schedule(schedule):
  rates, factors, counts = trace(methods.scale_by_schedule_value(schedule))
  steps = range(len(TASKS))
  want = [schedule(s) if callable(schedule) else schedule for s in steps]
  np.testing.assert_allclose(rates, want, rtol=1e-7)
  np.testing.assert_array_equal(rates, factors)
  np.testing.assert_array_equal(counts, np.arange(len(TASKS)) + 1)


def test_restarts_at_every_change_of_task():
  tx = methods.scale_by_schedule_value(schedules.per_task(DECAY))
  rates, factors, _ = trace(tx)
  want = 1 / np.array([1, 2, 3, 1, 2, 1, 1, 2])
  np.testing.assert_allclose(rates, want, rtol=1e-6)
  np.testing.assert_array_equal(rates, factors)


def test_schedule_sees_the_extra_args():
  values = [0.5, 0.7, 0.2, 0.9]
  tx = methods.scale_by_schedule_value(FollowsValue())
  rates, _, _ = trace(tx, (0,) * 4, values)
  np.testing.assert_allclose(rates, [0.05, 0.05, 0.02, 0.02], rtol=1e-6)


def test_count_of_accumulated_steps():
  link = methods.scale_by_schedule_value(schedules.per_task(DECAY))
  with jax.numpy_dtype_promotion('standard'):
    rates, factors, counts = trace(methods.accumulate(link, 2))
  # The boundary at step 3 is seen by the update that ends there; the step at
  # which task 0 returns and is left again ends in no update of task 0.
  np.testing.assert_array_equal(counts, [0, 1, 1, 2, 2, 3, 3, 4])
  np.testing.assert_allclose(factors, [0, 1, 0, 1, 0, 1, 0, 1])
  np.testing.assert_allclose(rates[1::2], factors[1::2])


def test_schedule_in_accumulated_steps():
  link = methods.scale_by_schedule_value(DECAY)
  with jax.numpy_dtype_promotion('standard'):
    rates, factors, _ = trace(methods.accumulate(link, 2))
  np.testing.assert_allclose(factors, [0, 1, 0, 1 / 2, 0, 1 / 3, 0, 1 / 4])
  np.testing.assert_allclose(
    rates, [1, 1, 1, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 4]
  )


def test_boundary_on_a_step_that_is_not_finite():
  link = methods.scale_by_schedule_value(schedules.per_task(DECAY))
  tx = optax.apply_if_finite(link, 3)
  state, rates, counts = tx.init(jnp.ones(2)), [], []
  for step, task in enumerate([0, 0, 0, 1, 1, 1]):
    gradient = jnp.full(2, jnp.nan if step == 3 else 1.0)
    _, state = tx.update(gradient, state, task_id=jnp.int32(task))
    rate, count = methods.applied_rate(state)
    rates.append(float(rate))
    counts.append(int(count))
  # At the bad step both stay those of the last update that went through.
  want = [1, 1 / 2, 1 / 3, 1 / 3, 1, 1 / 2]
  np.testing.assert_allclose(rates, want, rtol=1e-6)
  assert counts == [1, 2, 3, 3, 4, 5]


def test_bfloat16_updates_get_a_float32_rate():
  rate = 1.0 / 3.0
  tx = methods.scale_by_schedule_value(lambda _: rate)
  updates = {'a': jnp.full(3, 3.0, jnp.bfloat16), 'b': jnp.ones(2)}
  new, state = tx.update(updates, tx.init(updates))
  assert new['a'].dtype == jnp.bfloat16 and new['b'].dtype == jnp.float32
  assert methods.applied_rate(state)[0] == jnp.float32(rate)
  np.testing.assert_array_equal(new['a'].astype(jnp.float32), -1.0)


@pytest.mark.parametrize('value', [1, np.float64(0.5), jnp.bfloat16(0.5)])
def test_rate_is_float32_whatever_the_schedule_returns(value):
  tx = methods.scale_by_schedule_value(lambda _: value)
  state = tx.init(jnp.ones(1))
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  before = kinds(state)
  _, state = tx.update(jnp.ones(1), state)
  assert kinds(state) == before
  rate, count = methods.applied_rate(state)
  assert (rate.dtype, count.dtype) == (jnp.float32, jnp.int32)
  assert float(rate) == float(value)


def test_the_state_of_a_link_that_finds_its_rate_itself():
  tx = optax.chain(optax.trace(0.9), scale_by_own_rate())
  _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
  assert tuple(map(float, methods.applied_rate(state))) == (1.25, 1)
  # Of several links the first in tree order is read, whatever its kind.
  pair = (scale_by_own_rate(), methods.scale_by_schedule_value(0.5))
  for links, first in ((pair, 0.25), (pair[::-1], 0.5)):
    state = optax.chain(*links).init(jnp.ones(2))
    assert float(methods.applied_rate(state)[0]) == first


@pytest.mark.parametrize(
  'link', [methods.scale_by_schedule_value(0.25), scale_by_own_rate()]
)
def test_found_under_wrappers(link):
  inject = optax.inject_hyperparams(
    lambda b1: optax.chain(optax.trace(b1), link)
  )
  wrapped = [
    optax.masked(link, {'a': True, 'b': False}),
    optax.chain(optax.clip(1.0), optax.chain(optax.identity(), link)),
    optax.named_chain(('rate', link)),
    optax.apply_if_finite(methods.accumulate(link, 2), 1),
    optax.partition(
      {'x': link, 'y': optax.set_to_zero()}, {'a': 'x', 'b': 'y'}
    ),
    inject(b1=0.9),
    optax.inject_hyperparams(optax.sgd)(0.25),
  ]
  params = {'a': jnp.ones(2), 'b': jnp.ones(2)}
  for tx in wrapped:
    rate, count = methods.applied_rate(tx.init(params))
    assert (float(rate), int(count)) == (0.25, 0)


def test_absent():
  rate, count = methods.applied_rate(optax.adam(1e-3).init(jnp.ones(1)))
  assert np.isnan(rate) and count == -1
  assert (rate.dtype, count.dtype) == (jnp.float32, jnp.int32)


def test_in_a_loop_and_under_vmap():
  def run(peak):
    tx = methods.scale_by_schedule_value(lambda count: peak * DECAY(count))

    def body(state, _):
      _, state = tx.update(jnp.ones(1), state)
      return state, methods.applied_rate(state)

    return jax.lax.scan(body, tx.init(jnp.ones(1)), length=3)[1]

  rates, counts = jax.jit(jax.vmap(run))(jnp.array([1.0, 3.0]))
  want = np.array([[1.0, 1 / 2, 1 / 3], [3.0, 3 / 2, 1.0]])
  np.testing.assert_allclose(rates, want, rtol=1e-6)
  np.testing.assert_array_equal(counts, [[1, 2, 3]] * 2)


def test_one_structure_for_schedules_without_state():
  links = map(methods.scale_by_schedule_value, [0.1, RAMP, DECAY])
  states = [jax.tree.structure(tx.init(jnp.ones(1))) for tx in links]
  assert states[0] == states[1] == states[2]


def test_constant_comes_from_the_constructor():
  # A run that is restored under another constant must follow the new one.
  old = methods.scale_by_schedule_value(0.1).init(jnp.ones(1))
  updates, state = methods.scale_by_schedule_value(0.5).update(jnp.ones(1), old)
  assert float(updates[0]) == -0.5
  assert float(methods.applied_rate(state)[0]) == 0.5


def test_bad_schedules():
  with pytest.raises(TypeError, match="schedule is 'fast'; it must be"):
    methods.scale_by_schedule_value('fast')  # pyright: ignore
  with pytest.raises(ValueError, match='schedule is nan; it must be finite'):
    methods.scale_by_schedule_value(float('nan'))
