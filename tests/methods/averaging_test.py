"""Averages of points: which points, with which weights, and where they end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, training, tree

LINKS = {
  'ema': lambda **kw: methods.params_ema(0.75, **kw),
  'mean': methods.params_mean,
  'window': lambda **kw: methods.params_window(3, **kw),
  'dynamic': lambda **kw: methods.dynamic_ema(**kw),
}
each = pytest.mark.parametrize('name', LINKS)
timed = pytest.mark.parametrize('name', [n for n in LINKS if n != 'dynamic'])


def points(seed=0, count=8):
  """theta_0 .. theta_n of a run, and the gradients that led from one on."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  gradients = [{'a': draw(3, 2), 'b': draw(4)} for _ in range(count)]
  params = [{'a': draw(3, 2), 'b': draw(4)}]
  for g in gradients:
    params.append(jax.tree.map(lambda p, u: p - 0.5 * u, params[-1], g))
  return params, gradients


def averages(tx, params, gradients):
  """What `averaged_params` says at each point."""
  update = jax.jit(tx.update)
  state, found = tx.init(params[0]), []
  for p, g in zip(params, gradients, strict=False):
    found.append(methods.averaged_params(state, p))
    updates, state = update(g, state, p)
    jax.tree.map(np.testing.assert_array_equal, updates, g)
  return [*found, methods.averaged_params(state, params[-1])], state


def close(a, b):
  check = lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6)
  jax.tree.map(check, a, b)


def mix(parts, weights):
  total = lambda *xs: sum(w * x for w, x in zip(weights, xs, strict=True))
  return jax.tree.map(total, *parts)


@pytest.mark.parametrize('every', [1, 2, 3])
def test_ema_is_the_sum_written_out(every):
  params, gradients = points()
  found, _ = averages(methods.params_ema(0.75, every=every), params, gradients)
  for n, average in enumerate(found):
    last = n // every
    weights = [0.75**last]
    weights += [0.25 * 0.75 ** (last - k) for k in range(1, last + 1)]
    close(average, mix(params[: last * every + 1 : every], weights))


@pytest.mark.parametrize('every', [1, 2, 3])
def test_mean_is_that_of_all_points_but_the_start(every):
  params, gradients = points()
  found, _ = averages(methods.params_mean(every=every), params, gradients)
  for n, average in enumerate(found):
    counted = params[every : n + 1 : every] or params[:1]
    close(average, mix(counted, [1 / len(counted)] * len(counted)))


@pytest.mark.parametrize('weights', [None, [1.0, 0.0, 3.0]])
@pytest.mark.parametrize('every', [1, 2])
def test_window_merges_the_last_points(every, weights):
  params, gradients = points()
  tx = methods.params_window(3, every=every, weights=weights)
  found, _ = averages(tx, params, gradients)
  for n, average in enumerate(found):
    last = params[every : n + 1 : every][-3:] or [params[n]]
    share = np.array(weights or [1.0] * 3)[-len(last) :]
    close(average, mix(last, share / share.sum()))


def slow_dynamic(params, gradients):
  """The loop of the authors' code: average after each step of the optimizer."""
  average = jax.tree.map(np.float64, params[0])
  previous, found = None, [average]
  for g, p in zip(gradients, params[1:], strict=True):
    new = {}
    for name in p:
      a = np.abs(p[name] - average[name]).sum()
      b = np.abs(g[name]).sum()
      weight = 0.01
      if previous is not None:
        c = np.abs(g[name] - previous[name]).sum()
        if 0 < a * c and 2 * (1 + b) / (a * c) < 1:
          weight = 2 * (1 + b) / (a * c)
      new[name] = (1 - weight) * average[name] + weight * p[name]
    average, previous = new, g
    found.append(average)
  return found


@pytest.mark.parametrize('scale', [0.03, 3.0, 30.0])
def test_dynamic_ema_is_the_loop_of_the_code(scale):
  params, gradients = points()
  params = jax.tree.map(lambda x: scale * x, params)
  want = slow_dynamic(params, gradients)
  found, state = averages(methods.dynamic_ema(), params, gradients)
  jax.tree.map(close, found, want)
  distance = lambda x, y: np.abs(x - y).sum()
  away = jax.tree.map(distance, params[-1], want[-2])
  weights = jax.tree.map(lambda r, a: float(r / a), state.reach, away)
  # Both cases of the rule are in the test: as computed, and fallen back.
  assert all((w < 1) == (scale > 1) for w in weights.values()), weights


def test_dynamic_ema_survives_what_has_no_weight():
  tx = methods.dynamic_ema(fallback_weight=0.5)
  start = jnp.ones(2)
  _, state = tx.update(jnp.zeros(2), tx.init(start), start)
  _, state = tx.update(jnp.zeros(2), state, start)  # a = b = c = 0
  np.testing.assert_array_equal(methods.averaged_params(state, start), start)
  _, state = tx.update(jnp.full(2, jnp.nan), state, start)
  found = methods.averaged_params(state, start + 1)
  np.testing.assert_allclose(found, 1.5)


def test_dynamic_ema_keeps_copies():
  tx = methods.dynamic_ema()
  params, gradient = jnp.ones(2), jnp.full(2, 3.0)
  _, state = tx.update(gradient, tx.init(params), params)
  kept = {x.unsafe_buffer_pointer() for x in (state.average, state.gradient)}
  assert kept.isdisjoint(x.unsafe_buffer_pointer() for x in (params, gradient))


@pytest.mark.parametrize(
  ('factors', 'want'),  # the golden values of the reference
  [
    ([0.8, 0.6, 0.4, 0.2], [0.2] * 5),
    (
      1 - np.sqrt(np.arange(1, 5) / 5),
      [0.4472, 0.1852, 0.1421, 0.1198, 0.1056],
    ),
    ([1, 0.75, 0.5, 0.25], [0, 0.25, 0.25, 0.25, 0.25]),
  ],
)
def test_merge_weights(factors, want):
  np.testing.assert_allclose(methods.merge_weights(factors), want, atol=5e-5)


def test_a_merge_is_a_decay_where_gradients_do_not_change():
  params, gradients = points(count=4)
  factors = np.array([0.9, 0.6, 0.5, 0.1])
  merged = mix(params, methods.merge_weights(factors))
  steps = mix(gradients, -0.5 * factors)
  close(merged, jax.tree.map(np.add, params[0], steps))


@each
def test_the_next_task_starts_from_the_average(name):
  params, gradients = points()
  tx = optax.chain(LINKS[name](), optax.scale(-0.5))
  found, opt_state = averages_in_chain(tx, params, gradients)
  state = training.TrainState(
    jnp.int32(0), params[-1], opt_state, jax.random.key(0)
  )
  new = jax.jit(methods.start_from_average)(state, {}, state.rng)
  close(new.params, found)
  # From there on it is a new run: the same averages as if it had begun there.
  again = [jax.tree.map(lambda p, d=i: p + d, new.params) for i in range(4)]
  link, fresh = LINKS[name](), LINKS[name]().init(new.params)
  kept = new.opt_state[0]
  if name == 'dynamic':  # but for the gradient before
    fresh = fresh._replace(gradient=kept.gradient)
  for p, g in zip(again, gradients, strict=False):
    close(*(methods.averaged_params(s, p) for s in (kept, fresh)))
    (_, kept), (_, fresh) = (link.update(g, s, p) for s in (kept, fresh))


def averages_in_chain(tx, params, gradients):
  state = tx.init(params[0])
  for p, g in zip(params, gradients, strict=False):
    _, state = tx.update(g, state, p)
  return methods.averaged_params(state, params[-1]), state


@each
def test_masked_leaves_are_the_current_ones(name):
  params, gradients = points()
  mask = tree.path_mask('^a$')
  for tx in (LINKS[name](mask=mask), optax.masked(LINKS[name](), mask)):
    found, state = averages_in_chain(tx, params, gradients)
    np.testing.assert_array_equal(found['b'], params[-1]['b'])
    assert np.any(found['a'] != params[-1]['a'])
    shapes = [x.shape[-1:] for x in jax.tree.leaves(state)]
    assert (4,) not in shapes


@each
def test_bfloat16_is_averaged_in_float32(name):
  tx = LINKS[name]()
  params = jnp.ones(3, jnp.bfloat16)
  _, state = tx.update(params, tx.init(params), params)
  found = methods.averaged_params(state, params)
  assert found.dtype == jnp.bfloat16
  assert state.averaged(params).dtype == jnp.float32


def test_learners_evaluate_the_average():
  from tests.training import problem  # a small stream

  init_fn, plain = problem.plain()
  stream = problem.stream()
  tx = optax.chain(methods.params_mean(), plain.tx)
  learner = training.Learner(
    tx,
    plain.apply_fn,
    eval_params=lambda state, task: methods.averaged_params(
      state.opt_state, state.params
    ),
  )
  state = problem.new_state(init_fn, learner)
  state, _ = training.train_stream(learner, state, stream, steps=7)
  average = methods.averaged_params(state.opt_state, state.params)
  want = training.make_evaluator(plain, stream)(state._replace(params=average))
  now = training.make_evaluator(plain, stream)(state)
  found = training.make_evaluator(learner, stream)(state)
  np.testing.assert_allclose(found['loss'], want['loss'], rtol=1e-5)
  assert np.all(found['loss'] != now['loss'])


def test_errors():
  with pytest.raises(ValueError, match=r'decay is 1\.5; it must be <= 1'):
    methods.params_ema(1.5)
  with pytest.raises(ValueError, match='every is 0'):
    methods.params_mean(every=0)
  with pytest.raises(ValueError, match='weights has 2 entries'):
    methods.params_window(3, weights=[1, 1])
  with pytest.raises(ValueError, match='numbers >= 0 that are not all 0'):
    methods.params_window(2, weights=[0, 0])
  with pytest.raises(ValueError, match='fallback_weight is -1'):
    methods.dynamic_ema(fallback_weight=-1)
  for factors in ([], [0.5, 0.6], [1.5, 0.5]):
    with pytest.raises(ValueError, match='falls from 1 to 0'):
      methods.merge_weights(factors)
  with pytest.raises(ValueError, match='no link of the chain averages'):
    methods.averaged_params(optax.sgd(0.1).init(1.0), 1.0)


@each
def test_errors_of_every_link(name):
  params = {'a': jnp.ones(2)}
  with pytest.raises(ValueError, match='matches none'):
    LINKS[name](mask=tree.path_mask('no')).init(params)
  tx = LINKS[name]()
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, tx.init(params))


@timed
def test_every_must_be_a_number_of_steps(name):
  with pytest.raises(ValueError, match='whole number'):
    LINKS[name](every=0.5)
