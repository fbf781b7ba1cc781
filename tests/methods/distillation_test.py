"""DER is the gradient of a mean square to the stored logits; DER++ of two."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods
from tests.methods import problem
from tests.methods.memory_test import spy

ROWS = 8


def make_memory(seed=3, pad=2):
  memory = problem.make_batch(seed, ROWS, pad)
  logits = jax.random.normal(jax.random.key(seed), (ROWS, problem.CLASSES))
  return memory | {'logits': logits}


def mean_square(params, memory):
  """By its definition, over the rows that count."""
  logits = problem.apply_fn(params, memory['inputs'])[0]
  square = (logits - memory['logits']) ** 2
  counts = (memory['weight'] > 0).astype(jnp.float32)
  total = jnp.sum(square * counts[:, None])
  return total / (jnp.sum(counts) * problem.CLASSES)


@functools.partial(jax.jit, static_argnames='ready')
def distilled(weight, params, memory, ready=True):
  tx = methods.add_distillation_on_memory(problem.apply_fn, weight)
  ones = jax.tree.map(jnp.ones_like, params)
  updates, _ = tx.update(
    ones, tx.init(params), params, memory=memory, memory_ready=ready
  )
  return updates


def close(a, b):
  check = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
  jax.tree.map(check, a, b)


@pytest.mark.parametrize('weight', [0.0, 0.3])
def test_adds_the_gradient_of_the_mean_square(weight):
  params, memory = problem.init_params(), make_memory()
  gradient = jax.jit(jax.grad(mean_square))(params, memory)
  want = jax.tree.map(lambda g: 1 + weight * g, gradient)
  close(distilled(jnp.float32(weight), params, memory), want)


def test_golden():
  apply_fn = lambda params, inputs, **_: (inputs * params['w'], ())
  tx = methods.add_distillation_on_memory(apply_fn)
  memory = {
    'inputs': jnp.array([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]),
    'logits': jnp.array([[1.0, 0.0], [0.0, 4.0], [0.0, 0.0]]),
    'weight': jnp.array([1.0, 3.0, 0.0]),
  }
  params = {'w': jnp.ones(2)[None]}
  updates, _ = tx.update(
    jax.tree.map(jnp.zeros_like, params),
    (),
    params,
    memory=memory,
    memory_ready=True,
  )
  # Column 0: (1/4)(1-1)1 + (3/4)(3-0)3; column 1: (1/4)(2-0)2 + (3/4)(4-4)4;
  # twice that, over two outputs.
  np.testing.assert_allclose(updates['w'], [[6.75, 1.0]])


def test_not_ready_is_the_identity_even_where_it_is_nan():
  params = jax.tree.map(lambda p: p * jnp.nan, problem.init_params())
  updates = distilled(1.0, params, make_memory(), ready=False)
  jax.tree.map(lambda u: np.testing.assert_array_equal(u, 1.0), updates)


def test_bfloat16_keeps_its_dtype():
  params, memory = problem.init_params(0, jnp.bfloat16), make_memory()
  updates = distilled(1.0, params, memory)
  wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
  assert all(u.dtype == jnp.bfloat16 for u in jax.tree.leaves(updates))
  want = distilled(1.0, wide, memory)
  check = lambda x, y: np.testing.assert_allclose(
    x.astype(jnp.float32), y, atol=0.03
  )
  jax.tree.map(check, updates, want)


def test_dark_experience_plus_plus_in_a_memory():
  """The whole chain, with independent draws, against its written-out loss."""
  half = ROWS // 2
  first = lambda memory: jax.tree.map(lambda x: x[:half], memory)
  second = lambda memory: jax.tree.map(lambda x: x[half:], memory)
  params, batch = problem.init_params(), problem.make_batch()
  logits = jax.ShapeDtypeStruct((8, problem.CLASSES), jnp.float32)
  distil = methods.add_distillation_on_memory(problem.apply_fn, 0.3)
  inner = optax.chain(
    spy(),
    methods.map_memory(distil, first),
    methods.map_memory(methods.add_memory_gradient(0.7), second),
  )
  tx = methods.with_memory(
    inner, 32, batch | {'logits': logits}, ROWS, store=('logits',)
  )

  @jax.jit
  def update(state, params, batch):
    extras = problem.extra_args(params, batch)
    grads = extras['grad_fn'](params, batch)
    return tx.update(grads, state, params, **extras)

  @jax.jit
  def by_hand(params, batch, memory):
    loss = lambda p: (
      problem.scalar_loss(p, batch)
      + 0.3 * mean_square(p, first(memory))
      + 0.7 * problem.scalar_loss(p, second(memory))
    )
    return jax.grad(loss)(params)

  state = tx.init(params)
  for step in range(3):
    moved = jax.tree.map(lambda p, i=step: p + 0.1 * i, params)
    batch = problem.make_batch(step)
    updates, state = update(state, moved, batch)
    memory, ready = state.inner_state[0]
    assert bool(ready) == (step > 0)
    if step:
      assert np.any(memory['inputs'][:half] != memory['inputs'][half:])
      close(updates, by_hand(moved, batch, memory))


def test_errors():
  make = methods.add_distillation_on_memory
  with pytest.raises(ValueError, match='weight is inf; it must be finite'):
    make(problem.apply_fn, float('inf'))
  tx, params = make(problem.apply_fn), problem.init_params()
  with pytest.raises(TypeError, match="'memory' and 'memory_ready'"):
    tx.update(params, (), params)
  extras = {'memory': problem.make_batch(), 'memory_ready': True}
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, (), **extras)
  with pytest.raises(ValueError, match=r"no logits; write .* store=\('logits'"):
    tx.update(params, (), params, **extras)
  memory = make_memory() | {'logits': jnp.zeros((ROWS, 7))}
  with pytest.raises(
    ValueError, match=r'logits \[8, 3\], the memory has \[8, 7'
  ):
    tx.update(params, (), params, memory=memory, memory_ready=True)
