"""What is drawn for the claim on orders, and how it is scored and judged."""

import jax
import numpy as np
import optax
import pytest

from experiments.papers import images, order_effects
from experiments.papers import order_effects_runs as runs
from lrcl import models

ORDERS = 6


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def test_orders_of_tasks_move_whole_tasks_of_two_classes():
  digits = images.load_images('digits')
  drawn = runs.draw(digits, 'tasks', 3, ORDERS)
  assert drawn.inputs.shape == (runs.STEPS, runs.BATCH, 64)
  by_task = drawn.labels.reshape(runs.TASKS, -1)
  classes = [set(row.tolist()) for row in by_task]
  assert all(len(found) == 2 for found in classes)
  assert set.union(*classes) == set(range(10))
  blocks = drawn.orders.reshape(ORDERS, runs.TASKS, runs.PER_TASK)
  np.testing.assert_array_equal(np.diff(blocks), 1)  # within a task as it was
  _check_orders(drawn.orders)


def test_orders_of_batches_are_of_all_classes():
  drawn = runs.draw(images.load_images('digits'), 'batches', 3, ORDERS)
  assert len(set(drawn.labels[0].tolist())) > 5
  _check_orders(drawn.orders)


def _check_orders(orders):
  """Permutations, no two alike, and none the one of the run."""
  np.testing.assert_array_equal(np.sort(orders), [range(runs.STEPS)] * ORDERS)
  rows = {tuple(row) for row in orders.tolist()} | {tuple(range(runs.STEPS))}
  assert len(rows) == ORDERS + 1


def test_what_is_measured_is_a_plain_loop():
  digits = images.load_images('digits')
  found = runs.measure(digits, 'tasks', [1e-4, 1e-2], [5], 2)
  assert found.true.shape == (len(runs.SCHEDULES), 2, 1, 2)
  drawn = runs.draw(digits, 'tasks', 5, 2)
  init_fn, apply_fn = models.from_module(
    models.MLP((runs.HIDDEN,), 10, activation=jax.nn.tanh),
    digits.train['inputs'][:1],
  )

  @jax.jit
  def loss_fn(params, inputs, labels):
    logits, _ = apply_fn(params, inputs, rng=None, model_state={}, train=True)
    return optax.losses.softmax_cross_entropy_with_integer_labels(
      logits, labels
    ).mean()

  tx = optax.adam(optax.cosine_decay_schedule(1e-2, runs.STEPS))
  params, _ = init_fn(jax.random.key(5))
  state = tx.init(params)
  gradient, update = jax.jit(jax.grad(loss_fn)), jax.jit(tx.update)
  for n in drawn.orders[1]:
    grads = gradient(params, drawn.inputs[n], drawn.labels[n])
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  true = loss_fn(params, digits.test['inputs'], digits.test['labels'])
  np.testing.assert_allclose(found.true[1, 1, 0, 1], true, rtol=1e-4)
  # At a small rate the runs stay together, and order 1 is far better.
  small = found.missed[:, 0, 0]
  assert np.all(small[:, 1] < 0.1) and np.all(small[:, 1] < small[:, 0])


def _measured(noise):
  """Two rates, four seeds of which one tunes, and ten orders."""
  rng = np.random.default_rng(0)
  true = 1 + rng.random((3, 2, 4, 10))
  true[:, 1] += 1  # the first rate trains best
  off = rng.normal(size=(3, 2, 4, 2, 10)) * np.array([1.0, noise])[:, None]
  estimated = true[..., None, :] + off
  ones = np.ones((3, 2, 4, 2))
  return runs.Measured(true, estimated, ones, 0.2 * ones)


def test_scores():
  found = order_effects.score(_measured(0.0), tuning=1)
  assert found.best == [0] * 3
  assert found.rank.shape == (3, 2, 3, 2)
  np.testing.assert_allclose(found.rank[..., 1], 1)
  np.testing.assert_allclose(found.regret[..., 1], 0, atol=1e-9)
  np.testing.assert_allclose(found.error[..., 1], 0, atol=1e-9)
  assert found.rank[..., 0].max() < 1 < found.error[..., 0].min()


def test_a_lost_estimate_is_no_estimate():
  measured = _measured(0.0)
  measured.estimated[0, 0, 2, 1, 3] = np.nan
  found = order_effects.score(measured, tuning=1)
  np.testing.assert_allclose(found.rank[0, 0, :, 1], [1, 0, 1], atol=1e-9)


def test_judgement_and_limits():
  good = order_effects.score(_measured(0.0), tuning=1)
  bad = order_effects.score(_measured(5.0), tuning=1)
  assert all(order_effects.judge({'a': good}).values())
  assert not any(order_effects.judge({'a': bad}).values())
  mixed = good._replace(rank=np.stack([good.rank[:, 0], bad.rank[:, 1]], 1))
  parts = order_effects.judge({'a': mixed._replace(best=[1, 0, 0])})
  assert list(parts.values()) == [True, False]
  words = order_effects._limits({'a': mixed}, (0.1, 0.2))
  assert 'a: constant 0.1 (0.1 trains best), cosine 0.1' in words
