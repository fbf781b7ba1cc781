import json
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, schedules, streams, training, tree
from tests.training import problem


def run(learner, state, stream, **kwargs):
  evaluate = training.make_evaluator(learner, stream)
  return training.train_stream(
    learner, state, stream, evaluate=evaluate, chunk_steps=10, **kwargs
  )


def test_loop_equals_steps_by_hand():
  init_fn, learner = problem.everything()
  stream = problem.stream()
  state = problem.new_state(init_fn, learner)
  got, records = run(learner, state, stream)
  step = jax.jit(
    training.make_train_step(learner.apply_fn, learner.loss_fn, learner.tx)
  )
  losses = []
  for i in range(stream.num_steps):
    if i in stream.boundaries:
      state = end_task_by_hand(learner, stream, state, i)
    chunk = stream.chunk(i, 1)
    task_id = jnp.int32(chunk.task_ids[0])
    batch = streams.make_batch(
      stream.rows(chunk.indices[0]),
      {},
      task_id,
      chunk.weights[0],
      stream.prepare,
    )
    state, info = step(state, batch, task_id)
    losses.append(float(info.loss))
  traced = [x for r in records for x in r['trace']['loss']]
  np.testing.assert_allclose(traced, losses, rtol=2e-4)
  same = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5)
  jax.tree.map(same, got.params, state.params)


def end_task_by_hand(learner, stream, state, step):
  task = int(stream.chunk(step - 1, 1).task_ids[0])
  indices, weights = stream.task_batches(task, problem.BATCH)
  batches = [
    streams.make_batch(
      stream.rows(rows), {}, jnp.int32(task), weight, stream.prepare
    )
    for rows, weight in zip(indices, weights, strict=True)
  ]
  return learner.on_task_end(state, batches, jax.random.key(0))


def test_compiles_once_whatever_the_lengths(tmp_path):
  traces = []
  init_fn, apply_fn = problem.model()

  def counting(params, inputs, *, train, **kwargs):
    traces.append(train)
    return apply_fn(params, inputs, train=train, **kwargs)

  def traces_of(lengths, **kwargs):
    tx = methods.scale_by_schedule_value(0.05)
    learner = training.Learner(tx, lambda *a, **k: counting(*a, **k))
    state = problem.new_state(init_fn, learner)
    traces.clear()
    training.train_stream(
      learner, state, problem.stream(lengths), chunk_steps=50, **kwargs
    )
    return traces.count(True)

  once = traces_of((50,))
  with training.Branches(tmp_path) as branches:
    many = traces_of((53, 17, 101), branches=branches, save_every=40)
    assert {53, 70, 171, 40, 80, 160} & set(branches.steps()) >= {160, 171}
  assert many == once


def test_a_second_call_finds_the_program_compiled():
  init_fn, apply_fn = problem.model()
  traces = []

  def counting(*args, **kwargs):
    traces.append(1)
    return apply_fn(*args, **kwargs)

  make_tx = lambda rate: methods.scale_by_schedule_value(lambda step: rate)
  learner = training.Learner(make_tx, counting)
  state = training.create_state(init_fn, make_tx(0.0), jax.random.key(0))
  ends, counts = [], []
  for rate in (0.1, 0.2, 0.1):
    end, _ = training.train_stream(
      learner, state, problem.stream((9,)), hyperparams=jnp.float32(rate)
    )
    ends.append(tree.digest(end.params))
    counts.append(len(traces))
  assert counts[0] == counts[1] == counts[2]
  assert ends[0] == ends[2] != ends[1]


def test_host_path_equals_resident_path_bit_for_bit():
  init_fn, learner = problem.everything()
  state = problem.new_state(init_fn, learner)
  resident, first = run(learner, state, problem.stream(), evaluate_every=7)
  host, second = run(
    learner, state, problem.stream(source=problem.Host()), evaluate_every=7
  )
  few, third = run(
    learner, state, problem.stream(), evaluate_every=7, resident_bytes=0
  )
  assert tree.digest(resident) == tree.digest(host) == tree.digest(few)
  assert first == third
  drop = lambda records: [{**r, 'plan': None} for r in records]
  assert drop(first) == drop(second)


class Batches:
  """A pipeline of batches of its own: a function of the step."""

  def seek(self, step):
    self.step = step

  def __next__(self):
    rng = np.random.default_rng(self.step)
    rows = rng.integers(0, 64, problem.BATCH)
    self.step += 1
    return {k: v[rows] for k, v in problem.arrays().items()}


def test_an_iterator_with_seek_trains_and_resumes():
  init_fn, learner = problem.plain()
  stream = streams.from_iterator(
    Batches(),
    num_steps=25,
    batch_size=problem.BATCH,
    num_classes=problem.CLASSES,
  )
  state = problem.new_state(init_fn, learner)
  train = lambda state, steps: training.train_stream(
    learner, state, stream, steps=steps, chunk_steps=10
  )
  whole, records = train(state, 25)
  half, _ = train(state, 13)
  again, _ = train(half, 25)
  assert tree.digest(again) == tree.digest(whole)
  losses = records[0]['trace']['loss']
  assert len(losses) == 25 and losses[-1] < losses[0]


def test_mapped_arrays_are_gathered_on_the_host(tmp_path):
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  source = {}
  for name, column in problem.arrays().items():
    np.save(tmp_path / name, column)
    source[name] = np.load(tmp_path / f'{name}.npy', mmap_mode='r')
  want, _ = run(learner, state, problem.stream())
  got, _ = run(learner, state, problem.stream(source=source))
  assert tree.digest(got) == tree.digest(want)


def test_replicas_equal_single_runs_bit_for_bit():
  init_fn, learner = problem.everything()
  parts = [problem.stream(seed=seed) for seed in (3, 4)]
  states = training.create_states(init_fn, learner.tx, (3, 4))
  got, records = run(learner, states, streams.replicate(parts))
  for i, seed in enumerate((3, 4)):
    state = problem.new_state(init_fn, learner, seed)
    want, alone = run(learner, state, parts[i])
    assert tree.digest(jax.tree.map(lambda x, i=i: x[i], got)) == tree.digest(
      want
    )
    for record, single in zip(records, alone, strict=True):
      assert record['trace']['loss'][i] == single['trace']['loss']
      assert record['metrics']['accuracy'][i] == single['metrics']['accuracy']
      for name, rate in single['effective_learning_rate'].items():
        assert record['effective_learning_rate'][name][i] == rate


def test_vmap_over_replicas_is_close():
  from lrcl.training import _chunk

  init_fn, learner = problem.everything()
  stacked = streams.replicate([problem.stream(seed=seed) for seed in (3, 4)])
  ends = []
  for use_vmap in (True, False):
    states = training.create_states(init_fn, learner.tx, (3, 4))
    chunk = _chunk.make_chunk(
      learner,
      stacked.prepare,
      length=10,
      resident=True,
      replicas=2,
      use_vmap=use_vmap,
    )
    inputs = _chunk.read_chunk(stacked, 0, 10, 10, True)
    data = jax.tree.map(jnp.asarray, dict(stacked.source))
    ends.append(
      chunk(states, data, stacked.tables, inputs, jnp.int32(10), None)[0]
    )
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
  jax.tree.map(close, ends[0].params, ends[1].params)


@pytest.mark.parametrize('stop', [7, 20, 26, 32])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, stop):
  init_fn, learner = problem.everything()
  stream = problem.stream()
  state = problem.new_state(init_fn, learner)
  options = dict(evaluate_every=9, save_every=13)
  whole, records = run(learner, state, stream, **options)
  with training.Branches(tmp_path, like=state) as branches:
    _, before = run(
      learner, state, stream, branches=branches, steps=stop, **options
    )
    if stop not in (20, 32):  # the last record was made because it ended
      before = before[:-1]
    steps = [s for s in branches.steps() if s < stop or s in (20, 32)]
    step = steps[-1] if steps else None
    if step is None:
      return
    restored = branches.restore(step=step)
    kept = [r for r in before if r['step'] <= step]
    resumed, after = run(
      learner, restored.state, stream, trace=restored.extra['trace'], **options
    )
  assert tree.digest(resumed) == tree.digest(whole)
  fields = lambda r: {k: r[k] for k in r if k not in ('parent', 'schedule')}
  assert [fields(r) for r in kept + after] == [fields(r) for r in records]


def test_the_callers_state_survives():
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  before = tree.digest(state)
  run(learner, state, problem.stream())
  assert tree.digest(state) == before


def wanted_rates(schedule, steps):
  return [np.float32(schedule(jnp.int32(s))) for s in range(steps)]


def test_rate_in_the_records_is_the_schedule_at_every_step():
  schedule = schedules.wsd_schedule(0.3, 5, 30, 12)
  init_fn, learner = problem.plain(schedule)
  state = problem.new_state(init_fn, learner)
  _, records = run(learner, state, problem.stream(), evaluate_every=4)
  rates = [x for r in records for x in r['trace']['learning_rate']]
  starts = [r['trace']['start'] for r in records]
  want = [float(f'{x:.9g}') for x in wanted_rates(jax.jit(schedule), 47)]
  assert rates == want
  assert starts == [0, *[r['step'] for r in records[:-1]]]
  assert [r['schedule_count'] for r in records] == [r['step'] for r in records]


def test_per_task_rate_restarts_in_the_records():
  schedule = schedules.per_task(schedules.wsd_schedule(1.0, 3, 6, 3))
  init_fn, learner = problem.plain(schedule)
  state = problem.new_state(init_fn, learner)
  _, records = run(learner, state, problem.stream((12, 12, 12)))
  rates = [x for r in records for x in r['trace']['learning_rate']]
  row = wanted_rates(jax.jit(schedules.wsd_schedule(1.0, 3, 6, 3)), 12)
  np.testing.assert_array_equal(np.float32(rates), np.float32(row * 3))


def test_records_say_what_they_must(tmp_path):
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  seen = []
  with training.Branches(tmp_path) as branches:
    branches.create('main', schedule={'name': 'x', 'kwargs': {}}, config='c')
    _, records = run(
      learner,
      state,
      problem.stream(),
      evaluate_every=10,
      branches=branches,
      on_record=seen.append,
      about={'row': 'naive', 'seeds': None, 'config': 'c'},
    )
  assert seen == records
  assert [r['step'] for r in records] == [10, 20, 30, 32, 40, 47]
  assert [r['step'] for r in records if r['task_end']] == [20, 32, 47]
  assert [r['task'] for r in records] == [0, 0, 1, 1, 2, 2]
  last = records[-1]
  assert last['branch'] == 'main' and last['parent'] is None
  assert last['schedule'] == {'name': 'x', 'kwargs': {}}
  assert last['row'] == 'naive' and last['config'] == 'c'
  assert len(last['metrics']['accuracy']) == last['num_tasks'] == 3
  assert len(last['plan']) == 64 and last['versions']['jax']
  assert json.loads(json.dumps(last)) == last


def test_nan_loss_stops_with_step_rate_and_last_good_checkpoint(tmp_path):
  schedule = lambda step: jnp.where(step < 25, 0.05, 1e38)
  init_fn, learner = problem.plain(schedule)
  state = problem.new_state(init_fn, learner)
  with training.Branches(tmp_path) as branches:
    with pytest.raises(FloatingPointError) as error:
      run(learner, state, problem.stream(), branches=branches)
    message = str(error.value)
    assert 'step 26' in message and 'learning rate 1e+38' in message
    assert 'last good checkpoint is step 20' in message
    assert branches.steps() == [20]
    branches.restore(like=state)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
  schedule = lambda step: jnp.where(step < 19, 0.05, jnp.inf)
  init_fn, learner = problem.plain(schedule)
  state = problem.new_state(init_fn, learner)
  with training.Branches(tmp_path) as branches:
    words = r'parameter is not finite at step 20 \(task 0, learning rate inf\)'
    with pytest.raises(FloatingPointError, match=words):
      run(learner, state, problem.stream(), branches=branches)
    assert branches.steps() == []


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path, number):
  init_fn, learner = problem.everything()
  state = problem.new_state(init_fn, learner)
  stream = problem.stream((40, 40))
  whole, records = run(learner, state, stream, evaluate_every=25)
  kept = []

  def kill(record):
    kept.append(record)
    if record['step'] == 25:
      os.kill(os.getpid(), number)

  with training.Branches(tmp_path) as branches:
    with pytest.raises(training.Interrupted, match='stopped at step'):
      run(
        learner,
        state,
        stream,
        evaluate_every=25,
        branches=branches,
        on_record=kill,
      )
    restored = branches.restore(like=state)
    assert 25 <= restored.step < 80
    end, after = run(
      learner,
      restored.state,
      stream,
      evaluate_every=25,
      trace=restored.extra['trace'],
    )
  assert tree.digest(end) == tree.digest(whole)
  fields = lambda r: {k: r[k] for k in r if k not in ('parent', 'schedule')}
  assert [fields(r) for r in kept + after] == [fields(r) for r in records]


def test_a_signal_in_the_last_chunk_is_not_lost(tmp_path):
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  kill = lambda record: os.kill(os.getpid(), signal.SIGINT)
  with training.Branches(tmp_path) as branches:
    with pytest.raises(training.Interrupted, match='stopped at step 9 of 9'):
      run(
        learner,
        state,
        problem.stream((9,)),
        branches=branches,
        on_record=kill,
      )
    assert branches.restore(like=state).step == 9


def test_works_outside_the_main_thread():
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  ends = []
  work = lambda: ends.append(run(learner, state, problem.stream())[0])
  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert int(ends[0].step) == 47


@pytest.mark.parametrize('steps', [-1, 48])
def test_steps_outside_the_stream_are_refused(steps):
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  with pytest.raises(ValueError, match=f'steps is {steps}'):
    run(learner, state, problem.stream(), steps=steps)


@pytest.mark.parametrize('name', ['evaluate_every', 'save_every'])
def test_intervals_must_be_positive(name):
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  with pytest.raises(ValueError, match=f'{name} is -4'):
    run(learner, state, problem.stream(), **{name: -4})


def test_a_replicated_stream_is_not_for_pmap():
  init_fn, learner = problem.plain()
  states = training.create_states(init_fn, learner.tx, (0, 1))
  stacked = streams.replicate([problem.stream(), problem.stream(seed=1)])
  with pytest.raises(ValueError, match='axis_name does not go with'):
    run(learner, states, stacked, axis_name='data')


def test_a_state_is_created_under_jit_too():
  init_fn, learner = problem.plain()
  create = lambda key: training.create_state(init_fn, learner.tx, key)
  for outer in (jax.jit, jax.vmap):
    keys = jax.random.split(jax.random.key(0), 2)
    state = outer(create)(keys[0] if outer is jax.jit else keys)
    assert state.step.shape == (() if outer is jax.jit else (2,))


def test_a_single_state_on_a_replicated_stream_is_refused():
  init_fn, learner = problem.plain()
  state = problem.new_state(init_fn, learner)
  stacked = streams.replicate([problem.stream(), problem.stream(seed=1)])
  with pytest.raises(ValueError, match='create_states'):
    run(learner, state, stacked)


def test_bare_functions_and_optax_alone_train():
  apply_fn = lambda p, x, **_: (x @ p['w'], ())
  init_fn = lambda key: (
    {'w': jnp.zeros((problem.FEATURES, problem.CLASSES))},
    (),
  )
  learner = training.Learner(optax.adam(0.05), apply_fn)
  state = training.create_state(init_fn, learner.tx, jax.random.key(0))
  _, records = run(learner, state, problem.stream())
  assert records[-1]['learning_rate'] is None
  losses = records[0]['trace']['loss']
  assert losses[-1] < losses[0]


def test_nnx_models_train():
  from flax import nnx

  module = nnx.Linear(problem.FEATURES, problem.CLASSES, rngs=nnx.Rngs(0))
  init_fn, apply_fn = models.from_nnx(module)
  learner = training.Learner(methods.scale_by_schedule_value(0.1), apply_fn)
  state = training.create_state(init_fn, learner.tx, jax.random.key(0))
  _, records = run(learner, state, problem.stream())
  losses = records[0]['trace']['loss']
  assert losses[-1] < losses[0]
