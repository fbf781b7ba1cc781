"""All rows of tasks that are drawn, or hidden, as i.i.d. batches."""

import numpy as np
import pytest

from lrcl import streams

_TRAIN = {
  'inputs': np.arange(96, dtype=np.float32).reshape(48, 2),
  'labels': np.arange(48) % 6,
}


def _scole():
  return streams.scole(
    _TRAIN, batch_size=4, steps_per_task=3, num_tasks=8, seed=3
  )


def _reoccurring():
  stream = streams.permuted(_TRAIN, num_tasks=3, batch_size=4)
  return streams.reoccurring(stream, law='power')


def _mixture():
  stream = streams.split(_TRAIN, num_tasks=3, batch_size=4)
  return streams.mixture(stream, [1.0, 2.0, 1.0])


@pytest.mark.parametrize('make', [_scole, _reoccurring, _mixture])
def test_an_epoch_has_every_row_of_the_pools_once(make):
  stream = make()
  mixed = streams.joint(stream)
  rows = np.sort(np.concatenate(stream.plan.pools))
  assert mixed.num_steps == stream.num_steps and mixed.boundaries == ()
  assert mixed.source is stream.source
  epoch = mixed.chunk(0, len(rows) // 4).indices.ravel()
  np.testing.assert_array_equal(np.sort(epoch), rows)
  assert not np.array_equal(epoch, np.sort(epoch))


def test_labels_that_change_with_a_drawn_task_are_refused():
  stream = streams.shuffled_labels(
    _TRAIN, batch_size=4, steps_per_task=3, num_tasks=2
  )
  with pytest.raises(ValueError, match='rows say which task they are from'):
    streams.joint(stream)


def test_rows_in_an_order_of_their_own_are_shuffled():
  hidden = streams.hide_tasks(streams.split(_TRAIN, num_tasks=2, batch_size=4))
  rows = lambda stream: stream.chunk(0, hidden.num_steps).indices
  mixed = rows(streams.joint(hidden))
  assert not np.array_equal(mixed, rows(hidden))
  other = rows(streams.joint(hidden, seed=1))
  assert not np.array_equal(mixed, other)
  np.testing.assert_array_equal(np.sort(mixed, None), np.sort(other, None))
