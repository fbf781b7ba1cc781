"""Refresh learning: both forms against numpy, its mechanism, its place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, training, tree
from tests.methods import problem
from tests.methods.memory_test import spy

RATE = 0.2
# Compiling is most of the time here: skip LLVM's optimisations.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def with_fisher(seed=3):
  """A Fisher that differs from parameter to parameter."""
  return jax.tree.map(lambda p: 500 * jnp.abs(p), problem.init_params(seed))


def one_update(tx, state, params, batch):
  extras = problem.extra_args(params, batch)
  grads = extras['grad_fn'](params, batch)
  return tx.update(grads, state, params, **extras)


def by_hand(params, batch, fisher, delta, form, steps=1):
  """The procedure as written, in float64: unlearn, then a step of SGD."""
  grad = jax.jit(jax.grad(problem.scalar_loss))
  as_float64 = lambda t: jax.tree.map(lambda x: np.asarray(x, np.float64), t)
  point, fisher = as_float64(params), as_float64(fisher)
  for _ in range(steps):
    gradient = as_float64(grad(jax.tree.map(jnp.float32, point), batch))

    def climb(theta, g, f):
      if form == 'official':
        g = np.linalg.norm(theta) / (np.linalg.norm(g) + 1e-20) * g
      return theta + delta * g / (1 + 0.001 * f)

    point = jax.tree.map(climb, point, gradient, fisher)
  gradient = as_float64(grad(jax.tree.map(jnp.float32, point), batch))
  return jax.tree.map(lambda theta, g: theta - RATE * g, point, gradient)


@pytest.mark.parametrize(
  'form, delta, steps',
  [('official', 0.03, 1), ('official', 0.03, 2), ('paper', 0.5, 1)],
)
def test_ends_where_the_procedure_ends(form, delta, steps):
  params, batch, fisher = problem.init_params(), problem.make_batch(), {}
  tx = methods.refresh(
    optax.sgd(RATE), delta, noise=0.0, form=form, steps=steps
  )
  fisher = with_fisher()
  state = methods.consolidate(tx.init(params), params, fisher=fisher)
  updates, _ = jit(functools.partial(one_update, tx))(state, params, batch)
  got = optax.apply_updates(params, updates)
  want = by_hand(params, batch, fisher, delta, form, steps)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, got, want)
  plain = by_hand(params, batch, fisher, 0.0, form)
  far = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), want, plain)
  assert min(jax.tree.leaves(far)) > 1e-4  # the move is no matter of rounding


def moves(tx, seed):
  """The move alone: what leaves if `inner` gives no update."""
  params, batch = problem.init_params(seed), problem.make_batch(seed, 8, 2)
  updates, _ = one_update(tx, tx.init(params), params, batch)
  return params, batch, updates


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('delta', [1e-4, 0.01])
def test_unlearning_raises_the_loss_and_moves_each_tensor_by_delta(seed, delta):
  tx = methods.refresh(optax.set_to_zero(), delta, noise=0.0)
  params, batch, move = moves(tx, seed)
  ratio = jax.tree.map(
    lambda d, p: float(d / p), tree.leaf_norms(move), tree.leaf_norms(params)
  )
  np.testing.assert_allclose(jax.tree.leaves(ratio), delta, rtol=1e-5)
  moved = optax.apply_updates(params, move)
  before, after = (problem.scalar_loss(p, batch) for p in (params, moved))
  assert after > before


def test_a_large_fisher_holds_what_it_marks():
  params, batch = problem.init_params(), problem.make_batch()
  tx = methods.refresh(optax.set_to_zero(), 0.01, noise=0.0)
  free, _ = one_update(tx, tx.init(params), params, batch)
  fisher = jax.tree.map(lambda p: jnp.full_like(p, 3000.0), params)
  state = methods.consolidate(tx.init(params), params, fisher=fisher)
  held, _ = one_update(tx, state, params, batch)
  quarter = functools.partial(np.testing.assert_allclose, rtol=1e-5)
  jax.tree.map(lambda h, f: quarter(h, f / 4), held, free)


@pytest.mark.parametrize('form', ['official', 'paper'])
def test_delta_zero_is_the_inner_optimizer_bit_for_bit(form):
  """A 0 that is known compiles to `inner`; one that is not is a sum with 0."""
  inner = optax.chain(optax.trace(0.9), methods.scale_by_schedule_value(0.1))
  wrapped = lambda delta: methods.refresh(inner, delta, noise=1.0, form=form)

  def run(tx):
    params = problem.init_params()
    state = tx.init(params)
    for i in range(3):
      updates, state = one_update(tx, state, params, problem.make_batch(i))
      params = optax.apply_updates(params, updates)
    return params

  # One compiled program, and operation by operation, where nothing is fused.
  compiled = lambda tx: tree.digest(jit(lambda: run(tx))())
  assert compiled(wrapped(0.0)) == compiled(inner)
  step_by_step = tree.digest(run(inner))
  assert tree.digest(run(wrapped(jnp.float32(0.0)))) == step_by_step
  assert tree.digest(run(wrapped(jnp.float32(0.01)))) != step_by_step


def test_noise_has_the_deviation_of_its_form():
  params = {'w': jnp.ones((200, 100))}
  fisher = {'w': jnp.full((200, 100), 3000.0)}  # divides by 4
  still = lambda params, batch: jax.tree.map(jnp.zeros_like, params)
  extras = {'batch': {}, 'grad_fn': still}
  for form, delta, noise, want in (
    ('official', 0.1, 0.3, 0.1 * 0.3 / 4),
    ('paper', 0.02, None, (2 * 0.02 / 4) ** 0.5),
  ):
    tx = methods.refresh(optax.set_to_zero(), delta, noise=noise, form=form)
    state = methods.consolidate(tx.init(params), params, fisher=fisher)
    zero = still(params, {})
    first, state = tx.update(zero, state, params, **extras)
    second, _ = tx.update(zero, state, params, **extras)
    np.testing.assert_allclose(np.std(first['w']), want, rtol=0.03)
    assert abs(np.mean(first['w'])) < 0.05 * want
    correlation = np.corrcoef(first['w'].ravel(), second['w'].ravel())[0, 1]
    assert abs(correlation) < 0.03  # a new draw at each step


def test_leaves_outside_the_mask_are_not_moved():
  kernels = tree.path_mask('kernel$')
  tx = methods.refresh(optax.set_to_zero(), 0.1, mask=kernels)
  _, _, move = moves(tx, 0)
  for layer in move.values():
    assert np.all(layer['bias'] == 0) and np.all(layer['kernel'] != 0)


def test_a_batch_of_padding_moves_nothing():
  params, batch = problem.init_params(), problem.make_batch(0, 8, 8)
  tx = methods.refresh(optax.sgd(RATE), 0.1, noise=0.0)
  updates, _ = one_update(tx, tx.init(params), params, batch)
  assert all(np.all(u == 0) for u in jax.tree.leaves(updates))


def dark_replay(inner_of):
  """DER++ whose links, `inner_of(links)`, are refreshed or not."""
  logits = jax.ShapeDtypeStruct((8, problem.CLASSES), jnp.float32)
  links = optax.chain(
    methods.add_distillation_on_memory(problem.apply_fn, 0.5),
    methods.add_memory_gradient(0.5),
    methods.scale_by_schedule_value(RATE),
  )
  example = {**jax.eval_shape(problem.make_batch), 'logits': logits}
  return methods.with_memory(inner_of(links), 12, example, 4, store=('logits',))


def test_dark_replay_is_unlearned_without_its_memory():
  """The move follows the batch alone; replay happens at the moved point."""
  delta = 0.05
  tx = dark_replay(lambda links: methods.refresh(links, delta, noise=0.0))
  seen = dark_replay(lambda links: spy())
  params, batches = (
    problem.init_params(),
    [problem.make_batch(i) for i in (0, 1)],
  )

  @jit
  def go(params):
    state, memory_state = tx.init(params), seen.init(params)
    _, memory_state = one_update(seen, memory_state, params, batches[0])
    _, state = one_update(tx, state, params, batches[0])
    _, memory_state = one_update(seen, memory_state, params, batches[1])
    updates, _ = one_update(tx, state, params, batches[1])
    return updates, memory_state.inner_state[0]

  updates, memory = go(params)
  assert float(memory['weight'].sum()) == 4

  def objective(p):
    logits = problem.apply_fn(p, memory['inputs'])[0]
    far = jnp.mean(jnp.square(logits - memory['logits']))
    replayed = problem.scalar_loss(p, memory)
    return problem.scalar_loss(p, batches[1]) + 0.5 * (far + replayed)

  @jit
  def want(params):
    gradient = jax.grad(problem.scalar_loss)(params, batches[1])
    norm = jnp.linalg.norm
    moved = jax.tree.map(
      lambda p, g: p + delta * norm(p) / norm(g) * g, params, gradient
    )
    relearn = jax.grad(objective)(moved)
    return jax.tree.map(lambda m, g: m - RATE * g, moved, relearn)

  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, optax.apply_updates(params, updates), want(params))


def test_consolidation_keeps_the_last_fisher_only():
  params = problem.init_params()
  tx = optax.chain(
    methods.refresh(methods.add_ewc_penalty(1.0)),
    methods.scale_by_schedule_value(RATE),
  )
  state = tx.init(params)
  for seed in (3, 4):
    state = methods.consolidate(state, params, fisher=with_fisher(seed))
  refreshed = tree.get_states(state, methods.RefreshState)[0]
  assert tree.digest(refreshed.fisher) == tree.digest(with_fisher(4))
  ewc = tree.get_states(refreshed, methods.EwcState)[0]
  total = jax.tree.map(jnp.add, with_fisher(3), with_fisher(4))
  assert tree.digest(ewc.fisher) == tree.digest(total)


def test_replicas_draw_noise_of_their_own():
  tx = methods.refresh(optax.sgd(RATE))
  init_fn = lambda key: (problem.init_params(), ())
  states = training.create_states(init_fn, tx, (0, 1))
  keys = jax.random.key_data(states.opt_state.key)
  assert np.any(keys[0] != keys[1])


def test_errors():
  make = functools.partial(methods.refresh, optax.sgd(RATE))
  with pytest.raises(ValueError, match=r'refresh: delta is -1.*must be >= 0'):
    make(-1.0)
  with pytest.raises(ValueError, match=r'refresh: noise is nan'):
    make(noise=float('nan'))
  with pytest.raises(ValueError, match=r'refresh: fisher_scale is -1'):
    make(fisher_scale=-1)
  with pytest.raises(ValueError, match=r'refresh: steps is 0'):
    make(steps=0)
  with pytest.raises(ValueError, match=r"form is 'code'.*'official', 'paper'"):
    make(form='code')
  params = problem.init_params()
  with pytest.raises(ValueError, match='refresh: the mask matches none'):
    make(mask=tree.path_mask('nothing')).init(params)
  state = make().init(params)
  with pytest.raises(TypeError, match='fisher is missing'):
    methods.consolidate(state, params)
  with pytest.raises(
    ValueError, match=r"fisher has shape \(6,\) at 'head/bias"
  ):
    bad = {**params, 'head': {**params['head'], 'bias': jnp.zeros(6)}}
    methods.consolidate(state, params, fisher=bad)
  with pytest.raises(ValueError, match='refresh: params is None'):
    make().update(params, state, batch={}, grad_fn=None)
