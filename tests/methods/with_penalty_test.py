"""The three forms of a penalty: where they agree, and which one is stable."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, schedules, tree

WRAPPERS = {
  'with_l2_anchor': (methods.with_l2_anchor, methods.add_l2_anchor),
  'with_ewc_penalty': (methods.with_ewc_penalty, methods.add_ewc_penalty),
}
both = pytest.mark.parametrize('name', WRAPPERS)
FISHER = {'a': jnp.array([1.0, 4.0]), 'b': jnp.array([0.0])}
ANCHOR = {'a': jnp.array([1.0, -1.0]), 'b': jnp.array([2.0])}
START = {'a': jnp.array([0.0, 3.0]), 'b': jnp.array([-1.0])}


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def rate():
  """A rate that differs from step to step and restarts with the task."""
  return methods.scale_by_schedule_value(
    schedules.per_task(optax.linear_schedule(0.1, 0.02, 3))
  )


def run(tx, tasks=(0, 0, 1, 1, 1), anchored=True):
  state, params = tx.init(START), START
  if anchored:
    state = methods.consolidate(state, ANCHOR, fisher=FISHER)
  update = jax.jit(tx.update)
  for task in tasks:
    grads = jax.tree.map(jnp.sin, params)
    updates, state = update(grads, state, params, task_id=jnp.int32(task))
    params = optax.apply_updates(params, updates)
  return params


def close(a, b, rtol=1e-6):
  check = lambda x, y: np.testing.assert_allclose(x, y, rtol, atol=1e-7)
  jax.tree.map(check, a, b)


@both
def test_coupled_is_the_link_in_front(name):
  wrap, link = WRAPPERS[name]
  rest = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
  inner = optax.chain(rest, rate())
  close(
    run(wrap(inner, 0.7, form='coupled')),
    run(optax.chain(link(0.7), inner)),
  )


@both
def test_decoupled_is_the_link_between_preconditioner_and_rate(name):
  """So the rate that is read is the one that was applied, at every step."""
  wrap, link = WRAPPERS[name]
  inner = optax.chain(optax.scale_by_adam(), rate())
  late = optax.chain(optax.scale_by_adam(), link(0.7), rate())
  close(run(wrap(inner, 0.7, form='decoupled')), run(late), rtol=1e-5)


@both
def test_implicit_is_decoupled_to_first_order(name):
  """Of the rate: a tenth of it leaves a hundredth of the difference."""
  wrap, _ = WRAPPERS[name]

  def step(form, rate):
    tx = wrap(methods.scale_by_schedule_value(rate), 1.0, form=form)
    state = methods.consolidate(tx.init(START), ANCHOR, fisher=FISHER)
    return tx.update(jax.tree.map(jnp.sin, START), state, START)[0]['a']

  def gap(rate):
    return np.max(np.abs(step('implicit', rate) - step('decoupled', rate)))

  assert 80 < gap(1e-2) / gap(1e-3) < 120


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
  strength=st.floats(0, 1e8),
  fisher=st.floats(0, 1e4),
  start=st.floats(-10, 10),
  gradient=st.floats(-10, 10),
)
def test_implicit_step_is_the_minimum(strength, fisher, start, gradient):
  """Of `|x - (start - rate * gradient)|^2 + rate * strength * F * |x|^2`."""
  tx = methods.with_ewc_penalty(
    methods.scale_by_schedule_value(0.125), strength
  )
  as_array = lambda x: jnp.full(1, x, jnp.float32)
  state = methods.consolidate(
    tx.init(as_array(0)), as_array(0), fisher=as_array(fisher)
  )
  updates, _ = tx.update(as_array(gradient), state, as_array(start))
  stiffness = 0.125 * np.float32(strength) * np.float32(fisher)
  minimum = (start - 0.125 * gradient) / (1.0 + float(stiffness))
  np.testing.assert_allclose(start + updates[0], minimum, rtol=1e-3, atol=1e-5)


def test_implicit_converges_where_explicit_forms_diverge():
  """To the minimum of loss and penalty, at a rate 500 times too large."""
  strength, target = 1e4, jnp.array([3.0, -2.0])
  fisher, anchor = jnp.array([1.0, 0.001]), jnp.zeros(2)
  sgd = methods.scale_by_schedule_value(0.1)
  ends = {}
  for form in ('coupled', 'decoupled', 'implicit'):
    tx = methods.with_ewc_penalty(sgd, strength, form=form)
    state = methods.consolidate(tx.init(anchor), anchor, fisher=fisher)

    def step(_, carry, tx=tx):
      params, state = carry
      updates, state = tx.update(params - target, state, params)
      return params + updates, state

    start = (jnp.ones(2), state)
    ends[form] = jax.jit(lambda c, s=step: jax.lax.fori_loop(0, 60, s, c))(
      start
    )[0]
  assert not np.abs(ends['coupled'][0]) < 1e6
  assert not np.abs(ends['decoupled'][0]) < 1e6
  minimum = target / (1.0 + strength * fisher)
  np.testing.assert_allclose(ends['implicit'], minimum, rtol=1e-4)


@both
@pytest.mark.parametrize('form', ['coupled', 'decoupled', 'implicit'])
def test_nothing_is_held_before_the_first_consolidation(name, form):
  wrap, _ = WRAPPERS[name]
  jax.tree.map(
    np.testing.assert_array_equal,
    run(wrap(rate(), 1e6, form=form), anchored=False),
    run(rate(), anchored=False),
  )


@both
def test_mask_and_rates_of_other_links(name):
  wrap, _ = WRAPPERS[name]
  for inner in (
    methods.scale_by_hypergradient(optax.identity(), 0.1, 0.0),
    optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
  ):
    held = run(wrap(inner, 1e6, mask=tree.path_mask('a')), (0, 0))
    np.testing.assert_allclose(held['a'], ANCHOR['a'], atol=1e-4)
    free = run(wrap(inner, 0.0), (0, 0))
    np.testing.assert_array_equal(held['b'], free['b'])


def test_state_holds_the_same_file_format():
  tx = methods.with_ewc_penalty(rate(), 1.0)
  (state,) = tree.get_states(tx.init(START), methods.EwcState)
  link = methods.add_ewc_penalty(1.0).init(START)
  assert jax.tree.structure(state) == jax.tree.structure(link)
  anchor = methods.with_l2_anchor(rate(), 1.0).init(START).penalty
  assert isinstance(anchor, methods.AnchorState)


@both
@pytest.mark.parametrize(
  ('kwargs', 'match'),
  [
    ({'strength': -1.0}, 'strength is -1'),
    ({'form': 'explicit'}, "form is 'explicit'"),
    ({'mask': tree.path_mask('nothing')}, 'matches none'),
    ({'inner': optax.sgd(0.1)}, 'needs the rate'),
  ],
)
def test_errors(name, kwargs, match):
  kwargs = {'inner': rate(), 'strength': 1.0} | kwargs
  with pytest.raises(ValueError, match=f'{name}: .*{match}'):
    WRAPPERS[name][0](**kwargs).init(START)


@both
def test_parameters_are_asked_for(name):
  tx = WRAPPERS[name][0](rate(), 1.0)
  with pytest.raises(ValueError, match=f'{name}: params is None'):
    tx.update(START, tx.init(START), task_id=0)
