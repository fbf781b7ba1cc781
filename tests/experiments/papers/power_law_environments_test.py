import jax
import numpy as np
import optax
import pytest

from experiments.papers import images, sequences
from experiments.papers import power_law_environments as claim
from experiments.papers import power_law_environments_runs as runs
from lrcl import protocols, streams, training

SCALE = runs.Scale(10, 5, (0.1, 0.3), 1, (100,), (0, 1))


def _run(final, first=80.0, late=80.0):
  rng = np.random.default_rng(0)
  noise = lambda *shape: 0.001 * rng.standard_normal(shape)
  steps = np.tile(np.array([first, first, late]), (3, 1))
  return runs.Run('', final + noise(3, 3, 3), steps + noise(3, 3))


def _parts(name=claim.PERMUTED, late=80.0, **final):
  found = {n: 0.4 for n in ('none', 'recency', 'EWC', 'SI', 'LwF')}
  found |= {'exponential': 0.5, 'power': 0.6, 'uniform': 0.6} | final
  made = {n: _run(x) for n, x in found.items()}
  made['power'] = _run(found['power'], late=late)
  return claim.judge(name, made)


def test_the_parts_of_the_claim_follow_the_numbers():
  fails = lambda parts: [name for name, holds in parts.items() if not holds]
  assert fails(_parts(late=60.0)) == []
  assert fails(_parts()) == ['later tasks sooner']
  assert fails(_parts(claim.SPLIT)) == []
  assert fails(_parts(claim.SPLIT, exponential=0.6)) == ['above exponential']
  assert fails(_parts(claim.SPLIT, uniform=0.7)) == ['not below uniform']
  assert fails(_parts(claim.SPLIT, SI=0.7)) == ['not below EWC, SI, LwF']


def test_steps_are_counted_until_the_goal_within_the_task():
  accuracy = np.zeros((2, 3, 4, 3))
  accuracy[0, 0, 2:, 0] = 0.8  # at the third evaluation
  accuracy[0, 1, 0, 1] = 0.9  # at the first one, and lost again
  accuracy[0, 0, 0, 2] = 1.0  # before the task began
  accuracy[1, 2, 3, 2] = 1.0  # at the last one
  found = runs.steps_to_goal(accuracy, 5)
  np.testing.assert_array_equal(found, [[15, 5, 20], [20, 20, 20]])


def test_a_run_is_read_in_thirds():
  matrix = np.arange(32.0).reshape(2, 4, 4)
  run = runs.Run('', matrix, np.arange(8.0).reshape(2, 4))
  np.testing.assert_array_equal(run.final, [13.5, 29.5])
  np.testing.assert_array_equal(run.oldest, [12.5, 28.5])
  np.testing.assert_array_equal(run.learned, [7.5, 23.5])
  np.testing.assert_array_equal(run.first_steps, [0, 4])
  np.testing.assert_array_equal(run.late_steps, [2.5, 6.5])


@pytest.fixture(scope='module')
def digits():
  return images.load_images('digits', train_rows=300, test_rows=50)


def _stream(digits, environment, seeds):
  return sequences.permuted_stream(
    digits,
    seeds,
    num_tasks=3,
    steps_per_task=SCALE.task_steps,
    change=runs.ENVIRONMENTS[environment].change,
  )


def test_environments_differ_in_what_returns(digits):
  def shares(name):
    stream = _stream(digits, name, range(20))
    rows = stream.chunk(20, 10).indices
    return np.bincount(rows.ravel() // 300, minlength=3) / rows.size

  assert shares('none').tolist() == [0, 0, 1]
  assert shares('recency')[0] == 0
  wanted = {
    'power': [0.05, 0.1, 0.85],
    'uniform': [0.075, 0.075, 0.85],
    'power, no share': np.array([2, 3, 6]) / 11,
    'uniform, no share': [1 / 3, 1 / 3, 1 / 3],
  }
  for name, share in wanted.items():
    np.testing.assert_allclose(shares(name), share, atol=0.03, err_msg=name)


def _trials(method, digits, environment):
  seeds = [*SCALE.tuning_seeds, *SCALE.seeds]
  plain, other = (_stream(digits, n, seeds) for n in ('none', environment))
  return runs.make_trials(method, plain, SCALE).on(other)


def _sweep(trials, strength=0.0):
  setting = {'rate': [0.3], 'strength': [strength], 'which': [0]}
  return trials.sweep(protocols.grid(setting), [1]).pick((0, 0))


def test_a_run_is_what_the_loop_makes_of_the_same_stream(digits):
  found = _sweep(_trials(runs.SGD, digits, 'power'))
  tasks = streams.permuted(
    digits.train,
    num_tasks=3,
    batch_size=16,
    steps_per_task=SCALE.task_steps,
    seed=1,
    permutation_seed=1001,
    test=digits.test,
  )
  stream = runs.ENVIRONMENTS['power'].change(tasks)
  init_fn, apply_fn = sequences.make_mlp(stream, runs.FEATURES)
  learner = training.Learner(optax.sgd(0.3), apply_fn)
  state = training.create_state(init_fn, optax.sgd(0.3), jax.random.key(1))
  _, records = training.train_stream(
    learner,
    state,
    stream,
    evaluate=training.make_evaluator(learner, stream),
    evaluate_every=SCALE.every,
  )
  wanted = np.array([record['metrics']['accuracy'] for record in records])
  np.testing.assert_allclose(found.series, wanted, atol=1e-6)


def test_a_strength_of_0_is_no_method(digits):
  plain = _sweep(_trials(runs.SGD, digits, 'none'))
  si = _trials(runs.REGULARIZERS['SI'], digits, 'none')
  same, held = _sweep(si), _sweep(si, 1e6)
  np.testing.assert_allclose(same.loss, plain.loss, rtol=1e-4)
  np.testing.assert_allclose(held.loss[0], plain.loss[0], rtol=1e-4)
  # What is held cannot fit the next tasks.
  assert (held.loss[1:, -1] > plain.loss[1:, -1] + 0.2).all()
