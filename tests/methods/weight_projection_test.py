"""NaP: what is on a sphere stays there, and nothing else moves."""

from flax import nnx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree
from lrcl.methods._weight_projection import NormState


def make_params(seed, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  return {
    'layer': {'kernel': draw(5, 4), 'bias': draw(4)},
    'stack': 3 * draw(3, 4, 2),
    'zero': jnp.zeros((2, 2), dtype),
  }


def norm(x):
  return np.linalg.norm(np.asarray(x, np.float64).reshape(-1))


def run(tx, params, steps=5):
  """All states and points of a few steps, the compiled way."""

  @jax.jit
  def step(gradient, state, params):
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  state, points = tx.init(params), []
  for seed in range(steps):
    params, state = step(make_params(seed + 1), state, params)
    points.append(params)
  return points, state


def test_norms_stay_and_vectors_pass():
  start = make_params(0)
  tx = optax.chain(optax.sgd(0.3), methods.normalize_and_project())
  (*_, end), state = run(tx, start)
  (*_, plain), _ = run(optax.sgd(0.3), start)
  np.testing.assert_allclose(
    norm(end['stack']), norm(start['stack']), rtol=1e-6
  )
  layer, before = end['layer'], start['layer']
  np.testing.assert_allclose(
    norm(layer['kernel']), norm(before['kernel']), rtol=1e-6
  )
  np.testing.assert_allclose(layer['bias'], plain['layer']['bias'])
  assert state[-1].count == 5
  assert state[-1].count.dtype == jnp.int32


def test_one_step_keeps_the_direction():
  params, updates = make_params(0), make_params(1)
  tx = methods.normalize_and_project()
  new, _ = tx.update(updates, tx.init(params), params)
  kernel = params['layer']['kernel']
  target = kernel + updates['layer']['kernel']
  target *= norm(kernel) / norm(target)
  np.testing.assert_allclose(
    kernel + new['layer']['kernel'], target, rtol=1e-5, atol=1e-6
  )


def test_zero_norms():
  """0 at init: never projected. 0 after the update: stays, and is no NaN."""
  tx = methods.normalize_and_project()
  zero, one = jnp.zeros((2, 2)), jnp.ones((2, 2))
  new, _ = tx.update(one, tx.init(zero), zero)
  np.testing.assert_array_equal(new, one)
  new, _ = tx.update(-one, tx.init(one), one)
  np.testing.assert_array_equal(new, -one)


def test_zero_norm_has_finite_gradients():
  tx = methods.normalize_and_project()

  def end(update):
    zero = jnp.zeros((2, 2))
    return jnp.sum(tx.update(update, tx.init(zero), zero)[0])

  assert np.all(np.isfinite(jax.grad(end)(jnp.zeros((2, 2)))))


@pytest.mark.parametrize('axis', [(-2, -1), [1, 2]])
def test_axis_gives_a_radius_for_each_matrix_of_a_stack(axis):
  params, updates = make_params(0), make_params(1)
  mask = tree.path_mask('stack')
  tx = methods.normalize_and_project(mask=mask, axis=axis)
  state = tx.init(params)
  assert state.radius['stack'].shape == (3, 1, 1)
  new, _ = tx.update(updates, state, params)
  single = methods.normalize_and_project()
  for i in range(3):
    part, move = params['stack'][i], updates['stack'][i]
    alone, _ = single.update(move, single.init(part), part)
    np.testing.assert_allclose(new['stack'][i], alone, rtol=1e-5, atol=1e-6)


def test_axis_of_one_output_unit():
  params = make_params(0)['layer']['kernel']
  tx = methods.normalize_and_project(axis=-2)
  new, _ = tx.update(jnp.ones((5, 4)), tx.init(params), params)
  lengths = lambda w: np.linalg.norm(w, axis=0)
  np.testing.assert_allclose(lengths(params + new), lengths(params), rtol=1e-5)


def test_mask_leaves_the_rest_alone_and_without_state():
  params, updates = make_params(0), make_params(1)
  tx = methods.normalize_and_project(mask=tree.path_mask('kernel$'))
  state = tx.init(params)
  assert len(jax.tree.leaves(state.radius)) == 1
  new, _ = tx.update(updates, state, params)
  np.testing.assert_array_equal(new['stack'], updates['stack'])
  assert np.any(new['layer']['kernel'] != updates['layer']['kernel'])


@pytest.mark.parametrize('every', [2, 3])
def test_every(every):
  start = make_params(0)
  tx = optax.chain(optax.sgd(0.3), methods.normalize_and_project(every=every))
  points, state = run(tx, start, steps=6)
  for count, params in enumerate(points, start=1):
    drift = abs(norm(params['stack']) / norm(start['stack']) - 1)
    assert (drift < 1e-6) == (count % every == 0)
  assert state[-1].count == 6


def test_bfloat16():
  start = make_params(0, jnp.bfloat16)
  draws = np.random.default_rng(7).normal(size=(64, 64))
  start['stack'] = jnp.asarray(draws, jnp.bfloat16)
  tx = methods.normalize_and_project()
  state = tx.init(start)
  assert state.radius['stack'].dtype == jnp.float32
  updates = jax.tree.map(lambda x: 0.1 * jnp.ones_like(x), start)
  new, _ = tx.update(updates, state, start)
  assert new['stack'].dtype == jnp.bfloat16
  end = start['stack'] + new['stack']
  np.testing.assert_allclose(norm(end), norm(start['stack']), rtol=1e-3)


def test_float32_updates_of_bfloat16_parameters_in_both_branches():
  params = jnp.ones((2, 2), jnp.bfloat16)
  tx = methods.normalize_and_project(every=2)
  state = tx.init(params)
  for _ in range(2):
    new, state = tx.update(jnp.ones((2, 2)), state, params)
    assert new.dtype == jnp.bfloat16


def test_last_in_the_chain():
  """Before the learning rate or the decay it drifts off the sphere."""
  nap = methods.normalize_and_project()
  rate, decay = optax.scale(-0.3), optax.add_decayed_weights(-0.1)
  drift = {}
  for name, links in {
    'last': (rate, decay, nap),
    'before the rate': (nap, rate),
    'before the decay': (rate, nap, decay),
  }.items():
    start = make_params(0)
    (*_, end), _ = run(optax.chain(*links), start)
    drift[name] = abs(norm(end['stack']) / norm(start['stack']) - 1)
  assert drift['last'] < 1e-6
  assert drift['before the rate'] > 1e-2
  assert drift['before the decay'] > 1e-2


def test_same_names_for_linen_and_nnx_trees():
  class Model(nnx.Module):
    def __init__(self, rngs):
      self.Dense_0 = nnx.Linear(3, 4, rngs=rngs)
      self.head = nnx.Linear(4, 2, rngs=rngs)

  _, params = nnx.split(Model(nnx.Rngs(0)), nnx.Param)
  mask = tree.path_mask('Dense_0/kernel$')
  for chosen, count in ((mask, 1), (None, 2)):
    tx = optax.chain(optax.sgd(0.3), methods.normalize_and_project(mask=chosen))
    state = tx.init(params)
    assert len(jax.tree.leaves(state[-1].radius)) == count
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(tx.update)(ones, state, params)
    end = optax.apply_updates(params, updates)
    norms = lambda t: jax.tree.leaves(tree.leaf_norms(t['Dense_0']))
    np.testing.assert_allclose(norms(end)[1], norms(params)[1], rtol=1e-5)


def test_map_params_vmap_and_donation():
  tx = methods.normalize_and_project(axis=-2)
  params = jnp.ones((3, 2))
  mapped = optax.tree.map_params(tx, lambda x: x + 1, tx.init(params))
  np.testing.assert_allclose(mapped.radius, jnp.sqrt(3.0) + 1, rtol=1e-6)
  assert mapped.count == 0
  jax.jit(lambda s, p: (s, p), donate_argnums=(0, 1))(tx.init(params), params)
  seeds = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 2)), 'f')
  alone = lambda p: tx.update(jnp.ones((3, 2)), tx.init(p), p)[0]
  together = jax.vmap(alone)(seeds)
  np.testing.assert_allclose(together[1], alone(seeds[1]), rtol=1e-5)


def test_state_fields():
  assert NormState._fields == ('radius', 'count')


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(
  log_scale=st.floats(-6, 6), log_rate=st.floats(-6, 6), seed=st.integers(0, 99)
)
def test_any_scale_of_weights_and_steps(log_scale, log_rate, seed):
  rng = np.random.default_rng(seed)
  params = jnp.asarray(10.0**log_scale * rng.normal(size=(4, 3)), 'f')
  size = 10.0 ** (log_scale + log_rate)
  update = jnp.asarray(size * rng.normal(size=(4, 3)), 'f')
  tx = methods.normalize_and_project()
  new, _ = tx.update(update, tx.init(params), params)
  np.testing.assert_allclose(norm(params + new), norm(params), rtol=1e-5)


@pytest.mark.parametrize(
  ('kwargs', 'match'),
  [({'every': 0}, 'every is 0'), ({'every': 1.5}, 'whole number')],
)
def test_constructor_errors(kwargs, match):
  with pytest.raises(ValueError, match=match):
    methods.normalize_and_project(**kwargs)


def test_errors():
  tx = methods.normalize_and_project()
  with pytest.raises(ValueError, match='params is None'):
    tx.update(jnp.ones((2, 2)), tx.init(jnp.ones((2, 2))))
  with pytest.raises(ValueError, match='matches none'):
    methods.normalize_and_project(mask=tree.path_mask('no')).init({'a': 1.0})
  with pytest.raises(ValueError, match=r"'a' has shape \(2, 2\)"):
    tx = methods.normalize_and_project(axis=(-3, -2, -1))
    tx.init({'a': jnp.ones((2, 2))})
