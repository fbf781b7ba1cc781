import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import streams, training
from tests.training import problem


def by_hand(learner, state, stream):
  sets = stream.evaluation
  accuracy = []
  for rows, weights in zip(sets.indices, sets.weights, strict=True):
    inputs = sets.source['inputs'][rows]
    labels = sets.source['labels'][rows]
    logits, _ = learner.apply_fn(
      state.params, inputs, rng=None, model_state={}, train=False
    )
    right = np.argmax(logits, 1) == labels
    accuracy.append(np.sum(right * weights) / np.sum(weights))
  return np.array(accuracy)


@pytest.mark.parametrize('batch_size', [5, 8, 24, 512])
def test_equals_a_slow_twin_for_every_batch_size(batch_size):
  init_fn, learner = problem.plain()
  stream = problem.stream()
  weights = stream.evaluation.weights.copy()
  weights[1, 17:] = 0
  sets = dataclasses.replace(stream.evaluation, weights=weights)
  stream = dataclasses.replace(stream, evaluation=sets)
  state = problem.new_state(init_fn, learner, 3)
  evaluate = training.make_evaluator(learner, stream, batch_size=batch_size)
  found = evaluate(state)
  np.testing.assert_allclose(
    found['accuracy'], by_hand(learner, state, stream), rtol=1e-6
  )
  assert found['loss'].shape == (3,) and np.all(found['loss'] > 0)


def test_replicas_are_evaluated_on_their_own():
  init_fn, learner = problem.plain()
  stream = streams.replicate([problem.stream(), problem.stream(seed=1)])
  states = training.create_states(init_fn, learner.tx, (3, 4))
  found = training.make_evaluator(learner, stream)(states)['accuracy']
  for i, seed in enumerate((3, 4)):
    state = problem.new_state(init_fn, learner, seed)
    want = by_hand(learner, state, problem.stream())
    np.testing.assert_allclose(found[i], want, rtol=1e-6)


def test_sets_on_the_host_give_the_same():
  init_fn, learner = problem.plain()
  stream = problem.stream()
  state = problem.new_state(init_fn, learner)
  want = training.make_evaluator(learner, stream)(state)
  sets = dataclasses.replace(stream.evaluation, source=problem.Host())
  stream = dataclasses.replace(stream, evaluation=sets)
  found = training.make_evaluator(learner, stream)(state)
  jax.tree.map(np.testing.assert_array_equal, found, want)


def test_a_stream_without_test_sets_is_refused():
  _, learner = problem.plain()
  stream = dataclasses.replace(problem.stream(), evaluation=None)
  with pytest.raises(ValueError, match='pass test='):
    training.make_evaluator(learner, stream)


def test_class_masks_are_used_where_a_scenario_has_them():
  train = problem.arrays()
  stream = streams.split(
    train, num_tasks=2, batch_size=8, scenario='task', test=train
  )
  ones = lambda p, x, **_: (jnp.tile(p, (x.shape[0], 1)), ())
  learner = training.Learner(training.Learner, ones)
  state = training.TrainState(
    jnp.int32(0), jnp.arange(4.0), (), jax.random.key(0)
  )
  found = training.make_evaluator(learner, stream)(state)['accuracy']
  # the largest logit inside the task's two classes is right half of the time
  np.testing.assert_allclose(found, [0.5, 0.5])
