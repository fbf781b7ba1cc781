"""consolidate finds every state, wherever optax put it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree

START = {'kernel': jnp.ones((2, 2)), 'bias': jnp.zeros(2)}
END = {'kernel': jnp.full((2, 2), 3.0), 'bias': jnp.ones(2)}
FISHER = {'kernel': jnp.full((2, 2), 0.5), 'bias': jnp.full(2, 0.25)}
is_kernel = tree.path_mask('kernel')


def inner():
  return optax.chain(methods.add_ewc_penalty(1.0), optax.adam(1e-2))


WRAPPERS = {
  'bare': lambda: methods.add_ewc_penalty(1.0),
  'chain': inner,
  'nested': lambda: optax.chain(optax.chain(inner()), optax.scale(1.0)),
  'named_chain': lambda: optax.named_chain(('a', inner())),
  'masked': lambda: optax.masked(inner(), is_kernel),
  'partition': lambda: optax.partition(
    {True: inner(), False: optax.sgd(0.1)}, is_kernel
  ),
  'inject': lambda: optax.inject_hyperparams(methods.add_ewc_penalty)(1.0),
  'multi_steps': lambda: optax.MultiSteps(inner(), 2),
  'apply_if_finite': lambda: optax.apply_if_finite(inner(), 3),
}


@pytest.mark.parametrize('name', WRAPPERS)
def test_reaches_the_state(name):
  tx = WRAPPERS[name]()
  before = tx.init(START)
  after = jax.jit(methods.consolidate)(before, END, fisher=FISHER)
  (state,) = tree.get_states(after, methods.EwcState)
  np.testing.assert_array_equal(state.fisher['kernel'], FISHER['kernel'])
  np.testing.assert_array_equal(state.anchor['kernel'], END['kernel'])
  assert jax.tree.structure(before) == jax.tree.structure(after)
  shapes = lambda t: [(x.shape, x.dtype) for x in jax.tree.leaves(t)]
  assert shapes(before) == shapes(after)


def test_two_states_with_different_masks():
  tx = optax.chain(
    methods.add_ewc_penalty(1.0, mask=is_kernel),
    methods.add_ewc_penalty(2.0, mask=tree.path_mask('bias')),
    methods.add_l2_anchor(1.0),
  )
  state = methods.consolidate(tx.init(START), END, fisher=FISHER)
  np.testing.assert_array_equal(state[0].fisher['kernel'], FISHER['kernel'])
  np.testing.assert_array_equal(state[1].fisher['bias'], FISHER['bias'])
  np.testing.assert_array_equal(state[2].anchor['bias'], END['bias'])


def test_everything_else_stays():
  tx = optax.adam(1e-2)
  state = tx.init(START)
  with jax.numpy_dtype_promotion('standard'):  # Adam mixes ints with floats
    _, state = tx.update(START, state, START)
  after = methods.consolidate(state, END, fisher=FISHER)
  jax.tree.map(np.testing.assert_array_equal, state, after)


class WrapperState(NamedTuple):
  inner: Any
  times: jax.Array

  def consolidate(self, params, **kwargs):
    del params, kwargs
    return self._replace(times=self.times + 1)


def test_states_inside_a_state_that_consolidates():
  tx = inner()
  state = WrapperState(tx.init(START), jnp.int32(0))
  state = methods.consolidate((state,), END, fisher=FISHER)[0]
  assert state.times == 1
  np.testing.assert_array_equal(state.inner[0].anchor['bias'], END['bias'])


def test_stacked_seeds_need_no_vmap():
  tx = inner()
  stack = lambda t: jax.tree.map(lambda x: jnp.stack([x, 2 * x]), t)
  states = jax.vmap(tx.init)(stack(START))
  params, fisher = stack(END), stack(FISHER)
  plain = methods.consolidate(states, params, fisher=fisher)
  mapped = jax.vmap(lambda s, p, f: methods.consolidate(s, p, fisher=f))(
    states, params, fisher
  )
  jax.tree.map(np.testing.assert_array_equal, plain, mapped)


def test_donation_of_the_whole_state():
  tx = inner()
  donating = jax.jit(methods.consolidate, donate_argnums=0)
  state = tx.init(START)
  for _ in range(2):
    state = donating(state, END, fisher=FISHER)
  np.testing.assert_allclose(state[0].fisher['bias'], 0.5)


def test_missing_fisher_is_one_clear_error():
  with pytest.raises(TypeError, match='fisher is missing'):
    methods.consolidate(inner().init(START), END)


def test_at_init_holds_where_the_run_began():
  start = jnp.array([1.0, 2.0])
  tx = methods.consolidate_at_init(methods.add_l2_anchor(0.5))
  state = jax.jit(tx.init)(start)
  plain = methods.add_l2_anchor(0.5).init(start)
  assert jax.tree.structure(state) == jax.tree.structure(plain)
  updates, _ = tx.update(jnp.zeros(2), state, start + 4.0)
  np.testing.assert_array_equal(updates, jnp.full(2, 2.0))


def test_at_task_change_moves_the_anchor_once_a_task():
  """The same as a call from outside at each end of a task."""
  tx = methods.consolidate_at_task_change(methods.add_l2_anchor(0.5))
  by_hand = methods.add_l2_anchor(0.5)
  state, other = tx.init(jnp.zeros(2)), by_hand.init(jnp.zeros(2))
  update, last = jax.jit(tx.update), 3
  for i, task in enumerate((3, 3, 4, 4, 3)):
    params = jnp.array([1.0, -2.0]) * i
    if task != last:
      other = methods.consolidate(other, params)
    last = task
    updates, state = update(jnp.ones(2), state, params, task_id=jnp.int32(task))
    expected, other = by_hand.update(jnp.ones(2), other, params)
    np.testing.assert_array_equal(updates, expected)
    np.testing.assert_array_equal(state.inner_state.anchor, other.anchor)
  assert np.all(np.isfinite(other.anchor))


def test_at_task_change_cannot_look_at_data():
  tx = methods.consolidate_at_task_change(methods.add_ewc_penalty(0.5))
  state = tx.init(jnp.zeros(2))
  with pytest.raises(TypeError, match='fisher is missing'):
    tx.update(jnp.zeros(2), state, jnp.zeros(2), task_id=0)
