"""GEM is the quadratic program of its paper, over the newest rows of a task."""

import functools
import re

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

from lrcl import methods
from lrcl.methods import _cone
from tests.methods import problem
from tests.methods.memory_test import loop_text


def flat(tree):
  leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves)


def nearest(u, references, margin=0.0):
  """The projection on the cone, by a solver for non-negative least squares."""
  references = np.reshape(references, (-1, u.size))
  if not np.any(references @ u < 0):
    return u
  start = u + margin * references.sum(0)
  multipliers, _ = optimize.nnls(references.T, -start)
  return start + multipliers @ references


@functools.partial(jax.jit, static_argnums=4)
def solve(u, references, active, margin, iterations=200):
  gram, dots = references @ references.T, references @ u
  weights = _cone.multipliers(gram, dots, active, margin, iterations)
  return u + weights @ references


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(
  seed=st.integers(0, 2**31 - 1),
  scale=st.sampled_from([1e-3, 1.0, 30.0]),
  spread=st.sampled_from([0.0, 2.0]),
  margin=st.sampled_from([0.0, 0.5]),
  active=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_solves_the_quadratic_program(seed, scale, spread, margin, active):
  rng = np.random.default_rng(seed)
  lengths = scale * np.exp(spread * rng.normal(size=(6, 1)))
  references = np.float32(lengths * rng.normal(size=(6, 9)))
  u, active = np.float32(rng.normal(size=9)), np.array(active)
  got = solve(u, references, active, np.float32(margin))
  want = nearest(u.astype(float), references[active].astype(float), margin)
  size = np.linalg.norm(u) + margin * lengths.sum()
  np.testing.assert_allclose(got, want, atol=2e-5 * size)


def test_twenty_tasks_in_conflict():
  rng = np.random.default_rng(0)
  references = rng.normal(size=(20, 40)) + rng.normal(size=40)
  u = rng.normal(size=40) - references.mean(0)
  got = solve(np.float32(u), np.float32(references), np.ones(20, bool), 0.0)
  assert np.sum(references @ u < 0) > 10
  np.testing.assert_allclose(got, nearest(u, references), atol=1e-4)


def test_agrees_with_a_solver_of_the_primal_problem():
  rng = np.random.default_rng(1)
  references, u = rng.normal(size=(4, 6)), rng.normal(size=6)
  references -= 2 * u
  primal = optimize.minimize(
    lambda x: 0.5 * np.sum(np.square(x - u)),
    u,
    jac=lambda x: x - u,
    method='SLSQP',
    constraints={'type': 'ineq', 'fun': lambda x: references @ x},
    options={'ftol': 1e-14, 'maxiter': 500},
  )
  assert primal.success
  got = solve(np.float32(u), np.float32(references), np.ones(4, bool), 0.0)
  np.testing.assert_allclose(got, primal.x, atol=1e-4)


def test_tasks_without_a_gradient_do_not_matter():
  references = np.float32([[0, 0], [1, 0], [np.inf, 0]])[:2]
  u, active = np.float32([-2, 1]), np.ones(2, bool)
  np.testing.assert_allclose(
    solve(u, references, active, 0.5), [0, 1], atol=1e-6
  )


MAX_TASKS, ROWS = 3, 5


def make(sign=1.0, margin=0.0):
  example = problem.make_batch()
  return methods.project_on_memories(
    MAX_TASKS, ROWS, example, sign=sign, margin=margin
  )


def mixed_batch(step):
  """Rows of several tasks, one of them beyond `max_tasks`, and padding."""
  batch = problem.make_batch(step, 8, step % 3)
  task = jax.random.randint(jax.random.key(step), (8,), 0, 2, jnp.int32)
  return batch | {'task': (task * (step % 4)).astype(jnp.int32)}


@pytest.mark.parametrize('sign,margin', [(1, 0.0), (-1, 0.0), (1, 0.1)])
def test_equals_a_slow_twin(sign, margin):
  """Against lists of rows, single gradients and the solver of scipy."""
  tx, params = make(sign, margin), problem.init_params()
  gradient = jax.jit(jax.grad(problem.scalar_loss))

  @jax.jit
  def update(updates, state, params, batch, task_id):
    extras = problem.extra_args(params, batch, task_id)
    return tx.update(updates, state, params, **extras)

  state, stored, conflicts = tx.init(params), {}, 0
  for step in range(8):
    batch, task_id = mixed_batch(step), step % 4
    grads = jax.tree.map(lambda g: sign * g, gradient(params, batch))
    got, state = update(grads, state, params, batch, jnp.int32(task_id))
    references = []
    for task in sorted(stored):
      if task != task_id:
        rows = jax.tree.map(lambda *x: np.stack(x), *stored[task])
        references.append(flat(gradient(params, rows)))
    want = sign * nearest(sign * flat(grads), np.array(references), margin)
    np.testing.assert_allclose(flat(got), want, atol=2e-5)
    conflicts += np.any(want != flat(grads))
    for row in range(8):
      item = jax.tree.map(lambda x, i=row: np.asarray(x[i]), batch)
      if item['weight'] > 0 and item['task'] < MAX_TASKS:
        kept = stored.setdefault(int(item['task']), [])
        stored[int(item['task'])] = [*kept, item][-ROWS:]
    params = jax.tree.map(lambda p, g: p - sign * 0.3 * g, params, grads)
  assert conflicts >= 2
  items = np.asarray(state.items['inputs']).reshape(MAX_TASKS, ROWS, -1)
  for task, kept in stored.items():
    want = sorted(tuple(item['inputs'].tolist()) for item in kept)
    have = sorted(map(tuple, items[task].tolist()))
    assert [x for x in have if any(x)] == want


def test_seeds_with_other_pasts_do_as_they_would_alone():
  """One has seen a task that the other has not."""
  tx, params = make(), problem.init_params()
  gradient = jax.grad(problem.scalar_loss)
  states = []
  for tasks in ((0, 1), (0, 0)):
    state = tx.init(params)
    for step, task in enumerate(tasks):
      batch = problem.make_batch(step, 8, 0, task)
      extras = problem.extra_args(params, batch, task)
      _, state = tx.update(gradient(params, batch), state, params, **extras)
    states.append(state)
  grads = jax.tree.map(jnp.negative, gradient(params, batch))

  def update(state):
    return tx.update(
      grads, state, params, **problem.extra_args(params, batch, jnp.int32(2))
    )

  both = jax.vmap(update)(jax.tree.map(lambda *x: jnp.stack(x), *states))
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
  for i, state in enumerate(states):
    alone = update(state)
    jax.tree.map(lambda a, b: close(a[i], b), both, alone)  # noqa: B023
    assert np.any(flat(alone[0]) != flat(grads))


def test_the_first_task_passes_unchanged():
  tx, params = make(), problem.init_params()
  state = tx.init(params)
  bad = lambda params, batch: jax.tree.map(lambda p: p * jnp.nan, params)
  for step in range(2):
    extras = problem.extra_args(params, problem.make_batch(step, 8, 0, 2), 2)
    updates, state = tx.update(
      params, state, params, **extras | {'grad_fn': bad}
    )
    jax.tree.map(np.testing.assert_array_equal, updates, params)


def test_rows_in_excess_of_the_room_are_the_newest():
  tx, batch = make(), problem.make_batch(3, 8, 0, 1)
  zero, state = jnp.zeros(1), tx.init(())
  extras = {'grad_fn': lambda params, _: params, 'task_id': 1}
  for _ in range(2):
    _, state = tx.update(zero, state, zero, batch=batch, **extras)
  items = np.asarray(state.items['inputs']).reshape(MAX_TASKS, ROWS, -1)
  assert state.seen.tolist() == [0, 16, 0]
  rows = lambda x: sorted(map(tuple, np.asarray(x).tolist()))
  assert rows(items[1]) == rows(batch['inputs'][-ROWS:])
  assert not np.any(items[[0, 2]])


def test_bfloat16_keeps_its_dtype():
  params, tx = problem.init_params(0, jnp.bfloat16), make()
  state = tx.init(params)
  for task in (0, 1):
    batch = problem.make_batch(task, 8, 0, task)
    extras = problem.extra_args(params, batch, task)
    grads = extras['grad_fn'](params, batch)
    updates, state = jax.jit(
      lambda g, s, batch, task: tx.update(
        g, s, params, **problem.extra_args(params, batch, task)
      )
    )(grads, state, batch, jnp.int32(task))
  assert all(u.dtype == jnp.bfloat16 for u in jax.tree.leaves(updates))
  assert np.all(np.isfinite(flat(updates)))


def test_the_rows_are_never_copied_in_a_loop():
  tx = optax.chain(optax.scale(-0.1), make(-1))
  text = loop_text(tx, problem.init_params(), problem.make_batch())
  size = MAX_TASKS * ROWS
  assert re.search(rf'\[{size},4\]\S* (fusion|scatter)\(', text)
  assert not re.findall(rf'\[{size},4\]\S* copy\(.*', text)


def test_errors():
  example = problem.make_batch()
  good = functools.partial(methods.project_on_memories, example=example)
  for name, numbers in (
    ('max_tasks', (0, 4)),
    ('rows_per_task', (2, 1.5)),
  ):
    with pytest.raises(ValueError, match=f'project_on_memories: {name} is'):
      good(*numbers)
  with pytest.raises(ValueError, match='margin is -1'):
    good(2, 2, margin=-1.0)
  with pytest.raises(ValueError, match='sign is 0; it must be 1'):
    good(2, 2, sign=0)
  with pytest.raises(ValueError, match='iterations is 0'):
    good(2, 2, iterations=0)
  for name in ('task', 'weight'):
    fewer = {k: v for k, v in example.items() if k != name}
    with pytest.raises(ValueError, match=f"example has no field '{name}'"):
      methods.project_on_memories(2, 2, fewer)
  tx = good(2, 2)
  extras = {'grad_fn': None, 'batch': example, 'task_id': 0}
  with pytest.raises(ValueError, match='params is None'):
    tx.update((), tx.init(()), **extras)
  bad = example | {'inputs': jnp.ones((8, 3))}
  with pytest.raises(ValueError, match=r"memories: field 'inputs' is float32"):
    tx.update((), tx.init(()), (), **extras | {'batch': bad})
  for name in extras:
    fewer = {k: v for k, v in extras.items() if k != name}
    with pytest.raises(TypeError, match=name):
      tx.update((), tx.init(()), (), **fewer)
