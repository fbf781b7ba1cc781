"""Shrink and perturb: its moments, its times, and where it ends."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, tree


def zeros(params):
  return jax.tree.map(jnp.zeros_like, params)


def test_shrinks_and_adds_normal_numbers_of_that_scale():
  params = {'a': jnp.full((200, 100), 3.0), 'b': jnp.full(20_000, -1.0)}
  tx = methods.shrink_and_perturb(0.5, 0.2, every=1)
  updates, state = tx.update(zeros(params), tx.init(params), params)
  end = optax.apply_updates(params, updates)
  noise = {k: np.ravel(end[k] - 0.5 * params[k]) / 0.2 for k in params}
  for draws in noise.values():
    assert abs(draws.mean()) < 0.03 and abs(draws.std() - 1) < 0.02
  assert abs(np.corrcoef(noise['a'], noise['b'])[0, 1]) < 0.03
  again, state = tx.update(zeros(params), state, params)
  assert not np.any(again['b'] == updates['b'])
  assert int(state.count) == 2


def test_a_task_moves_the_point_once_and_not_the_first():
  tx = methods.shrink_and_perturb(0.5, 0.0)
  params = jnp.array([8.0])
  state, points, update = tx.init(params), [], jax.jit(tx.update)
  for task in (3, 3, 1, 1, 3):
    updates, state = update(jnp.ones(1), state, params, task_id=task)
    params = params + updates
    points.append(float(params[0]))
  assert points == [9.0, 10.0, 5.5, 6.5, 3.75]
  assert int(state.count) == 5 and int(state.task_id) == 3


def test_every_third_step_and_the_key_moves_with_it():
  tx = methods.shrink_and_perturb(1.0, 1.0, every=3)
  params = jnp.zeros(4)
  state, moved, keys = tx.init(params), [], []
  update = jax.jit(tx.update)
  for _ in range(7):
    keys.append(tree.digest(state.key))
    updates, state = update(zeros(params), state, params)
    moved.append(bool(jnp.any(updates != 0)))
  assert moved == [False, False, True, False, False, True, False]
  assert keys[0] == keys[2] != keys[3] == keys[5] != keys[6]


@pytest.mark.parametrize('shrink', [0.0, 0.3])
def test_a_fresh_network_takes_its_share(shrink):
  init_fn, _ = models.from_module(models.MLP((4,), 3), jnp.ones((1, 5)))
  fresh = lambda key: init_fn(key)[0]
  params = fresh(jax.random.key(9))
  tx = methods.shrink_and_perturb(shrink, 1 - shrink, every=1, init_fn=fresh)
  state = tx.init(params)
  updates, _ = tx.update(zeros(params), state, params)
  end = optax.apply_updates(params, updates)
  draw = fresh(jax.random.split(state.key)[1])  # the second is for the draw
  want = jax.tree.map(lambda p, d: shrink * p + (1 - shrink) * d, params, draw)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, want
  )


def test_mask_leaves_the_rest_to_the_optimizer():
  params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
  tx = methods.shrink_and_perturb(
    0.5, 0.1, every=1, mask=tree.path_mask('kernel')
  )
  updates, _ = tx.update(params, tx.init(params), params)
  np.testing.assert_array_equal(updates['bias'], params['bias'])
  assert not np.any(updates['kernel'] == params['kernel'])


def test_seeds_differ_and_repeat():
  params = jnp.zeros(3)
  draw = lambda seed: _once(
    methods.shrink_and_perturb(1.0, 1.0, every=1, seed=seed), params
  )
  np.testing.assert_array_equal(draw(0), draw(0))
  assert not np.any(draw(0) == draw(1))


def _once(tx, params):
  return tx.update(zeros(params), tx.init(params), params)[0]


def test_with_a_reset_optimizer_a_task_starts_from_the_moved_point():
  """The recipe: one gradient of the new task was formed before the move."""
  tx = optax.chain(
    methods.reset_on_task(optax.scale_by_adam()),
    methods.scale_by_schedule_value(0.1),
    methods.shrink_and_perturb(0.5, 0.0),
  )
  params = jnp.full(2, 4.0)
  state = tx.init(params)
  for task in (0, 0, 1):
    before = params
    with jax.numpy_dtype_promotion('standard'):  # optax's Adam needs it
      updates, state = tx.update(jnp.ones(2), state, params, task_id=task)
    params = params + updates
  assert int(state[0].inner_state.count) == 1
  np.testing.assert_allclose(params, 0.5 * (before - 0.1), rtol=1e-5)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
  shrink=st.floats(0, 1, width=32), scale=st.floats(0, 2, width=32)
)
def test_traced_numbers_give_the_formula(shrink, scale):
  params = jnp.array([1.5, -2.0])
  end = _traced(params, shrink, scale)
  draw = _traced(params, 0.0, 1.0)
  np.testing.assert_allclose(
    end, shrink * (params + 1) + scale * draw, rtol=1e-5, atol=1e-5
  )


@jax.jit
def _traced(params, shrink, scale):
  tx = methods.shrink_and_perturb(shrink, scale, every=1)
  return params + tx.update(jnp.ones(2), tx.init(params), params)[0]


@pytest.mark.parametrize(
  ('kwargs', 'match'),
  [
    ({'shrink': 1.5}, 'shrink is 1.5'),
    ({'shrink': -0.1}, 'shrink is -0.1'),
    ({'scale': -1.0}, 'scale is -1'),
    ({'every': 0}, 'every is 0'),
    ({'every': 'step'}, "every is 'step'"),
  ],
)
def test_constructor_errors(kwargs, match):
  with pytest.raises(ValueError, match=match):
    methods.shrink_and_perturb(**({'shrink': 0.5, 'scale': 0.1} | kwargs))


def test_errors():
  params = jnp.ones(2)
  tx = methods.shrink_and_perturb(0.5, 0.1)
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, tx.init(params), task_id=0)
  with pytest.raises(TypeError, match='task_id'):
    tx.update(params, tx.init(params), params)
  wrong = methods.shrink_and_perturb(
    0.5, 0.5, every=1, init_fn=lambda key: jnp.ones(3)
  )
  with pytest.raises(ValueError, match='init_fn gives another tree'):
    wrong.update(params, wrong.init(params), params)
  with pytest.raises(ValueError, match='matches none'):
    methods.shrink_and_perturb(0.5, 0.1, mask=tree.path_mask('no')).init(
      {'a': params}
    )
