"""Fields of binary weights: what a previous step pulls back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, tree


def run(tx, steps=6, seed=0):
  """Points of a run, and what was added to each gradient."""
  rng = np.random.default_rng(seed)
  draw = lambda: jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
  params = draw()
  state, points, added = tx.init(params), [params], []
  for _ in range(steps):
    gradient = draw()
    updates, state = tx.update(gradient, state, params)
    added.append(np.asarray(updates - gradient))
    params = params - 0.3 * updates
    points.append(params)
  return points, added


@pytest.mark.parametrize(
  'beta', [0.7, lambda step: 0.2 + 0.3 * jnp.asarray(step, jnp.float32)]
)
def test_is_the_form_of_the_code(beta):
  points, added = run(methods.metaplastic_kl(beta, strength=0.5))
  assert not added[0].any()
  for n in range(1, len(added)):
    b = float(beta(n)) if callable(beta) else beta
    field, before = (np.float64(x) for x in (points[n], points[n - 1]))
    want = 0.5 * b**2 * (1 - np.tanh(b * field) ** 2) * (field - before)
    np.testing.assert_allclose(added[n], want, rtol=1e-4, atol=1e-6)


def test_is_the_gradient_of_the_divergence_to_leading_order():
  beta, start = 1.3, jnp.array([0.2, -0.9, 2.0])
  tx, zero = methods.metaplastic_kl(beta), jnp.zeros(3)
  _, state = tx.update(zero, tx.init(start), start)
  for size in (1e-1, 1e-2):
    end = start + size * jnp.array([1.0, -1.0, 0.5])
    found, _ = tx.update(zero, state, end)
    # The other order of both differs from it by a term of the third order.
    want = jax.grad(models.binary_kl)(end, start, beta)
    error = float(jnp.abs(found - want).max())
    assert error <= 3 * size**2
    assert float(jnp.abs(found).max()) > 0.1 * size


def test_a_sure_weight_is_stiff_and_zero_beta_is_nothing():
  points, added = run(methods.metaplastic_kl(0.0))
  assert not any(a.any() for a in added)
  points, added = run(methods.metaplastic_kl(50.0))
  sure = np.abs(points[1]) > 0.5
  assert sure.any() and np.abs(added[1][sure]).max() < 1e-6
  assert np.abs(added[1]).max() > 1e-3


def test_masked_leaves_pass():
  params = {'field': jnp.ones(2), 'bias': jnp.ones(2)}
  tx = methods.metaplastic_kl(1.0, mask=tree.path_mask('field$'))
  state = tx.init(params)
  assert len(jax.tree.leaves(state.previous)) == 1
  _, state = tx.update(params, state, params)
  moved = jax.tree.map(lambda p: p + 1, params)
  updates, _ = tx.update(params, state, moved)
  assert updates['bias'].tolist() == [1.0, 1.0]
  assert float(updates['field'][0]) > 1.0


def test_errors():
  with pytest.raises(ValueError, match=r'beta is -1\.0; it must be >= 0'):
    methods.metaplastic_kl(-1.0)
  with pytest.raises(ValueError, match='strength is -1'):
    methods.metaplastic_kl(1.0, strength=-1)
  tx = methods.metaplastic_kl(1.0)
  with pytest.raises(ValueError, match='params is None'):
    tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
  with pytest.raises(ValueError, match='matches none'):
    methods.metaplastic_kl(1.0, mask=tree.path_mask('x')).init({'a': 1.0})


def test_in_a_chain_of_optax():
  tx = optax.chain(methods.metaplastic_kl(1.0), optax.scale(-0.1))
  params = jnp.ones(2)
  updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
  np.testing.assert_allclose(updates, -0.1, rtol=1e-6)
