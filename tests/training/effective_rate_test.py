"""What the records say of the effective learning rate is what it is."""

import functools

import jax
import numpy as np
import optax
import pytest

from lrcl import methods, metrics, models, schedules, streams, training
from tests.training import problem

NAME = 'Dense_0/kernel'
SCHEDULE = schedules.wsd_schedule(0.5, 5, 20, 22, end_value=0.05)


def make_learner(*, nap=False, kind='sgd', rate=SCHEDULE):
  init_fn, apply_fn = problem.model(normalize=True)
  links = [optax.scale_by_adam()] if kind == 'adam' else []
  links.append(methods.scale_by_schedule_value(rate))
  if nap:
    links.append(methods.normalize_and_project(mask=models.nap_mask))
  effective = functools.partial(
    metrics.effective_learning_rate, kind=kind, mask=models.nap_mask
  )
  tx = optax.chain(*links)
  return init_fn, training.Learner(tx, apply_fn, effective_rate=effective)


def run(learner, state, stream, **options):
  """Records, and the norm of the weight at each of them."""
  norms = []

  def evaluate(state):
    kernel = np.asarray(state.params['Dense_0']['kernel'], np.float64)
    norms.append(np.sqrt((kernel**2).sum((-1, -2))))
    return {}

  _, records = training.train_stream(
    learner,
    state,
    stream,
    evaluate=evaluate,
    evaluate_every=6,
    chunk_steps=10,
    **options,
  )
  return records, np.array(norms)


@pytest.mark.parametrize(('kind', 'power'), [('sgd', 2), ('adam', 1)])
def test_every_record_holds_the_definition(kind, power):
  init_fn, learner = make_learner(kind=kind)
  state = problem.new_state(init_fn, learner)
  records, norms = run(learner, state, problem.stream())
  rates = np.array([r['learning_rate'] for r in records])
  got = [r['effective_learning_rate'] for r in records]
  assert all(list(found) == [NAME] for found in got)
  np.testing.assert_allclose(
    [found[NAME] for found in got], rates / norms**power, rtol=1e-6
  )
  assert len(set(rates)) > 3 and norms[-1] > 1.01 * norms[0]


def test_with_nap_it_is_the_schedule_over_a_constant():
  init_fn, learner = make_learner(nap=True)
  state = problem.new_state(init_fn, learner)
  start = np.linalg.norm(state.params['Dense_0']['kernel'])
  records, _ = run(learner, state, problem.stream())
  rates = np.array([r['learning_rate'] for r in records])
  got = np.array([r['effective_learning_rate'][NAME] for r in records])
  np.testing.assert_allclose(got, rates / start**2, rtol=1e-5)


def test_replicas_have_a_rate_each():
  init_fn, learner = make_learner()
  parts = [problem.stream(seed=seed) for seed in (3, 4)]
  states = training.create_states(init_fn, learner.tx, (3, 4))
  records, norms = run(learner, states, streams.replicate(parts))
  for record, norm in zip(records, norms, strict=True):
    got = record['effective_learning_rate'][NAME]
    want = record['learning_rate'] / norm**2
    np.testing.assert_allclose(got, want, rtol=1e-6)
  assert got[0] != got[1]


def test_compiles_once_for_all_records_and_branches():
  init_fn, apply_fn = problem.model(normalize=True)
  traces = []

  def effective(params, rate):
    traces.append(rate)
    return metrics.effective_learning_rate(params, rate, mask=models.nap_mask)

  tx = methods.scale_by_schedule_value(0.1)
  learner = training.Learner(tx, apply_fn, effective_rate=effective)
  state = problem.new_state(init_fn, learner)
  for _ in range(2):
    run(learner, state, problem.stream())
  assert len(traces) == 1


def test_the_same_on_a_mesh_and_under_pmap():
  init_fn, learner = make_learner()
  state = problem.new_state(init_fn, learner)
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  found = [
    run(learner, state, problem.stream((6, 6)), **options)[0]
    for options in ({}, {'mesh': mesh}, {'axis_name': 'data'})
  ]
  values = [[r['effective_learning_rate'][NAME] for r in f] for f in found]
  np.testing.assert_allclose(values[1], values[0], rtol=1e-5)
  np.testing.assert_allclose(values[2], values[0], rtol=1e-5)


def test_a_chain_that_does_not_tell_its_rate_has_none():
  init_fn, learner = make_learner()
  apply_fn, effective = learner.apply_fn, learner.effective_rate
  for replicas in (None, 2):
    silent = training.Learner(
      optax.sgd(0.1), apply_fn, effective_rate=effective
    )
    stream = problem.stream((6,))
    state = problem.new_state(init_fn, silent)
    if replicas:
      stream = streams.replicate([stream, problem.stream((6,), seed=1)])
      state = training.create_states(init_fn, silent.tx, (0, 1))
    records, _ = run(silent, state, stream)
    want = [None, None] if replicas else None
    assert records[-1]['effective_learning_rate'] == {NAME: want}


def test_a_learner_without_normalised_layers_records_nothing():
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  records, _ = run(learner, state, problem.stream((6,)))
  assert 'effective_learning_rate' not in records[-1]
