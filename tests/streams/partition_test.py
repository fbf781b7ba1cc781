"""The Dirichlet partition: every row once, nobody empty, as uneven as asked."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrcl import streams

LABELS = np.repeat(np.arange(10), 200)


@settings(max_examples=60, deadline=None)
@given(
  seed=st.integers(0, 2**32 - 1),
  rows=st.integers(1, 80),
  clients=st.integers(1, 12),
  least=st.integers(1, 4),
  concentration=st.sampled_from([1e-12, 1e-3, 0.3, 10.0]),
)
def test_every_row_has_one_client_and_no_client_is_empty(
  seed, rows, clients, least, concentration
):
  labels = np.random.default_rng(seed).integers(0, 3, rows)
  call = lambda: streams.dirichlet_partition(
    labels, clients, concentration, seed, min_rows=least
  )
  if rows < clients * least:
    with pytest.raises(ValueError, match=f'there are {rows} rows'):
      call()
    return
  pools = call()
  assert len(pools) == clients
  assert min(map(len, pools)) >= least
  assert all(pool.dtype == np.int32 for pool in pools)
  assert all((np.diff(pool) > 0).all() for pool in pools)
  assert sorted(np.concatenate(pools)) == list(range(rows))
  for a, b in zip(pools, call(), strict=True):
    np.testing.assert_array_equal(a, b)


def spread(concentration):
  """Mean over draws of the variance of a client's share of a class."""
  shares = []
  for seed in range(30):
    pools = streams.dirichlet_partition(LABELS, 5, concentration, seed)
    counts = [np.bincount(LABELS[pool], minlength=10) for pool in pools]
    shares.append(np.stack(counts) / 200)
  return np.mean((np.stack(shares) - 0.2) ** 2)


@pytest.mark.parametrize('concentration', [0.1, 0.5, 2.0, 50.0])
def test_shares_have_the_variance_of_the_distribution(concentration):
  # Of one share: (1/5) (4/5) / (5 c + 1).
  want = 0.16 / (5 * concentration + 1)
  assert spread(concentration) == pytest.approx(want, rel=0.1)


def test_seeds_differ():
  one, two = (streams.dirichlet_partition(LABELS, 5, 1.0, s) for s in (0, 1))
  assert any(len(a) != len(b) for a, b in zip(one, two, strict=True))


def test_pools_make_a_plan():
  pools = streams.dirichlet_partition(LABELS, 4, 100.0)
  plan = streams.make_plan(pools, [(2, 5)], batch_size=8)
  assert set(plan.chunk(0, 5).indices.ravel()) <= set(pools[2].tolist())


@pytest.mark.parametrize(
  'arguments,message',
  [
    (dict(num_clients=0), 'num_clients is 0; it must be >= 1'),
    (dict(concentration=0.0), 'concentration is 0.0; it must be > 0'),
    (dict(min_rows=0), 'min_rows is 0; it must be >= 1'),
    (dict(labels=np.zeros((2, 2))), r'labels have shape \(2, 2\)'),
  ],
)
def test_errors(arguments, message):
  arguments = dict(labels=LABELS, num_clients=3, concentration=1.0) | arguments
  with pytest.raises(ValueError, match=f'dirichlet_partition: {message}'):
    streams.dirichlet_partition(**arguments)
