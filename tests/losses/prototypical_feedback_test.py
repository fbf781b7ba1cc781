"""Pairs of near classes are mixed most, and labels as much as inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from lrcl import losses, methods
from lrcl.losses import _prototypical_feedback as feedback
from tests.methods import problem

CLASSES, ROWS = 5, 64


def prototypes(seed=0, seen=CLASSES):
  points = np.random.default_rng(seed).normal(size=(CLASSES, 3))
  points /= np.linalg.norm(points, axis=1, keepdims=True)
  points[seen:] = 0
  return jnp.asarray(points, jnp.float32)


def memory(seed=0):
  """One-hot inputs by class, so that a mix can be read from them."""
  labels = np.random.default_rng(seed).integers(0, CLASSES, ROWS)
  return {
    'inputs': jnp.eye(CLASSES)[labels],
    'labels': jnp.asarray(labels, jnp.int32),
    'weight': jnp.ones(ROWS),
    'task': jnp.arange(ROWS),
  }


def shares(points):
  """The share of each pair, slowly."""
  first, second = np.triu_indices(CLASSES, 1)
  points = np.asarray(points, np.float64)
  seen = (points != 0).any(1)
  valid = seen[first] & seen[second]
  distance = np.linalg.norm(points[first] - points[second], axis=1)
  out = np.zeros(len(first))
  out[valid] = special.softmax(1 / distance[valid])
  return np.stack([first, second], 1), out


@functools.partial(jax.jit, static_argnums=1)
def counts_of(points, count, key):
  return feedback.pair_counts(points, count, key)[1]


@pytest.mark.parametrize('seen', [2, 3, 5])
@pytest.mark.parametrize('count', [1, 7, 16, 33])
def test_counts_sum_exactly_and_are_within_one_of_their_share(seen, count):
  for seed in range(10):
    points = prototypes(seed, seen)
    found = np.asarray(counts_of(points, count, jax.random.key(seed)))
    _, share = shares(points)
    assert found.sum() == count and (found >= 0).all()
    rounded = np.round(share * count)
    assert (np.abs(found - rounded) <= 1).all()
    assert (found[share == 0] == 0).all()
    # All corrections go one way.
    assert np.abs(found - rounded).sum() == abs(count - rounded.sum())


def test_without_a_pair_there_is_nothing_to_count():
  for seen in (0, 1):
    found = counts_of(prototypes(0, seen), 8, jax.random.key(0))
    assert (np.asarray(found) == 0).all()
  same = jnp.ones((CLASSES, 3))  # all distances 0
  assert int(counts_of(same, 16, jax.random.key(0)).sum()) == 16


@jax.jit
def mixed(rows, points, key):
  return losses.prototypical_feedback(rows, points, key)


def test_inputs_and_labels_are_mixed_alike_and_convexly():
  rows, found = memory(), mixed(memory(), prototypes(), jax.random.key(0))
  one_hot = lambda x: jax.nn.one_hot(x, CLASSES)
  mix = np.asarray(found['mix'])[:, None]
  want = (1 - mix) * one_hot(found['labels'])
  want += mix * one_hot(found['mixed_labels'])
  np.testing.assert_allclose(found['inputs'], want, atol=1e-6)
  assert ((mix >= 0) & (mix <= 1)).all()
  assert set(found) == {*rows, 'mixed_labels', 'mix'}
  origin = np.asarray(found['task'])  # which row is x
  np.testing.assert_array_equal(found['labels'], rows['labels'][origin])
  np.testing.assert_array_equal(origin[:48], np.arange(48))


def test_pairs_come_as_often_as_they_should():
  points = prototypes(3)
  keys = jax.random.split(jax.random.key(1), 200)
  found = jax.jit(jax.vmap(lambda k: mixed(memory(), points, k)))(keys)
  low = np.minimum(found['labels'], found['mixed_labels'])[:, 48:].ravel()
  high = np.maximum(found['labels'], found['mixed_labels'])[:, 48:].ravel()
  pairs, share = shares(points)
  counts = np.array([((low == i) & (high == j)).sum() for i, j in pairs])
  assert counts.sum() == 200 * 16
  # Round first: the expectation is the rounded share, plus the corrections.
  rounded = np.round(share * 16)
  missing = 16 - rounded.sum()
  open_to = np.ones(len(share)) if missing > 0 else (rounded > 0)
  expected = 200 * (rounded + missing * open_to / open_to.sum())
  assert counts[np.argmax(share)] == counts.max()
  some = expected > 5
  np.testing.assert_allclose(counts, expected, atol=4 * np.sqrt(200))
  assert (
    stats.chisquare(
      counts[some], expected[some] * counts[some].sum() / expected[some].sum()
    ).pvalue
    > 1e-3
  )


def test_how_often_and_how_much_is_mixed():
  keys = jax.random.split(jax.random.key(2), 300)
  found = jax.jit(jax.vmap(lambda k: mixed(memory(), prototypes(), k)))(keys)
  base, paired = np.split(np.asarray(found['mix']), [48], axis=1)
  for part in (base, paired):
    assert abs((part > 0).mean() - 0.6) < 0.02
  assert base.max() <= 0.6
  uniform, beta = base[base > 0], paired[paired > 0]
  assert stats.kstest(uniform, stats.uniform(0, 0.6).cdf).pvalue > 1e-3
  assert stats.kstest(beta, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_what_is_missing_is_left_out():
  rows = memory()
  rows['weight'] = (rows['labels'] != 1).astype(jnp.float32)  # padding
  found = mixed(rows, prototypes(), jax.random.key(0))
  pairs = slice(48, None)
  assert (np.asarray(found['weight'])[pairs] == 1).all()
  assert not (np.asarray(found['labels'])[pairs] == 1).any()
  empty = {**rows, 'weight': jnp.zeros(ROWS)}
  found = mixed(empty, jnp.zeros((CLASSES, 3)), jax.random.key(0))
  assert (np.asarray(found['weight']) == 0).all()
  assert np.isfinite(found['inputs']).all()
  np.testing.assert_array_equal(found['task'], rows['task'])  # as they are


def test_mixed_labels_are_soft_labels():
  logits = jax.random.normal(jax.random.key(0), (4, 3))
  batch = {
    'labels': jnp.array([0, 1, 2, 0]),
    'mixed_labels': jnp.array([1, 1, 0, 2]),
    'mix': jnp.array([0.0, 0.3, 0.5, 1.0]),
  }
  soft = (1 - batch['mix'][:, None]) * jax.nn.one_hot(batch['labels'], 3)
  soft += batch['mix'][:, None] * jax.nn.one_hot(batch['mixed_labels'], 3)
  want = -(soft * jax.nn.log_softmax(logits)).sum(1)
  loss_fn = losses.mixed_labels()
  np.testing.assert_allclose(loss_fn(logits, batch), want, rtol=1e-5)
  plain = {'labels': batch['labels']}
  np.testing.assert_array_equal(
    loss_fn(logits, plain), losses.cross_entropy(logits, plain)
  )


def test_enters_through_map_memory():
  params, batch = problem.init_params(), problem.make_batch()
  seen = []

  def mix(memory, params, key):
    projections = problem.apply_fn(params, memory['inputs'])[0]
    points = losses.class_prototypes(
      projections, memory['labels'], problem.CLASSES, memory['weight']
    )
    rows = losses.prototypical_feedback(memory, points, key)
    seen.append(rows['mix'])
    return rows

  tx = methods.with_memory(
    methods.map_memory(methods.add_memory_gradient(), mix, seed=0),
    12,
    batch,
    8,
  )
  state = tx.init(params)
  for step in range(3):
    extras = problem.extra_args(params, problem.make_batch(step))
    grads = extras['grad_fn'](params, extras['batch'])
    updates, state = tx.update(grads, state, params, **extras)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(updates))
  assert isinstance(state.inner_state, methods.MapMemoryState)
  assert (np.asarray(seen[1]) != np.asarray(seen[2])).any()  # another key


@pytest.mark.parametrize(
  'options,message',
  [
    ({'base_share': 1.5}, 'base_share is 1.5'),
    ({'probability': -0.1}, 'probability is -0.1'),
    ({'concentration': 0.0}, 'concentration is 0'),
    ({'base_range': (0.6, 0.2)}, 'base_range'),
  ],
)
def test_impossible_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    losses.prototypical_feedback(
      memory(), prototypes(), jax.random.key(0), **options
    )
