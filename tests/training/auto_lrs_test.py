import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, optimize

from lrcl import methods, schedules, training, tree
from lrcl.training import _auto_lrs_proposals, _auto_lrs_stages
from lrcl.training import _auto_lrs_search as search
from lrcl.training import _auto_lrs_trials as trials
from tests.training import problem

# Stages of 20, 40 and 40 steps, then 20 more: the rest of 5 joins.
SMALL = dict(
  min_rate=1e-2,
  max_rate=3.0,
  stage_steps=20,
  max_stage_steps=40,
  trial_steps=6,
  candidates=3,
  chunk_steps=50,
)


# Forecasts.


def decay(a, b, c, size=100):
  return a * np.exp(b * np.arange(size)) + c


@pytest.mark.parametrize(
  'truth, fit',
  [
    ((0.5, -0.03, 1.0), (0.440024, -0.020799, 0.961856)),
    ((0.3, -0.05, 0.2), (0.173018, -0.027103, 0.184986)),
  ],
)
def test_official_fit_of_exponentials_without_noise_is_biased(truth, fit):
  found = training.fit_exponential(decay(*truth))
  np.testing.assert_allclose(found, fit, atol=1e-6)
  at_1000 = training.forecast(decay(*truth), 1000)
  np.testing.assert_allclose(at_1000, fit[2], atol=1e-6)


@pytest.mark.parametrize('size', [10, 100, 800])
def test_without_smoothing_an_exponential_is_found_again(size):
  rng = np.random.default_rng(0)
  for _ in range(10):
    rate = np.exp(rng.uniform(np.log(0.5 / size), 0.0))
    truth = (rng.uniform(0.1, 3.0), -rate, rng.uniform(0.0, 2.0))
    found = training.fit_exponential(decay(*truth, size), smoothing='none')
    np.testing.assert_allclose(found, truth, atol=1e-4)


def slow_official(losses, validation):
  """The authors' pipeline in lists and loops."""
  points = list(enumerate(map(float, losses)))
  half = points[int((len(points) - 1) * 0.5)][0]

  def spline():
    return interpolate.UnivariateSpline(*zip(*points, strict=True), k=2)

  for _ in range(1 if validation else 10):
    fitted = spline()
    order = sorted(
      range(len(points)),
      key=lambda i: abs(points[i][1] - float(fitted(points[i][0]))),
    )
    count = 1 if validation else round(len(points) * 0.03)
    dropped = [i for i in order[len(order) - count :] if i < half]
    points = [p for i, p in enumerate(points) if i not in dropped]
  x = np.arange(len(losses))
  y = spline()(x)

  def columns(log_rate):
    return np.vstack([np.exp(-np.exp(log_rate) * x), np.ones(len(x))]).T

  def residual(log_rate):
    return np.linalg.lstsq(columns(log_rate), y, rcond=None)[1]

  best = optimize.fmin(residual, 0, xtol=1e-5, ftol=1e-5, disp=False)[0]
  a, c = np.linalg.lstsq(columns(best), y, rcond=None)[0]
  return a, -np.exp(best), c


@pytest.mark.parametrize('validation, size', [(0, 10), (0, 90), (1, 16)])
def test_official_fit_equals_a_slow_twin(validation, size):
  for seed in range(5):
    noise = np.random.default_rng(seed).normal(size=size)
    losses = decay(2.0, -4 / size, 0.5, size) + 0.3 * noise
    found = training.fit_exponential(losses, validation=bool(validation))
    wanted = slow_official(losses, validation)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize('smoothing', ['official', 'none'])
def test_losses_that_are_no_decay(smoothing):
  predict = lambda y, at: training.forecast(y, at, smoothing=smoothing)
  steps = np.arange(40.0)
  np.testing.assert_allclose(predict(np.full(40, 0.7), 400), 0.7, atol=1e-9)
  np.testing.assert_allclose(predict(1 + steps, 400), 401, rtol=1e-3)
  assert predict(np.exp(0.1 * steps), 400) > 100
  assert predict(5 - 0.1 * steps, 400) < -30
  levelling = 2 - np.exp(-0.1 * steps)
  np.testing.assert_allclose(predict(levelling, 400), 2, atol=0.2)
  for bad in (np.nan, np.inf):
    assert np.isnan(predict([1.0, 0.9, bad, 0.8], 40))


def test_few_losses_and_unknown_smoothing_are_refused():
  with pytest.raises(ValueError, match=r'shape \(3,\); .* at least 4'):
    training.fit_exponential([1.0, 0.9, 0.8])
  with pytest.raises(ValueError, match="'gauss'; it must be one of 'official'"):
    training.fit_exponential(np.ones(9), smoothing='gauss')
  with pytest.raises(ValueError, match='horizon is -1; it must be >= 0'):
    training.forecast(np.ones(9), -1)


# Proposals.

RANGE = dict(min_rate=1e-3, max_rate=1.0)


def propose(count, loss_of, **kwargs):
  rates, losses = [], []
  for _ in range(count):
    rates.append(training.propose_rate(rates, losses, **RANGE, **kwargs))
    losses.append(loss_of(rates[-1]))
  return np.log10(rates)


def bowl(rate):
  return (np.log10(rate) + 1.3) ** 2


def test_with_the_authors_kappa_proposals_spread_over_the_range():
  found = np.sort(propose(10, bowl))
  assert found[0] < -2.9 and found[-1] > -0.1
  assert np.diff(found).max() < 0.8 and np.diff(found).min() > 0.05


def test_with_a_small_kappa_they_close_in_on_the_minimum():
  found = propose(10, bowl, kappa=2.0)
  assert (np.abs(found[-3:] + 1.3) < 0.1).all()


def test_proposals_are_a_function_of_the_seed():
  np.testing.assert_array_equal(propose(4, bowl), propose(4, bowl))
  assert propose(1, bowl, seed=1)[0] != propose(1, bowl, seed=0)[0]
  assert np.float32(10 ** propose(1, bowl)[0]) > 0


def test_losses_that_are_not_finite_and_rates_told_twice():
  tried = [0.01, 0.01, 0.1]
  nan = training.propose_rate(tried, [0.3, 0.4, np.nan], **RANGE)
  high = training.propose_rate(tried, [0.3, 0.4, 1e6], **RANGE)
  assert nan == high and nan not in tried


def test_batches_of_proposals():
  propose = lambda *args: _auto_lrs_proposals.propose_rates(*args, **RANGE)
  first = np.log10(propose(5, [], []))
  np.testing.assert_allclose(np.diff(first), 3 / 5, rtol=1e-4)
  assert -3 <= first[0] and first[-1] <= 0
  one = [training.propose_rate([0.1], [0.3], **RANGE)]
  assert propose(1, [0.1], [0.3]) == one
  more = propose(3, [0.1], [0.3])
  assert more[0] == one[0] and len(set(more)) == 3


def test_bad_ranges_and_numbers_are_refused():
  with pytest.raises(ValueError, match=r'max_rate is 0.1; it must be > 0.1'):
    training.propose_rate([], [], min_rate=0.1, max_rate=0.1)
  with pytest.raises(ValueError, match=r'min_rate is 0.0; it must be > 0'):
    training.propose_rate([], [], min_rate=0.0, max_rate=0.1)
  with pytest.raises(ValueError, match='1 rates and 0 losses'):
    training.propose_rate([0.1], [], **RANGE)


def test_it_says_where_scikit_learn_comes_from(monkeypatch):
  monkeypatch.setitem(sys.modules, 'sklearn', None)
  with pytest.raises(ImportError, match=r"pip install 'lrcl\[experiments\]'"):
    training.propose_rate([0.1], [0.3], **RANGE)


# Stages.


def settings(**kwargs):
  defaults = dict(
    min_rate=1e-3,
    max_rate=0.1,
    stage_steps=1000,
    max_stage_steps=8000,
    trial_steps=100,
    candidates=10,
    parallel=1,
    kappa=1e6,
    seed=0,
    smoothing='official',
    warmup=None,
    warmup_steps=0,
  )
  return _auto_lrs_stages.Settings(**{**defaults, **kwargs})


def plan(chosen, end):
  stages, step = [], 0
  while step < end:
    stages.append(_auto_lrs_stages.plan_stage(chosen, len(stages), step, end))
    step += stages[-1]['steps']
  return stages


def test_stages_double_up_to_the_longest():
  stages = plan(settings(), 23_000)
  lengths = [1000, 2000, 4000, 8000, 8000]
  assert [s['steps'] for s in stages] == lengths
  assert [s['trial_steps'] for s in stages] == [n // 10 for n in lengths]
  assert [s['after_longest'] for s in stages] == [False] * 4 + [True]


def test_the_last_stage_ends_with_the_stream():
  assert [s['steps'] for s in plan(settings(), 3500)] == [1000, 2000, 500]
  assert plan(settings(), 3500)[-1]['trial_steps'] == 400
  assert [s['steps'] for s in plan(settings(), 3099)] == [1000, 2099]
  assert [s['steps'] for s in plan(settings(), 3100)] == [1000, 2000, 100]


@pytest.mark.parametrize(
  'change, words',
  [
    (dict(trial_steps=3), 'trial_steps is 3; it must be >= 4'),
    (dict(max_stage_steps=999), 'max_stage_steps is 999; it must be >= 1000'),
    (dict(trial_steps=1001), 'it must be at most stage_steps, 1000'),
    (dict(parallel=4), 'parallel is 4; it must divide candidates, 10'),
    (dict(warmup_steps=5), 'warmup_steps is 5 without a warmup'),
    (dict(smoothing='x'), "auto_lrs: smoothing is 'x'"),
    (dict(max_rate=1e-4), 'max_rate is 0.0001; it must be > 0.001'),
  ],
)
def test_settings_that_cannot_be_are_refused(change, words):
  with pytest.raises(ValueError, match=words):
    settings(**change)


# The controller.


def linear(tx=methods.scale_by_schedule_value, traces=None):
  def apply_fn(params, inputs, *, train, **kwargs):
    if traces is not None and train:
      traces.append(inputs.shape)
    return inputs @ params, ()

  return training.Learner(tx, apply_fn)


def start(learner):
  params = jnp.zeros((problem.FEATURES, problem.CLASSES))
  opt_state = learner.tx(0.0).init(params)
  return training.TrainState(jnp.int32(0), params, opt_state, jax.random.key(0))


LEARNER = linear()


def find(learner=LEARNER, lengths=(125,), **kwargs):
  stream = problem.stream(lengths)
  return training.auto_lrs(learner, start(learner), stream, **SMALL, **kwargs)


def without_seconds(stages):
  return [
    {k: v for k, v in stage.items() if k != 'search_seconds'}
    for stage in stages
  ]


def rates_of(records):
  traced = [x for r in records for x in r['trace']['learning_rate']]
  return np.array(traced, np.float32)


@pytest.fixture(scope='module')
def straight():
  with jax.numpy_dtype_promotion('standard'):
    return find()


def test_each_stage_trains_at_the_rate_with_the_lowest_forecast(straight):
  learner, found = LEARNER, straight
  stream, state = problem.stream((125,)), start(learner)
  assert [(s['step'], s['steps']) for s in found.stages] == [
    (0, 20),
    (20, 40),
    (60, 40),
    (100, 25),
  ]
  applied = [s['rate'] for s in found.stages for _ in range(s['steps'])]
  np.testing.assert_array_equal(rates_of(found.records), np.float32(applied))
  for stage in found.stages:
    forecasts = []
    for rate in stage['rates']:
      _, records = training.train_stream(
        learner,
        state,
        stream,
        steps=stage['step'] + stage['trial_steps'],
        hyperparams=np.float32(rate),
        chunk_steps=50,
      )
      losses = np.float32(records[-1]['trace']['loss'])
      forecasts.append(training.forecast(losses, stage['steps']))
    assert forecasts == stage['forecasts']
    assert stage['rate'] == stage['rates'][np.argmin(forecasts)]
    assert stage['search_steps'] == 3 * stage['trial_steps']
    assert stage['search_seconds'] > 0 and stage['uses'] == 'training'
    state, _ = training.train_stream(
      learner,
      state,
      stream,
      steps=stage['step'] + stage['steps'],
      hyperparams=np.float32(stage['rate']),
      chunk_steps=50,
    )
  assert tree.digest(state) == tree.digest(found.state)
  assert found.stages[0]['initial_loss'] == pytest.approx(np.log(4))


def test_search_training_and_warm_up_are_one_program():
  warmup = {
    'name': 'linear_schedule',
    'kwargs': dict(init_value=0.0, end_value=1.0, transition_steps=10),
  }
  traces = []
  find(linear(traces=traces), warmup=warmup, warmup_steps=5)
  together = len(traces)
  traces.clear()
  learner = linear(lambda rate: methods.scale_by_schedule_value(0.1), traces)
  training.train_stream(learner, start(learner), problem.stream((20,)))
  assert together == len(traces)


def test_the_warm_up_is_run_and_not_searched():
  warmup = {
    'name': 'linear_schedule',
    'kwargs': dict(init_value=0.0, end_value=1.0, transition_steps=10),
  }
  found = find(warmup=warmup, warmup_steps=5)
  exact = [np.float32(x) for x in (0.0, 0.1, 0.2, 0.3, 0.4)]
  np.testing.assert_allclose(rates_of(found.records)[:5], exact, rtol=1e-6)
  assert found.stages[0]['step'] == 5
  assert found.schedule['kwargs']['boundaries'] == [5, 25, 65, 105]
  schedule = schedules.build_schedule(found.schedule)
  replayed = [float(np.float32(schedule(step))) for step in range(125)]
  np.testing.assert_allclose(rates_of(found.records), replayed, rtol=1e-6)


@pytest.mark.parametrize('every_k', [1, 3])
def test_the_schedule_that_was_found_replays(every_k):
  def tx(rate):
    link = methods.scale_by_schedule_value(rate)
    return link if every_k == 1 else methods.accumulate(link, every_k)

  found = find(linear(tx))
  schedule = schedules.build_schedule(found.schedule)
  learner = training.Learner(tx(schedule), linear().apply_fn)
  begin = start(linear(tx))
  state, records = training.train_stream(
    learner, begin, problem.stream((125,)), chunk_steps=50
  )
  if every_k == 1:
    np.testing.assert_array_equal(rates_of(records), rates_of(found.records))
  np.testing.assert_allclose(state.params, found.state.params, rtol=1e-5)


@pytest.mark.parametrize('lengths', [(125,), (64, 61)])
def test_trials_side_by_side_equal_trials_one_by_one(lengths):
  ended = []

  def on_task_end(state, task_data, key):
    ended.append(task_data['inputs'].shape)
    return state._replace(params=0.5 * state.params)

  learner = training.Learner(
    methods.scale_by_schedule_value, linear().apply_fn, on_task_end=on_task_end
  )
  stream, state = problem.stream(lengths), start(learner)
  validate = lambda state: jnp.sum(jnp.square(state.params))
  make = lambda together: trials.Trials(
    learner,
    stream,
    length=50,
    hyperparams=lambda rates: np.asarray(rates, np.float32),
    validate=validate,
    together=together,
  )
  rates = [0.01, 0.3, 2.0]
  for every in (None, 20):
    one_by_one = make(False).run(state, rates, 0, 90, every)
    together = make(True).run(state, rates, 0, 90, every)
    assert one_by_one.shape == (3, 90 if every is None else 4)
    assert np.ptp(one_by_one[:, -1]) > 1e-2
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5)
  assert bool(ended) == (len(lengths) > 1)


def test_side_by_side_the_search_finds_what_its_trials_say():
  found = find(parallel=3)
  stage = found.stages[0]
  steps = np.diff(np.log(stage['rates']))
  np.testing.assert_allclose(steps, np.log(300) / 3, rtol=1e-4)
  assert stage['rate'] == stage['rates'][np.argmin(stage['forecasts'])]


def test_after_the_longest_stage_the_validation_loss_is_forecast():
  seen = []

  def validate(state):
    seen.append(int(state.step))
    return 1.0 / (1 + state.step)

  found = find(validate=validate, steps=105)
  uses = [stage['uses'] for stage in found.stages]
  assert uses == ['training', 'training', 'validation', 'validation']
  trial = list(range(61, 73)) * 3 + list(range(101, 113)) * 3
  assert seen == trial
  last = found.stages[-1]
  wanted = training.forecast(
    [1 / (1 + step) for step in range(101, 113)], 25, validation=True
  )
  np.testing.assert_allclose(last['forecasts'], wanted, rtol=1e-4)


def test_a_validation_loss_no_better_than_at_first_is_not_forecast():
  found = find(validate=lambda state: 2.0 + state.step, steps=70)
  assert found.stages[2]['forecasts'] == [2.0 + 72] * 3


def test_a_rate_at_which_the_loss_diverges_is_not_taken():
  def tx(rate):
    bad = jnp.where(rate > 0.5, jnp.nan, rate)
    return methods.scale_by_schedule_value(bad)

  found = find(linear(tx))
  forecasts = [x for s in found.stages for x in s['forecasts']]
  assert 1e6 in forecasts
  assert all(stage['rate'] <= 0.5 for stage in found.stages)
  with pytest.raises(FloatingPointError, match='from step 0 on the loss dive'):
    training.auto_lrs(
      linear(tx),
      start(LEARNER),
      problem.stream((125,)),
      **{**SMALL, 'min_rate': 0.6},
    )


class Killed(Exception):
  pass


@pytest.mark.parametrize('kill_at', [20, 40])
def test_killed_and_started_again_it_ends_bit_identical(
  tmp_path, kill_at, straight
):
  def kill(record):
    if record['step'] == kill_at:
      raise Killed

  again = dict(save_every=10, evaluate_every=10)
  with training.Branches(tmp_path) as branches:
    with pytest.raises(Killed):
      find(branches=branches, on_record=kill, **again)
  with training.Branches(tmp_path) as branches:
    found = find(branches=branches, **again)
    file = branches.directory('main') / _auto_lrs_stages.FILE
    lines = [json.loads(line) for line in file.read_text().splitlines()]
  assert tree.digest(found.state) == tree.digest(straight.state)
  assert found.schedule == straight.schedule
  assert without_seconds(found.stages) == without_seconds(straight.stages)
  assert without_seconds(lines) == without_seconds(straight.stages)


def test_two_stages_then_the_rest_is_as_all_at_once(tmp_path, straight):
  with training.Branches(tmp_path) as branches:
    first = find(branches=branches, steps=60)
    assert len(first.stages) == 2
    found = find(branches=branches)
    with pytest.raises(ValueError, match=r'steps is 60; .* goes on, 125'):
      find(branches=branches, steps=60)
    with pytest.raises(ValueError, match='searched with seed 0, not 1'):
      find(branches=branches, seed=1)
  assert tree.digest(found.state) == tree.digest(straight.state)
  assert found.schedule == straight.schedule


def test_it_goes_on_from_a_fork(tmp_path):
  with training.Branches(tmp_path) as branches:
    find(branches=branches, steps=60)
    branches.fork('main', 60, 'other')
    found = find(branches=branches, branch='other')
  assert [(s['step'], s['steps']) for s in found.stages] == [(60, 20), (80, 45)]
  assert found.records[0]['parent'] == ['main', 60]


def test_a_branch_that_trained_on_without_a_search_is_refused(tmp_path):
  learner = linear()
  with training.Branches(tmp_path) as branches:
    found = find(branches=branches, steps=20)
    training.train_stream(
      learner,
      found.state,
      problem.stream((125,)),
      steps=30,
      hyperparams=np.float32(0.1),
      branches=branches,
    )
    with pytest.raises(ValueError, match='at step 30, past its last stage'):
      find(branches=branches)


def test_what_cannot_be_searched_is_refused():
  chain = training.Learner(
    methods.scale_by_schedule_value(0.1), linear().apply_fn
  )
  learner = linear()
  with pytest.raises(TypeError, match='must be a function of the rate'):
    training.auto_lrs(chain, start(learner), problem.stream(), **SMALL)
  with pytest.raises(ValueError, match=r'ends at step 5 .* trial_steps, 6'):
    find(lengths=(5,))
  with pytest.raises(ValueError, match='do not run under pmap'):
    find(axis_name='devices')


def test_on_a_mesh():
  found = find(mesh=training.data_mesh(), steps=20)
  single = find(steps=20)
  assert found.stages[0]['rate'] == single.stages[0]['rate']
  np.testing.assert_allclose(found.state.params, single.state.params, rtol=1e-5)


def test_validation_is_called_about_sixteen_times():
  calls = lambda n: n // search.validate_every({'trial_steps': n})
  assert [calls(n) for n in (6, 16, 50, 100, 800)] == [6, 16, 16, 16, 16]
