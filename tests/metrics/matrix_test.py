"""Matrix metrics against golden values and brute-force twins."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import metrics
from tests.metrics import twins

GOLDEN = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.3], [0.5, 0.9, 0.7]])
BASELINE = np.array([0.1, 0.1, 0.2])

forward = functools.partial(metrics.forward_transfer, baseline=BASELINE)
BELOW = {
  'average_accuracy': metrics.average_accuracy,
  'average_incremental_accuracy': metrics.average_incremental_accuracy,
  'forgetting': metrics.forgetting,
  'backward_transfer': metrics.backward_transfer,
  'learning_accuracy': metrics.learning_accuracy,
}
ALL = BELOW | {'forward_transfer': forward}


matrices = st.integers(1, 6).flatmap(
  lambda n: hnp.arrays(np.float64, (2, n, n), elements=st.floats(0, 1))
)


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_twins(a):
  base = a[0, 0]
  for name in ALL:
    args = (base,) if name == 'forward_transfer' else ()
    got = getattr(metrics, name)(a, *args)
    want = [getattr(twins, name)(seed, *args) for seed in a]
    np.testing.assert_allclose(got, want, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('average_accuracy', 0.7),
    ('average_incremental_accuracy', (0.9 + 0.7 + 0.7) / 3),
    ('forgetting', ((0.9 - 0.5) + (0.8 - 0.9)) / 2),
    ('backward_transfer', ((0.5 - 0.9) + (0.9 - 0.8)) / 2),
    ('forward_transfer', ((0.2 - 0.1) + (0.3 - 0.2)) / 2),
    ('learning_accuracy', 0.8),
  ],
)
def test_golden(name, value):
  assert float(ALL[name](GOLDEN)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize('name', ALL)
def test_jax_numpy_jit_and_vmap_agree(name):
  fn = ALL[name]
  batch = np.random.default_rng(0).random((2, 3, 3, 3)).astype(np.float32)
  want = fn(batch)
  assert isinstance(want, np.ndarray)
  assert want.shape == (2, 3)
  assert want.dtype == np.float32
  device = jnp.asarray(batch)
  for got in (fn(device), jax.jit(fn)(device), jax.vmap(fn)(device)):
    assert isinstance(got, jax.Array)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize('name', BELOW)
def test_nothing_leaks_from_above_the_diagonal(name):
  dirty = np.where(np.tril(np.ones((3, 3), bool)), GOLDEN, np.nan)
  assert float(ALL[name](dirty)) == float(ALL[name](GOLDEN))
  grad = jax.grad(lambda a: ALL[name](a))(jnp.asarray(dirty, jnp.float32))
  assert bool(jnp.isfinite(grad).all())
  assert not np.triu(np.asarray(grad), 1).any()


def test_forward_transfer_reads_only_its_own_entries():
  only = np.full((3, 3), np.nan)
  only[0, 1], only[1, 2] = 0.2, 0.3
  base = np.array([np.nan, 0.1, 0.2])
  got = metrics.forward_transfer(only, base)
  assert float(got) == pytest.approx(0.1)


def test_forward_transfer_takes_a_baseline_per_seed():
  a = np.stack([GOLDEN, GOLDEN])
  base = np.stack([BASELINE, BASELINE + 0.1])
  got = metrics.forward_transfer(a, base)
  np.testing.assert_allclose(got, [0.1, 0.0], atol=1e-12)


@pytest.mark.parametrize('name', BELOW)
def test_nan_that_is_read_is_reported(name):
  bad = GOLDEN.copy()
  bad[[2, 0, 0], [0, 0, 0]] = np.nan
  assert np.isnan(ALL[name](bad))


def test_one_task():
  for kind in (np.asarray, jnp.asarray):
    a = kind(np.full((4, 1, 1), 0.5, np.float32))
    for name in ('forgetting', 'backward_transfer'):
      assert ALL[name](a).shape == (4,)
      assert np.isnan(ALL[name](a)).all()
    assert np.isnan(metrics.forward_transfer(a, np.zeros(1))).all()
    np.testing.assert_array_equal(metrics.average_accuracy(a), 0.5)


def test_low_precision_is_widened():
  a = jnp.asarray(GOLDEN, jnp.bfloat16)
  assert metrics.average_accuracy(a).dtype == jnp.float32
  assert metrics.average_accuracy([[1, 0], [0, 1]]).dtype == np.float32


@pytest.mark.parametrize('shape', [(3,), (2, 3), (4, 2, 3), (0, 0)])
@pytest.mark.parametrize('name', ALL)
def test_shape_errors(name, shape):
  with pytest.raises(ValueError, match=f'{name}: the accuracy matrix has sha'):
    ALL[name](np.zeros(shape))


def test_baseline_shape_error():
  with pytest.raises(ValueError, match='forward_transfer: baseline has shape'):
    metrics.forward_transfer(GOLDEN, np.zeros(2))
