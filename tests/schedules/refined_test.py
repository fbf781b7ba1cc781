"""Schedules from gradient norms against the sums of the paper."""

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import schedules


def slow(norms, power):
  """The double sum, and 0 for the last step."""
  weights = [float(norm) ** -power for norm in norms]
  raw = [
    weight * sum(weights[step + 1 :]) for step, weight in enumerate(weights)
  ]
  return np.array(raw) / max(raw)


def slow_median(norms, smoothing):
  """The published window, one median at a time."""
  width = 2 * (int(smoothing * len(norms)) // 2) + 1
  padded = list(norms) + list(norms[-2 : -2 - 2 * width : -1])
  at = lambda index: padded[max(index, 0)]
  half = width // 2
  return [
    sorted(at(i + j) for j in range(-half, half + 1))[half]
    for i in range(len(norms))
  ]


def values(norms, **kwargs):
  schedule = schedules.refined_schedule(norms, 1.0, **kwargs)
  return np.asarray(schedule(np.arange(len(norms))))


@hypothesis.settings(
  max_examples=20, deadline=None, database=None, derandomize=True
)
@hypothesis.given(
  norms=hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(0.1, 9)),
  power=st.sampled_from([1, 2, 0.5]),
)
def test_it_is_the_double_sum(norms, power):
  got = values(norms, power=power, smoothing=None)
  np.testing.assert_allclose(got, slow(norms, power), rtol=1e-6)
  assert got.max() == 1.0 and got[-1] == 0.0


@pytest.mark.parametrize('smoothing', [0.05, 0.1, 0.3])
def test_norms_are_smoothed_by_the_published_median(smoothing):
  norms = np.exp(np.random.default_rng(0).normal(size=100))
  norms[[0, 50, 99]] = 1e3
  want = slow(slow_median(norms, smoothing), 2)
  got = values(norms, smoothing=smoothing)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert not np.allclose(got, values(norms, smoothing=0), rtol=0.1)


def test_few_steps_are_not_smoothed():
  norms = np.array([4.0, 3, 2, 1, 1, 1, 1, 1, 2, 2])
  np.testing.assert_array_equal(values(norms), values(norms, smoothing=None))


def test_a_unit_of_the_norms_does_not_matter():
  norms = np.array([4.0, 3, 2, 1, 1, 2])
  want = values(norms)
  for unit in (1e-200, 1e200):
    np.testing.assert_allclose(values(unit * norms), want, rtol=1e-6)


def test_norms_of_any_spread_do_not_overflow():
  got = values(np.array([1e150, 1.0, 1e-150, 1e150]))
  # w = 1e-300, 1, 1e300, 1e-300: the second meets the third, and it, the last.
  np.testing.assert_array_equal(got, [0.0, 1.0, 0.0, 0.0])


def test_between_whole_steps_it_is_linear():
  schedule = schedules.refined_schedule([1.0] * 5, 1.0)
  got = schedule(np.array([0.5, 2.25, 3.5, 3.75, 4.5, 1e30]))
  np.testing.assert_allclose(got, [0.875, 0.4375, 0.125, 0.0625, 0, 0])


def test_it_does_not_see_the_first_run_but_its_norms():
  """Two runs of SGD: the pipeline of the docstring, end to end."""
  target = jnp.array([1.0, -2.0])

  def run(schedule, steps=40):
    measure = optax.snapshot('norm', optax.tree.norm)
    tx = optax.chain(measure, optax.sgd(schedule))

    def step(carry, _):
      params, state = carry
      grads = params - target
      updates, state = tx.update(grads, state, params)
      params = optax.apply_updates(params, updates)
      return (params, state), optax.tree.get(state, 'norm')

    params = jnp.zeros(2)
    (params, _), norms = jax.lax.scan(
      step, (params, tx.init(params)), length=steps
    )
    return params, np.asarray(norms)

  linear = schedules.wsd_schedule(0.2, 0, 0, 40)
  first, norms = run(linear)
  assert norms[0] == pytest.approx(5**0.5) and np.all(np.diff(norms) <= 0)
  refined = schedules.refined_schedule(norms, 0.2)
  # Norms that fall make a schedule that rises and then falls steeply.
  rates = np.asarray(refined(np.arange(40)))
  assert rates[0] < rates.max() == np.float32(0.2) and rates[-1] == 0.0
  second, _ = run(refined)
  assert np.linalg.norm(second - target) < np.linalg.norm(target)
  assert not np.array_equal(first, second)
