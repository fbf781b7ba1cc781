"""A reset optimizer is a new one; what is kept goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, schedules, tree

LINK = optax.schedules.InjectStatefulHyperparamsState
TASKS = (0, 0, 1, 1, 1, 0)


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def make_params(seed=0):
  rng = np.random.default_rng(seed)
  return {'w': jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)}


def run(tx, tasks=TASKS, params=None):
  params = make_params() if params is None else params
  state, points = tx.init(params), []
  update = jax.jit(tx.update)
  for step, task in enumerate(tasks):
    updates, state = update(
      make_params(step + 1), state, params, task_id=jnp.int32(task)
    )
    params = optax.apply_updates(params, updates)
    points.append(params['w'])
  return points, state


def test_equals_a_new_optimizer_for_each_task():
  adam = optax.with_extra_args_support(optax.adam(0.1))
  ours, _ = run(methods.reset_on_task(adam))
  params, step = make_params(), 0
  for task in ((0, 0), (1, 1, 1), (0,)):
    state = adam.init(params)
    for _ in task:
      updates, state = adam.update(make_params(step + 1), state, params)
      params = optax.apply_updates(params, updates)
      np.testing.assert_allclose(ours[step], params['w'], rtol=1e-6)
      step += 1


def test_the_first_task_resets_nothing_whatever_its_number():
  adam = optax.with_extra_args_support(optax.adam(0.1))
  ours, state = run(methods.reset_on_task(adam), tasks=(5, 5, 5))
  bare, _ = run(adam, tasks=(5, 5, 5))
  np.testing.assert_array_equal(ours, bare)
  assert int(state.inner_state[0].count) == 3 and int(state.task_id) == 5


def test_the_clock_of_a_schedule_starts_anew_unless_it_is_kept():
  ramp = lambda count: 1.0 + jnp.asarray(count, jnp.float32)
  inner = optax.chain(optax.trace(0.9), methods.scale_by_schedule_value(ramp))
  _, state = run(methods.reset_on_task(inner), (0, 0, 1))
  assert tuple(map(float, methods.applied_rate(state))) == (1.0, 1.0)
  _, state = run(methods.reset_on_task(inner, keep=LINK), (0, 0, 1))
  assert tuple(map(float, methods.applied_rate(state))) == (3.0, 3.0)
  last = make_params(3)['w']
  np.testing.assert_array_equal(state.inner_state[0].trace['w'], last)


def test_a_schedule_per_task_restarts_either_way():
  ramp = lambda count: 1.0 + jnp.asarray(count, jnp.float32)
  link = methods.scale_by_schedule_value(schedules.per_task(ramp))
  for keep in ((), LINK):
    _, state = run(methods.reset_on_task(link, keep=keep), (0, 0, 1))
    assert float(methods.applied_rate(state)[0]) == 1.0


def test_an_anchor_inside_is_lost_unless_it_is_kept():
  link = methods.consolidate_at_init(methods.add_l2_anchor(1.0))
  inner = optax.chain(link, optax.sgd(0.1))
  start = make_params()['w']
  for keep, kept in (((), False), (methods.AnchorState, True)):
    _, state = run(methods.reset_on_task(inner, keep=keep))
    anchor = tree.get_states(state, methods.AnchorState)[0].anchor['w']
    assert bool(jnp.all(anchor == start)) == kept


def test_a_stack_of_seeds_and_donation():
  tx = methods.reset_on_task(optax.adam(0.1))
  stack = jnp.stack([make_params(s)['w'] for s in range(3)])

  def end(params):
    state = tx.init(params)
    for task in (0, 0, 1):
      updates, state = tx.update(params, state, params, task_id=task)
      params = optax.apply_updates(params, updates)
    return params, state

  params, state = jax.jit(jax.vmap(end))(stack)
  np.testing.assert_allclose(params[1], end(stack[1])[0], rtol=1e-5)
  step = jax.jit(
    jax.vmap(lambda p, s: tx.update(p, s, p, task_id=2)), donate_argnums=(0, 1)
  )
  step(params, state)


def test_errors():
  with pytest.raises(TypeError, match='keep is'):
    methods.reset_on_task(optax.adam(0.1), keep='count')  # pyright: ignore
  with pytest.raises(ValueError, match='keep has AnchorState'):
    methods.reset_on_task(optax.adam(0.1), keep=methods.AnchorState).init(
      make_params()
    )
  tx = methods.reset_on_task(optax.adam(0.1))
  with pytest.raises(ValueError, match='params is None'):
    tx.update(make_params(), tx.init(make_params()), task_id=0)
