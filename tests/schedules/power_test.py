"""The power law of the tokens against float64, up to the last int32 step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import schedules


def twin(step, peak, batch, length, amplitude=4.6, exponent=-0.51, warmup=0):
  """The formula, tokens and all, in float64."""

  def curve(step):
    tokens = np.maximum(step, 1).astype(np.float64) * batch * length
    law = batch * amplitude * tokens**exponent
    return np.where(step < 1, peak, np.minimum(peak, law))

  step = np.asarray(step, np.int64)
  if not warmup:
    return curve(step)
  rise = curve(np.array(warmup)) * step / warmup
  return np.where(step < warmup, rise, curve(step))


STEPS = np.unique(
  np.concatenate(
    [
      np.arange(3000),
      np.geomspace(3000, 2**31 - 1, 4000).astype(np.int64),
      2**31 - 1 - np.arange(100),
      2**24 + np.arange(-50, 50),
    ]
  )
)


@pytest.mark.parametrize('warmup', [0, 7, 5000])
@pytest.mark.parametrize(
  ('peak', 'batch', 'length', 'law'),
  [
    (0.02, 128, 4096, {}),  # 1e13 tokens are 19 million steps
    (0.01, 4096, 2**20, {'exponent': -0.35}),  # 1e19 tokens at the end
    (1.0, 1, 1, {'amplitude': 2.0, 'exponent': -1.0}),
  ],
)
def test_float32_is_enough(peak, batch, length, law, warmup):
  schedule = schedules.power_schedule(
    peak, batch, length, warmup_steps=warmup, **law
  )
  got = np.asarray(schedule(STEPS), np.float64)
  want = twin(STEPS, peak, batch, length, warmup=warmup, **law)
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=0)
  assert np.all(np.diff(got[STEPS >= max(warmup, 1)]) <= 0)


def test_it_leaves_the_peak_where_the_law_says():
  tokens = (0.02 / (128 * 4.6)) ** (1 / -0.51)
  assert tokens == pytest.approx(5.78926e8, rel=1e-5)
  step = tokens / (128 * 4096)
  schedule = schedules.power_schedule(0.02, 128, 4096)
  assert schedule(int(step)) == np.float32(0.02) > schedule(int(step) + 1)


def test_what_is_differentiated_is_the_law():
  def value(values, step):
    return schedules.power_schedule(0.02, 128, 4096, **values)(step)

  values = {'amplitude': 4.6, 'exponent': -0.51}
  grads = jax.vmap(jax.grad(value), (None, 0))(values, jnp.array([0, 10, 9000]))
  law = twin(9000, 0.02, 128, 4096)
  np.testing.assert_allclose(grads['amplitude'], [0, 0, law / 4.6], rtol=2e-6)
  log = np.log(9000.0 * 128 * 4096)
  np.testing.assert_allclose(grads['exponent'], [0, 0, law * log], rtol=2e-6)


def test_a_branch_ends_it():
  trunk = schedules.power_schedule(0.02, 128, 4096)
  branch = schedules.decay_branch(trunk, 10_000, 1000)
  assert branch(9999) == trunk(9999) and branch(11_000) == 0.0
  np.testing.assert_allclose(branch(10_500), trunk(10_000) / 2, rtol=1e-6)
