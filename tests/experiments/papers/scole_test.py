import jax
import numpy as np
import optax
import pytest

from experiments.papers import images, scole, scole_runs, sequences
from lrcl import losses, methods, protocols, streams, training

SCALE = scole_runs.Scale(10, 10, (0.1,), (100,), (0, 1))


def _curve(end, *, tenth=0.5, early=0.2, tasks=100):
  rng = np.random.default_rng(0)
  curve = np.full((3, tasks), end) + 0.001 * rng.standard_normal((3, tasks))
  curve[:, tasks // 10 - 1] += tenth - end
  curve[:, 9] = early
  return curve


def _judge(plain, masked=0.8, momentum=0.8):
  curves = {
    'plain SGD': plain,
    'masked': _curve(masked),
    'momentum': _curve(momentum),
  }
  return list(scole.judge(curves).values())


def test_the_parts_of_the_claim_follow_the_curves():
  long = {'tasks': 200}
  assert _judge(_curve(0.8, **long)) == [True, True, False, False]
  assert _judge(_curve(0.4, **long))[:2] == [False, False]
  assert _judge(_curve(0.8, tenth=0.9, **long))[:2] == [True, False]
  found = _judge(_curve(0.8, **long), masked=0.9, momentum=0.7)
  assert found == [True, True, True, True]
  found = _judge(_curve(0.8, **long), masked=0.7, momentum=0.9)
  assert found == [True, True, False, False]


def test_the_schedules_have_the_peak_of_1_and_end_as_they_are_called():
  steps = np.arange(1000)
  made = scole_runs.make_schedules(1000)
  values = {
    n: np.broadcast_to(jax.vmap(s)(steps), 1000) for n, s in made.items()
  }
  assert set(values) == {c.schedule for c in scole_runs.CONTENDERS.values()}
  for name, value in values.items():
    np.testing.assert_allclose(value.max(), 1.0, rtol=1e-3, err_msg=name)
  assert (values['constant'] == 1).all()
  np.testing.assert_allclose(values['infinite'][210:900], 0.3, rtol=1e-5)
  assert values['infinite'][-1] < 0.02
  for name in ('WSD-S', 'cosine cycles'):
    low = values[name].reshape(10, 100)
    assert (low[:, -1] < 0.2).all() and (low.max(1) > 0.9).all()
  np.testing.assert_allclose(values['inverse sqrt'][-1], 0.1, rtol=1e-2)


@pytest.fixture(scope='module')
def digits():
  return images.load_images('digits', train_rows=400, test_rows=60)


def _single(images_, name, seed):
  return scole_runs.make_streams(images_, SCALE)[name](seed)


def test_the_other_streams_are_what_they_are_called(digits):
  labels = digits.train['labels']
  seen = {
    name: labels[_single(digits, name, 0).chunk(0, 100).indices]
    for name in scole_runs.make_streams(digits, SCALE)
  }
  pairs = {
    name: [tuple(np.unique(x)) for x in rows.reshape(10, -1)]
    for name, rows in seen.items()
  }
  assert all(len(p) == 2 for tasks in pairs.values() for p in tasks)
  assert pairs['cyclic'][:5] == pairs['cyclic'][5:]
  assert len(set().union(*pairs['cyclic'])) == 10
  assert pairs['removed'][:5] == pairs['uniform'][:5]
  gone = set(scole_runs.removed_classes(0).tolist())
  assert not gone & set(seen['removed'][50:].ravel().tolist())
  assert gone & set(seen['removed'][:50].ravel().tolist())


def test_a_run_is_what_the_loop_makes_of_the_same_stream(digits):
  make = scole_runs.make_streams(digits, SCALE)['uniform']
  stack = streams.replicate([make(seed) for seed in SCALE.every_seed])
  setting = {'rate': 0.1, 'schedule': 2.0, 'masked': 1.0, 'momentum': 0.5}
  trials = scole_runs.make_trials(stack, SCALE)
  alone = protocols.grid({name: [x] for name, x in setting.items()})
  found = trials.sweep(alone, [1]).pick((0, 0)).accuracy[:, -1]

  single = make(1)
  init_fn, apply_fn = sequences.make_mlp(single, scole_runs.FEATURES)
  learner = training.Learner(
    _chain(setting),
    apply_fn,
    loss_fn=losses.local_cross_entropy,
  )
  state = training.create_state(init_fn, _chain(setting), jax.random.key(1))
  _, records = training.train_stream(
    learner,
    state,
    single,
    evaluate=training.make_evaluator(learner, single),
  )
  wanted = np.array([record['metrics']['accuracy'] for record in records])
  np.testing.assert_allclose(found, wanted, atol=1e-6)


def _chain(setting):
  schedule = scole_runs.make_schedules(SCALE.steps)['WSD-S']
  rate = lambda count: setting['rate'] * schedule(count)
  link = methods.scale_by_schedule_value(rate)
  return optax.chain(optax.trace(setting['momentum']), link)


def test_every_contender_is_tuned_over_as_many_rates():
  scale = SCALE._replace(rates=(0.1, 0.3))
  for contender in scole_runs.CONTENDERS.values():
    axes = scole_runs._axes(contender, scale)
    assert len(axes['rate']) == 2
    share = 1 - contender.momentum
    np.testing.assert_allclose(axes['rate'], [0.1 * share, 0.3 * share])
