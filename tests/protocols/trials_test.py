import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest

from experiments.papers import images, sequences
from lrcl import methods, protocols, streams, training

SEEDS = (3, 5)
OPTIONS: Any = {'steps_per_task': 6, 'num_tasks': 2, 'batch_size': 8}
SETTINGS = {'rate': np.array([0.05, 0.5]), 'strength': np.array([1.0, 2.0])}


@functools.cache
def _images():
  return images.load_images('digits', train_rows=203, test_rows=71)


def _make(stream):
  init_fn, apply_fn = sequences.make_mlp(stream, (12,))

  def on_task_end(state, task_data, key):
    del key
    fisher = methods.fisher_diagonal(
      apply_fn, state.params, task_data, estimator='empirical'
    )
    opt_state = methods.consolidate(
      state.opt_state, state.params, fisher=fisher
    )
    return state._replace(opt_state=opt_state)

  def make_learner(setting):
    chain = optax.chain(
      methods.add_ewc_penalty(setting['strength']),
      methods.scale_by_schedule_value(setting['rate']),
    )
    return training.Learner(chain, apply_fn, on_task_end=on_task_end)

  return init_fn, make_learner


def _trials(stream, **options):
  return protocols.Trials(stream, SEEDS, *_make(stream), **options)


def _single(stack):
  """The stream of the one replica."""
  sets, first = stack.evaluation, lambda x: x[0]
  tables = jax.tree.map(first, stack.tables)
  sets = dataclasses.replace(
    sets, indices=sets.indices[0], weights=sets.weights[0], tables=tables
  )
  return dataclasses.replace(
    stack, plan=stack.plan.plans[0], tables=tables, evaluation=sets
  )


def _by_the_loop(stream, seed, setting):
  """Accuracies and mean losses, as the library's loop records them."""
  init_fn, make_learner = _make(stream)
  learner = make_learner(setting)
  tx: Any = learner.tx
  state = training.create_state(init_fn, tx, jax.random.key(seed))
  evaluate = training.make_evaluator(learner, stream)
  _, records = training.train_stream(
    learner, state, stream, evaluate=evaluate, evaluate_every=3
  )
  return np.array([record['metrics']['accuracy'] for record in records])


@pytest.mark.parametrize(
  'make_stream',
  [
    functools.partial(sequences.split_stream, scenario='task'),
    sequences.permuted_stream,
    functools.partial(sequences.split_stream, joint=True),
  ],
  ids=['task', 'permuted', 'joint'],
)
def test_a_run_is_what_the_loop_makes_of_the_same_stream(make_stream):
  stack = make_stream(_images(), SEEDS, **OPTIONS)
  found = _trials(stack, evaluate_every=3).sweep(SETTINGS, SEEDS)
  phases = 2 if stack.boundaries else 1
  assert found.accuracy.shape == (2, 2, phases, 4 // phases, 2)
  assert np.isfinite(found.loss).all()

  stream = _single(make_stream(_images(), SEEDS[1:], **OPTIONS))
  setting = {name: float(column[1]) for name, column in SETTINGS.items()}
  wanted = _by_the_loop(stream, SEEDS[1], setting)
  np.testing.assert_allclose(found.series[1, 1], wanted, atol=1e-6)


def test_test_sets_have_tables_of_their_own():
  """One for each of three levels of labels, and not one for each task."""
  made = [
    streams.hierarchical(
      _images().train,
      parents=[[0] * 4 + [1] * 6, [0] * 2 + [1] * 2 + [2] * 6],
      batch_size=8,
      steps_per_task=6,
      seed=seed,
      test=_images().test,
    )
    for seed in SEEDS
  ]
  stack = streams.replicate(made)
  found = _trials(stack, evaluate_every=3).sweep(SETTINGS, SEEDS)
  assert found.accuracy.shape == (2, 2, 6, 2, 3)
  setting = {name: float(column[1]) for name, column in SETTINGS.items()}
  wanted = _by_the_loop(made[1], SEEDS[1], setting)
  np.testing.assert_allclose(found.series[1, 1], wanted, atol=1e-6)


def test_runs_in_company_are_runs_alone():
  stream = sequences.split_stream(_images(), SEEDS, **OPTIONS)
  read = lambda state: state.params['head']['bias']
  alone, together = (
    _trials(stream, company=company, read=read).sweep(SETTINGS, SEEDS)
    for company in (1, 3)
  )
  assert alone.read.shape == (2, 2, 2, 1, 10)
  np.testing.assert_allclose(alone.loss, together.loss, rtol=1e-4)
  np.testing.assert_allclose(alone.read, together.read, rtol=1e-3, atol=1e-5)


def test_the_views_of_what_was_found_agree():
  accuracy = np.random.default_rng(0).random((2, 3, 4, 5, 6))
  found = protocols.Found(accuracy, np.zeros((2, 3, 4, 5)), ())
  assert found.matrix.shape == (2, 3, 4, 6)
  np.testing.assert_array_equal(
    found.series[..., 9, :], found.matrix[..., 1, :]
  )
  np.testing.assert_allclose(found.final, accuracy[:, :, 3, 4].mean(-1))
  np.testing.assert_array_equal(found.pick(1).accuracy, accuracy[1])


def test_the_better_rate_is_chosen_and_run_on_other_seeds():
  stream = sequences.split_stream(
    _images(), SEEDS, steps_per_task=40, num_tasks=1, batch_size=16
  )
  trials = _trials(stream)
  axes = {'rate': [1e-4, 0.3, 1e6], 'strength': [1.0]}
  tuned, found = trials.tune(axes, tuning_seeds=SEEDS[:1], seeds=SEEDS[1:])
  assert tuned.setting['rate'] == 0.3
  assert tuned.edges == ()
  np.testing.assert_allclose(tuned.losses, 1 - found.final)
  again = trials.sweep(
    protocols.grid({'rate': [0.3], 'strength': [1]}), SEEDS[1:]
  )
  np.testing.assert_array_equal(again.accuracy[0], found.accuracy)
  with pytest.raises(ValueError, match='no seed in common'):
    trials.tune(axes, tuning_seeds=SEEDS, seeds=SEEDS[:1])


def test_another_stream_takes_the_same_program():
  first, second = (
    sequences.permuted_stream(_images(), orders, **OPTIONS)
    for orders in (SEEDS, (7, 9))
  )
  trials = _trials(first)
  before = trials.sweep(SETTINGS, SEEDS)
  found = trials.on(second).sweep(SETTINGS, SEEDS)
  compiled: Any = trials._compiled
  assert compiled._cache_size() == 1
  wanted = _trials(second).sweep(SETTINGS, SEEDS)
  np.testing.assert_array_equal(found.accuracy, wanted.accuracy)
  np.testing.assert_array_equal(found.loss, wanted.loss)
  again = trials.sweep(SETTINGS, SEEDS)
  np.testing.assert_array_equal(before.loss, again.loss)
  with pytest.raises(ValueError, match='differ in batch size'):
    trials.on(sequences.permuted_stream(_images(), SEEDS, steps_per_task=6))
  with pytest.raises(ValueError, match='differ in steps or boundaries'):
    longer = OPTIONS | {'steps_per_task': 7}
    trials.on(sequences.permuted_stream(_images(), SEEDS, **longer))
  with pytest.raises(ValueError, match='differ in what prepares a batch'):
    trials.on(sequences.split_stream(_images(), SEEDS, **OPTIONS))


def test_what_does_not_go_together_is_refused():
  stream = sequences.split_stream(_images(), SEEDS, **OPTIONS)
  with pytest.raises(ValueError, match='must divide the 6 steps'):
    _trials(stream, evaluate_every=4)
  with pytest.raises(ValueError, match='phases is 3; it must divide the 12'):
    _trials(stream, phases=3)
  with pytest.raises(ValueError, match='1 seeds and a stack of 2 streams'):
    protocols.Trials(stream, SEEDS[:1], *_make(stream))
