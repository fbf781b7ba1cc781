"""Hypergradient descent: golden traces, slow twins, and the true derivative."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree
from tests.methods import problem

SGD = optax.identity


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def trace(tx, gradients, params=None):
  """The rate after each update, and the updates."""
  params = gradients[0] if params is None else params
  state, rates, updates = tx.init(params), [], []
  step = jax.jit(tx.update)
  for gradient in gradients:
    update, state = step(gradient, state, params)
    rates.append(methods.applied_rate(state)[0])
    updates.append(update)
  return np.array(rates, np.float64), updates


def test_golden_trace_on_a_parabola():
  # f = x^2 / 2 from 1; the rate starts at .1 and its own rate is .01.
  tx = methods.scale_by_hypergradient(SGD(), 0.1, 0.01)
  x, state, got = jnp.float32(1.0), tx.init(jnp.float32(1.0)), []
  for _ in range(5):
    update, state = tx.update(x, state, x)
    x = optax.apply_updates(x, update)
    got.append((float(state.learning_rate), float(x)))
  want = [
    (0.1, 0.9),
    (0.109, 0.8019),
    (0.1162171, 0.7087055),
    (0.1219002, 0.6223142),
    (0.1263106, 0.5437093),
  ]
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert int(state.count) == 5


def twin(gradients, directions, rate, hyper_rate, kind, bounds):
  """The two rules, written out in float64."""
  rates = [rate]
  for gradient, before in zip(gradients[1:], directions, strict=False):
    dot = float(np.dot(gradient, before))
    if kind == 'additive':
      rate = rate + hyper_rate * dot
    else:
      norms = np.linalg.norm(gradient) * np.linalg.norm(before)
      rate = rate * (1 + hyper_rate * (dot / norms if norms else 0.0))
    rate = min(max(rate, bounds[0]), bounds[1] or np.inf)
    rates.append(rate)
  return np.array(rates)


def adam_directions(gradients):
  mean, square, out = 0.0, 0.0, []
  for step, g in enumerate(gradients, 1):
    mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
    scale = np.sqrt(square / (1 - 0.999**step)) + 1e-8
    out.append(mean / (1 - 0.9**step) / scale)
  return out


INNER = {
  'sgd': (optax.identity(), lambda gradients: gradients),
  'adam': (optax.scale_by_adam(), adam_directions),
}


@pytest.mark.parametrize('kind', ['additive', 'multiplicative'])
@pytest.mark.parametrize('name', INNER)
@pytest.mark.parametrize('bounds', [(0.0, None), (0.095, 0.11)])
def test_equals_the_slow_twin(name, kind, bounds):
  inner, directions_of = INNER[name]
  rng = np.random.default_rng(0)
  gradients = rng.normal(0.3, 1.0, (12, 6))
  gradients[5] = 0.0  # no angle, no change
  tx = methods.scale_by_hypergradient(
    inner, 0.1, 0.02, kind=kind, min_value=bounds[0], max_value=bounds[1]
  )
  split = lambda g: {'a': jnp.float32(g[:2]), 'b': jnp.float32(g[2:])}
  rates, updates = trace(tx, [split(g) for g in gradients])
  directions = directions_of(gradients)
  want = twin(gradients, directions, 0.1, 0.02, kind, bounds)
  np.testing.assert_allclose(rates, want, rtol=1e-5)
  assert len(set(rates)) > 3
  got = np.stack([np.concatenate([u['a'], u['b']]) for u in updates])
  steps = -want[:, None] * np.stack(directions)
  np.testing.assert_allclose(got, steps, rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
  seed=st.integers(0, 10**6),
  rate=st.floats(0.01, 1.0),
  hyper_rate=st.floats(0.0, 0.1),
)
def test_the_additive_rule_descends_the_loss_of_the_next_batch(
  seed, rate, hyper_rate
):
  params = problem.init_params(0)
  first, second = (problem.make_batch(seed + i) for i in range(2))
  before, after, derivative = _two_steps()(
    params, first, second, jnp.float32(rate), jnp.float32(hyper_rate)
  )
  want = np.float32(rate) - np.float32(hyper_rate) * derivative
  assert float(before) == np.float32(rate)
  np.testing.assert_allclose(after, max(want, 0.0), rtol=1e-5, atol=1e-7)


@functools.cache
def _two_steps():
  """Two rates of the transformation, and d loss / d rate by autodiff."""

  @jax.jit
  def run(params, first, second, rate, hyper_rate):
    tx = methods.scale_by_hypergradient(SGD(), rate, hyper_rate)
    grad = jax.grad(problem.scalar_loss)
    gradient = grad(params, first)
    updates, state = tx.update(gradient, tx.init(params), params)
    moved = optax.apply_updates(params, updates)
    _, new = tx.update(grad(moved, second), state, moved)

    def next_loss(rate):
      step = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
      return problem.scalar_loss(step, second)

    return state.learning_rate, new.learning_rate, jax.grad(next_loss)(rate)

  return run


def test_no_hyper_rate_is_the_inner_method_at_a_constant_rate():
  gradients = list(jnp.float32(np.random.default_rng(1).normal(size=(5, 3))))
  tx = methods.scale_by_hypergradient(optax.scale_by_adam(), 0.1, 0.0)
  rates, updates = trace(tx, gradients)
  _, plain = trace(optax.adam(0.1), gradients)
  np.testing.assert_array_equal(rates, np.float32(0.1))
  np.testing.assert_allclose(updates, plain, rtol=1e-6)


def test_the_sum_of_bfloat16_products_is_float32():
  # In bfloat16 a sum of ones stops growing at 256.
  ones = jnp.ones(1000, jnp.bfloat16)
  tx = methods.scale_by_hypergradient(SGD(), 0.0, 1e-3)
  rates, updates = trace(tx, [ones, ones])
  np.testing.assert_allclose(rates, [0.0, 1.0], rtol=1e-6)
  assert updates[1].dtype == jnp.bfloat16


def test_eager_state_shares_no_buffer():
  # What goes in and out may be donated together with the state.
  params = {'w': jnp.ones(3)}
  gradient = {'w': jnp.full(3, 2.0)}
  tx = methods.scale_by_hypergradient(optax.trace(0.9), 0.1, 0.01)
  updates, state = tx.update(gradient, tx.init(params), params)
  seen = jax.tree.leaves((params, gradient, updates, state))
  places = [leaf.unsafe_buffer_pointer() for leaf in seen]
  assert len(set(places)) == len(places)


def test_inner_sees_the_extra_args():
  def update_fn(updates, state, params=None, *, value, **extra_args):
    return jax.tree.map(lambda u: value * u, updates), state

  inner = optax.GradientTransformationExtraArgs(
    lambda _: optax.EmptyState(), update_fn
  )
  tx = methods.scale_by_hypergradient(inner, 0.5, 0.0)
  update, _ = tx.update(jnp.ones(1), tx.init(jnp.ones(1)), value=3.0, task_id=0)
  assert float(update[0]) == -1.5


def test_restarts_by_composition():
  # A fresh state in place of the old one is a restart: nothing is elsewhere.
  tx = optax.chain(
    optax.clip(10.0), methods.scale_by_hypergradient(SGD(), 0.1, 0.1)
  )
  ones = jnp.ones(4)
  state = tx.init(ones)
  for _ in range(3):
    _, state = tx.update(ones, state)
  assert float(methods.applied_rate(state)[0]) == pytest.approx(0.9)
  fresh = tree.get_states(tx.init(ones), methods.HypergradientState)[0]
  state = tree.map_states(lambda _: fresh, state, methods.HypergradientState)
  _, state = tx.update(ones, state)
  rate, count = methods.applied_rate(state)
  assert (float(rate), int(count)) == (np.float32(0.1), 1)


@pytest.mark.parametrize(
  'arguments,message',
  [
    (dict(kind='cosine'), "kind is 'cosine'; it must be one of"),
    (dict(hyper_rate=-1.0), 'hyper_rate is -1.0; it must be >= 0'),
    (dict(init_value=np.nan), 'init_value is nan; it must be finite'),
    (dict(init_value=0.0, kind='multiplicative'), 'must be > 0'),
    (dict(min_value=0.2), 'init_value is 0.1; it must be >= 0.2'),
    (dict(max_value=0.05), 'init_value is 0.1; it must be <= 0.05'),
    (dict(min_value=-1.0), 'min_value is -1.0; it must be >= 0'),
  ],
)
def test_errors(arguments, message):
  arguments = dict(init_value=0.1, hyper_rate=0.1) | arguments
  with pytest.raises(ValueError, match=f'scale_by_hypergradient: .*{message}'):
    methods.scale_by_hypergradient(SGD(), **arguments)
