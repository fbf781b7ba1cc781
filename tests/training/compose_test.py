"""The laws of learners that are put together."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import losses, methods, training, tree
from lrcl.training._task_end import _SALT
from tests.training import problem

INIT, APPLY = problem.model()
EMPTY = training.Learner(optax.identity(), APPLY)
STREAM = problem.stream((6, 5, 6))


def only(tx, **fields) -> Any:
  return training.Learner(tx, APPLY, **fields)


def remember(state, task_data, key):
  """The end of a task for EWC."""
  fisher = methods.fisher_diagonal(
    APPLY, state.params, task_data, estimator='sampled', key=key
  )
  opt_state = methods.consolidate(state.opt_state, state.params, fisher=fisher)
  return state._replace(opt_state=opt_state)


def shake(state, task_data, key):
  """The end of a task for something that moves the parameters at random."""
  del task_data
  move = lambda p: p + 1e-2 * jax.random.normal(key, p.shape)
  return state._replace(params=jax.tree.map(move, state.params))


EWC = only(methods.add_ewc_penalty(1.0), on_task_end=remember)
LOCAL = only(optax.clip_by_global_norm(1.0), loss_fn=losses.local_cross_entropy)
SHAKEN = only(methods.scale_by_schedule_value(0.05), on_task_end=shake)


def leaves(learner):
  """What comes of a run: all of the state, in order."""
  state = problem.new_state(INIT, learner)
  end, _ = training.train_stream(learner, state, STREAM)
  return [tree.to_numpy(x) for x in jax.tree.leaves(end)]


def same(one, other):
  assert len(one) == len(other)
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_empty_learner_changes_nothing_on_either_side():
  alone = training.compose(EWC, SHAKEN)
  want = leaves(alone)
  same(leaves(training.compose(alone, EMPTY)), want)
  same(leaves(training.compose(EMPTY, alone)), want)
  assert training.compose(EWC, EMPTY).on_task_end is remember
  assert training.compose(alone) is alone


def test_grouping_does_not_matter():
  left = training.compose(training.compose(EWC, LOCAL), SHAKEN)
  right = training.compose(EWC, training.compose(LOCAL, SHAKEN))
  want = leaves(training.compose(EWC, LOCAL, SHAKEN))
  same(leaves(left), want)
  same(leaves(right), want)
  assert left.loss_fn is right.loss_fn is losses.local_cross_entropy
  # The ends of tasks are in there, both of them, with keys of their own.
  for one in (EWC, SHAKEN):
    quiet = dataclasses.replace(one, on_task_end=EMPTY.on_task_end)
    others = [quiet if x is one else x for x in (EWC, LOCAL, SHAKEN)]
    changed = leaves(training.compose(*others))
    assert any((a != b).any() for a, b in zip(want, changed, strict=True))


def test_a_method_of_updates_alone_is_its_link_in_a_chain():
  links = (
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(),
    methods.scale_by_schedule_value(0.01),
    methods.normalize_and_project(),
  )
  same(
    leaves(training.compose(*map(only, links))),
    leaves(only(optax.chain(*links))),
  )


def test_compiled_over_boundaries_is_a_python_loop():
  # One that ends tasks inside of its update, in the compiled loop, is with it.
  inside = methods.consolidate_at_task_change(methods.add_l2_anchor(0.5))
  learner: Any = training.compose(EWC, only(inside), LOCAL, SHAKEN)
  state = problem.new_state(INIT, learner)
  step = jax.jit(
    training.make_train_step(learner.apply_fn, learner.loss_fn, learner.tx)
  )
  end_task = jax.jit(learner.on_task_end)
  chunk, last = STREAM.chunk(0, STREAM.num_steps), 0
  for i, task in enumerate(chunk.task_ids.tolist()):
    if task != last:
      rows, weights = STREAM.task_batches(last, 128)
      key = jax.random.fold_in(jax.random.fold_in(state.rng, i), _SALT)
      state = end_task(state, batch_of(rows, weights, last), key)
    batch = batch_of(chunk.indices[i], chunk.weights[i], task)
    state, _ = step(state, batch, jnp.int32(task))
    last = task
  same([tree.to_numpy(x) for x in jax.tree.leaves(state)], leaves(learner))


def batch_of(rows, weights, task):
  batch = {name: jnp.asarray(x)[rows] for name, x in problem.arrays().items()}
  task = jnp.full(weights.shape, task, jnp.int32)
  return {**batch, 'weight': jnp.asarray(weights), 'task': task}


def test_functions_of_hyperparams_are_one_function():
  rate = only(lambda h: methods.scale_by_schedule_value(h['rate']))
  anchor = only(lambda h: methods.add_l2_anchor(h['strength']))
  both: Any = training.compose(anchor, LOCAL, rate)
  hyperparams = {'rate': jnp.float32(0.1), 'strength': jnp.float32(0.5)}
  begin = lambda tx: training.create_state(INIT, tx, jax.random.key(0))
  end, _ = training.train_stream(
    both, begin(both.tx(hyperparams)), STREAM, hyperparams=hyperparams
  )
  fixed: Any = training.compose(
    only(methods.add_l2_anchor(0.5)),
    LOCAL,
    only(methods.scale_by_schedule_value(0.1)),
  )
  want, _ = training.train_stream(fixed, begin(fixed.tx), STREAM)
  assert tree.digest(end.params) == tree.digest(want.params)
  twice: Any = training.compose(rate, anchor, rate)
  with pytest.raises(ValueError, match='learners 0, 2 each apply a learning'):
    twice.tx(hyperparams)


def test_every_conflict_is_named_in_one_error():
  sgd = only(methods.scale_by_schedule_value(0.1))
  _, other = problem.model()
  wrong = dataclasses.replace(sgd, apply_fn=other, loss_fn=losses.uer())
  with pytest.raises(ValueError) as found:
    training.compose(sgd, LOCAL, wrong)
  assert str(found.value) == (
    'compose: apply_fn differs; pass the same one to all; learners 1, 2 each '
    'set loss_fn; keep one; learners 0, 2 each apply a learning rate; keep one.'
  )
  predict = only(optax.identity(), predict=losses.uer_argmax)
  with pytest.raises(ValueError, match='learners 0, 1 each set predict'):
    training.compose(predict, predict)
  with pytest.raises(ValueError, match='no learner'):
    training.compose()
  rate: Any = sgd.tx
  with pytest.raises(TypeError, match='not a Learner'):
    training.compose(sgd, rate)


def test_what_wraps_is_a_function_of_a_learner():
  distil = lambda learner: dataclasses.replace(
    learner, loss_fn=losses.distill_predictions(learner.loss_fn)
  )
  whole = training.compose(EWC, distil(LOCAL), SHAKEN)
  same(leaves(whole), leaves(distil(training.compose(EWC, LOCAL, SHAKEN))))
