from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import claims, hierarchy_expansion, images
from experiments.papers import hierarchy_expansion_runs as runs
from lrcl import schedules

SEEDS = (3, 5)


def _cell(steps_per_task=6):
  data = images.load_images('digits', train_rows=300, test_rows=60)
  _, parents = runs.TREES['digits, three levels']
  return runs.Cell(data, parents, steps_per_task)


def _accuracy(shift):
  near = np.array([[0.90, 0.7], [0.91, 0.72], [0.89, 0.71]])
  return near + np.array(shift)


def test_a_level_counts_where_pseudo_labels_are_above_by_more_than_chance():
  found = {
    'ER': _accuracy([0.0, 0.0]),
    'ER, ancestors': _accuracy([0.9, 0.9]),
    'pseudo-labels': _accuracy([0.05, -0.01]),
  }
  parts = hierarchy_expansion.judge(found)
  assert parts == {'level 0': True, 'level 1': False}
  assert claims.decide(list(parts.values())) == 'partly reproduced'


def test_trees_are_those_of_the_classes():
  tree = _cell().tree
  assert tree.level_mask.sum(1).tolist() == [2, 4, 10]
  odd = tree.node[0] == tree.node[0][1]
  assert np.flatnonzero(odd).tolist() == [1, 3, 5, 7, 9]
  high = tree.node[1] == tree.node[1][7]
  assert np.flatnonzero(high).tolist() == [5, 7, 9]
  # Each level of Fashion-MNIST is a refinement, or this would be an error.
  _, parents = runs.TREES['Fashion-MNIST, three levels']
  fashion = runs.Cell(_cell().images, parents, 6).tree
  groups = [np.flatnonzero(fashion.node[1] == n).tolist() for n in range(2, 6)]
  assert groups == [[0, 2, 3, 4, 6], [1], [5, 7, 9], [8]]
  assert fashion.level_mask.sum(1).tolist() == [2, 4, 10]


def test_each_number_is_its_schedule():
  task, steps, found = 10, 30, []
  for kind in range(3):
    setting = {'rate': jnp.float32(0.4), 'schedule': jnp.float32(kind)}
    rate = jax.jit(jax.vmap(runs.make_rate(setting, task, steps)))
    found.append(np.asarray(rate(jnp.arange(steps))))
  constant, warm, infinite = found
  np.testing.assert_allclose(constant, 0.4)
  assert (warm[2::task] == warm.max()).all() and (warm[::task] < 0.1).all()
  wanted = schedules.infinite_schedule(
    0.4, 0.2, 2, 4, anneal_start=28, anneal_steps=2
  )
  np.testing.assert_allclose(infinite, jax.vmap(wanted)(jnp.arange(steps)))
  assert infinite[20] == np.float32(0.2) and infinite[-1] < 0.1


def test_a_gate_that_nothing_passes_leaves_the_ancestors():
  """One program: what differs is what is taken for a label."""
  cell = _cell(steps_per_task=30)
  trials = runs.make_trials(cell, runs.Program('labels'), SEEDS)
  settings = {
    'rate': np.full(3, 0.2),
    'threshold': np.array([0.0, 1.5, 2.0]),
    'schedule': np.zeros(3),
  }
  found = trials.sweep(settings, SEEDS)
  assert found.accuracy.shape == (3, 2, 7, 1, 3)
  np.testing.assert_array_equal(found.loss[1], found.loss[2])
  # Until a second level has been seen there is nothing to choose from.
  np.testing.assert_array_equal(found.loss[0, :, 0], found.loss[1, :, 0])
  assert (found.loss[0, :, 1:] != found.loss[1, :, 1:]).any()
  levels = hierarchy_expansion.levels_of(found)
  assert levels.shape == (3, 2, 3)
  fall = hierarchy_expansion.lost(found)
  want = found.accuracy[..., 0, 0, 0] - found.accuracy[..., -1, 0, 0]
  np.testing.assert_array_equal(fall, want)


def test_nearest_means_are_of_all_rows_whose_node_is_known():
  cell = _cell()
  stream, tree = cell.stream(SEEDS), cell.tree
  found = runs.nearest_mean(cell, SEEDS)
  assert found.shape == (2, 3)
  inputs, labels = cell.images.train['inputs'], cell.images.train['labels']
  plan: Any = stream.plan
  pools = plan.plans[1].pools
  for level, tasks in enumerate([range(7), range(1, 7), range(3, 7)]):
    rows = np.concatenate([pools[task] for task in tasks])
    node = tree.node[level][labels[rows]]
    nodes = np.unique(node)
    means = np.stack([inputs[rows][node == n].mean(0) for n in nodes])
    test = cell.images.test['inputs']
    distance = ((test[:, None] - means) ** 2).sum(-1)
    right = (
      nodes[distance.argmin(1)] == tree.node[level][cell.images.test['labels']]
    )
    assert found[1, level] == right.mean()
  np.testing.assert_allclose(runs.chance(cell, SEEDS), [[0.5, 0.25, 0.1]] * 2)
