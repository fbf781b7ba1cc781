"""Scenarios whose tasks share classes, and mixtures of tasks."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl.streams import (
  ENDLESS,
  blurry,
  hierarchical,
  joint,
  label_tree,
  make_batch,
  mixture,
  permuted,
  reoccurring,
  replicate,
  scole,
  split,
  unbalanced_weights,
)


def _data(classes=6, rows=60, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(rows) % classes)
  return {'inputs': rng.normal(size=(rows, 3)), 'labels': labels}


def _batch(stream, step):
  chunk = stream.chunk(step, 1)
  rows = stream.rows(chunk.indices[0])
  return make_batch(
    rows,
    jax.tree.map(jnp.asarray, stream.tables),
    jnp.int32(chunk.task_ids[0]),
    chunk.weights[0],
    stream.prepare,
  )


# SCoLe


def test_scole_has_a_few_classes_in_every_task_and_all_in_the_end():
  data = _data()
  stream = scole(data, batch_size=5, steps_per_task=4, num_tasks=200)
  assert stream.num_steps == 800 and stream.num_tasks == 200
  chunk = stream.chunk(0, 800)
  labels = data['labels'][chunk.indices].reshape(200, 20)
  met = collections.Counter(tuple(np.unique(row)) for row in labels)
  assert all(len(pair) == 2 for pair in met)
  assert len(met) == 15, 'every pair of 6 classes occurs'
  np.testing.assert_array_equal(chunk.task_ids, np.arange(800) // 4)
  assert stream.evaluation is None


def test_scole_evaluates_every_class_by_itself():
  data, test = _data(), _data(rows=33, seed=1)
  stream = scole(data, batch_size=5, steps_per_task=4, test=test)
  sets = stream.evaluation
  assert stream.num_steps == ENDLESS and sets.num_tasks == 6
  for label in range(6):
    rows = sets.indices[label][sets.weights[label] > 0]
    assert sorted(rows) == np.flatnonzero(test['labels'] == label).tolist()


def test_scole_orders_cycles_and_removes():
  data = _data()
  make = lambda **kwargs: scole(
    data, batch_size=5, steps_per_task=2, num_tasks=60, **kwargs
  )
  classes = lambda stream: [
    set(data['labels'][stream.chunk(2 * task, 2).indices].ravel())
    for task in range(60)
  ]
  cycled = classes(make(cycle=(4, 1, 2, 0)))
  assert all(found <= {1, 4} for found in cycled[::2])
  assert all(found <= {0, 2} for found in cycled[1::2])
  removed = classes(make(removed=(0, 1, 2), removed_from=30))
  assert set.union(*removed[:30]) == set(range(6))
  assert set.union(*removed[30:]) == {3, 4, 5}


def test_unbalanced_weights_fall_by_the_slope():
  found = unbalanced_weights(4, slope=0.2, exponent=2.0, seed=None)
  wanted = np.array([1.0, 0.8, 0.6, 0.4]) ** 2
  np.testing.assert_allclose(found, wanted / wanted.sum())
  shuffled = unbalanced_weights(4, slope=0.2, exponent=2.0, seed=3)
  np.testing.assert_allclose(sorted(shuffled), sorted(found))


def test_scole_seeds_can_be_stacked():
  streams = [
    scole(_data(), batch_size=5, steps_per_task=4, draw_seed=s, seed=s)
    for s in range(3)
  ]
  stack = replicate(streams)
  chunk = stack.chunk(10**8, 6)
  assert chunk.indices.shape == (6, 3, 5)
  for i, stream in enumerate(streams):
    np.testing.assert_array_equal(
      chunk.indices[:, i], stream.chunk(10**8, 6).indices
    )


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'classes_per_task': 7}, '7 of 6 classes'),
    ({'batch_size': 30}, 'batch_size is 30'),
    ({'class_weights': (1, 1)}, 'must be 6 numbers above 0'),
    ({'class_weights': (1, 1, 1, 1, 1, 0)}, 'must be 6 numbers above 0'),
    ({'cycle': (0, 0, 1, 2)}, 'tasks of 2 different ones'),
    ({'cycle': (0, 6)}, 'classes from 0 to 5'),
    ({'cycle': (0, 1), 'randomness': 2.0}, 'randomness is 2.0'),
    ({'removed': (0,)}, 'together'),
    ({'removed': (0, 9), 'removed_from': 3}, 'classes run from 0 to 5'),
    ({'removed': range(5), 'removed_from': 3}, '1 are left, fewer than'),
  ],
)
def test_scole_names_what_does_not_fit(kwargs, message):
  with pytest.raises(ValueError, match=message):
    scole(_data(), **{'batch_size': 5, 'steps_per_task': 2, **kwargs})


def test_unbalanced_weights_that_vanish_are_named():
  with pytest.raises(ValueError, match=r'must be below 0\.111111'):
    unbalanced_weights(10, slope=0.2)


# i-Blurry and Si-Blurry


def _slow_si_blurry(labels, classes, tasks, n, m, seed):
  """The sampler of the reference, written out; percentages as there."""
  rng = np.random.default_rng(seed)
  perm = list(rng.permutation(classes))
  n_d = (classes * n // 100) // tasks * tasks
  n_b = (classes - n_d) // tasks * tasks
  groups = []
  for part, count in ((perm[:n_d], n_d), (perm[n_d : n_d + n_b], n_b)):
    drawn = rng.integers(0, max(count, 1), tasks - 1)
    cuts = [0, *sorted(drawn), count]
    groups.append([part[cuts[i] : cuts[i + 1]] for i in range(tasks)])
  disjoint, blurred = (
    [[r for r, c in enumerate(labels) if c in group] for group in side]
    for side in groups
  )
  moved = sum(map(len, blurred)) * m // 100
  cuts = [0, *sorted(rng.integers(0, max(moved, 1), tasks - 1)), moved]
  pool = []
  for i in range(tasks):
    take = blurred[i][: cuts[i + 1] - cuts[i]]
    blurred[i] = blurred[i][len(take) :]
    pool += take
  pool = list(rng.permutation(pool))
  for i in range(tasks):
    back = pool[: cuts[i + 1] - cuts[i]]
    pool = pool[len(back) :]
    blurred[i] = blurred[i] + back
  return [
    sorted(map(int, a + b)) for a, b in zip(disjoint, blurred, strict=True)
  ]


@pytest.mark.parametrize('seed', range(12))
@pytest.mark.parametrize('n, m', [(50, 10), (20, 60), (0, 100)])
def test_si_blurry_is_the_sampler_of_the_reference(seed, n, m):
  data = _data(classes=10, rows=300)
  slow = _slow_si_blurry(data['labels'], 10, 4, n, m, seed)
  if min(map(len, slow)) < 1:
    with pytest.raises(ValueError, match='fewer than a batch'):
      blurry(
        data,
        num_tasks=4,
        batch_size=1,
        disjoint=n / 100,
        blurred=m / 100,
        split_seed=seed,
      )
    return
  stream = blurry(
    data,
    num_tasks=4,
    batch_size=1,
    disjoint=n / 100,
    blurred=m / 100,
    split_seed=seed,
  )
  assert [pool.tolist() for pool in stream.plan.pools] == slow


@pytest.mark.parametrize('stochastic', [True, False])
@pytest.mark.parametrize('seed', range(5))
def test_a_blurry_stream_has_every_row_once(stochastic, seed):
  data = _data(classes=8, rows=160)
  stream = blurry(
    data,
    num_tasks=4,
    batch_size=1,
    stochastic=stochastic,
    split_seed=(1, 2, 4, 5, 6)[seed],
  )
  assert sorted(np.concatenate(stream.plan.pools)) == list(range(160))
  trained = stream.chunk(0, stream.num_steps)
  assert sorted(trained.indices[trained.weights > 0]) == list(range(160))


def test_i_blurry_deals_out_evenly():
  data = _data(classes=8, rows=160)
  stream = blurry(
    data, num_tasks=2, batch_size=1, blurred=0.3, stochastic=False
  )
  counts = np.stack(
    [
      np.bincount(data['labels'][pool], minlength=8)
      for pool in stream.plan.pools
    ]
  )
  home = counts.max(0) == 20
  assert home.sum() == 4, 'half of the classes are in one task each'
  # Two blurred classes of 20 rows start in a task; 12 of their rows leave it.
  assert counts.sum(1).tolist() == [80, 80]
  assert (counts[:, ~home] > 0).all()


def test_the_ends_of_i_blurry_are_disjoint_and_iid():
  data = _data(classes=8, rows=800)
  make = lambda **kwargs: blurry(
    data, num_tasks=4, batch_size=1, stochastic=False, **kwargs
  )
  disjoint = make(disjoint=1.0)
  classes = [set(data['labels'][pool]) for pool in disjoint.plan.pools]
  assert all(len(found) == 2 for found in classes)
  assert sum(map(len, classes)) == len(set.union(*classes)) == 8
  iid = make(disjoint=0.0, blurred=1.0)
  for pool in iid.plan.pools:
    counts = np.bincount(data['labels'][pool], minlength=8)
    assert len(pool) == 200 and counts.min() > 10


def test_blurry_labels_are_global_and_evaluation_is_by_class():
  data, test = _data(classes=8, rows=160), _data(classes=8, rows=40, seed=1)
  stream = blurry(data, num_tasks=2, batch_size=4, test=test, split_seed=1)
  batch = _batch(stream, 3)
  indices = stream.chunk(3, 1).indices[0]
  np.testing.assert_array_equal(batch['labels'], data['labels'][indices])
  assert stream.num_tasks == 2 and stream.evaluation.num_tasks == 8


# Hierarchical labels


def test_label_tree_of_three_levels():
  tree = label_tree([[0, 0, 0, 1], [0, 0, 1, 2]], 4)
  assert tree.node.tolist() == [[0, 0, 0, 1], [2, 2, 3, 4], [5, 6, 7, 8]]
  assert tree.level.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
  assert tree.parent.tolist() == [-1, -1, 0, 0, 1, 2, 2, 3, 4]
  assert np.flatnonzero(tree.children[2]).tolist() == [5, 6]
  assert tree.level_mask.sum(1).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
  'parents, message',
  [
    ([0, 0, 1], r'must be \[levels, 4\]'),
    ([0, 0, 2, 2], 'without a gap'),
    ([[0, 0, 1, 1], [0, 1, 1, 2]], 'in several groups of level 0'),
  ],
)
def test_label_trees_that_are_none(parents, message):
  with pytest.raises(ValueError, match=message):
    label_tree(parents, 4)


_PARENTS = [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2]]


def test_hierarchy_expands_group_after_group():
  data = _data()
  stream = hierarchical(data, parents=_PARENTS, batch_size=3)
  tree = label_tree(_PARENTS, 6)
  assert stream.num_tasks == 1 + 2 + 3 and stream.num_classes == tree.num_nodes
  assert sorted(np.concatenate(stream.plan.pools)) == list(range(60))
  levels = [0, 1, 1, 2, 2, 2]
  for task, pool in enumerate(stream.plan.pools):
    step = stream.plan.phases[task].start
    batch = _batch(stream, step)
    level = levels[task]
    fine = data['labels'][stream.chunk(step, 1).indices[0]]
    np.testing.assert_array_equal(batch['labels'], tree.node[level][fine])
    np.testing.assert_array_equal(
      batch['class_mask'], [tree.level_mask[level]] * 3
    )
    if level:
      above = np.unique(tree.node[level - 1][data['labels'][pool]])
      assert len(above) == 1, 'a task expands one group'
  classes = np.unique(data['labels'][stream.plan.pools[0]])
  assert len(classes) == 6


def test_dual_labels_repeat_the_rows():
  stream = hierarchical(_data(), parents=_PARENTS, batch_size=3, dual=True)
  rows = np.concatenate(stream.plan.pools)
  assert (np.bincount(rows) == 3).all(), 'once on each level'


def test_hierarchy_evaluates_every_level():
  test = _data(rows=18, seed=1)
  stream = hierarchical(_data(), parents=_PARENTS, batch_size=3, test=test)
  sets, tree = stream.evaluation, label_tree(_PARENTS, 6)
  assert sets.num_tasks == 3
  for level in range(3):
    batch = make_batch(
      sets.rows(sets.indices[level]),
      sets.tables,
      jnp.int32(level),
      sets.weights[level],
      sets.prepare,
    )
    wanted = tree.node[level][test['labels'][sets.indices[level]]]
    np.testing.assert_array_equal(batch['labels'], wanted)


# Mixtures and environments


def test_a_mixture_says_the_task_of_every_row():
  data = _data()
  stream = split(data, num_tasks=3, batch_size=8, steps_per_task=50)
  mixed = mixture(stream, [0.5, 0.0, 0.5])
  batch = _batch(mixed, 120)
  indices = mixed.chunk(120, 1).indices[0]
  np.testing.assert_array_equal(batch['task'], data['labels'][indices] // 2)
  assert set(np.asarray(batch['task'])) == {0, 2}
  assert (mixed.chunk(0, 150).task_ids == 0).all() and not mixed.boundaries


def test_tasks_that_return_keep_their_own_inputs():
  data = _data()
  stream = permuted(data, num_tasks=4, batch_size=16, steps_per_task=5)
  returning = reoccurring(stream, share=0.5)
  assert returning.boundaries == range(5, 16, 5)
  chunk = returning.chunk(18, 1)
  batch = _batch(returning, 18)
  orders = stream.tables['features']
  tasks, rows = np.divmod(chunk.indices[0], 60)
  np.testing.assert_array_equal(batch['task'], tasks)
  assert len(set(tasks)) > 1
  for i in range(16):
    wanted = data['inputs'][rows[i]].astype(np.float32)[orders[tasks[i]]]
    np.testing.assert_allclose(batch['inputs'][i], wanted, rtol=1e-6)


def test_none_that_return_is_the_task_itself():
  stream = split(_data(), num_tasks=3, batch_size=8, steps_per_task=50)
  alone = reoccurring(stream, law='none', share=0.5, num_steps=400)
  labels = _data()['labels'][alone.chunk(0, 400).indices] // 2
  now = np.minimum(np.arange(400) // 50, 2)
  np.testing.assert_array_equal(labels, np.repeat(now[:, None], 8, 1))
  np.testing.assert_array_equal(alone.chunk(0, 400).task_ids, now)
  assert alone.boundaries == range(50, 101, 50)
  assert alone.plan.next_boundary(120) == 400


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda s: mixture(s, [1.0, 1.0]), '2 weights for 3 tasks'),
    (lambda s: mixture(s, [0.0, 0.0, 0.0]), 'not all 0'),
    (lambda s: mixture(s, [1.0, -1.0, 1.0]), 'not negative'),
    (lambda s: mixture(joint(joint(s)), [1.0]), '1 weights for 3 tasks'),
    (lambda s: reoccurring(s, law='oblivion'), 'law is'),
    (lambda s: reoccurring(mixture(s, [1, 1, 1])), 'listed tasks'),
  ],
)
def test_mixtures_that_do_not_fit(make, message):
  stream = split(_data(), num_tasks=3, batch_size=8, steps_per_task=50)
  with pytest.raises(ValueError, match=message):
    make(stream)
