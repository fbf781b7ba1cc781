"""Views, curricula of rows and of classes, few shots, random labels."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lrcl.streams import (
  ENDLESS,
  add_noise,
  class_distances,
  class_order_score,
  cyclical_curriculum,
  cyclical_sizes,
  design_class_order,
  few_shot,
  instance_test,
  joint,
  make_batch,
  occlude,
  repeat_views,
  replicate,
  shuffled_labels,
  split,
)


def _data(classes=6, rows=60, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(rows) % classes)
  inputs = rng.normal(size=(rows, 3)).astype(np.float32)
  return {'inputs': inputs, 'labels': labels}


def _make(stream, task, indices, weights, sets=None):
  source = stream if sets is None else sets
  return make_batch(
    source.rows(indices),
    jax.tree.map(jnp.asarray, source.tables),
    jnp.int32(task),
    weights,
    source.prepare,
  )


def _batch(stream, step):
  chunk = stream.chunk(step, 1)
  return _make(stream, chunk.task_ids[0], chunk.indices[0], chunk.weights[0])


def _tests(stream, task):
  sets = stream.evaluation
  return _make(stream, task, sets.indices[task], sets.weights[task], sets)


# Views


@pytest.mark.parametrize('repeats', [1, 2, 4])
def test_views_lengthen_the_interval_between_recalls(repeats):
  stream = split(_data(), num_tasks=1, batch_size=4, epochs=8)
  views = repeat_views(stream, repeats)
  assert views.num_steps == stream.num_steps == 120
  chunk = views.chunk(0, 120)
  grouped = chunk.indices.reshape(120, -1, repeats)
  assert (grouped == grouped[..., :1]).all(), 'views of a row stand together'
  times = {row: [] for row in range(60)}
  for step, row in itertools.product(range(120), range(grouped.shape[1])):
    times[grouped[step, row, 0]].append(step)
  assert all(len(found) == 8 // repeats for found in times.values())
  gaps = [np.diff(found).mean() for found in times.values() if len(found) > 1]
  assert abs(np.mean(gaps) - 15 * repeats) < 3
  batch = _batch(views, 3)
  np.testing.assert_array_equal(batch['row'], chunk.indices[3])
  if repeats == 1:
    np.testing.assert_array_equal(chunk.indices, stream.chunk(0, 120).indices)


def test_views_keep_the_tasks_and_can_be_stacked():
  streams = [
    repeat_views(split(_data(), num_tasks=3, batch_size=4, seed=s), 2)
    for s in range(2)
  ]
  assert streams[0].boundaries == (5, 10)
  assert streams[0].plan.digest != streams[1].plan.digest
  stack = replicate(streams)
  assert stack.chunk(3, 4).indices.shape == (4, 2, 4)
  held = streams[0].hold(7)
  assert held.num_steps == ENDLESS and (held.chunk(5, 9).task_ids == 1).all()
  rows = np.flatnonzero(_data()['labels'] // 2 == 1)
  indices, weights = streams[0].task_batches(1, 4)
  assert sorted(indices[weights > 0]) == rows.tolist()


def test_views_that_do_not_fit():
  stream = split(_data(), num_tasks=3, batch_size=4)
  with pytest.raises(ValueError, match='repeats is 3; it must divide'):
    repeat_views(stream, 3)
  with pytest.raises(ValueError, match='not repeated yet'):
    repeat_views(repeat_views(stream, 2), 2)


# Orders of classes


def test_distances_are_those_of_the_means():
  rng = np.random.default_rng(0)
  labels = np.arange(40) % 5
  rows = rng.normal(size=(40, 7)) + 1
  found = class_distances(rows, labels)
  means = [rows[labels == c].mean(0) for c in range(5)]
  slow = np.zeros((5, 5))
  for a, b in itertools.permutations(range(5), 2):
    cosine = means[a] @ means[b] / math.hypot(*means[a]) / math.hypot(*means[b])
    slow[a, b] = 1 - cosine
  slow /= slow.sum(1, keepdims=True)
  np.testing.assert_allclose(found.between, slow, rtol=1e-9)
  spread = np.array([np.var(row) for row in slow])
  np.testing.assert_allclose(found.spread, spread / spread.sum(), rtol=1e-9)


def _slow_score(between, spread, order):
  """The scorer of the reference, line by line."""
  score, counted, current = 1 - spread[order[0]], 1, order[0]
  for i, following in enumerate(order[1:]):
    score += 1 - between[current][order[len(order) - (i + 1)]]
    score += between[current][following]
    counted, current = counted + 2, order[i + 1]
    if counted >= len(order):
      break
  return score


@pytest.mark.parametrize('classes', [2, 3, 4, 5])
def test_the_score_is_that_of_the_reference(classes):
  rng = np.random.default_rng(classes)
  rows, labels = rng.normal(size=(30, 4)) + 1, np.arange(30) % classes
  distances = class_distances(rows, labels)
  for order in itertools.permutations(range(classes)):
    slow = _slow_score(distances.between, distances.spread, order)
    assert class_order_score(distances, order) == pytest.approx(slow, rel=1e-12)


def test_the_designed_order_scores_above_the_usual():
  rng = np.random.default_rng(3)
  above = []
  for _ in range(30):
    rows, labels = rng.normal(size=(50, 4)) + 1, np.arange(50) % 5
    distances = class_distances(rows, labels)
    order = design_class_order(distances)
    assert sorted(order) == list(range(5))
    assert order[0] == np.argmin(distances.spread)
    scores = [
      class_order_score(distances, other)
      for other in itertools.permutations(range(5))
    ]
    ours = class_order_score(distances, order)
    above.append(np.mean(np.array(scores) <= ours + 1e-12))
  assert np.mean(above) > 0.8, 'an order at random is above half of them'


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: class_distances([[1.0]], [0]), 'at least two'),
    (lambda: class_distances([[1.0], [2.0]], [0, 2]), 'without a gap'),
    (lambda: class_distances([[0.0], [2.0]], [0, 1]), 'class 0 is 0'),
    (lambda: class_distances([1.0, 2.0], [0, 1]), r'must be \[rows, d\]'),
    (
      lambda: class_order_score(class_distances(np.eye(2) + 1, [0, 1]), [0, 0]),
      'each of the 2 classes once',
    ),
    (
      lambda: design_class_order(class_distances(np.eye(2) + 1, [0, 1]), 2),
      'first is 2; there are 2 classes',
    ),
  ],
)
def test_orders_that_do_not_fit(call, message):
  with pytest.raises(ValueError, match=message):
    call()


# Curricula of rows


def test_cyclical_sizes_of_ten_epochs():
  sizes = cyclical_sizes(10)
  assert sizes[:9] == (0.25, 0.5, 1.0, 0.5, 0.25, 0.5, 1.0, 0.5, 0.25)
  assert len(sizes) == 19
  assert sum(sizes) >= 10 > sum(sizes[:-1])


def _curriculum(scores, sizes=(0.5, 0.25, 1.0), **kwargs):
  whole = joint(split(_data(), num_tasks=2, batch_size=4, epochs=9))
  return cyclical_curriculum(whole, scores, sizes=sizes, **kwargs)


def test_an_epoch_has_its_share_of_different_rows():
  stream = _curriculum(np.ones(60))
  lengths = [8, 4, 15] * 5
  start = 0
  for turn, length in enumerate(lengths):
    chunk = stream.chunk(start, length)
    real = chunk.indices[chunk.weights > 0]
    assert len(real) == len(set(real)) == (30, 15, 60)[turn % 3]
    start += length
  parts = [stream.chunk(step, 1).indices for step in range(27)]
  np.testing.assert_array_equal(np.concatenate(parts), stream.chunk(0, 27)[1])
  assert stream.boundaries == () and stream.num_steps == 9 * 16


def test_rows_come_by_their_scores():
  scores = np.where(np.arange(60) < 6, 9.0, 1.0)
  firsts = [
    _curriculum(scores, sizes=(1 / 60,), seed=seed).chunk(0, 1).indices[0, 0]
    for seed in range(2000)
  ]
  pool = joint(split(_data(), num_tasks=2, batch_size=4, epochs=9)).plan.pools
  easy = np.isin(firsts, pool[0][:6]).sum()
  assert stats.binomtest(int(easy), 2000, 54 / 108).pvalue > 1e-3
  # Within an epoch no place is for rows of high scores.
  halves = np.zeros(2)
  for seed in range(60):
    epoch = _curriculum(scores, sizes=(1.0,), seed=seed).chunk(0, 15).indices
    halves += np.isin(epoch, pool[0][:6]).reshape(2, 30).sum(1)
  assert stats.binomtest(int(halves[0]), 360, 0.5).pvalue > 1e-3


@pytest.mark.parametrize(
  'scores, kwargs, message',
  [
    (np.ones(59), {}, 'must be 60 numbers'),
    (np.zeros(60), {}, 'above 0'),
    (np.full(60, np.inf), {}, 'finite'),
    (np.ones(60), {'sizes': (0.5, 1.5)}, 'at most 1'),
    (np.ones(60), {'sizes': ()}, 'at most 1'),
  ],
)
def test_curricula_that_do_not_fit(scores, kwargs, message):
  with pytest.raises(ValueError, match=message):
    _curriculum(scores, **kwargs)
  with pytest.raises(ValueError, match='one task'):
    cyclical_curriculum(split(_data(), num_tasks=2, batch_size=4), scores)


# Few shots


def _supports(stream):
  """For each set its classes of the data, its labels and its rows."""
  labels = _data(classes=12, rows=240)['labels']
  found = []
  for pool in stream.plan.pools:
    task = len(found)
    own = stream.tables['label'][task][labels[pool]]
    found.append((set(labels[pool]), own.tolist(), pool))
  return found


_few = functools.partial(
  few_shot, _data(classes=12, rows=240), ways=3, shots=2, queries=5
)


def test_new_classes_follow_on_with_their_labels():
  sets = _supports(_few(num_sets=4))
  for i, (classes, labels, _) in enumerate(sets):
    assert len(classes) == 3
    assert sorted(labels) == sorted(2 * [3 * i, 3 * i + 1, 3 * i + 2])
  assert len(set.union(*(classes for classes, _, _ in sets))) == 12


def test_new_samples_keep_their_classes():
  stream = _few(num_sets=4, change_interval=4)
  sets = _supports(stream)
  assert all(classes == sets[0][0] for classes, _, _ in sets)
  rows = np.concatenate([pool for _, _, pool in sets])
  assert len(rows) == len(set(rows)) == 24
  assert stream.num_classes == 3


def test_classes_change_after_the_interval_and_may_overwrite():
  stream = _few(num_sets=5, change_interval=2, overwrite=True)
  sets = _supports(stream)
  groups = [sets[i][0] for i in range(5)]
  assert groups[0] == groups[1] != groups[2] == groups[3] != groups[4]
  assert all(set(labels) == {0, 1, 2} for _, labels, _ in sets)
  assert stream.num_classes == 3 and stream.tables['label'].max() == 2


def test_queries_are_in_no_support_set():
  stream = _few(num_sets=4, change_interval=2)
  support = np.concatenate(stream.plan.pools)
  labels = _data(classes=12, rows=240)['labels']
  for task in range(4):
    rows = stream.evaluation.indices[task]
    assert not np.isin(rows, support).any() and len(set(rows)) == 15
    batch = _tests(stream, task)
    wanted = stream.tables['label'][task][labels[rows]]
    np.testing.assert_array_equal(batch['labels'], wanted)
    assert wanted.min() >= 0
  batch = _batch(stream, 3)
  indices = stream.chunk(3, 1).indices[0]
  wanted = stream.tables['label'][3][labels[indices]]
  np.testing.assert_array_equal(batch['labels'], wanted)


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'num_sets': 5}, 'need 15 classes; the data has 12'),
    ({'num_sets': 4, 'queries': 19}, 'has 20 rows; its sets and queries need'),
    ({'num_sets': 0}, 'num_sets'),
  ],
)
def test_few_shots_that_do_not_fit(kwargs, message):
  with pytest.raises(ValueError, match=message):
    _few(**kwargs)


def test_instances_are_rows_of_one_class():
  data = _data(classes=3, rows=90)
  stream = instance_test(data, num_sets=3, ways=5, label=1, steps_per_set=4)
  own = {tuple(row) for row in data['inputs'][data['labels'] == 1]}
  assert {tuple(row) for row in stream.source['inputs']} <= own
  assert sorted(stream.source['labels']) == list(range(15))
  assert stream.num_steps == 12 and stream.num_tasks == 3
  shown = _tests(stream, 2)
  np.testing.assert_array_equal(
    shown['inputs'], stream.source['inputs'][shown['labels']]
  )


def test_instances_may_be_corrupted():
  data = _data(classes=3, rows=90)
  images = {**data, 'inputs': np.ones((90, 8, 8), np.float32)}
  make = functools.partial(instance_test, images, num_sets=2, ways=5)
  hidden = make(corrupt=functools.partial(occlude, share=0.25))
  shown = hidden.evaluation.source['inputs']
  assert ((shown == 0).sum((1, 2)) == 16).all()
  assert (hidden.source['inputs'] == 1).all()
  noisy = make(corrupt=functools.partial(add_noise, scale=0.5))
  error = noisy.evaluation.source['inputs'] - 1
  assert error.dtype == np.float32 and 0.4 < error.std() < 0.6
  flat = occlude(np.ones((5, 20)), np.random.default_rng(0), share=0.5)
  assert (np.diff(np.flatnonzero(flat[0] == 0)) == 1).all()
  assert ((flat == 0).sum(1) == 10).all()


def test_too_few_instances():
  with pytest.raises(ValueError, match='class 0 has 20 rows; 5 sets of 5'):
    instance_test(_data(3, 60), num_sets=5, ways=5, label=0)


# Random labels


def test_random_labels_depend_on_task_and_row_only():
  stream = shuffled_labels(_data(), batch_size=60, steps_per_task=3)
  first, again, other = (_batch(stream, step) for step in (0, 2, 3))
  sort = lambda step, batch: np.asarray(batch['labels'])[
    np.argsort(stream.chunk(step, 1).indices[0])
  ]
  np.testing.assert_array_equal(sort(0, first), sort(2, again))
  assert (sort(0, first) != sort(3, other)).mean() > 0.5
  relabelled = shuffled_labels(
    _data(), batch_size=60, steps_per_task=3, label_seed=1
  )
  assert (sort(0, _batch(relabelled, 0)) != sort(0, first)).any()


def test_random_labels_are_uniform():
  stream = shuffled_labels(
    _data(), batch_size=60, steps_per_task=1, num_classes=4
  )
  labels = np.concatenate([_batch(stream, s)['labels'] for s in range(30)])
  assert stats.chisquare(np.bincount(labels, minlength=4)).pvalue > 1e-3
  assert stream.num_classes == 4 and stream.num_tasks == ENDLESS
