"""Two halves of the classes, and nothing of one in the other."""

import numpy as np
import pytest

from lrcl import protocols


def _data(rows=60, classes=6, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(rows) % classes)
  return {'inputs': rng.normal(size=(rows, 3)), 'labels': labels}


@pytest.mark.parametrize('seed', [None, 0, 1, 2])
def test_halves_have_all_rows_and_share_no_class(seed):
  train, test = _data(), _data(rows=24, seed=1)
  halves = protocols.halve_classes(train, test, seed=seed)
  parts = (halves.tuning, halves.reporting)
  assert sorted(parts[0].classes + parts[1].classes) == list(range(6))
  for part in parts:
    for data, own in ((train, part.train), (test, part.test)):
      rows = np.isin(data['labels'], part.classes)
      np.testing.assert_array_equal(own['inputs'], data['inputs'][rows])
      before = np.array(part.classes)[own['labels']]
      np.testing.assert_array_equal(before, data['labels'][rows])
      assert own['labels'].dtype == np.int32
  swapped = halves.swap()
  assert swapped.tuning is halves.reporting


def test_halves_depend_on_the_seed_and_may_be_given():
  train = _data()
  found = {
    protocols.halve_classes(train, train, seed=s).tuning.classes
    for s in range(20)
  }
  assert len(found) > 5
  given = protocols.halve_classes(train, train, tuning_classes=(5, 0, 2))
  assert given.tuning.classes == (0, 2, 5)


def test_overlapping_halves_are_refused():
  halves = protocols.halve_classes(_data(), _data())
  with pytest.raises(ValueError, match='cannot be reported on it'):
    protocols.Halves(halves.tuning, halves.tuning)


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'num_classes': 5}, '5 classes do not divide'),
    ({'num_classes': 8}, 'no rows of classes'),
    ({'tuning_classes': (0, 1)}, 'must be 3 different classes'),
    ({'tuning_classes': (0, 1, 6)}, 'must be 3 different classes'),
  ],
)
def test_halves_that_do_not_fit(kwargs, message):
  with pytest.raises(ValueError, match=message):
    protocols.halve_classes(_data(), _data(), **kwargs)
