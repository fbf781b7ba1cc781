"""Labels on every level are those of a walk down the tree, node by node."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import losses, methods, streams
from tests.methods import problem
from tests.methods.memory_test import spy

PARENTS = (-1, -1, 0, 0, 0, 1, 2, 2, 3, 4, 4, 5)
"""Two, four and six nodes, not all with siblings."""


def ancestors(node, parents):
  """From the root down to the node itself."""
  above = [] if parents[node] < 0 else ancestors(parents[node], parents)
  return [*above, node]


def walk(logits, label, parents, seen, threshold):
  """The labels of one row, one after another, in float64."""
  path, confidence = ancestors(label, parents), 1.0
  while True:
    children = [i for i, p in enumerate(parents) if p == path[-1]]
    if not children or not all(seen[i] for i in children):
      return path
    odds = np.exp([np.float64(logits[i] - logits.max()) for i in children])
    confidence *= odds.max() / odds.sum()
    if confidence < threshold:
      return path
    path.append(children[int(np.argmax(odds))])


def random_tree(rng, levels):
  """Parents in a shuffled order of nodes, so that no order is relied on."""
  parents, last = [-1, -1], [0, 1]
  for _ in range(levels - 1):
    new = []
    for node in last:
      for _ in range(rng.integers(1, 4)):
        new.append(len(parents))
        parents.append(node)
    last = new
  order = rng.permutation(len(parents))
  shuffled = np.empty(len(parents), int)
  for node, parent in enumerate(parents):
    shuffled[order[node]] = -1 if parent < 0 else order[parent]
  return shuffled.tolist()


@pytest.mark.parametrize('threshold', [0.0, 0.45, 0.8, 2.0])
@pytest.mark.parametrize('seed', range(3))
def test_labels_are_those_of_a_walk_down_the_tree(seed, threshold):
  rng = np.random.default_rng(seed)
  parents = random_tree(rng, levels := 2 + seed)
  nodes, rows = len(parents), 64
  logits = rng.normal(size=(rows, nodes)).astype(np.float32) * 2
  labels, seen = rng.integers(0, nodes, rows), rng.random(nodes) < 0.8
  got = jax.jit(
    lambda logits, labels, seen, threshold: methods.pseudo_labels(
      logits, labels, parents, seen, threshold=threshold
    )
  )(logits, labels, seen, threshold)
  want = np.full((rows, levels), -1)
  for row in range(rows):
    path = walk(logits[row], labels[row], parents, seen, threshold)
    want[row, : len(path)] = path
  np.testing.assert_array_equal(got, want)
  longer = (want >= 0).sum(1) > [len(ancestors(i, parents)) for i in labels]
  assert longer.any() == (threshold <= 1)


def test_trees_of_streams_fit():
  tree = streams.label_tree([[0, 0, 0, 1, 1], [0, 0, 1, 2, 2]], 5)
  logits = jnp.zeros((5, tree.num_nodes))
  seen = jnp.ones(tree.num_nodes, bool)
  paths = methods.pseudo_labels(logits, tree.node[-1], tree.parent, seen)
  np.testing.assert_array_equal(paths, tree.node.T)


def shown(tx, state, params, memory, batch):
  """The memory that the inner link sees, and the state after it."""
  extras = problem.extra_args(params, batch)
  extras |= {'memory': memory, 'memory_ready': True}
  grads = extras['grad_fn'](params, batch)
  state = tx.update(grads, state, params, **extras)[1]
  return state.inner_state[0], state


def test_rows_come_once_on_each_level():
  """A tree of a root with two children; the model is that of the battery."""
  params, memory = problem.init_params(), problem.make_batch(3, 16, 2)
  tx = methods.relabel_memory(spy(), problem.apply_fn, [-1, 0, 0])
  step = jax.jit(functools.partial(shown, tx))
  batch = problem.make_batch(5)
  batch['labels'] = jnp.array([1, 1, 1, 1, 1, 1, 1, 2], jnp.int32)
  hidden = batch | {'weight': batch['weight'].at[-1].set(0.0)}
  first, state = step(tx.init(params), params, memory, hidden)
  second, state = step(state, params, memory, batch)
  third, _ = step(state, params, memory, batch)
  logits = np.asarray(problem.apply_fn(params, memory['inputs'])[0])
  labels = np.asarray(memory['labels'])
  child = np.where(labels == 0, 1 + np.argmax(logits[:, 1:], 1), labels)
  assert {0, 1, 2} == set(labels.tolist()) and {1, 2} == set(child[labels == 0])
  weight = np.asarray(memory['weight'])
  for got, ready in ((first, False), (second, False), (third, True)):
    # Padding is not seen, and neither is a batch before the step is over.
    known = (labels > 0) | ready
    want = np.concatenate([weight, weight * known])
    np.testing.assert_array_equal(got['weight'], want)
    on = want > 0
    both = np.concatenate([np.zeros(16, int), child])
    np.testing.assert_array_equal(np.asarray(got['labels'])[on], both[on])
  mask = [[True, False, False]] * 16 + [[False, True, True]] * 16
  np.testing.assert_array_equal(third['class_mask'], mask)
  assert np.asarray(first['class_mask'])[np.arange(32), first['labels']].all()
  np.testing.assert_array_equal(third['inputs'][16:], memory['inputs'])
  assert third['labels'].dtype == memory['labels'].dtype


def test_the_gradient_is_that_of_the_mean_over_all_labels():
  rng = np.random.default_rng(0)
  nodes = len(PARENTS)
  weights = jnp.asarray(rng.normal(size=(4, nodes)), jnp.float32)
  memory = {
    'inputs': jnp.asarray(rng.normal(size=(9, 4)), jnp.float32),
    'labels': jnp.asarray(rng.integers(0, nodes, 9), jnp.int32),
  }
  model = lambda params, inputs, **_: (inputs @ params, ())

  def grad_fn(params, batch):
    def loss(params):
      logits = model(params, batch['inputs'])[0]
      each = losses.cross_entropy(logits, batch)
      return jnp.sum(each * batch['weight']) / jnp.sum(batch['weight'])

    return jax.grad(loss)(params)

  tx = methods.relabel_memory(
    methods.add_memory_gradient(0.5), model, PARENTS, threshold=0.6
  )
  state: Any = tx.init(weights)
  state = state._replace(seen=jnp.ones(nodes, bool))
  batch = {'labels': jnp.zeros(1, jnp.int32)}
  got, _ = jax.jit(
    lambda params: tx.update(
      jnp.zeros_like(params),
      state,
      params,
      grad_fn=grad_fn,
      batch=batch,
      memory=memory,
      memory_ready=True,
    )
  )(weights)

  inputs = np.asarray(memory['inputs'], np.float64)
  logits = inputs @ np.asarray(weights, np.float64)
  depth = np.array([len(ancestors(i, PARENTS)) for i in range(nodes)])
  total, count = np.zeros((4, nodes)), 0
  for row, label in enumerate(memory['labels'].tolist()):
    for node in walk(logits[row], label, PARENTS, np.ones(nodes), 0.6):
      odds = np.where(depth == depth[node], np.exp(logits[row]), 0)
      total += np.outer(inputs[row], odds / odds.sum() - np.eye(nodes)[node])
      count += 1
  assert count > depth[memory['labels']].sum()
  np.testing.assert_allclose(got, 0.5 * total / count, rtol=1e-4, atol=1e-6)


def test_errors():
  make = functools.partial(
    methods.relabel_memory, optax.identity(), problem.apply_fn
  )
  wrongs: Any = ([], [[-1]], [0.5], [-1, 2], [-2, 0])
  for wrong in wrongs:
    with pytest.raises(ValueError, match='relabel_memory: parents is'):
      make(wrong)
  with pytest.raises(ValueError, match=r'\[1, 0\]; a node is above itself'):
    make([1, 0])
  with pytest.raises(ValueError, match=r'threshold is -1.*must be >= 0'):
    make([-1, 0], threshold=-1.0)
  params, batch = problem.init_params(), problem.make_batch()
  tx, zeros = make([-1, 0, 0]), problem.init_params()
  run = lambda tx, params, **args: tx.update(
    zeros, tx.init(params), params, **args
  )
  with pytest.raises(ValueError, match='params is None'):
    tx.update(zeros, tx.init(zeros), None, batch=batch, memory=batch)
  with pytest.raises(ValueError, match='the memory has no labels'):
    run(tx, params, batch=batch, memory={'inputs': batch['inputs']})
  with pytest.raises(
    ValueError, match=r'pseudo_labels.*but there are 2 parents'
  ):
    run(make([-1, 0]), params, batch=batch, memory=batch)
  for name in ('batch', 'memory'):
    args = {k: batch for k in ('batch', 'memory') if k != name}
    with pytest.raises(TypeError, match=name):
      run(tx, params, **args)
