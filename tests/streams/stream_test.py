import dataclasses
import functools
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl.streams import (
  ENDLESS,
  ItemSource,
  Stream,
  from_iterator,
  is_resident,
  joint,
  make_batch,
  permuted,
  replicate,
  rotated,
  split,
)

_SHAPE = (4, 4)


def _data(rows=48, classes=6, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(rows) % classes).astype(np.int32)
  inputs = rng.integers(0, 256, (rows, *_SHAPE)).astype(np.uint8)
  return {'inputs': inputs, 'labels': labels}


_TRAIN, _TEST = _data(), _data(20, seed=1)


def _scale(inputs):
  return inputs.reshape(inputs.shape[0], -1).astype(jnp.float32) / 255 - 0.1307


def _items(data, **kwargs):
  pairs = zip(data['inputs'], data['labels'], strict=True)
  return ItemSource([{'image': x, 'label': y} for x, y in pairs], **kwargs)


_MAKERS = {
  'class': functools.partial(split, scenario='class'),
  'task': functools.partial(split, scenario='task'),
  'domain': functools.partial(split, scenario='domain'),
  'permuted': permuted,
  'rotated': rotated,
}


def _make(name='class', train=_TRAIN, test=_TEST, **kwargs):
  defaults = dict(num_tasks=3, batch_size=5, transform=_scale)
  return _MAKERS[name](train, test=test, **defaults | kwargs)


def _gathered_on_device(stream: Stream, chunk, step):
  @jax.jit
  def make(data, tables, task_id, indices, weights):
    rows = jax.tree.map(lambda column: column[indices], data)
    return make_batch(rows, tables, task_id, weights, stream.prepare)

  parts = (chunk.task_ids[step], chunk.indices[step], chunk.weights[step])
  return make(dict(stream.source), stream.tables, *parts)


def _gathered_on_host(stream: Stream, chunk, step, source=None):
  rows = dataclasses.replace(stream, source=source or stream.source).rows
  rows = {name: column[step] for name, column in rows(chunk.indices).items()}
  make = jax.jit(make_batch, static_argnums=4)
  task_id, weights = chunk.task_ids[step], chunk.weights[step]
  return make(rows, stream.tables, task_id, weights, stream.prepare)


def _assert_equal(a, b):
  assert set(a) == set(b)
  for name in a:
    assert a[name].dtype == b[name].dtype
    np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize('name', _MAKERS)
def test_resident_and_host_batches_are_bit_identical(name):
  stream = _make(name)
  chunk = stream.chunk(2, 9)
  for step in (0, 3, 8):
    resident = _gathered_on_device(stream, chunk, step)
    _assert_equal(resident, _gathered_on_host(stream, chunk, step))
    items = _gathered_on_host(stream, chunk, step, _items(_TRAIN))
    _assert_equal(resident, items)


@pytest.mark.parametrize('name', _MAKERS)
def test_host_source_makes_the_same_stream(name):
  a, b = _make(name), _make(name, train=_items(_TRAIN), test=_items(_TEST))
  assert a.resident and not b.resident
  assert a.plan.digest == b.plan.digest
  chunk = b.chunk(4, 2)
  rows = b.rows(chunk.indices)
  assert rows['inputs'].shape == (2, 5, *_SHAPE)
  for column, wanted in a.rows(chunk.indices).items():
    np.testing.assert_array_equal(rows[column], wanted)
    assert rows[column].dtype == wanted.dtype
  assert a.evaluation is not None and b.evaluation is not None
  np.testing.assert_array_equal(a.evaluation.indices, b.evaluation.indices)


def test_memory_mapped_arrays_are_a_host_source(tmp_path):
  np.save(tmp_path / 'inputs.npy', _TRAIN['inputs'])
  mapped = np.load(tmp_path / 'inputs.npy', mmap_mode='r')
  stream = _make(train={'inputs': mapped, 'labels': _TRAIN['labels']})
  assert not stream.resident and _make().resident
  rows = stream.rows(stream.chunk(0, 2).indices)
  assert type(rows['inputs']) is np.ndarray
  wanted = _make().rows(stream.chunk(0, 2).indices)
  np.testing.assert_array_equal(rows['inputs'], wanted['inputs'])


def test_size_decides_what_is_resident():
  size = sum(column.nbytes for column in _TRAIN.values())
  assert is_resident(_TRAIN, size) and not is_resident(_TRAIN, size - 1)


def test_grain_sources():
  grain = pytest.importorskip('grain')
  pairs = zip(_TRAIN['inputs'], _TRAIN['labels'], strict=True)
  examples = [{'image': x, 'label': int(y)} for x, y in pairs]
  items = grain.MapDataset.source(examples)
  stream = _make(train=ItemSource(items, name='mine'))
  rows = stream.rows(stream.chunk(0, 2).indices)
  wanted = _make().rows(stream.chunk(0, 2).indices)
  np.testing.assert_array_equal(rows['inputs'], wanted['inputs'])


def test_example_fn_and_arrays():
  flip = lambda e: {'inputs': e['image'][::-1], 'labels': 5 - e['label']}
  source = _items(_TRAIN, example_fn=flip)
  arrays = source.arrays()
  np.testing.assert_array_equal(arrays['inputs'], _TRAIN['inputs'][:, ::-1])
  np.testing.assert_array_equal(source.labels, 5 - _TRAIN['labels'])
  assert arrays['labels'].dtype == np.int32


def test_items_of_different_shapes():
  items = [{'image': np.ones(i + 1), 'label': 0} for i in range(3)]
  with pytest.raises(ValueError, match='differ in the shape of inputs'):
    ItemSource(items).rows(np.arange(3))
  with pytest.raises(ValueError, match='differ in the shape of inputs'):
    ItemSource(items).arrays()


def test_task_defaults_to_the_phase():
  prepare = lambda rows, tables, task_id: dict(rows)
  rows = {'inputs': jnp.ones((3, 2)), 'labels': jnp.zeros(3, jnp.int32)}
  batch = make_batch(rows, {}, jnp.int32(4), jnp.ones(3), prepare)
  assert batch['task'].tolist() == [4, 4, 4]
  assert batch['task'].dtype == jnp.int32
  assert 'task' not in rows and 'weight' not in rows


def test_digest():
  assert _make().digest == _make().digest
  changed = _data()
  changed['inputs'][0, 0, 0] ^= 1
  other_scale = lambda inputs: inputs
  variants = [
    *(_make(name) for name in _MAKERS),
    _make(seed=1),
    _make(order_seed=1),
    _make(batch_size=4),
    _make(epochs=2),
    _make(num_tasks=2),
    _make(num_tasks=2, scenario='domain'),
    _make(train=changed),
    _make(train=_items(_TRAIN)),
    _make(train=_items(_TRAIN, name='other')),
    _make(transform=None),
    _make(transform=other_scale),
    _make(transform=functools.partial(_scale)),
    _make('permuted', permutation_seed=1),
    _make('rotated', max_angle=91),
    _make().hold(3),
    joint(_make()),
    replicate([_make(), _make()]),
    replicate([_make(), _make(seed=1)]),
  ]
  assert len({stream.digest for stream in variants}) == len(variants)


def test_digest_sees_values_that_a_transform_encloses():
  def scaled(by):
    return lambda inputs: inputs * by

  assert _make(transform=scaled(2)).digest == _make(transform=scaled(2)).digest
  assert _make(transform=scaled(2)).digest != _make(transform=scaled(3)).digest


@pytest.mark.parametrize('name', _MAKERS)
def test_batch_spec(name):
  stream = _make(name)
  batch = _gathered_on_device(stream, stream.chunk(0, 1), 0)
  for spec in (stream.batch_spec, replicate([stream, stream]).batch_spec):
    assert set(spec) == set(batch)
    for column, leaf in spec.items():
      assert (leaf.shape, leaf.dtype) == (
        batch[column].shape,
        batch[column].dtype,
      )


def test_hold():
  held = _make().hold(4)
  assert held.num_steps == ENDLESS and held.boundaries == ()
  assert (held.chunk(3, 100).task_ids == 0).all()
  assert held.evaluation is not None and held.num_tasks == 3


# Replicated streams.


@pytest.mark.parametrize('name', _MAKERS)
def test_replicate_stacks(name):
  extra = 'permutation_seed' if name == 'permuted' else 'order_seed'
  vary = lambda s: {'seed': s} | ({extra: s} if name != 'rotated' else {})
  streams = [_make(name, **vary(s)) for s in range(3)]
  stack = replicate(streams)
  assert stack.replicas == 3 and streams[0].replicas is None
  assert stack.boundaries == streams[0].boundaries
  chunk = stack.chunk(2, 6)
  assert chunk.indices.shape == chunk.weights.shape == (6, 3, 5)
  rows = stack.rows(chunk.indices)
  assert rows['inputs'].shape == (6, 3, 5, *_SHAPE)
  for s, stream in enumerate(streams):
    single = stream.chunk(2, 6)
    np.testing.assert_array_equal(chunk.task_ids, single.task_ids)
    np.testing.assert_array_equal(chunk.indices[:, s], single.indices)
    np.testing.assert_array_equal(chunk.weights[:, s], single.weights)
    table = jax.tree.map(lambda leaf, s=s: leaf[s], stack.tables)
    jax.tree.map(np.testing.assert_array_equal, table, stream.tables)
    assert stack.evaluation is not None and stream.evaluation is not None
    sets, single = stack.evaluation, stream.evaluation
    assert sets.num_tasks == 3
    for task in range(3):
      pick = lambda e, at: np.sort(e.indices[at][e.weights[at] > 0])
      np.testing.assert_array_equal(pick(sets, (s, task)), pick(single, task))


def test_replicate_with_unequal_tasks():
  """Class orders may give tasks of different sizes."""
  train = {'inputs': np.zeros((30, 2)), 'labels': np.repeat([0, 1], [10, 20])}
  make = lambda order: split(
    train,
    num_tasks=2,
    batch_size=4,
    steps_per_task=6,
    class_order=order,
    test=train,
  )
  streams = [make([0, 1]), make([1, 0])]
  stack = replicate(streams)
  indices, weights = stack.task_batches(0, 4)
  assert indices.shape == weights.shape == (5, 2, 4)
  assert weights.sum(axis=(0, 2)).tolist() == [10, 20]
  assert stack.evaluation is not None
  assert stack.evaluation.weights.sum(axis=2).tolist() == [[10, 20], [20, 10]]


def test_replicate_holds():
  streams = [_make(seed=s) for s in range(2)]
  a = replicate(streams).hold(5).chunk(3, 9)
  b = replicate([stream.hold(5) for stream in streams]).chunk(3, 9)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
  'other, message',
  [
    (lambda: _make(batch_size=4), 'batch size'),
    (lambda: _make(epochs=2), 'steps per task'),
    (lambda: _make(train=_data(seed=5)), 'source'),
    (lambda: _make(test=_data(20, seed=5)), 'test sets'),
    (lambda: _make(test=None), 'test sets'),
    (lambda: _make(transform=None), 'transform'),
    (lambda: _make(scenario='task'), 'number of|shapes of tables'),
    (lambda: _make(scenario='domain'), 'number of classes'),
  ],
)
def test_replicate_names_what_differs(other, message):
  with pytest.raises(ValueError, match=f'differ in .*({message})'):
    replicate([_make(), other()])


def test_replicate_needs_single_streams():
  with pytest.raises(ValueError, match='at least one'):
    replicate([])
  with pytest.raises(ValueError, match='single plans'):
    replicate([replicate([_make()])])


# Joint streams.


@pytest.mark.parametrize('copy_bytes', [0, 2**27])
@pytest.mark.parametrize('name', _MAKERS)
def test_joint_visits_every_row_of_every_task(name, copy_bytes, monkeypatch):
  monkeypatch.setattr('lrcl.streams._joint._COPY_BYTES', copy_bytes)
  stream = _make(name, order_seed=1) if name == 'class' else _make(name)
  mixed = joint(stream)
  assert mixed.num_steps == stream.num_steps and mixed.boundaries == ()
  assert mixed.evaluation is stream.evaluation
  assert mixed.num_tasks == 3 and (mixed.chunk(0, 12).task_ids == 0).all()
  shared = name in ('permuted', 'rotated')
  assert mixed.resident == (copy_bytes > 0 or not shared)

  def collect(s):
    found = []
    indices, weights = zip(*_all_batches(s), strict=True)
    for i, (index, weight) in enumerate(zip(indices, weights, strict=True)):
      task = np.int32(0 if s is mixed else _task_of(s, i))
      rows = s.rows(index)
      batch = jax.jit(make_batch, static_argnums=4)(
        rows, s.tables, task, weight, s.prepare
      )
      for at in np.flatnonzero(weight):
        key = (int(batch['task'][at]), int(batch['labels'][at]))
        mask = batch.get('class_mask', np.zeros((len(weight), 1)))
        content = np.asarray(batch['inputs'][at]).tobytes()
        found.append((*key, content, np.asarray(mask[at]).tobytes()))
    return sorted(found)

  assert collect(mixed) == collect(stream)


def _all_batches(stream):
  tasks = [0] if stream.boundaries == () else range(stream.num_tasks)
  for task in tasks:
    yield from zip(*stream.task_batches(task, 8), strict=True)


def _task_of(stream, batch):
  counts = [len(stream.task_batches(t, 8)[0]) for t in range(stream.num_tasks)]
  return int(np.searchsorted(np.cumsum(counts), batch, side='right'))


def test_joint_epoch_is_the_multiset_of_all_tasks():
  mixed = joint(_make(epochs=3))
  chunk = mixed.chunk(0, 10)
  seen = chunk.indices[chunk.weights > 0]
  np.testing.assert_array_equal(np.sort(seen), np.arange(48))


def test_joint_of_permuted_mixes_tasks_within_a_batch():
  mixed = joint(_make('permuted', batch_size=16))
  batch = _gathered_on_device(mixed, mixed.chunk(0, 1), 0)
  assert len(set(np.asarray(batch['task']).tolist())) == 3


def test_joint_seeds_and_replicas():
  a, b = joint(_make()), joint(_make(), seed=7)
  assert not np.array_equal(a.chunk(0, 4).indices, b.chunk(0, 4).indices)
  stack = replicate([a, b])
  assert stack.chunk(0, 4).indices.shape == (4, 2, 5)
  with pytest.raises(ValueError, match='single stream'):
    joint(replicate([_make()]))
  with pytest.raises(ValueError, match='has no end'):
    joint(_make().hold(3))
  permuted_ = [joint(_make('permuted', seed=s)) for s in range(2)]
  assert replicate(permuted_).replicas == 2


# Iterators.


class _Counter:
  """Batches that are a function of the step."""

  def __init__(self, rows=2):
    self.step, self.seeks, self.rows = 0, 0, rows

  def seek(self, step):
    self.step, self.seeks = step, self.seeks + 1

  def __next__(self):
    self.step += 1
    column = np.full((self.rows, 3), self.step - 1, np.uint8)
    return {'inputs': column, 'labels': column[:, 0].astype(np.int64) % 2}


def _iterate(batches, **kwargs):
  defaults = dict(num_steps=90, batch_size=2, num_classes=2, name='counter')
  return from_iterator(batches, **defaults | kwargs)


def test_iterator_reads_on_and_seeks_when_resumed():
  batches = _Counter()
  stream = _iterate(batches, transform=_scale)
  for start in (0, 5, 10):
    rows = stream.rows(stream.chunk(start, 5).indices)
    assert rows['inputs'].shape == (5, 2, 3)
    assert rows['inputs'][:, 0, 0].tolist() == list(range(start, start + 5))
    assert rows['labels'].dtype == np.int32
  assert batches.seeks == 1
  resumed = _iterate(_Counter())
  rows = resumed.rows(resumed.chunk(10, 5).indices)
  assert rows['inputs'][:, 0, 0].tolist() == list(range(10, 15))
  batch = _gathered_on_host(stream, stream.chunk(7, 1), 0)
  assert batch['inputs'].dtype == jnp.float32
  assert not stream.resident and stream.boundaries == ()
  assert stream.batch_spec['inputs'].shape == (2, 3)
  rows = stream.rows(stream.chunk(15, 1).indices)
  assert (rows['inputs'] == 15).all()
  assert stream.hold(4).chunk(50, 1).task_ids.tolist() == [0]


def test_iterator_digest_and_errors():
  assert _iterate(_Counter()).digest == _iterate(_Counter()).digest
  assert _iterate(_Counter()).digest != _iterate(_Counter(), name='b').digest
  stream = _iterate(_Counter(rows=3))
  with pytest.raises(ValueError, match=r'step 0 has \[3\] rows, not 2'):
    stream.rows(stream.chunk(0, 1).indices)
  with pytest.raises(ValueError, match='go past the end'):
    stream.chunk(89, 2)
  with pytest.raises(ValueError, match='random access'):
    stream.task_batches(0, 2)
  for refuse in (joint, lambda s: replicate([s])):
    with pytest.raises(ValueError, match='single'):
      refuse(stream)


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 30), steps=st.integers(1, 8))
def test_any_chunk_of_a_stack_is_its_single_steps(start, steps):
  stack = replicate([_make(seed=s, epochs=4) for s in range(2)])
  whole = stack.chunk(start, steps)
  for i in range(steps):
    single = stack.chunk(start + i, 1)
    np.testing.assert_array_equal(whole.indices[i], single.indices[0])
    np.testing.assert_array_equal(whole.weights[i], single.weights[0])


def test_import_is_light():
  code = (
    'import sys, lrcl.streams; heavy = {"tensorflow_datasets", "grain", '
    '"sklearn", "tensorflow"} & set(sys.modules); assert not heavy, heavy'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
