import numpy as np

from experiments.papers import images, sequences
from lrcl import streams


def test_seeds_draw_classes_and_rows_and_the_orders_differ():
  data = images.load_images('digits')
  stream = sequences.split_stream(data, range(3), steps_per_task=9)
  groups = [np.split(np.argsort(t, kind='stable'), 5) for t in _tasks(stream)]
  assert all(len(set(map(tuple, map(sorted, g)))) == 5 for g in groups)
  assert len({tuple(t) for t in _tasks(stream)}) == 3
  labels = data.train['labels'][stream.chunk(0, 9).indices]
  for seed, task in enumerate(_tasks(stream)):
    assert (task[labels[:, seed]] == 0).all()


def _tasks(stream):
  return np.asarray(stream.tables['class_task'])


def test_the_reference_rows_stand_in_their_known_order():
  rows = sequences.reference_rows(
    images.load_images('digits'),
    (32,),
    rates=[0.05, 0.2],
    tuning_seeds=[7],
    seeds=[0, 1],
    steps_per_task=60,
  )
  accuracy = {name: row.accuracy for name, row in rows.items()}
  assert list(rows) == ['naive', 'joint', 'nearest class mean', 'chance']
  assert all(x.shape == (2,) for x in accuracy.values())
  np.testing.assert_allclose(accuracy['chance'], 0.1)
  assert (accuracy['naive'] < 0.4).all()
  assert (accuracy['joint'] > 0.9).all()
  assert (abs(accuracy['nearest class mean'] - 0.9) < 0.05).all()
  assert 'rate' in rows['joint'].setting


def test_the_stream_of_each_seed_may_be_changed():
  data = images.load_images('digits')
  change = lambda stream: streams.reoccurring(stream, law='uniform', share=0.5)
  stream = sequences.permuted_stream(
    data, range(2), steps_per_task=4, num_tasks=3, change=change
  )
  assert stream.num_steps == 12 and list(stream.boundaries) == [4, 8]
  rows = stream.chunk(8, 4).indices
  tasks = np.bincount(rows.ravel() // 1400, minlength=3)
  assert (tasks > 0).all() and tasks[2] > max(tasks[:2])
