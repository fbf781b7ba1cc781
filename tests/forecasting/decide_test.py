"""To decay or not: laws that are known, records, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, streams, training
from lrcl.forecasting import (
  AnnealingLaw,
  Curve,
  LawEnsemble,
  curves_from_records,
  fit_annealing_law,
  should_decay_now,
)
from lrcl.schedules import decay_branch, wsd_schedule

TRUE = AnnealingLaw(2.0, 0.5, 0.5, 0.05, 0.99)
NOW = 600
TRUNK = optax.constant_schedule(0.1)


def _rates(schedule, steps):
  return np.asarray(jax.vmap(schedule)(jnp.arange(steps)), np.float64)


def _record(step, start, rates, loss, branch='main', parent=None):
  trace = {'start': start, 'learning_rate': rates, 'loss': [0.0] * len(rates)}
  return {
    'step': step,
    'branch': branch,
    'parent': parent,
    'row': 'a',
    'metrics': {'loss': [loss, None]},
    'trace': trace,
  }


def _records(name, schedule, steps, parent=None, noise=0.0, every=20):
  """Records of a branch under the true law."""
  rates = _rates(schedule, steps)
  losses = np.array(TRUE.predict(rates))
  rng = np.random.default_rng(steps)
  losses *= np.exp(noise * rng.normal(size=steps))
  begin = parent[1] if parent else 0
  return [
    _record(s, s - every, rates[s - every : s], losses[s - 1], name, parent)
    for s in range(begin + every, steps + 1, every)
  ]


def _run(noise=0.0):
  """A trunk of 600 steps, and a decay that forked from it at 300."""
  early = decay_branch(TRUNK, 300, 100)
  return [
    *_records('main', TRUNK, NOW, noise=noise),
    *_records('early', early, 400, ('main', 300), noise=noise),
  ]


def _true_end(length, start=NOW):
  rates = _rates(decay_branch(TRUNK, start, length), start + length)
  return float(TRUE.predict(rates)[-1])


def test_records_give_the_curves_of_all_branches():
  curves = curves_from_records(reversed(_run()))
  main, early = curves['main'], curves['early']
  np.testing.assert_allclose(main.lrs, _rates(TRUNK, NOW), rtol=1e-6)
  np.testing.assert_allclose(
    early.lrs, _rates(decay_branch(TRUNK, 300, 100), 400), rtol=1e-6
  )
  np.testing.assert_array_equal(early.steps, np.arange(319, 400, 20))
  np.testing.assert_allclose(
    early.losses, TRUE.predict(early.lrs, early.steps), rtol=1e-6
  )


def test_a_known_law_decides_by_the_target():
  records = _run()
  ends = {length: _true_end(length) for length in (50, 200)}
  found = should_decay_now(records, [200, 50], target=ends[50] + 1e-3, law=TRUE)
  assert found.decay and found.step == NOW and found.decay_steps == 50
  for outlook in found.outlooks:
    end = ends[outlook.decay_steps]
    np.testing.assert_allclose(outlook.loss, end, rtol=1e-6)
    np.testing.assert_allclose(outlook.interval, [end, end], rtol=1e-6)
    later = _true_end(outlook.decay_steps, NOW + outlook.decay_steps)
    np.testing.assert_allclose(outlook.later_loss, later, rtol=1e-6)
    np.testing.assert_allclose(outlook.waiting, [end - later] * 2, atol=1e-6)
    on = _rates(TRUNK, NOW + outlook.decay_steps)
    np.testing.assert_allclose(
      outlook.trunk_loss, TRUE.predict(on)[-1], rtol=1e-6
    )
  between = 0.5 * (ends[50] + ends[200])
  found = should_decay_now(records, [50, 200], target=between, law=TRUE)
  assert found.decay and found.decay_steps == 200
  found = should_decay_now(
    records, [50, 200], target=ends[200] - 1e-3, law=TRUE
  )
  assert not found.decay and 'above the target' in ' '.join(found.reasons)


def test_a_known_law_decides_by_what_waiting_gains():
  records = _run()
  (outlook,) = should_decay_now(records, 100, worth=0.0, law=TRUE).outlooks
  gain = outlook.waiting[0]
  assert gain > 0
  assert should_decay_now(records, 100, worth=2 * gain, law=TRUE).decay
  assert not should_decay_now(records, 100, worth=gain / 2, law=TRUE).decay


def test_no_decay_that_does_not_help():
  useless = TRUE._replace(gain=0.0)
  found = should_decay_now(_run(), 100, target=10.0, law=useless)
  assert not found.decay
  assert 'no better than going on' in ' '.join(found.reasons)


def test_an_uncertain_law_is_not_sure_of_the_target():
  end = _true_end(100)
  gains = TRUE.gain * np.array([0.5, 1.0, 1.5])
  members = AnnealingLaw(*(np.full(3, x) for x in TRUE))._replace(gain=gains)
  laws = LawEnsemble(TRUE, members)
  found = should_decay_now(_run(), 100, target=end + 1e-4, law=laws)
  low, high = found.outlooks[0].interval
  assert low < end < high and not found.decay
  assert 'not surely at or below' in ' '.join(found.reasons)
  assert should_decay_now(_run(), 100, target=high + 1e-4, law=laws).decay


def test_the_laws_come_from_the_records():
  end = _true_end(100)
  found = should_decay_now(
    _run(noise=1e-3),
    100,
    target=end + 0.02,
    num_laws=4,
    fit=lambda curves, **kw: fit_annealing_law(curves, decay=0.99, **kw),
  )
  (outlook,) = found.outlooks
  np.testing.assert_allclose(outlook.loss, end, atol=0.01)
  low, high = outlook.interval
  assert low < outlook.loss < high and high - low < 0.02
  assert found.decay


def test_the_trunk_need_not_be_constant():
  schedule = wsd_schedule(0.1, 10, 590, 400, end_value=0.05)
  records = _records('main', schedule, NOW)
  found = should_decay_now(records, 100, target=1.0, law=TRUE, trunk=schedule)
  rates = _rates(schedule, NOW + 100)
  np.testing.assert_allclose(
    found.outlooks[0].trunk_loss, TRUE.predict(rates)[-1], rtol=1e-6
  )


def test_a_run_without_a_decay_is_refused():
  records = _records('main', TRUNK, NOW)
  with pytest.raises(ValueError, match=r'no rate of main falls.*Give law='):
    should_decay_now(records, 100, target=2.0)
  assert should_decay_now(records, 100, target=3.0, law=TRUE).decay


def test_errors():
  records = _run()
  with pytest.raises(ValueError, match='target is None and worth None'):
    should_decay_now(records, 100, law=TRUE)
  with pytest.raises(ValueError, match=r'target is 2\.0 and worth 1\.0'):
    should_decay_now(records, 100, target=2.0, worth=1.0, law=TRUE)
  with pytest.raises(ValueError, match="branch is 'x'; there are main, early"):
    should_decay_now(records, 100, target=2.0, law=TRUE, branch='x')
  with pytest.raises(ValueError, match='decay_steps is 0'):
    should_decay_now(records, [0], target=2.0, law=TRUE)
  with pytest.raises(ValueError, match='decay_steps is empty'):
    should_decay_now(records, [], target=2.0, law=TRUE)
  with pytest.raises(ValueError, match="decay is 'x'"):
    should_decay_now(records, 100, target=2.0, law=TRUE, decay='x')


def test_records_that_lack_something():
  with pytest.raises(ValueError, match="'early' forked from 'main', of which"):
    curves_from_records(r for r in _run() if r['branch'] == 'early')
  with pytest.raises(ValueError, match='has the rate of step 40'):
    curves_from_records(r for r in _run() if r['step'] != 60)
  with pytest.raises(ValueError, match=r"rows \['a', 'b'\]"):
    curves_from_records([*_run(), _run()[0] | {'row': 'b'}])
  apart = _run()[0]
  rates = np.stack([apart['trace']['learning_rate'], np.zeros(20)])
  apart = apart | {'trace': apart['trace'] | {'learning_rate': rates}}
  with pytest.raises(ValueError, match=r'replicas.*different rates'):
    curves_from_records([apart])


def test_curves_need_no_records():
  lrs = _rates(TRUNK, NOW)
  curve = Curve(lrs, TRUE.predict(lrs, [599]), [599])
  found = should_decay_now({'main': curve}, 100, target=3.0, law=TRUE)
  assert found.decay


def test_the_records_of_a_run():
  train, test = streams.digits()
  stream = streams.split(
    train, num_tasks=1, batch_size=16, steps_per_task=30, test=test
  )
  init_fn, apply_fn = models.from_module(
    models.MLP((8,), 10), train['inputs'][:1]
  )
  schedule = wsd_schedule(0.1, 5, 15, 10)
  learner = training.Learner(
    methods.scale_by_schedule_value(schedule), apply_fn
  )
  state = training.create_state(init_fn, learner.tx, jax.random.key(0))
  _, records = training.train_stream(
    learner,
    state,
    stream,
    evaluate=training.make_evaluator(learner, stream),
    evaluate_every=10,
  )
  curve = curves_from_records(records)['main']
  np.testing.assert_allclose(curve.lrs, _rates(schedule, 30), rtol=1e-6)
  np.testing.assert_array_equal(curve.steps, [9, 19, 29])
  wanted = [record['metrics']['loss'] for record in records]
  np.testing.assert_allclose(curve.losses, np.array(wanted).mean(-1), rtol=1e-6)
  found = should_decay_now(records, 5, target=9.0, law=TRUE)
  assert found.step == 30
