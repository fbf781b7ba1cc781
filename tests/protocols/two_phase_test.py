import functools
import json

import numpy as np
import optax
import pytest

from lrcl import methods, models, protocols, streams, training


def _data(seed, classes=4, rows=240):
  rng = np.random.default_rng(seed)
  labels = np.arange(rows) % classes
  inputs = np.eye(8)[labels] + rng.normal(0, 0.1, (rows, 8))
  return {'inputs': inputs.astype(np.float32), 'labels': labels}


def _make_stream(half, seed, steps_per_task):
  return streams.split(
    half.train,
    num_tasks=2,
    batch_size=8,
    steps_per_task=steps_per_task,
    seed=seed,
    order_seed=seed,
    test=half.test,
  )


def _model(stream):
  module = models.MLP((8,), stream.num_classes)
  return models.from_module(module, stream.batch_spec['inputs'])


def _naive(stream):
  init_fn, apply_fn = _model(stream)
  return init_fn, lambda s: training.Learner(optax.sgd(s['rate']), apply_fn)


def _replay(stream):
  init_fn, apply_fn = _model(stream)

  def make_learner(setting):
    chain = optax.chain(
      methods.add_memory_gradient(), optax.sgd(setting['rate'])
    )
    tx = methods.with_memory(chain, 20, stream.batch_spec, 8)
    return training.Learner(tx, apply_fn)

  return init_fn, make_learner


_AXES = {'rate': [0.003, 0.3]}
_CONTENDERS = {
  'naive': protocols.Contender(_naive, _AXES),
  'replay': protocols.Contender(_replay, _AXES),
  'joint': protocols.Contender(_naive, _AXES, joint=True),
}
_SCENARIO = protocols.Scenario(_make_stream, 30)


@functools.cache
def _halves():
  return protocols.halve_classes(_data(0), _data(1), seed=0)


@functools.cache
def _tuning():
  return protocols.tune_contenders(
    _CONTENDERS, _halves().tuning, _SCENARIO, seeds=(7, 8)
  )


@functools.cache
def _report():
  return protocols.report_contenders(
    _CONTENDERS, _tuning(), _halves().reporting, _SCENARIO, seeds=(0, 1, 2)
  )


def test_the_setting_is_chosen_on_one_half_and_run_on_the_other():
  report = _report()
  assert report.tuned['naive'].setting == {'rate': pytest.approx(0.3)}
  half = _halves().reporting
  stack = streams.replicate([_make_stream(half, s, 30) for s in (0, 1, 2)])
  trials = protocols.Trials(stack, (0, 1, 2), *_replay(stack))
  alone = protocols.grid({'rate': [0.3]})
  wanted = trials.sweep(alone, (0, 1, 2)).pick(0)
  np.testing.assert_array_equal(report.found['replay'].matrix, wanted.matrix)
  np.testing.assert_allclose(report.accuracy['replay'], wanted.final, rtol=1e-6)


def test_who_forgets_ranks_last():
  ranking = _report().ranking()
  assert ranking.names[-1] == 'naive'
  assert _report().compare('joint', 'naive').difference > 0.2
  assert -1 <= _report().transfer() <= 1


def test_twice_the_gradients_are_half_of_the_steps():
  report = _report()
  assert report.costs['naive']['gradient_evaluations'] == 1
  assert report.costs['replay']['gradient_evaluations'] == 2
  assert report.costs['replay']['stored_bytes'] > 0
  half = _halves().reporting
  stack = streams.replicate([_make_stream(half, s, 15) for s in (0, 1, 2)])
  trials = protocols.Trials(stack, (0, 1, 2), *_replay(stack))
  wanted = trials.sweep(protocols.grid({'rate': [0.3]}), (0, 1, 2)).pick(0)
  equal = report.equal_compute
  np.testing.assert_array_equal(equal['replay'].matrix, wanted.matrix)
  np.testing.assert_array_equal(
    equal['naive'].matrix, report.found['naive'].matrix
  )


def test_the_table_and_the_record_hold_what_was_found():
  lines = _report().format().splitlines()
  assert lines[0].split()[:3] == ['rank', 'score', '+-']
  assert len(lines) == 4
  record = json.loads(json.dumps(_report().record()))
  assert record['contenders']['replay']['settings_tried'] == 2
  assert record['contenders']['replay']['gradient_evaluations'] == 2
  assert len(record['contenders']['naive']['accuracy']) == 3


def test_the_two_phases_in_one_call_are_the_two_calls():
  some = {'naive': _CONTENDERS['naive']}
  report = protocols.tune_then_report(
    some,
    _halves(),
    _SCENARIO,
    tuning_seeds=(7, 8),
    seeds=(0, 1, 2),
    equal_compute=False,
  )
  np.testing.assert_array_equal(
    report.found['naive'].matrix, _report().found['naive'].matrix
  )
  assert report.equal_compute == {}


def test_classes_that_were_tuned_on_are_not_reported():
  report = functools.partial(
    protocols.report_contenders, _CONTENDERS, _tuning(), seeds=(0,)
  )
  with pytest.raises(ValueError, match=r'classes .* were tuned on'):
    report(_halves().tuning, _SCENARIO)

  cheat = protocols.Scenario(
    lambda half, seed, steps: _make_stream(_halves().tuning, seed, steps), 30
  )
  with pytest.raises(ValueError, match=r'of the .* rows were tuned on'):
    report(_halves().reporting, cheat)
  with pytest.raises(ValueError, match='are in both parts'):
    protocols.Halves(_halves().tuning, _halves().tuning)


def test_classes_of_another_data_set_are_others():
  first, second = _halves().tuning, _halves().tuning
  named = protocols.Half(first.train, first.test, first.classes, 'mnist')
  protocols.Halves(named, second)


def test_who_was_not_tuned_is_not_reported():
  with pytest.raises(ValueError, match=r"\['new'\] were not tuned"):
    protocols.report_contenders(
      {'new': _CONTENDERS['naive']},
      _tuning(),
      _halves().reporting,
      _SCENARIO,
      seeds=(0,),
    )
  with pytest.raises(ValueError, match="there is no contender 'new'"):
    _report().compare('naive', 'new')
  with pytest.raises(ValueError, match='steps_per_task'):
    protocols.Scenario(_make_stream, 0)
