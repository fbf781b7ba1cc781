"""Heads that are computed: exact, whatever the order and the batches."""

import functools
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import models

ROWS, FEATURES, CLASSES, BATCH = 24, 4, 5, 8
RIDGE, SHRINKAGE = 0.3, 0.2
HEADS = {
  'mean': models.nearest_class_mean(FEATURES, CLASSES),
  'lda': models.streaming_lda(FEATURES, CLASSES, SHRINKAGE),
  'ridge': models.analytic_ridge(FEATURES, CLASSES, RIDGE),
}
EACH = pytest.mark.parametrize('name', HEADS)
SETTINGS = hypothesis.settings(max_examples=10, deadline=None)

rng = np.random.default_rng(0)
LABELS = rng.permutation(np.arange(ROWS) % 4)  # class 4 never comes
CENTERS = rng.normal(size=(CLASSES, FEATURES))
X = 3.0 + CENTERS[LABELS] + rng.normal(size=(ROWS, FEATURES))


def numpy_readout(name, rows, weight=None):
  """Kernel and bias of the classes that occur, from all rows at once."""
  x, y = X[rows], LABELS[rows]
  w = np.ones(len(x)) if weight is None else weight[rows]
  seen = np.unique(y[w > 0])
  if name == 'ridge':
    gram = (x * w[:, None]).T @ x + RIDGE * np.eye(FEATURES)
    targets = (y[:, None] == seen).astype(float) * w[:, None]
    return seen, np.linalg.inv(gram) @ x.T @ targets, np.zeros(len(seen))
  means = np.stack([np.average(x[y == c], 0, w[y == c]) for c in seen])
  precision = np.eye(FEATURES)
  if name == 'lda':
    gaps = x - means[np.searchsorted(seen, np.where(w > 0, y, seen[0]))]
    covariance = (gaps * w[:, None]).T @ gaps / w.sum()
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(FEATURES)
    precision = np.linalg.inv(shrunk)
  kernel = precision @ means.T
  return seen, kernel, -0.5 * np.sum(means.T * kernel, axis=0)


def scores(kernel, bias):
  """Logits of all rows, up to a constant per row, as the bias is free."""
  logits = X @ np.asarray(kernel) + np.asarray(bias)
  return logits - logits[:, :1]


@functools.cache
def compiled(name, what):
  return jax.jit(getattr(HEADS[name], what))


def feed(name, state, rows, what='update', weight=None, starts=()):
  """Feeds the rows in batches that begin at `starts`, padded with NaN."""
  ends = sorted({*range(0, len(rows), BATCH), *starts, len(rows)})
  for start, end in itertools.pairwise(ends):
    batch = np.array(rows[start:end], int)
    features = np.full((BATCH, FEATURES), np.nan)
    labels, count = np.zeros(BATCH, int), np.zeros(BATCH)
    features[: len(batch)], labels[: len(batch)] = X[batch], LABELS[batch]
    count[: len(batch)] = 1 if weight is None else weight[batch]
    state = compiled(name, what)(state, features, labels, count)
  return state


def check(name, state, rows, weight=None, atol=1e-9):
  """The readout equals that of numpy on the rows at once."""
  seen, kernel, bias = numpy_readout(name, np.array(rows, int), weight)
  linear = {
    k: np.asarray(v) for k, v in compiled(name, 'readout')(state).items()
  }
  unseen = np.setdiff1d(np.arange(CLASSES), seen)
  assert (linear['bias'][unseen] == -1e9).all()
  assert not linear['kernel'][:, unseen].any()
  got = linear['kernel'][:, seen], linear['bias'][seen]
  if name == 'ridge':
    np.testing.assert_allclose(got[0], kernel, rtol=0, atol=atol)
    assert not got[1].any()
  else:
    np.testing.assert_allclose(scores(*got), scores(kernel, bias), atol=atol)


@EACH
@hypothesis.given(
  rows=st.permutations(range(ROWS)),
  starts=st.sets(st.integers(0, ROWS)),
  cut=st.integers(0, ROWS - 6),
)
@SETTINGS
def test_any_order_any_batches_and_unlearning(name, rows, starts, cut):
  with jax.enable_x64(True):
    state = feed(name, HEADS[name].init(), rows, starts=starts)
    assert state.counts.dtype == jnp.float64
    check(name, state, rows)
    state = feed(name, state, sorted(rows[:cut]), 'unlearn')
    check(name, state, rows[cut:])


@EACH
def test_unlearning_everything_of_a_class(name):
  of_class = [i for i in range(ROWS) if LABELS[i] == 2]
  others = [i for i in range(ROWS) if LABELS[i] != 2]
  with jax.enable_x64(True):
    state = feed(name, HEADS[name].init(), range(ROWS))
    state = feed(name, state, of_class, 'unlearn')
    check(name, state, others)
    assert not (compiled(name, 'predict')(state, X) == 2).any()


@EACH
def test_weights_are_copies(name):
  weight = np.arange(ROWS) % 3
  with jax.enable_x64(True):
    state = feed(name, HEADS[name].init(), range(ROWS), weight=weight)
    check(name, state, range(ROWS), weight)
    copies = np.repeat(np.arange(ROWS), weight)
    check(name, state, copies)


@EACH
def test_classes_grow(name):
  head, small = (
    HEADS[name],
    {
      'mean': models.nearest_class_mean(FEATURES, 2),
      'lda': models.streaming_lda(FEATURES, 2, SHRINKAGE),
      'ridge': models.analytic_ridge(FEATURES, 2, RIDGE),
    }[name],
  )
  early = [i for i in range(ROWS) if LABELS[i] < 2][:BATCH]
  late = [i for i in range(ROWS) if i not in early]
  with jax.enable_x64(True):
    state = jax.jit(small.update)(small.init(), X[early], LABELS[early])
    state = models.grow_classes(state, CLASSES)
    jax.tree.map(
      lambda a, b: np.testing.assert_equal(a.shape, b.shape), state, head.init()
    )
    check(name, feed(name, state, late), range(ROWS))
  with pytest.raises(ValueError, match='grow_classes: num_classes is 3'):
    models.grow_classes(state, 3)


@EACH
def test_predictions_are_classes_that_were_seen(name):
  state = HEADS[name].init()
  far = np.concatenate([-1e12 * X, X, 1e12 * X])
  far = jnp.asarray(far, jnp.float32)
  predict = compiled(name, 'predict')
  assert (predict(state, far) == -1).all()
  some = [i for i in range(ROWS) if LABELS[i] in (1, 3)][:BATCH]
  state = feed(name, state, some)
  labels = predict(state, far)
  assert labels.dtype == jnp.int32
  assert set(np.unique(labels)) == {1, 3}


@EACH
def test_labels_outside_the_classes_are_left_out(name):
  update = compiled(name, 'update')
  rows, ones = X[:BATCH].astype(np.float32), np.ones(BATCH, np.float32)
  labels = np.array([0, 1, -1, 2, CLASSES, 3, 0, 1])
  inside = ((labels >= 0) & (labels < CLASSES)).astype(np.float32)
  got = update(HEADS[name].init(), rows, labels, ones)
  want = update(HEADS[name].init(), rows, np.clip(labels, 0, 4), inside)
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_full_shrinkage_is_the_nearest_mean():
  full = models.streaming_lda(FEATURES, CLASSES, 1.0)
  with jax.enable_x64(True):
    state = feed('lda', HEADS['lda'].init(), range(ROWS))
    means = feed('mean', HEADS['mean'].init(), range(ROWS))
    a = jax.jit(full.readout)(state)
    b = compiled('mean', 'readout')(means)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12), a, b
    )
    gaps = X[:, None] - np.asarray(state.means)[None, :4]
    got = compiled('mean', 'predict')(means, X)
    np.testing.assert_array_equal(got, np.square(gaps).sum(-1).argmin(1))


def test_ridge_equals_the_recursion_of_the_papers():
  """Woodbury's identity on R and W, in numpy, learning and unlearning."""
  inverse = np.eye(FEATURES) / RIDGE
  kernel = np.zeros((FEATURES, CLASSES))

  def step(inverse, kernel, rows, sign):
    x, y = X[rows], np.eye(CLASSES)[LABELS[rows]]
    gain = np.linalg.inv(np.eye(len(rows)) + sign * x @ inverse @ x.T)
    inverse = inverse - sign * inverse @ x.T @ gain @ x @ inverse
    return inverse, kernel + sign * inverse @ x.T @ (y - x @ kernel)

  for rows in np.split(np.arange(ROWS), [3, 4, 15]):
    inverse, kernel = step(inverse, kernel, rows, 1)
  inverse, kernel = step(inverse, kernel, np.arange(5, 12), -1)
  with jax.enable_x64(True):
    state = feed('ridge', HEADS['ridge'].init(), range(ROWS))
    state = feed('ridge', state, range(5, 12), 'unlearn')
    got = compiled('ridge', 'readout')(state)['kernel']
    np.testing.assert_allclose(got, kernel, rtol=0, atol=1e-9)


@pytest.mark.parametrize('name', ['ridge', 'lda'])
def test_one_state_serves_many_ridges_and_shrinkages(name):
  make = functools.partial(
    {'ridge': models.analytic_ridge, 'lda': models.streaming_lda}[name],
    FEATURES,
    CLASSES,
  )
  readout = lambda x, state: make(x).readout(state)
  with jax.enable_x64(True):
    state = feed(name, HEADS[name].init(), range(ROWS))
    many = jax.jit(jax.vmap(readout, (0, None)))
    got = many(jnp.array([0.1, 0.3, 0.9]), state)
    for i, value in enumerate([0.1, 0.3, 0.9]):
      want = jax.jit(readout)(jnp.asarray(value), state)
      for key in want:
        np.testing.assert_allclose(got[key][i], want[key], rtol=1e-9)


def test_batches_may_be_scanned():
  head = HEADS['lda']
  split = lambda x, kind: jnp.asarray(x, kind).reshape(3, BATCH, *x.shape[1:])
  batches = split(X, jnp.float32), split(LABELS, jnp.int32)
  step = lambda state, batch: (head.update(state, *batch), None)
  state, _ = jax.jit(lambda xs: jax.lax.scan(step, head.init(), xs))(batches)
  want = feed('lda', head.init(), range(ROWS))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    state,
    want,
  )


@EACH
def test_float32_is_the_default_and_close(name):
  state = feed(name, HEADS[name].init(), range(ROWS))
  assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {'float32'}
  check(name, state, range(ROWS), atol=2e-4)


def test_errors():
  with pytest.raises(ValueError, match='nearest_class_mean: num_features is 0'):
    models.nearest_class_mean(0, 2)
  with pytest.raises(ValueError, match='streaming_lda: shrinkage is 2'):
    models.streaming_lda(2, 2, 2.0)
  with pytest.raises(ValueError, match='analytic_ridge: ridge is 0'):
    models.analytic_ridge(2, 2, 0.0)
  head = HEADS['ridge']
  with pytest.raises(ValueError, match=r'analytic_ridge: features, labels'):
    head.update(head.init(), jnp.ones((3, FEATURES)), jnp.zeros(2, int))
