"""The vocabulary: means with weights, and one clear line per mistake."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import base


def test_weighted_mean():
  losses, weight = jnp.array([1.0, 5.0, 9.0]), jnp.array([1.0, 3.0, 0.0])
  assert base.weighted_mean(losses, weight) == 4.0


def test_weighted_mean_of_nothing_is_zero_with_a_finite_gradient():
  mean = lambda x: base.weighted_mean(x, jnp.zeros(2))
  value, gradient = jax.value_and_grad(mean)(jnp.ones(2))
  assert value == 0.0
  np.testing.assert_array_equal(gradient, np.zeros(2))


def test_padding_weighs_nothing():
  losses = jnp.array([1.0, 3.0])
  padded = base.weighted_mean(
    jnp.array([1.0, 3.0, 1e9]), jnp.array([1.0, 1.0, 0.0])
  )
  assert padded == base.weighted_mean(losses, jnp.ones(2)) == 2.0


def test_restrict():
  logits = jnp.arange(6.0).reshape(1, 2, 3)
  assert base.restrict(logits, {}, where='f') is logits
  mask = jnp.array([[True, False, True]])
  masked = base.restrict(logits, {'class_mask': mask}, where='f')
  np.testing.assert_array_equal(masked, [[[0, -1e9, 2], [3, -1e9, 5]]])
  with pytest.raises(ValueError, match='f: class_mask has shape'):
    base.restrict(logits, {'class_mask': mask[0]}, where='f')


def test_extra_args_are_the_six_of_the_design():
  names = {'value', 'grad_fn', 'value_fn', 'batch', 'task_id', 'logits'}
  assert set(base.EXTRA_ARGS) == names


@pytest.mark.parametrize('value', [0, 7, np.int32(3)])
def test_steps_pass(value):
  steps = base.check_steps('f', 'warmup_steps', value)
  assert type(steps) is int and steps == value


@pytest.mark.parametrize('value', [1.0, True, '3', None])
def test_steps_must_be_whole(value):
  with pytest.raises(ValueError, match=r'f: n is .* a whole number of steps'):
    base.check_steps('f', 'n', value)


def test_steps_have_a_minimum():
  with pytest.raises(ValueError, match='f: n is -1; it must be >= 0'):
    base.check_steps('f', 'n', -1)
  with pytest.raises(ValueError, match='f: n is 0; it must be >= 1'):
    base.check_steps('f', 'n', 0, minimum=1)


@pytest.mark.parametrize(
  'value,rules,message',
  [
    (0.0, {'above': 0}, '> 0'),
    (-1.0, {'minimum': 0}, '>= 0'),
    (2.0, {'maximum': 1}, '<= 1'),
    (float('nan'), {}, 'finite'),
    (float('inf'), {}, 'finite'),
    (float('nan'), {'above': 0}, 'finite and > 0'),
  ],
)
def test_values_out_of_range(value, rules, message):
  with pytest.raises(
    ValueError, match=f'f: x is {value}; it must be {message}'
  ):
    base.check_value('f', 'x', value, **rules)


def test_values_in_range_pass():
  base.check_value('f', 'x', 0.5, above=0, minimum=0.5, maximum=0.5)
  base.check_value('f', 'x', jnp.float32(2.0), above=1)


def test_traced_values_are_not_checked():
  def f(x):
    assert not base.is_concrete(x)
    base.check_value('f', 'x', x, above=0)
    return x

  assert jax.jit(f)(-1.0) == -1.0
  assert base.is_concrete(-1.0) and base.is_concrete(jnp.ones(()))
