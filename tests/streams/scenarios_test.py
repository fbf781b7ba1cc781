import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from lrcl.streams import (
  Stream,
  digits,
  make_batch,
  permuted,
  rotated,
  split,
)


def _data(classes=6, rows=60, features=(4, 3), seed=0, dtype=np.uint8):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(rows) % classes)
  inputs = rng.integers(0, 256, (rows, *features)).astype(dtype)
  return {'inputs': inputs, 'labels': labels}


def _batch(stream: Stream, step: int):
  """As a resident stream's batch is made: gathered on the device."""

  @jax.jit
  def make(data, tables, task_id, indices, weights):
    rows = jax.tree.map(lambda column: column[indices], data)
    return make_batch(rows, tables, task_id, weights, stream.prepare)

  chunk = stream.chunk(step, 1)
  return make(stream.source, stream.tables, *(part[0] for part in chunk))


def _test_batch(stream: Stream, task: int):
  sets = stream.evaluation
  assert sets is not None
  return jax.jit(make_batch, static_argnums=4)(
    sets.rows(sets.indices[task]),
    sets.tables,
    jnp.int32(task),
    sets.weights[task],
    sets.prepare,
  )


def _steps(stream):
  return range(0, stream.num_steps, 3)


def test_class_scenario_has_global_labels():
  data = _data()
  stream = split(data, num_tasks=3, batch_size=4)
  assert stream.num_classes == 6 and stream.num_tasks == 3
  assert stream.boundaries == (5, 10) and stream.num_steps == 15
  for step in _steps(stream):
    batch = _batch(stream, step)
    task = step // 5
    assert set(batch) == {'inputs', 'labels', 'task', 'weight'}
    assert set(np.asarray(batch['labels'])) <= {2 * task, 2 * task + 1}
    assert (batch['task'] == task).all()
    assert batch['inputs'].dtype == jnp.uint8
    assert batch['labels'].dtype == batch['task'].dtype == jnp.int32
    assert batch['weight'].dtype == jnp.float32
    indices = stream.chunk(step, 1).indices[0]
    np.testing.assert_array_equal(batch['inputs'], data['inputs'][indices])
    np.testing.assert_array_equal(batch['labels'], data['labels'][indices])


def test_task_scenario_masks_the_classes_of_its_task():
  stream = split(
    _data(), num_tasks=3, batch_size=4, scenario='task', order_seed=3
  )
  whole = split(_data(), num_tasks=3, batch_size=4, order_seed=3)
  for step in _steps(stream):
    batch = _batch(stream, step)
    np.testing.assert_array_equal(
      batch['labels'], _batch(whole, step)['labels']
    )
    mask = np.asarray(batch['class_mask'])
    assert mask.shape == (4, 6) and mask.dtype == bool
    assert (mask.sum(axis=1) == 2).all()
    assert mask[np.arange(4), batch['labels']].all()
    assert (mask == mask[0]).all()


def test_domain_scenario_labels_are_positions():
  order = [5, 0, 3, 1, 2, 4]
  stream = split(
    _data(), num_tasks=2, batch_size=4, scenario='domain', class_order=order
  )
  assert stream.num_classes == 3
  for step in _steps(stream):
    batch, task = _batch(stream, step), int(stream.chunk(step, 1).task_ids[0])
    raw = _data()['labels'][stream.chunk(step, 1).indices[0]]
    wanted = [order[3 * task : 3 * task + 3].index(label) for label in raw]
    assert np.asarray(batch['labels']).tolist() == wanted
    assert (batch['task'] == task).all()


def test_class_order_decides_which_classes_come_when():
  first = lambda **kwargs: set(
    np.asarray(
      _batch(split(_data(), num_tasks=3, batch_size=20, **kwargs), 0)['labels']
    )
  )
  assert first() == {0, 1}
  assert first(class_order=[4, 2, 0, 1, 5, 3]) == {2, 4}
  drawn = np.random.default_rng(7).permutation(6)
  assert first(order_seed=7, seed=1) == first(order_seed=7) == set(drawn[:2])


def test_class_order_may_leave_classes_out():
  stream = split(_data(), num_tasks=2, batch_size=4, class_order=[5, 1])
  assert stream.num_classes == 6
  labels = _data()['labels'][stream.chunk(0, stream.num_steps).indices]
  assert set(labels[:3].ravel()) == {5} and set(labels[3:].ravel()) == {1}


def test_epochs_and_steps_per_task():
  data = _data()
  assert split(data, num_tasks=3, batch_size=6, epochs=2).num_steps == 24
  stream = split(data, num_tasks=3, batch_size=6, steps_per_task=5)
  assert stream.boundaries == (5, 10)
  got = stream.chunk(0, 15).weights.sum(axis=1)
  assert got[:5].tolist() == [6, 6, 6, 2, 6]
  longer = split(data, num_tasks=3, batch_size=6, epochs=2).chunk(0, 5)
  np.testing.assert_array_equal(stream.chunk(0, 5).indices, longer.indices)


def test_evaluation_has_one_shape_and_each_row_once():
  test = _data(rows=25, seed=1)
  stream = split(_data(), num_tasks=3, batch_size=4, test=test)
  sets = stream.evaluation
  assert sets is not None and sets.num_tasks == 3
  assert sets.indices.shape == sets.weights.shape == (3, 9)
  assert sets.weights.sum() == 25
  seen = sets.indices[sets.weights > 0]
  np.testing.assert_array_equal(np.sort(seen), np.arange(25))
  for task in range(3):
    batch = _test_batch(stream, task)
    labels = np.asarray(batch['labels'])
    assert set(labels) == {2 * task, 2 * task + 1}
    assert (batch['task'] == task).all()
    wanted = test['labels'][sets.indices[task]]
    np.testing.assert_array_equal(labels, wanted)


def test_transform_gets_the_rows_in_their_own_dtype():
  seen = []

  def transform(inputs):
    seen.append((inputs.dtype, inputs.shape))
    return inputs.reshape(inputs.shape[0], -1).astype(jnp.float32) / 255

  for make in (split, permuted):
    stream = make(_data(), num_tasks=2, batch_size=5, transform=transform)
    assert _batch(stream, 0)['inputs'].shape == (5, 12)
    assert seen[-1] == (jnp.uint8, (5, 4, 3))


def test_permuted_against_numpy():
  data = _data()
  stream = permuted(
    data, num_tasks=3, batch_size=8, test=_data(rows=20, seed=2)
  )
  assert stream.num_classes == 6 and stream.boundaries == (8, 16)
  orders = stream.tables['features']
  assert orders.shape == (3, 12) and orders.dtype == np.int32
  np.testing.assert_array_equal(orders[0], np.arange(12))
  np.testing.assert_array_equal(np.sort(orders, axis=1), [np.arange(12)] * 3)
  assert not np.array_equal(orders[1], orders[2])
  for step in _steps(stream):
    batch, (ids, indices, _) = _batch(stream, step), stream.chunk(step, 1)
    rows = data['inputs'][indices[0]].reshape(8, -1)
    wanted = rows[:, orders[ids[0]]].reshape(8, 4, 3)
    np.testing.assert_array_equal(batch['inputs'], wanted)
    assert (batch['task'] == ids[0]).all()
  test = _data(rows=20, seed=2)['inputs'].reshape(20, -1)
  got = _test_batch(stream, 2)['inputs'].reshape(20, -1)
  np.testing.assert_array_equal(got, test[:, orders[2]])


def test_permutation_seed_is_apart_from_seed():
  make = lambda **kwargs: permuted(_data(), num_tasks=3, batch_size=8, **kwargs)
  table = lambda stream: stream.tables['features']
  np.testing.assert_array_equal(table(make()), table(make(seed=1)))
  assert not np.array_equal(table(make()), table(make(permutation_seed=1)))


@pytest.mark.parametrize('shape', [(8, 8), (7, 9), (6, 5, 3)])
def test_rotated_against_scipy(shape):
  data = _data(features=shape, dtype=np.float32)
  angles = [0.0, 33.3, 90.0, -120.0]
  stream = rotated(data, num_tasks=4, batch_size=6, angles=angles)
  for task in range(4):
    step = task * 10
    batch, chunk = _batch(stream, step), stream.chunk(step, 1)
    for row, index in zip(batch['inputs'], chunk.indices[0], strict=True):
      wanted = ndimage.rotate(
        data['inputs'][index],
        angles[task],
        reshape=False,
        order=1,
        mode='grid-constant',
      )
      np.testing.assert_allclose(row, wanted, atol=1e-2)


def test_rotated_by_nothing_is_exact_and_by_a_right_angle_too():
  data = _data(features=(8, 8))
  stream = rotated(data, num_tasks=2, batch_size=6, max_angle=90.0)
  first, last = _batch(stream, 0), _batch(stream, 10)
  rows = lambda step: data['inputs'][stream.chunk(step, 1).indices[0]]
  np.testing.assert_array_equal(first['inputs'], rows(0))
  np.testing.assert_array_equal(last['inputs'], np.rot90(rows(10), 1, (1, 2)))
  assert first['inputs'].dtype == jnp.float32


def test_rotated_takes_flat_images():
  data = _data(features=(8, 8))
  flat = data | {'inputs': data['inputs'].reshape(60, 64)}
  a = rotated(data, num_tasks=3, batch_size=6)
  b = rotated(flat, num_tasks=3, batch_size=6, image_shape=(8, 8))
  got = _batch(b, 15)['inputs']
  assert got.shape == (6, 64)
  np.testing.assert_array_equal(got, _batch(a, 15)['inputs'].reshape(6, 64))


def test_digits():
  train, test = digits()
  assert train['inputs'].shape == (1402, 64) and test['inputs'].shape == (
    395,
    64,
  )
  assert (
    train['inputs'].dtype == np.float32 and train['labels'].dtype == np.int32
  )
  assert train['inputs'].min() == 0 and train['inputs'].max() == 1
  again, _ = digits()
  np.testing.assert_array_equal(train['inputs'], again['inputs'])
  other, _ = digits(seed=1)
  assert not np.array_equal(train['inputs'], other['inputs'])
  with pytest.raises(ValueError, match='test_fraction'):
    digits(test_fraction=1.0)


def test_digits_without_scikit_learn(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'sklearn', None)
  with pytest.raises(ImportError, match='pip install scikit-learn'):
    digits()


_DATA = _data()
_BAD = {
  'num_classes': (dict(num_classes=5), 'run from 0 to 5; with 5 classes'),
  'divide': (dict(num_tasks=4), '6 classes do not divide into 4 tasks'),
  'batch': (dict(batch_size=21), 'task 0 has only 20'),
  'scenario': (dict(scenario='blurry'), "scenario is 'blurry'"),
  'order': (dict(class_order=[0, 0, 1]), 'must name different'),
  'order range': (dict(class_order=[0, 1, 6]), 'from 0 to 5'),
  'both orders': (dict(class_order=[0, 1, 2], order_seed=1), 'not both'),
  'absent class': (dict(num_classes=9), 'task 2 has no training rows'),
  'steps': (dict(steps_per_task=0), 'steps_per_task is 0'),
  'epochs': (dict(epochs=0), 'epochs is 0'),
  'tasks': (dict(num_tasks=0), 'num_tasks is 0'),
  'type': (dict(train=3), 'train is int'),
  'missing': (dict(train={'inputs': np.ones(3)}), "lacks .'labels'."),
  'lengths': (
    dict(train=_DATA | {'inputs': _DATA['inputs'][:-1]}),
    'equally long',
  ),
  'empty': (dict(train={k: v[:0] for k, v in _DATA.items()}), 'not empty'),
  'float labels': (dict(train=_DATA | {'labels': np.ones(60)}), 'float64'),
  'negative': (dict(train=_DATA | {'labels': _DATA['labels'] - 1}), 'from -1'),
  'test labels': (
    dict(test=_DATA | {'labels': _DATA['labels'] + 1}),
    'labels of test run from 1 to 6',
  ),
  'no test rows': (
    dict(test=_DATA | {'labels': np.zeros(60, int)}),
    'task 1 has no test rows',
  ),
}


@pytest.mark.parametrize('name', _BAD)
def test_errors_of_split(name):
  changes, message = _BAD[name]
  arguments = dict(train=_DATA, num_tasks=3, batch_size=4) | changes
  with pytest.raises(ValueError, match=message):
    split(arguments.pop('train'), **arguments)


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: rotated(_DATA, num_tasks=2, batch_size=4, angles=[0]), '1 angles'),
    (
      lambda: rotated(_DATA, num_tasks=2, batch_size=4, image_shape=(5, 5)),
      'image_shape',
    ),
    (lambda: permuted(_DATA, num_tasks=2, batch_size=61), 'only 60'),
    (lambda: permuted(_DATA, num_tasks=0, batch_size=6), 'num_tasks is 0'),
  ],
)
def test_errors_of_the_others(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_a_task_split_covers_all_rows():
  stream = split(_data(), num_tasks=3, batch_size=4, order_seed=1)
  pools = [stream.task_batches(t, 7) for t in range(3)]
  seen = itertools.chain.from_iterable(i[w > 0].tolist() for i, w in pools)
  assert sorted(seen) == list(range(60))
