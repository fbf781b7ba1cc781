"""Statistics of classes: numpy's, under any batching, far from zero too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import models

CLASSES, FEATURES, ROWS = 4, 3, 24
rng = np.random.default_rng(0)
FEATURE_ROWS = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
LABELS = np.append(rng.integers(0, 2, ROWS - 1), 3)  # one row of class 3
GAUSSIANS = models.class_gaussians(FEATURES, CLASSES)
update = jax.jit(GAUSSIANS.update)


def gather(rows, labels, cuts, weight=None):
  """In batches that end at `cuts`, each padded to one shape."""
  state = GAUSSIANS.init()
  weight = np.ones(len(rows), np.float32) if weight is None else weight
  for some in np.split(np.arange(len(rows)), cuts):
    pad = (0, len(rows) - len(some))
    state = update(
      state,
      jnp.asarray(np.pad(rows[some], (pad, (0, 0)), constant_values=np.nan)),
      jnp.asarray(np.pad(labels[some], pad)),
      jnp.asarray(np.pad(weight[some], pad)),
    )
  return state


def check(state, rows, labels, counts, rtol):
  """Against numpy in float64."""
  means, covariances, tasks = GAUSSIANS.readout(state)
  for c in range(CLASSES):
    own = np.repeat(rows, np.where(labels == c, counts, 0), axis=0)
    own = own.astype(np.float64)
    if len(own) == 0:
      assert not means[c].any() and tasks[c] == -1
    else:
      np.testing.assert_allclose(means[c], own.mean(0), rtol=1e-5, atol=1e-6)
    wanted = np.cov(own.T) if len(own) > 1 else np.zeros((FEATURES,) * 2)
    scale = np.abs(wanted).max() + 1e-9
    np.testing.assert_allclose(covariances[c], wanted, atol=rtol * scale)


@pytest.mark.parametrize('seed', range(6))
def test_is_numpy_under_any_order_and_batching(seed):
  rng = np.random.default_rng(seed)
  order = rng.permutation(ROWS)
  cuts = np.sort(rng.integers(0, ROWS + 1, rng.integers(0, 8)))
  state = gather(FEATURE_ROWS[order], LABELS[order], cuts)
  check(state, FEATURE_ROWS, LABELS, np.ones(ROWS, int), 1e-5)


def test_weights_are_copies_and_foreign_labels_are_left_out():
  counts = rng.integers(0, 4, ROWS)
  foreign = LABELS.copy()
  foreign[:4] = [-1, CLASSES, CLASSES + 5, -7]
  state = gather(FEATURE_ROWS, foreign, [5, 11], counts.astype(np.float32))
  check(state, FEATURE_ROWS, foreign, counts, 1e-5)


def test_rows_far_from_zero_lose_no_digits():
  rows = FEATURE_ROWS + np.float32(4096)  # float32 keeps 5e-4 of them
  sums = rows.T @ rows / ROWS - np.outer(rows.mean(0), rows.mean(0))
  assert np.abs(sums - np.cov(rows.T, bias=True)).max() > 0.1  # the other way
  for cuts in ([], range(1, ROWS), [3, 17]):
    state = gather(rows, LABELS, cuts)
    check(state, rows, LABELS, np.ones(ROWS, int), 2e-3)


def test_a_hundred_thousand_rows_in_small_batches():
  rows = rng.normal(size=(400, 256, FEATURES)).astype(np.float32) + 10
  labels = rng.integers(0, CLASSES, (400, 256))

  @jax.jit
  def scan(rows, labels):
    one = lambda state, xs: (GAUSSIANS.update(state, *xs), None)
    return jax.lax.scan(one, GAUSSIANS.init(), (rows, labels))[0]

  state = scan(rows, labels)
  flat = rows.reshape(-1, FEATURES), labels.reshape(-1)
  check(state, *flat, np.ones(flat[1].shape, int), 1e-4)


def test_merging_is_having_seen_both():
  half = ROWS // 2
  parts = [
    gather(FEATURE_ROWS[part], LABELS[part], [])
    for part in (slice(half), slice(half, None))
  ]
  check(GAUSSIANS.merge(*parts), FEATURE_ROWS, LABELS, np.ones(ROWS, int), 1e-5)
  empty = GAUSSIANS.merge(GAUSSIANS.init(), parts[0])
  jax.tree.map(np.testing.assert_array_equal, empty, parts[0])


def test_a_class_keeps_the_task_it_came_with():
  rows = jnp.ones((2, FEATURES))
  state = update(GAUSSIANS.init(), rows, jnp.array([1, 1]), task_id=0)
  state = update(state, rows, jnp.array([1, 3]), task_id=2)
  assert GAUSSIANS.readout(state).tasks.tolist() == [-1, 0, -1, 2]
  other = update(GAUSSIANS.init(), rows, jnp.array([3, 0]), task_id=1)
  merged = GAUSSIANS.merge(state, other)
  assert merged.tasks.tolist() == [1, 0, -1, 1]


def test_errors():
  with pytest.raises(ValueError, match='class_gaussians: num_features is 0'):
    models.class_gaussians(0, 2)
  with pytest.raises(ValueError, match='class_gaussians: features, labels'):
    GAUSSIANS.update(GAUSSIANS.init(), jnp.ones((2, 3)), jnp.zeros(3, int))
