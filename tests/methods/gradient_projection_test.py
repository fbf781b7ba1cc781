"""A-GEM is a projection on a half-space, and its place in the chain matters."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

from lrcl import methods
from tests.methods import problem

floats = st.floats(-4.0, 4.0, width=32)


def project(updates, reference, sign=1.0, ready=True):
  tx = methods.project_on_memory(sign)
  grad_fn = lambda params, memory: reference
  extras = {'grad_fn': grad_fn, 'memory': {}, 'memory_ready': ready}
  return tx.update(updates, tx.init(None), updates, **extras)[0]


compiled = jax.jit(project, static_argnums=2)


def flat(tree):
  leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves)


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(
  st.lists(floats, min_size=5, max_size=5),
  st.lists(floats, min_size=5, max_size=5),
  st.sampled_from([1.0, -1.0]),
)
def test_is_the_nearest_point_of_the_half_space(updates, reference, sign):
  """Against a solver for non-negative least squares, the problem's dual."""
  split = lambda x: {'a': jnp.float32(x[:2]), 'b': jnp.float32(x[2:])[None]}
  got = flat(compiled(split(updates), split(reference), sign))
  u, r = np.array(updates), np.array(reference)
  if np.sum(r * r) < 1e-30:  # below what float32 can square
    return
  multiplier, _ = optimize.nnls(r[:, None], -sign * u)
  np.testing.assert_allclose(got, u + sign * multiplier * r, atol=2e-5)


def test_golden():
  got = project(jnp.array([3.0, -1.0]), jnp.array([1.0, 4.0]))
  np.testing.assert_allclose(got, [3 + 1 / 17, -1 + 4 / 17], rtol=1e-6)
  kept = jnp.array([3.0, 1.0])
  np.testing.assert_array_equal(project(kept, jnp.array([1.0, 4.0])), kept)
  np.testing.assert_allclose(
    project(kept, jnp.array([1.0, 4.0]), -1.0), [3 - 7 / 17, 1 - 28 / 17]
  )


@pytest.mark.parametrize('ready', [False, jnp.bool_(False)])
def test_an_empty_memory_changes_nothing_even_if_it_gives_nan(ready):
  updates = jnp.array([1.0, -2.0])
  got = project(updates, jnp.full(2, jnp.nan), ready=ready)
  np.testing.assert_array_equal(got, updates)


@pytest.mark.parametrize('size', [0.0, 1e-30])
def test_a_reference_without_length_changes_nothing(size):
  updates = jnp.array([1.0, -2.0])
  got = project(updates, jnp.full(2, size))
  np.testing.assert_array_equal(got, updates)


def test_bfloat16_is_projected_in_float32():
  rng = np.random.default_rng(0)
  half = lambda x: jnp.asarray(x, jnp.bfloat16)
  updates, reference = half(rng.normal(size=4096)), half(rng.normal(size=4096))
  reference = reference - updates  # in conflict
  got = project(updates, reference)
  assert got.dtype == jnp.bfloat16
  u, r = flat(updates), flat(reference)
  want = u - u @ r / (r @ r) * r
  np.testing.assert_array_equal(got, jnp.asarray(want, jnp.bfloat16))


@functools.partial(jax.jit, static_argnums=(0, 1))
def cosines(links, sign):
  """Cosine of each applied step and the memory's gradient, over 60 steps."""
  links = {
    'before': (methods.project_on_memory(), optax.scale_by_adam()),
    'after': (optax.scale_by_adam(), methods.project_on_memory()),
    'last': (optax.scale_by_adam(),),
  }[links]
  last = [methods.project_on_memory(sign)] if sign == -1 else []
  tx = optax.chain(*links, optax.scale(-0.1), *last)
  memory = problem.make_batch(100, 16)
  gradient = jax.grad(problem.scalar_loss)

  def body(carry, step):
    params, state = carry
    batch = problem.make_batch(step)
    extras = problem.extra_args(params, batch)
    extras |= {'memory': memory, 'memory_ready': True}
    grads = gradient(params, batch)
    updates, state = tx.update(grads, state, params, **extras)
    reference = gradient(params, memory)
    norms = optax.tree.norm(updates) * optax.tree.norm(reference)
    cosine = optax.tree.vdot(updates, reference) / norms
    return (optax.apply_updates(params, updates), state), cosine

  params = problem.init_params()
  return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(60))[1]


def test_only_behind_the_preconditioner_is_there_a_guarantee():
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam
    assert np.max(cosines('before', 1)) > 1e-2
    assert np.max(cosines('after', 1)) < 1e-5
    assert np.max(cosines('last', -1)) < 1e-5
    assert (
      np.sum(np.abs(cosines('last', -1)) < 1e-5) > 5
    )  # some were in conflict


def test_past_only_leaves_the_present_task_out():
  params, batch = problem.init_params(), problem.make_batch(0)
  memory = problem.make_batch(1, 8)
  memory['task'] = jnp.arange(8, dtype=jnp.int32) % 2
  extras = problem.extra_args(params, batch, task_id=1)
  opposite = jax.tree.map(
    jnp.negative, extras['grad_fn'](params, memory)
  )  # in conflict
  apply = lambda tx, memory: tx.update(
    opposite, (), params, memory=memory, memory_ready=True, **extras
  )[0]
  past = memory | {'weight': (memory['task'] == 0).astype(jnp.float32)}
  past_only = methods.project_on_memory(past_only=True)
  got = flat(apply(past_only, memory))
  want = flat(apply(methods.project_on_memory(), past))
  np.testing.assert_array_equal(got, want)
  assert np.any(got != flat(opposite))
  # In the first task all rows are of the present: no constraint at all.
  first = memory | {'task': jnp.ones(8, jnp.int32)}
  np.testing.assert_array_equal(flat(apply(past_only, first)), flat(opposite))


def test_the_same_with_nothing_but_a_scalar_loss():
  """It takes part in a step that passes `grad_fn` and `batch` only."""
  batch, params = problem.make_batch(), problem.init_params()
  inner = optax.chain(optax.scale(-0.1), methods.project_on_memory(-1))
  tx = methods.with_memory(inner, 8, batch, 4)
  grad_fn = jax.grad(problem.scalar_loss)
  state = tx.init(params)
  for _ in range(2):
    updates, state = tx.update(
      grad_fn(params, batch), state, params, grad_fn=grad_fn, batch=batch
    )
  assert np.all(np.isfinite(flat(updates)))


def test_errors():
  for sign in (0, 0.5, 2, float('nan')):
    with pytest.raises(ValueError, match=r'sign is .*; it must be 1, where'):
      methods.project_on_memory(sign)
  tx = methods.project_on_memory()
  with pytest.raises(TypeError, match="'memory' and 'memory_ready'"):
    tx.update((), (), (), grad_fn=None)
  extras = {'grad_fn': None, 'memory': {}, 'memory_ready': True}
  with pytest.raises(ValueError, match='project_on_memory: params is None'):
    tx.update((), (), **extras)
  past_only = methods.project_on_memory(past_only=True)
  with pytest.raises(TypeError, match=r"past_only=True needs .* 'task_id'"):
    past_only.update((), (), (), **extras)
  with pytest.raises(ValueError, match="a memory with the field 'task'"):
    past_only.update((), (), (), task_id=0, **extras)
