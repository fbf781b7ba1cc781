from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from lrcl.streams import permute_indices


def _order(size, **kwargs):
  return permute_indices(np.arange(size), size, **kwargs)


def test_bijection_for_all_small_sizes():
  for size in range(1, 301):
    order = _order(size, seed=size % 7, epoch=size % 3)
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


@settings(max_examples=15, deadline=None)
@given(
  size=st.integers(301, 200_000),
  seed=st.integers(-(2**70), 2**70),
  epoch=st.integers(0, 2**40),
)
def test_bijection_for_larger_sizes(size, seed, epoch):
  order = _order(size, seed=seed, epoch=epoch)
  assert np.bincount(order, minlength=size).max() == 1


@settings(max_examples=25, deadline=None)
@given(data=st.data(), size=st.integers(1, 2**31), seed=st.integers(0, 2**32))
def test_entries_do_not_depend_on_what_else_is_asked(data, size, seed):
  entries = st.lists(st.integers(0, size - 1), min_size=1, max_size=9)
  indices = data.draw(entries)
  together = permute_indices(indices, size, seed=seed, epoch=3)
  alone = [int(permute_indices(i, size, seed=seed, epoch=3)) for i in indices]
  assert together.tolist() == alone
  assert all(0 <= entry < size for entry in alone)
  assert len(set(alone)) == len(set(indices))


def test_epochs_broadcast():
  epochs = np.array([[0], [7], [0]])
  got = permute_indices(np.arange(50), 50, seed=(3, 1), epoch=epochs)
  assert got.shape == (3, 50)
  np.testing.assert_array_equal(got[0], _order(50, seed=(3, 1)))
  np.testing.assert_array_equal(got[1], _order(50, seed=(3, 1), epoch=7))
  np.testing.assert_array_equal(got[0], got[2])


def test_seeds_and_epochs_differ():
  settings_ = [
    (s, e) for s in (0, 1, -1, 2**64 + 5, (0, 1), (1, 0)) for e in (0, 1)
  ]
  orders = {tuple(_order(40, seed=s, epoch=e)) for s, e in settings_}
  assert len(orders) == len(settings_)


def test_golden_values_never_change():
  """A changed permutation would silently break every resumed run."""
  assert _order(10, seed=0).tolist() == [0, 3, 1, 9, 6, 4, 2, 5, 8, 7]
  got = permute_indices([0, 1, 2, 59_999], 60_000, seed=(5, 2), epoch=3)
  assert got.tolist() == [16227, 24016, 56885, 17905]


@pytest.mark.parametrize('size', [2, 3, 4, 5, 7, 11, 30])
def test_position_of_one_entry_is_uniform(size):
  epochs = np.arange(20_000)
  for entry in (0, size - 1):
    where = permute_indices(np.full(20_000, entry), size, seed=1, epoch=epochs)
    assert stats.chisquare(np.bincount(where, minlength=size)).pvalue > 1e-4


@pytest.mark.parametrize('size', [3, 4, 5, 6])
def test_all_orders_are_equally_likely(size):
  epochs = np.arange(100_000)[:, None]
  orders = permute_indices(np.arange(size), size, seed=2, epoch=epochs)
  codes = orders @ size ** np.arange(size)
  _, counts = np.unique(codes, return_counts=True)
  assert len(counts) == np.prod(np.arange(1, size + 1))
  assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize('size', [97, 1000, 12_000, 60_000])
@pytest.mark.parametrize('other', [1, 2, 96])
def test_pairs_are_independent(size, other):
  epochs = np.arange(20_000)[:, None]
  pair = permute_indices([0, other], size, seed=3, epoch=epochs)
  distance = (pair[:, 1] - pair[:, 0]) % size - 1
  cells = np.floor(distance / (size - 1) * 24).astype(int)
  assert stats.chisquare(np.bincount(cells, minlength=24)).pvalue > 1e-4
  cells = (pair * 12 // size) @ np.array([1, 12])
  got = np.bincount(cells, minlength=144)
  assert stats.chisquare(got).pvalue > 1e-4 or size == 97


def test_epochs_are_independent():
  size, epochs = 60_000, np.arange(20_000)
  now = permute_indices(np.zeros(20_000, int), size, seed=4, epoch=epochs)
  later = permute_indices(np.zeros(20_000, int), size, seed=4, epoch=epochs + 1)
  cells = (now * 12 // size) * 12 + later * 12 // size
  assert stats.chisquare(np.bincount(cells, minlength=144)).pvalue > 1e-4


def test_batches_mix_neighbours():
  """Rows that lie together in the data are spread over the epoch."""
  order = _order(12_000, seed=0).reshape(-1, 100)
  counts = (order < 6000).sum(axis=1)
  spread = counts.var() / (100 * 0.25 * (1 - 99 / 11_999))
  assert 0.6 < spread < 1.5


@pytest.mark.parametrize('size', [0, -1, 2**31 + 1])
def test_size_out_of_range(size):
  with pytest.raises(ValueError, match='size is'):
    permute_indices(0, size, seed=0)


@pytest.mark.parametrize('index', [-1, 5])
def test_index_out_of_range(index):
  with pytest.raises(ValueError, match='0 to 4'):
    permute_indices([index], 5, seed=0)
