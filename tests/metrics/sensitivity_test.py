"""Sensitivity: by hand, in a network whose head must change, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import metrics


def make_params(seed=0):
  rng = np.random.default_rng(seed)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'Dense_0': {'kernel': normal(4, 6), 'bias': normal(6)},
    'head': {'kernel': normal(6, 3), 'bias': normal(3)},
    'scale': normal(2),
  }


def test_sensitivity_is_the_mean_absolute_change_of_a_module():
  before, now = make_params(0), make_params(1)
  got = metrics.parameter_sensitivity(before, now)
  assert set(got) == {'Dense_0', 'head', 'scale'}
  flat = lambda tree: np.concatenate([x.ravel() for x in jax.tree.leaves(tree)])
  for name, value in got.items():
    want = np.abs(flat(now[name]) - flat(before[name])).mean()
    np.testing.assert_allclose(value, want, rtol=1e-6)


def test_low_precision_is_summed_in_float32():
  before = {'w': jnp.zeros(4096, jnp.bfloat16)}
  now = {'w': jnp.ones(4096, jnp.bfloat16)}
  sensitivity = metrics.parameter_sensitivity(before, now)['w']
  assert sensitivity.dtype == jnp.float32 and float(sensitivity) == 1.0


def test_jumps_leave_the_first_task_out():
  trace = {'a': [9.0, 9.0, 6.0, 1.0, 2.0, 3.0, 3.0], 'b': [0.0] * 7}
  jumps = metrics.sensitivity_jumps(trace, [2, 5])
  # Epochs 2 and 5 have a mean of 4.5, epochs 3, 4 and 6 of 2.
  assert jumps['a'] == 4.5 / 2.0
  assert np.isnan(jumps['b'])


def test_modules_are_marked_as_long_as_they_fit():
  params = make_params()  # 30, 21 and 2 of 53 parameters
  jumps = {'Dense_0': 5.0, 'head': 3.0, 'scale': 1.0}
  marked = lambda fraction, jumps=jumps: {
    name: all(jax.tree.leaves(part))
    for name, part in metrics.sensitive_mask(params, jumps, fraction).items()
  }
  assert marked(1.0) == {'Dense_0': True, 'head': True, 'scale': True}
  assert marked(0.7) == {'Dense_0': True, 'head': False, 'scale': True}
  assert marked(0.01) == {'Dense_0': True, 'head': False, 'scale': False}
  turned = {'Dense_0': 1.0, 'head': 3.0, 'scale': 2.0}
  assert marked(0.5, turned) == {'Dense_0': False, 'head': True, 'scale': True}


def test_errors():
  trace = {'a': [1.0, 2.0]}
  for switches in ([], [1], [2]):
    with pytest.raises(ValueError, match=r'sensitivity_jumps: switches is'):
      metrics.sensitivity_jumps(trace, switches)
  with pytest.raises(ValueError, match='sensitive_mask: fraction is 0'):
    metrics.sensitive_mask(make_params(), {}, 0)
  with pytest.raises(ValueError, match=r"jumps lacks \['Dense_0', 'scale'\]"):
    metrics.sensitive_mask(make_params(), {'head': 1.0}, 0.5)
