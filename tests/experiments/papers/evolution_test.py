import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.papers import evolution

_GOAL = jnp.array([1.0, -2.0, 0.5])


def _quadratic(params, key):
  del key
  return jnp.sum(jnp.square(params - _GOAL))


def _evolve(loss_fn, generations=60, tx=None):
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam relies on it
    return evolution.evolve(
      loss_fn,
      jnp.zeros(3),
      jax.random.key(0),
      generations=generations,
      pairs=16,
      tx=tx or optax.adam(optax.cosine_decay_schedule(0.2, generations)),
    )


def test_it_finds_the_minimum_of_a_quadratic():
  found = _evolve(_quadratic)
  np.testing.assert_allclose(found.params, _GOAL, atol=0.02)
  assert found.losses[0] > 4.0
  assert found.losses[-1] < 0.1  # what noise of deviation 0.1 leaves is 0.03


def _louder(params, key):
  return jnp.exp(_quadratic(params, key))


def _harder_at_times(params, key):
  # A power of two, so that no comparison changes by rounding.
  scale = 2.0 ** jax.random.randint(key, (), -3, 4).astype(jnp.float32)
  return scale * _quadratic(params, key)


@pytest.mark.parametrize('loss_fn', [_louder, _harder_at_times])
def test_only_the_rank_within_a_pair_counts(loss_fn):
  wanted = _evolve(_quadratic, 5).params
  np.testing.assert_array_equal(_evolve(loss_fn, 5).params, wanted)


def test_the_estimate_points_uphill():
  slope = jnp.array([3.0, -4.0, 0.0])
  tx = optax.scale(1.0)  # shows the estimate itself
  linear = lambda params, key: params @ slope
  estimates = [
    evolution.evolve(
      linear, jnp.zeros(3), jax.random.key(n), generations=1, pairs=4096, tx=tx
    ).params
    for n in range(2)
  ]
  # E[sign(slope @ e) e] / (2 sigma) is sqrt(2 / pi) / 0.2 along the slope.
  wanted = np.array([0.6, -0.8, 0.0]) * np.sqrt(2 / np.pi) / 0.2
  for estimate in estimates:
    np.testing.assert_allclose(estimate, wanted, atol=5 / 0.2 / np.sqrt(4096))


def test_a_loss_that_is_not_a_number_is_the_worst():
  def broken(params, key):
    return jnp.where(params[0] > 0.5, jnp.nan, _quadratic(params, key))

  # Pairs across the edge say nothing of the other two, which take longer.
  found = _evolve(broken, 200)
  assert jnp.all(jnp.isfinite(found.params))
  assert 0.2 < found.params[0] < 0.5
  np.testing.assert_allclose(found.params[1:], _GOAL[1:], atol=0.05)


def test_where_all_are_worst_nothing_moves():
  found = _evolve(lambda params, key: jnp.nan * params[0], 3)
  np.testing.assert_array_equal(found.params, 0.0)
