"""Rates of groups: who gets which factor, and what 0 means."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods
from tests.methods import problem


def ones():
  return jax.tree.map(jnp.ones_like, problem.init_params())


def scaled(tx):
  params = ones()
  updates, _ = tx.update(params, tx.init(params))
  return jax.tree.map(lambda x: float(x.reshape(-1)[0]), updates)


def test_the_first_pattern_that_is_found_counts():
  found = scaled(
    methods.scale_groups({'^hidden/kernel': 0.5, '^hidden': 0.25}, default=2.0)
  )
  assert found == {
    'hidden': {'kernel': 0.5, 'bias': 0.25},
    'head': {'kernel': 2.0, 'bias': 2.0},
  }


def test_zero_is_frozen_exactly_whatever_comes():
  tx = optax.chain(
    optax.scale_by_adam(),
    optax.add_decayed_weights(0.1),
    methods.scale_groups({'^hidden': 0.0}),
    methods.scale_by_schedule_value(0.1),
  )
  start = params = problem.init_params()
  state = tx.init(params)
  step = jax.jit(problem.make_step(tx))
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam
    for i in range(5):
      params, state = step(params, state, problem.make_batch(i), 0)
  jax.tree.map(np.testing.assert_array_equal, params['hidden'], start['hidden'])
  assert np.all(params['head']['kernel'] != start['head']['kernel'])
  bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), start)
  updates, _ = methods.scale_groups({'^hidden': 0.0}).update(bad, ())
  assert not np.any(updates['hidden']['kernel'])


def test_frozen_is_optax_set_to_zero():
  labels = lambda p: {k: jax.tree.map(lambda _, k=k: k, p[k]) for k in p}
  other = optax.partition(
    {'hidden': optax.scale(0.25), 'head': optax.set_to_zero()}, labels
  )
  tx = methods.scale_groups({'^hidden': 0.25}, default=0.0)
  assert scaled(tx) == scaled(other)


def test_factors_may_be_traced():
  run = lambda f: methods.scale_groups({'^head': f}).update(ones(), ())[0]
  found = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.5]))
  assert found['head']['bias'][:, 0].tolist() == [0.0, 0.5]
  assert found['hidden']['bias'][:, 0].tolist() == [1.0, 1.0]


def test_half_precision_is_scaled_in_float32():
  update = {'a': jnp.full(2, 3.0, jnp.bfloat16)}
  found, _ = methods.scale_groups({'a': 0.01}).update(update, ())
  want = jnp.asarray(np.float32(3) * np.float32(0.01), jnp.bfloat16)
  assert found['a'].dtype == jnp.bfloat16 and found['a'][0] == want


@pytest.mark.parametrize(
  ('factors', 'match'),
  [
    ({}, 'factors is empty'),
    ({'head': -1.0}, "factor of 'head' is -1.0; it must be >= 0"),
    ({'(': 1.0}, 'must be a regular expression'),
  ],
)
def test_constructor_errors(factors, match):
  with pytest.raises(ValueError, match=match):
    methods.scale_groups(factors)


@pytest.mark.parametrize(
  'factors', [{'backbone': 0.1}, {'hidden': 0.1, 'hidden/bias': 0.2}]
)
def test_a_pattern_without_leaves_is_an_error(factors):
  with pytest.raises(ValueError, match=r"is the first one of no leaf; .*'head"):
    methods.scale_groups(factors).init(ones())
