"""OGD: an orthonormal basis, a projection, and outputs that stay."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree
from tests.methods import problem

CAPACITY, SIZE = 6, 10


def split(rows):
  """Rows of ten numbers as a tree with a leading axis."""
  rows = jnp.asarray(rows, jnp.float32)
  return {'a': rows[:, :4].reshape(-1, 2, 2), 'b': rows[:, 4:]}


def join(stack):
  rows = lambda x: np.asarray(x, np.float64).reshape(x.shape[0], -1)
  return np.concatenate([rows(stack['a']), rows(stack['b'])], axis=1)


PARAMS = jax.tree.map(lambda x: x[0], split(np.zeros((1, SIZE))))


directions_of = jax.jit(
  methods.output_directions,
  static_argnums=0,
  static_argnames=('outputs', 'mask'),
)


@functools.partial(jax.jit, static_argnums=0)
def consolidated(capacity, *stacks):
  state = methods.orthogonal_gradient(capacity).init(PARAMS)
  for directions in stacks:
    state = state.consolidate(PARAMS, directions=directions)
  return state


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
  seed=st.integers(0, 2**31 - 1),
  rank=st.integers(1, 4),
  scale=st.sampled_from([1e-4, 1.0, 1e4]),
)
def test_the_basis_is_orthonormal_and_spans_the_directions(seed, rank, scale):
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(6, rank)) @ rng.normal(size=(rank, SIZE)) * scale
  state = consolidated(CAPACITY, split(rows[:3]), split(rows[3:]))
  basis, count = join(state.basis), int(state.count)
  assert count == rank  # what depends on the others takes no room
  np.testing.assert_allclose(
    basis @ basis.T, np.diag([1.0] * count + [0.0] * (6 - count)), atol=1e-6
  )
  outside = rows - rows @ basis.T @ basis
  assert np.max(np.abs(outside)) < 5e-3 * np.max(np.abs(rows))
  updates = rng.normal(size=SIZE)
  got, _ = methods.orthogonal_gradient(CAPACITY).update(
    jax.tree.map(lambda x: x[0], split(updates[None])), state
  )
  got = join(jax.tree.map(lambda x: x[None], got))[0]
  np.testing.assert_allclose(
    got, updates - basis.T @ (basis @ updates), atol=2e-6
  )


def test_nearly_parallel_directions_stay_orthonormal():
  rng = np.random.default_rng(0)
  rows = rng.normal(size=SIZE) + 5e-3 * rng.normal(size=(5, SIZE))
  state = consolidated(CAPACITY, split(rows))
  assert int(state.count) > 1
  gram = join(state.basis) @ join(state.basis).T
  np.testing.assert_allclose(
    gram, np.diag(np.arange(CAPACITY) < int(state.count)), atol=1e-6
  )


def test_what_comes_too_late_or_is_no_direction_is_dropped():
  rows = np.random.default_rng(1).normal(size=(5, SIZE))
  small = consolidated(2, split(rows[:1]), split(rows[1:]))
  want = consolidated(2, split(rows[:2]))
  assert int(small.count) == 2
  np.testing.assert_allclose(join(small.basis), join(want.basis), atol=1e-6)
  rows[0], rows[2, 3] = 0.0, np.nan
  state = consolidated(CAPACITY, split(rows))
  assert int(state.count) == 3
  assert np.all(np.isfinite(join(state.basis)))


def test_passes_unchanged_until_consolidated():
  tx, params = methods.orthogonal_gradient(3), problem.init_params()
  updates, _ = tx.update(params, tx.init(params))
  jax.tree.map(np.testing.assert_array_equal, updates, params)


def test_outputs_of_a_linear_model_stay():
  apply_fn = lambda params, x, **_: (x @ params['w'] + params['b'][None], ())
  key = jax.random.key(0)
  normal = lambda i, *shape: jax.random.normal(
    jax.random.fold_in(key, i), shape
  )
  params = {'w': normal(0, 6, 3), 'b': normal(1, 3)}
  old = {'inputs': normal(2, 4, 6), 'labels': jnp.array([0, 1, 2, 0])}
  new = {'inputs': normal(3, 32, 6), 'labels': jnp.arange(32) % 3}
  loss = lambda p: jnp.mean(problem.loss_fn(apply_fn(p, new['inputs'])[0], new))
  tx = optax.chain(optax.scale(-0.5), methods.orthogonal_gradient(12))

  @functools.partial(jax.jit, static_argnums=0)
  def train(outputs):
    directions = methods.output_directions(
      apply_fn, params, old, outputs=outputs
    )
    state = methods.consolidate(tx.init(params), params, directions=directions)

    def body(carry, _):
      p, state = carry
      updates, state = tx.update(jax.grad(loss)(p), state, p)
      return (optax.apply_updates(p, updates), state), None

    return jax.lax.scan(body, (params, state), length=50)[0][0]

  before = apply_fn(params, old['inputs'])[0]
  changes = lambda p: np.abs(apply_fn(p, old['inputs'])[0] - before)
  every, label = train('all'), train('label')
  assert loss(every) < loss(params) - 0.1  # it has learned something
  assert np.max(changes(every)) < 1e-4
  own = np.asarray(changes(label))[np.arange(4), np.asarray(old['labels'])]
  assert np.max(own) < 1e-4 and np.max(changes(label)) > 0.1


def test_directions_are_gradients_of_single_logits():
  params, batch = problem.init_params(), problem.make_batch(0, 3, 1)
  one = directions_of(problem.apply_fn, params, batch)
  every = directions_of(problem.apply_fn, params, batch, outputs='all')
  assert jax.tree.leaves(one)[0].shape[0] == 3

  @jax.jit
  def gradient_of(params, x, label):
    logit = lambda p: problem.apply_fn(p, x[None])[0][0, label]
    return jax.grad(logit)(params)

  for row in range(3):
    for label in range(problem.CLASSES):
      gradient = gradient_of(params, batch['inputs'][row], label)
      want = jax.tree.map(lambda g, i=row: g * batch['weight'][i], gradient)
      at = lambda stack, i: jax.tree.map(lambda x, i=i: x[i], stack)
      close = functools.partial(np.testing.assert_allclose, atol=1e-6)
      jax.tree.map(close, at(every, row * problem.CLASSES + label), want)
      if label == int(batch['labels'][row]):
        jax.tree.map(close, at(one, row), want)


def test_masked_leaves_pass_and_cost_nothing():
  params, batch = problem.init_params(), problem.make_batch(0, 2)
  mask = tree.path_mask('kernel$')
  tx = methods.orthogonal_gradient(4, mask=mask)
  given = directions_of(problem.apply_fn, params, batch, mask=mask)
  whole = directions_of(problem.apply_fn, params, batch)
  states = [
    methods.consolidate(tx.init(params), params, directions=d)
    for d in (given, whole)
  ]
  assert tree.digest(states[0]) == tree.digest(states[1])
  assert len(jax.tree.leaves(states[0].basis)) == 2
  updates, _ = tx.update(params, states[0])
  np.testing.assert_array_equal(updates['head']['bias'], params['head']['bias'])
  assert np.any(updates['head']['kernel'] != params['head']['kernel'])


def test_bfloat16_updates_are_projected_in_float32():
  params, batch = problem.init_params(0, jnp.bfloat16), problem.make_batch(0, 3)
  tx = methods.orthogonal_gradient(3)
  directions = directions_of(problem.apply_fn, params, batch)
  state = tx.init(params).consolidate(params, directions=directions)
  wide = lambda t: jax.tree.map(lambda x: x.astype(jnp.float32), t)
  got, _ = tx.update(params, state)
  want, _ = tx.update(wide(params), state)
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert x.dtype == jnp.bfloat16
    np.testing.assert_array_equal(x, y.astype(jnp.bfloat16))


def test_a_stack_of_seeds_needs_vmap():
  rows = np.random.default_rng(2).normal(size=(3, 4, SIZE))
  many = jax.vmap(lambda d: consolidated(CAPACITY, d))(
    jax.tree.map(lambda *x: jnp.stack(x), *map(split, rows))
  )
  for i in range(3):
    one = consolidated(CAPACITY, split(rows[i]))
    check = lambda x, y, i=i: np.testing.assert_allclose(x[i], y, atol=1e-6)
    jax.tree.map(check, many, one)


def test_errors():
  with pytest.raises(ValueError, match='orthogonal_gradient: capacity is 0'):
    methods.orthogonal_gradient(0)
  with pytest.raises(ValueError, match='mask matches none'):
    methods.orthogonal_gradient(2, mask=tree.path_mask('x')).init(PARAMS)
  state = methods.orthogonal_gradient(2).init(PARAMS)
  with pytest.raises(TypeError, match='directions'):
    methods.consolidate(state, PARAMS)
  with pytest.raises(
    ValueError, match=r"'a' have the shape \[2, 2\]; .*\[n, 2"
  ):
    state.consolidate(PARAMS, directions=PARAMS)
  params, batch = problem.init_params(), problem.make_batch()
  with pytest.raises(ValueError, match="outputs is 'both'; it must be 'label'"):
    methods.output_directions(problem.apply_fn, params, batch, outputs='both')
  tokens = lambda params, x, **_: (jnp.zeros((1, 2, 3)), ())
  with pytest.raises(ValueError, match='logits have rank 3'):
    methods.output_directions(tokens, params, batch)
