"""grain's data sets and pipelines give the batches that arrays give."""

import functools
import inspect

import jax
import numpy as np
import pytest

from lrcl import streams
from lrcl.streams import ItemSource, from_iterator, seekable

grain = pytest.importorskip('grain')

_CLASSES = 6


def _data(rows, seed):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(rows) % _CLASSES).astype(np.int32)
  inputs = rng.integers(0, 256, (rows, 4, 4)).astype(np.uint8)
  return {'inputs': inputs, 'labels': labels}


_TRAIN, _TEST = _data(96, 0), _data(24, 1)


class _Source:
  """A grain random access data source."""

  def __init__(self, data):
    self._data = data

  def __len__(self):
    return len(self._data['labels'])

  def __getitem__(self, index):
    data = self._data
    return {'image': data['inputs'][index], 'label': int(data['labels'][index])}

  def __repr__(self):
    return f'_Source({len(self)})'


def _pipeline(data):
  """A map dataset that reads the other way round, and turns it back."""
  last = len(data['labels']) - 1
  back = {name: column[::-1, ...] ^ 1 for name, column in data.items()}
  items = grain.MapDataset.source(_Source(back))
  undo = lambda e: {'image': e['image'] ^ 1, 'label': e['label'] ^ 1}
  return items.map(undo)[last::-1]


_FORMS = {
  'RandomAccessDataSource': _Source,
  'MapDataset': lambda data: grain.MapDataset.source(_Source(data)),
  'MapDataset with operations': _pipeline,
}

_few = dict(num_tasks=3, batch_size=4)


# One row for each function of `lrcl.streams` that makes a stream of `train`.
_SCENARIOS = {
  'split': lambda f, train, test: f(train, test=test, **_few),
  'permuted': lambda f, train, test: f(train, test=test, **_few),
  'rotated': lambda f, train, test: f(train, test=test, **_few),
  'blurry': lambda f, train, test: f(train, test=test, **_few),
  'scole': lambda f, train, test: f(
    train, batch_size=4, steps_per_task=3, num_tasks=5, test=test
  ),
  'hierarchical': lambda f, train, test: f(
    train, parents=[0, 0, 0, 1, 1, 1], batch_size=4, test=test
  ),
  'few_shot': lambda f, train, test: f(
    train, num_sets=3, ways=2, shots=2, steps_per_set=4, queries=3
  ),
  'instance_test': lambda f, train, test: f(
    train, num_sets=3, ways=2, steps_per_set=4
  ),
  'shuffled_labels': lambda f, train, test: f(
    train, batch_size=4, steps_per_task=3, num_tasks=4
  ),
}
_OF_STREAMS = {
  'joint': streams.joint,
  'reoccurring': streams.reoccurring,
  'mixture': lambda s: streams.mixture(s, [0.5, 0.3, 0.2]),
  'repeat_views': lambda s: streams.repeat_views(s, 2),
}


def _make(name, train, test):
  if name in _SCENARIOS:
    return _SCENARIOS[name](getattr(streams, name), train, test)
  tasks = streams.split(train, steps_per_task=8, test=test, **_few)
  return _OF_STREAMS[name](tasks)


@functools.cache
def _of_arrays(name):
  return _make(name, _TRAIN, _TEST)


def _assert_equal(a, b):
  assert set(a) == set(b)
  for name in a:
    assert a[name].dtype == b[name].dtype
    np.testing.assert_array_equal(a[name], b[name])


def test_every_scenario_has_a_row():
  scenarios = {
    name
    for name, function in inspect.getmembers(streams, inspect.isfunction)
    if inspect.signature(function).return_annotation is streams.Stream
    and 'train' in inspect.signature(function).parameters
  }
  assert scenarios == set(_SCENARIOS)


@pytest.mark.parametrize('form', _FORMS)
@pytest.mark.parametrize('name', [*_SCENARIOS, *_OF_STREAMS])
def test_batches_are_those_of_arrays(name, form):
  make = _FORMS[form]
  stream = _make(
    name,
    ItemSource(make(_TRAIN), name='train'),
    ItemSource(make(_TEST), name='test'),
  )
  wanted = _of_arrays(name)
  # One function, `make_batch`, makes batches of all these.
  assert stream.prepare == wanted.prepare
  jax.tree.map(np.testing.assert_array_equal, stream.tables, wanted.tables)
  chunk, same = stream.chunk(3, 5), wanted.chunk(3, 5)
  jax.tree.map(np.testing.assert_array_equal, chunk, same)
  _assert_equal(stream.rows(chunk.indices), wanted.rows(chunk.indices))
  if wanted.evaluation is not None:
    indices = wanted.evaluation.indices
    np.testing.assert_array_equal(stream.evaluation.indices, indices)
    _assert_equal(
      stream.evaluation.rows(indices), wanted.evaluation.rows(indices)
    )


def test_sources_are_what_grain_calls_so():
  assert isinstance(_Source(_TRAIN), grain.sources.RandomAccessDataSource)


def test_impossible_data_sets():
  items = grain.MapDataset.source(_Source(_TRAIN))
  odd = ItemSource(items.filter(lambda e: e['label'] % 2 == 1))
  with pytest.raises(ValueError, match=r'example \d+ is None; .* filter'):
    streams.split(odd, **_few)
  endless = ItemSource(items.repeat(), read_labels=lambda: _TRAIN['labels'])
  with pytest.raises(ValueError, match='of 9223372036854775807 rows; it must'):
    streams.split(endless, **_few)
  with pytest.raises(ValueError, match=r'MapDataset; it must.* an ItemSource'):
    streams.split(items, **_few)


_STEPS, _ROWS = 40, 4


def _columns(example):
  return {'inputs': example['image'], 'labels': example['label']}


def _map_batches():
  items = grain.MapDataset.source(_Source(_TRAIN)).seed(3).shuffle()
  return items.repeat(2).map(_columns).batch(_ROWS, drop_remainder=True)


def _iter_batches():
  items = grain.MapDataset.source(_Source(_TRAIN)).seed(3).shuffle().repeat(4)
  items = items.to_iter_dataset().filter(lambda e: e['label'] != 2)
  return items.map(_columns).batch(_ROWS, drop_remainder=True)


class _ToColumns(grain.transforms.Map):
  def map(self, element):
    return _columns(element)


def _loader():
  sampler = grain.samplers.IndexSampler(
    num_records=len(_TRAIN['labels']),
    shuffle=True,
    seed=3,
    num_epochs=2,
    shard_options=grain.sharding.NoSharding(),
  )
  batch = grain.transforms.Batch(_ROWS, drop_remainder=True)
  return grain.DataLoader(
    data_source=_Source(_TRAIN),
    sampler=sampler,
    operations=[_ToColumns(), batch],
    worker_count=0,
  )


_PIPELINES = {
  'MapDataset': _map_batches,
  'IterDataset': _iter_batches,
  'DataLoader': _loader,
}


def _stream(make, keep_every=7):
  return from_iterator(
    seekable(make(), keep_every=keep_every),
    num_steps=_STEPS,
    batch_size=_ROWS,
    num_classes=_CLASSES,
    name='grain, seed 3',
  )


@pytest.mark.parametrize('name', _PIPELINES)
def test_a_pipeline_resumes_at_any_step(name):
  make = _PIPELINES[name]
  plain = iter(make())
  wanted = [next(plain) for _ in range(_STEPS)]
  stream = _stream(make)
  for start, steps in ((0, 9), (9, 20), (3, 2), (33, 5), (12, 1), (28, 1)):
    for fresh in (stream, _stream(make)):
      rows = fresh.rows(fresh.chunk(start, steps).indices)
      for i in range(steps):
        for column, values in wanted[start + i].items():
          np.testing.assert_array_equal(rows[column][i], values)
  assert rows['inputs'].dtype == np.uint8 and rows['labels'].dtype == np.int32
  assert stream.digest == _stream(make).digest


class _Counted:
  """Hands out the state that it goes on to change."""

  def __init__(self):
    self.state, self.reads = {'next': 0}, 0

  def __next__(self):
    self.state['next'] += 1
    self.reads += 1
    return self.state['next'] - 1

  def get_state(self):
    return self.state

  def set_state(self, state):
    self.state = state


def test_few_batches_are_read_again():
  counted = _Counted()
  batches = seekable(counted, keep_every=10)
  batches.seek(35)
  assert next(batches) == 35 and counted.reads == 36
  for step, reads in ((36, 0), (34, 4), (30, 0), (9, 9), (0, 0), (39, 9)):
    counted.reads = 0
    batches.seek(step)
    assert counted.reads == reads
    assert next(batches) == step


def test_the_states_of_a_long_stream_take_no_more_memory():
  batches = seekable(_Counted(), keep_every=1)
  batches.seek(5000)
  assert len(batches._states) <= 1000
  for step in (4999, 17, 4096, 0):
    batches.seek(step)
    assert next(batches) == step


def test_a_map_dataset_goes_on_with_its_next_epoch():
  items = grain.MapDataset.source(_Source(_TRAIN)).seed(3).shuffle()
  one = items.map(_columns).batch(_ROWS, drop_remainder=True)
  stream = _stream(lambda: one)
  first, second = (
    stream.rows(stream.chunk(start, 16).indices)['labels'] for start in (0, 24)
  )
  assert (first != second).any()


def test_what_cannot_seek():
  with pytest.raises(
    TypeError, match='seekable: batches is generator; it must'
  ):
    seekable(x for x in ())
  with pytest.raises(ValueError, match='keep_every is 0'):
    seekable([], keep_every=0)
  short = _stream(lambda: [{'inputs': np.ones((4, 1)), 'labels': np.ones(4)}])
  with pytest.raises(ValueError, match='end before step 1; num_steps is 40'):
    short.rows(short.chunk(0, 2).indices)
  for make in (_iter_batches, _loader):
    stream = from_iterator(
      seekable(make()), num_steps=999, batch_size=_ROWS, num_classes=_CLASSES
    )
    with pytest.raises(ValueError, match='end before step 9'):
      stream.rows(stream.chunk(900, 1).indices)
