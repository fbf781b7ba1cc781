"""Experts: who is trained, and that the others are left alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import losses, methods, models, streams, training, tree

# Tasks that return, and how long each lasts.
TASKS, STEPS, BATCH, EXPERTS = (0, 1, 2, 0, 1), 150, 16, 4
INIT, APPLY = models.from_module(models.MLP((64,), 10), jnp.zeros((1, 64)))
SELECTOR_INIT, SELECTOR_APPLY = models.from_module(
  models.MLP((32,), EXPERTS), jnp.zeros((1, 64))
)
LINK = optax.schedules.InjectStatefulHyperparamsState


def select(selector, inputs):
  return SELECTOR_APPLY(
    selector, inputs, rng=None, model_state={}, train=False
  )[0]


# Compiling is what these tests do most of the time: skip LLVM's optimisations.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


@functools.cache
def digits():
  return streams.digits()


def batches(tasks=TASKS, seed=0, steps=STEPS):
  """Digits with the pixels of each task in another order: `[steps, batch]`."""
  train, _ = digits()
  rng = np.random.default_rng(seed)
  orders = np.stack([rng.permutation(64) for _ in range(max(tasks) + 1)])
  task = np.repeat(np.asarray(tasks, np.int32), steps)
  rows = rng.integers(0, len(train['labels']), (len(task), BATCH))
  order = orders[task][:, None].repeat(BATCH, 1)
  return {
    'inputs': np.take_along_axis(train['inputs'][rows], order, 2),
    'labels': train['labels'][rows],
    'weight': np.ones(rows.shape, np.float32),
    'task': np.broadcast_to(task[:, None], rows.shape),
  }, orders


def train(tx, data, task_ids=None, seed=0):
  """Runs all steps in one program; returns the state and a trace."""
  length = len(data['labels'])
  task_ids = jnp.zeros(length, jnp.int32) if task_ids is None else task_ids
  return compiled(tx)(jax.random.key(seed), data, task_ids)


@functools.cache
def compiled(tx):
  step = training.make_train_step(APPLY, losses.cross_entropy, tx)

  def body(state, xs):
    state, _ = step(state, *xs)
    experts = tree.get_states(state.opt_state, methods.ExpertsState)[0]
    first = jax.tree.map(lambda x: x[0], experts.experts['head'])
    momenta = jax.tree.leaves(experts.inner_states)[0][0]
    return state, (experts.active, experts.shifts, (first, momenta))

  def run(key, data, task_ids):
    state = training.create_state(INIT, tx, key)
    return jax.lax.scan(body, state, (data, task_ids))

  return jit(run)


def sgd(rate=0.1):
  return methods.scale_by_schedule_value(rate)


MOMENTUM = optax.chain(optax.trace(0.9), sgd(0.02))
WITH_EXPERTS = methods.with_experts(MOMENTUM, EXPERTS)


@pytest.mark.parametrize('seed', range(3))
def test_unknown_boundaries_are_found_and_experts_used_again(seed):
  data, _ = batches(seed=seed)
  state, (active, shifts, _) = train(WITH_EXPERTS, data, seed=seed)
  shifts, active = np.asarray(shifts), np.asarray(active)
  found = np.flatnonzero(np.diff(shifts, prepend=0))
  delays = found - STEPS * np.arange(1, len(TASKS))  # as many: none in between
  assert (delays >= 0).all() and (delays < 5).all(), found
  assert active[STEPS - 1 :: STEPS].tolist() == list(TASKS)
  assert int(state.opt_state.count) == 3
  assert int(state.opt_state.last_shift) == found[-1]


def test_an_expert_that_rests_is_left_alone_to_the_bit():
  data, _ = batches()
  _, (active, _, kept) = train(WITH_EXPERTS, data)
  back = np.flatnonzero(np.diff(active) < 0)[0]  # 0, 1, 2, and 0 again
  rests = slice(STEPS + 20, int(back) + 1)
  for x in jax.tree.leaves(kept):
    some = np.asarray(x)[rests]
    assert (some == some[:1]).all() and (some != 0).any()


def test_where_the_bank_is_full_the_best_goes_on():
  data, _ = batches((0, 1, 2))
  state, (active, shifts, _) = train(methods.with_experts(sgd(), 2), data)
  assert int(state.opt_state.count) == 2 and int(shifts[-1]) == 2
  assert set(np.asarray(active[2 * STEPS :]).tolist()) <= {0, 1}
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


def test_a_clock_may_be_that_of_all_experts():
  data, _ = batches()
  own, _ = train(WITH_EXPERTS, data)
  keeps = methods.with_experts(MOMENTUM, EXPERTS, keep=LINK)
  shared, _ = train(keeps, data)
  steps, tests = len(data['labels']), 2 * (len(TASKS) - 1)
  assert int(shared.opt_state.inner_state[1].count) == steps - tests
  counts = np.array(own.opt_state.inner_states[1].count)
  counts[int(own.opt_state.active)] = int(own.opt_state.inner_state[1].count)
  assert counts.sum() == steps - tests and counts[:3].min() > STEPS / 2


def test_told_experts_are_runs_apart():
  data, _ = batches((0, 1), steps=40)
  task_ids = data['task'][:, 0]
  state, _ = train(methods.with_task_experts(MOMENTUM, 3), data, task_ids)
  found = methods.expert_params(state.opt_state, state.params)
  assert int(found['count']) == 2
  first = np.flatnonzero(np.diff(task_ids, prepend=0))  # steps that are dropped
  apart = methods.with_task_experts(MOMENTUM, 1)
  for task in (0, 1):
    some = np.setdiff1d(np.flatnonzero(task_ids == task), first)
    alone, _ = train(
      apart,
      jax.tree.map(lambda x, i=some: x[i], data),
    )
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, atol=1e-5),
      jax.tree.map(lambda x, i=task: x[i], found['experts']),
      alone.params,
    )


def test_a_selector_sends_rows_to_their_experts():
  data, orders = batches((0, 1, 2))
  example = jax.tree.map(lambda x: x[0], data)
  selector, _ = SELECTOR_INIT(jax.random.key(1))
  tx = methods.with_selector(
    methods.with_experts(sgd(), EXPERTS), select, selector, example
  )
  state, _ = train(tx, data)
  memory = tree.get_states(state.opt_state, methods.MemoryState)[0]
  stored = np.bincount(memory.items['expert'], minlength=3)
  assert stored.sum() == 200 and stored.min() > 40  # a random subset
  params = methods.expert_params(state.opt_state, state.params)
  routed = models.route_experts(APPLY, select)
  _, test = digits()
  for task, order in enumerate(orders):
    inputs = test['inputs'][:, order]
    chosen = np.argmax(select(params['selector'], inputs)[:, :3], 1)
    assert (chosen == task).mean() > 0.9
    logits, _ = routed(params, inputs, rng=None, model_state={}, train=False)
    mine = jax.tree.map(lambda x, i=task: x[i], params['experts'])
    want = APPLY(mine, inputs, rng=None, model_state={}, train=False)[0]
    right = chosen == task
    np.testing.assert_allclose(logits[right], want[right], atol=1e-5)
    assert (np.argmax(logits, 1) == test['labels']).mean() > 0.8
  # The active expert's own parameters are those that are trained.
  active = int(params['active'])
  jax.tree.map(
    lambda bank, p: np.testing.assert_array_equal(bank[active], p),
    params['experts'],
    state.params,
  )


def test_without_a_selector_the_active_expert_predicts():
  tx = methods.with_experts(sgd(), 2)
  params, _ = INIT(jax.random.key(0))
  inputs = digits()[1]['inputs'][:5]
  routed = models.route_experts(APPLY, select)
  found = methods.expert_params(tx.init(params), params)
  arguments = dict(rng=None, model_state={}, train=False)
  want, _ = APPLY(params, inputs, **arguments)
  logits, _ = routed(found, inputs, **arguments)
  np.testing.assert_allclose(logits, want, atol=1e-6)
  trained, _ = routed(params, inputs, rng=None, model_state={}, train=True)
  np.testing.assert_array_equal(trained, want)


def test_impossible_arguments():
  for make, message in (
    (lambda: methods.with_experts(sgd(), 0), 'max_experts is 0'),
    (lambda: methods.with_experts(sgd(), 2, probe_steps=0), 'probe_steps is 0'),
    (lambda: methods.with_experts(sgd(), 2, tolerance=-1), 'tolerance is -1'),
    (lambda: methods.with_task_experts(sgd(), 0), 'max_experts is 0'),
    (
      lambda: methods.with_selector(sgd(), select, {}, {'inputs': jnp.ones(1)}),
      "no field 'weight'",
    ),
    (lambda: methods.expert_params(sgd().init({}), {}), 'no experts'),
  ):
    with pytest.raises(ValueError, match=message):
      make()
  wrong: object = 'clock'
  with pytest.raises(TypeError, match='with_experts: keep'):
    methods.with_experts(sgd(), 2, keep=wrong)  # pyright: ignore
  tx = methods.with_experts(sgd(), 2)
  with pytest.raises(ValueError, match='params is None'):
    tx.update(
      {}, tx.init({}), value=1.0, value_fn=lambda p, b: jnp.ones(1), batch={}
    )
