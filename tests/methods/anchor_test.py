"""The penalties are what they say, in every dtype, and under masks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree


def make_params(seed, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  return {'layer': {'kernel': draw(3, 2), 'bias': draw(2)}, 'scale': draw()}


def make_fisher(seed):
  return jax.tree.map(jnp.square, make_params(seed + 100))


def penalty(strength, tasks, params):
  """The definition: strength/2 * sum of importance * distance^2, by task."""
  total = jnp.float32(0.0)
  for factor, fisher, anchor in tasks:
    squares = jax.tree.map(
      lambda f, p, a: jnp.sum(f * jnp.square(p - a)), fisher, params, anchor
    )
    total += factor * sum(jax.tree.leaves(squares))
  return strength / 2 * total


def close(a, b, **kw):
  kw = {'rtol': 2e-5, 'atol': 1e-6} | kw
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kw), a, b)


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def optax_promotes():
  """optax's Adam and MultiSteps mix ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


TRANSFORMS = {
  'l2': methods.add_l2_anchor,
  'ewc': methods.add_ewc_penalty,
}
both = pytest.mark.parametrize('name', TRANSFORMS)


@both
def test_identity_before_the_first_consolidation(name):
  tx = TRANSFORMS[name](1e6)
  params, updates = make_params(0), make_params(1)
  state = tx.init(make_params(2))
  new, after = jax.jit(tx.update)(updates, state, params)
  equal(new, updates)
  equal(after, state)


def test_state_fields_are_a_file_format():
  assert methods.EwcState._fields == ('fisher', 'anchor')
  assert methods.AnchorState._fields == ('anchor',)


def test_l2_is_the_gradient_of_loss_and_penalty():
  tx = methods.add_l2_anchor(0.7)
  anchor, params = make_params(0), make_params(1)
  state = methods.consolidate(tx.init(make_params(5)), anchor)
  ones = jax.tree.map(jnp.ones_like, anchor)
  loss = lambda p: jnp.sum(jnp.sin(p['layer']['kernel'])) + p['scale'] ** 2
  whole = lambda p: loss(p) + penalty(0.7, [(1.0, ones, anchor)], p)
  updates, _ = tx.update(jax.grad(loss)(params), state, params)
  close(updates, jax.grad(whole)(params))


def test_l2_init_by_consolidating_at_once():
  tx = methods.add_l2_anchor(2.0)
  start = make_params(0)
  state = methods.consolidate(tx.init(start), start)
  zero = jax.tree.map(jnp.zeros_like, start)
  equal(tx.update(zero, state, start)[0], zero)


def test_ewc_is_the_gradient_of_loss_and_penalty():
  tx = methods.add_ewc_penalty(3.0)
  anchor, params, fisher = make_params(0), make_params(1), make_fisher(0)
  state = methods.consolidate(tx.init(anchor), anchor, fisher=fisher)
  loss = lambda p: jnp.sum(jnp.sin(p['layer']['kernel'])) + p['scale'] ** 2
  whole = lambda p: loss(p) + penalty(3.0, [(1.0, fisher, anchor)], p)
  updates, _ = tx.update(jax.grad(loss)(params), state, params)
  close(updates, jax.grad(whole)(params))


@pytest.mark.parametrize('decay', [1.0, 0.6])
def test_sum_merge_equals_the_sum_of_all_penalties(decay):
  tx = methods.add_ewc_penalty(1.5)
  state = tx.init(make_params(0))
  tasks = []
  for task in range(3):
    params, fisher = make_params(task), make_fisher(task)
    state = methods.consolidate(state, params, fisher=fisher, decay=decay)
    tasks = [(decay * f, *rest) for f, *rest in tasks]
    tasks.append((1.0, fisher, params))
  point = make_params(9)
  zero = jax.tree.map(jnp.zeros_like, point)
  updates, _ = tx.update(zero, state, point)
  close(updates, jax.grad(lambda p: penalty(1.5, tasks, p))(point))


@pytest.mark.parametrize('decay', [1.0, 0.6])
def test_online_merge_keeps_one_anchor(decay):
  tx = methods.add_ewc_penalty(1.5)
  state = tx.init(make_params(0))
  total = jax.tree.map(jnp.zeros_like, make_params(0))
  for task in range(3):
    params, fisher = make_params(task), make_fisher(task)
    state = methods.consolidate(
      state, params, fisher=fisher, decay=decay, merge='online'
    )
    total = jax.tree.map(lambda t, f: decay * t + f, total, fisher)
  close(state.fisher, total)
  equal(state.anchor, params)


@pytest.mark.parametrize('merge', ['sum', 'online'])
def test_penalty_is_zero_right_after_each_consolidation(merge):
  """One compiled update for all tasks reads what was consolidated last.

  With 'sum' the earlier tasks keep pulling, by exactly their penalty.
  """
  tx = methods.add_ewc_penalty(1.0)
  update = jax.jit(tx.update)
  merge_jit = jax.jit(methods.consolidate, static_argnames='merge')
  state = tx.init(make_params(0))
  zero = jax.tree.map(jnp.zeros_like, make_params(0))
  first, second = make_params(1), make_params(2)
  state = merge_jit(state, first, fisher=make_fisher(1), merge=merge)
  equal(update(zero, state, first)[0], zero)
  state = merge_jit(state, second, fisher=make_fisher(2), merge=merge)
  pull, _ = update(zero, state, second)
  if merge == 'online':
    equal(pull, zero)
  else:
    old = [(1.0, make_fisher(1), first)]
    close(pull, jax.grad(lambda p: penalty(1.0, old, p))(second))


def test_parameters_without_importance_are_anchored_where_they_are():
  tx = methods.add_ewc_penalty(1.0)
  none = jnp.zeros(2)
  state = methods.consolidate(tx.init(none), jnp.ones(2), fisher=none)
  equal(state.anchor, jnp.ones(2))
  state = methods.consolidate(state, jnp.full(2, 5.0), fisher=none)
  equal(state, methods.EwcState(none, jnp.full(2, 5.0)))


@both
def test_masked_out_leaves_cost_nothing_and_pass(name):
  mask = tree.path_mask('kernel$')
  params, updates = make_params(0), make_params(1)
  for given in (mask, mask(params)):
    tx = TRANSFORMS[name](2.0, mask=given)
    state = tx.init(params)
    assert len(jax.tree.leaves(state.anchor)) == 1
    state = methods.consolidate(state, params, fisher=make_fisher(0))
    new, _ = jax.jit(tx.update)(updates, state, make_params(3))
    equal(new['layer']['bias'], updates['layer']['bias'])
    equal(new['scale'], updates['scale'])
    assert np.any(new['layer']['kernel'] != updates['layer']['kernel'])


@both
def test_mask_that_matches_nothing(name):
  tx = TRANSFORMS[name](2.0, mask=tree.path_mask('nothing'))
  with pytest.raises(ValueError, match='matches none'):
    tx.init(make_params(0))


@both
def test_inside_masked_partition_and_multi_steps(name, optax_promotes):
  params = make_params(0)
  mask = tree.path_mask('kernel$')
  labels = jax.tree.map(lambda m: 'a' if m else 'b', mask(params))
  held, free = TRANSFORMS[name](2.0), optax.identity()
  for tx in (
    optax.masked(held, mask),
    optax.partition({'a': held, 'b': free}, labels),
    optax.MultiSteps(held, 2),
    optax.apply_if_finite(held, 2),
  ):
    state = methods.consolidate(tx.init(params), params, fisher=make_fisher(0))
    zero = jax.tree.map(jnp.zeros_like, params)
    for _ in range(2):
      new, state = tx.update(zero, state, make_params(3))
    assert np.any(new['layer']['kernel'] != 0)


@both
def test_bfloat16_keeps_its_dtype_and_sums_in_float32(name):
  tx = TRANSFORMS[name](1.0)
  params = make_params(0, jnp.bfloat16)
  state = tx.init(params)
  assert {x.dtype for x in jax.tree.leaves(state)} == {jnp.dtype('float32')}
  state = methods.consolidate(state, params, fisher=make_fisher(0))
  point, updates = make_params(1, jnp.bfloat16), make_params(2, jnp.bfloat16)
  new, _ = tx.update(updates, state, point)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), (updates, point))
  expected, _ = tx.update(wide[0], state, wide[1])
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), expected)
  assert jax.tree.leaves(new)[0].dtype == jnp.bfloat16
  equal(new, narrow)


@both
@pytest.mark.parametrize('merge', ['sum', 'online'])
def test_state_never_aliases_the_parameters(name, merge):
  """Donating both is an error where a buffer is shared."""
  tx = TRANSFORMS[name](1.0)
  merge_all = lambda s, p: methods.consolidate(
    s, p, fisher=make_fisher(0), merge=merge
  )
  step = jax.jit(lambda s, p: (s, p), donate_argnums=(0, 1))
  params = make_params(0)
  step(tx.init(params), params)
  params = make_params(0)
  step(merge_all(tx.init(params), params), params)
  params = make_params(0)
  step(jax.jit(merge_all)(jax.jit(tx.init)(params), params), params)


@both
@pytest.mark.parametrize('mask', [None, tree.path_mask('kernel$')])
def test_map_params(name, mask):
  tx = TRANSFORMS[name](1.0, mask=mask)
  params = make_params(0)
  masked = lambda x: isinstance(x, optax.MaskedNode)
  shapes = optax.tree.map_params(
    tx,
    lambda x, _: x if masked(x) else x.shape,
    tx.init(params),
    params,
    is_leaf=masked,
  )
  assert shapes.anchor['layer']['kernel'] == (3, 2)


@both
def test_vmap_over_seeds_and_strengths(name):
  def pull(strength, params):
    tx = TRANSFORMS[name](strength)
    state = methods.consolidate(tx.init(params), params, fisher=make_fisher(0))
    zero = jax.tree.map(jnp.zeros_like, params)
    return tx.update(zero, state, make_params(4))[0]

  seeds = [make_params(s) for s in range(3)]
  strengths = jnp.arange(3.0)
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *seeds)
  together = jax.vmap(pull)(strengths, stacked)
  for i, params in enumerate(seeds):
    one = jax.tree.map(lambda x, i=i: x[i], together)
    close(one, pull(strengths[i], params))


@both
def test_strength_can_be_injected(name):
  tx = optax.inject_hyperparams(TRANSFORMS[name], static_args=('mask',))(2.0)
  params = make_params(0)
  state = methods.consolidate(tx.init(params), params, fisher=make_fisher(0))
  zero = jax.tree.map(jnp.zeros_like, params)
  new, _ = jax.jit(tx.update)(zero, state, make_params(1))
  plain = TRANSFORMS[name](2.0)
  state = methods.consolidate(plain.init(params), params, fisher=make_fisher(0))
  close(new, plain.update(zero, state, make_params(1))[0])


def test_order_in_the_chain(optax_promotes):
  """Before clip and Adam it is the gradient of (loss + penalty)."""
  params, point, fisher = make_params(0), make_params(1), make_fisher(0)
  gradient = make_params(2)
  rest = (optax.clip_by_global_norm(1.0), optax.scale_by_adam())
  ewc = methods.add_ewc_penalty(5.0)

  def steps(tx):
    state = methods.consolidate(tx.init(params), params, fisher=fisher)
    return tx.update(gradient, state, point)[0]

  added = jax.grad(lambda p: penalty(5.0, [(1.0, fisher, params)], p))(point)
  total = jax.tree.map(jnp.add, gradient, added)
  plain = optax.chain(*rest)
  expected, _ = plain.update(total, plain.init(params), point)
  close(steps(optax.chain(ewc, *rest)), expected)
  late = steps(optax.chain(*rest, ewc))
  assert np.abs(late['scale'] - expected['scale']) > 0.1


@pytest.mark.parametrize('name', TRANSFORMS)
def test_errors(name):
  with pytest.raises(ValueError, match='strength is -1'):
    TRANSFORMS[name](-1.0)
  tx = TRANSFORMS[name](1.0)
  with pytest.raises(ValueError, match='params is None'):
    tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize(
  ('kwargs', 'error', 'match'),
  [
    ({}, TypeError, 'fisher is missing'),
    ({'fisher': jnp.ones(2), 'merge': 'mean'}, ValueError, "'sum' or"),
    ({'fisher': jnp.ones(2), 'decay': -0.5}, ValueError, 'decay is -0.5'),
    ({'fisher': jnp.ones(3)}, ValueError, r'shape \(3,\)'),
    ({'fisher': optax.MaskedNode()}, ValueError, 'shape None'),
  ],
)
def test_consolidation_errors(kwargs, error, match):
  tx = methods.add_ewc_penalty(1.0)
  with pytest.raises(error, match=match):
    methods.consolidate(tx.init(jnp.ones(2)), jnp.ones(2), **kwargs)
