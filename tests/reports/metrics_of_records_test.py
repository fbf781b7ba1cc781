"""What the loop writes down gives the metrics of the run itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import methods, metrics, reports, streams, training
from tests.metrics import twins
from tests.training import problem

LENGTHS, EVERY = (7, 5, 8), 3
ENDS = tuple(np.cumsum(LENGTHS).tolist())


def by_hand():
  """Accuracies `[n, T]` and their steps, by single steps and numpy."""
  init_fn, learner = problem.plain(schedule=0.5)
  stream = problem.stream(LENGTHS)
  state = problem.new_state(init_fn, learner)
  step = jax.jit(
    training.make_train_step(
      learner.apply_fn, learner.loss_fn, methods.scale_by_schedule_value(0.5)
    )
  )
  plan, rows, accuracy = stream.chunk(0, ENDS[-1]), problem.arrays(), []
  at = sorted({*range(EVERY, ENDS[-1] + 1, EVERY), *ENDS})
  for n in range(ENDS[-1]):
    batch = {name: x[plan.indices[n]] for name, x in rows.items()}
    batch = streams.make_batch(
      batch, {}, plan.task_ids[n], plan.weights[n], stream.prepare
    )
    state, _ = step(state, batch, jnp.int32(plan.task_ids[n]))
    if n + 1 in at:
      accuracy.append(evaluated(learner, state, stream.evaluation))
  return np.array(accuracy), at


def evaluated(learner, state, sets):
  found = []
  for rows in sets.indices:
    logits, _ = learner.apply_fn(
      state.params,
      sets.source['inputs'][rows],
      rng=None,
      model_state={},
      train=False,
    )
    right = np.argmax(logits, 1) == sets.source['labels'][rows]
    found.append(right.mean())
  return found


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The records of the loop, through their file."""
  init_fn, learner = problem.plain(schedule=0.5)
  stream = problem.stream(LENGTHS)
  root = tmp_path_factory.mktemp('run')
  file = training.RecordFile(root / 'naive' / 'main' / 'records.jsonl')
  state = problem.new_state(init_fn, learner)
  evaluate = training.make_evaluator(learner, stream)
  cost = training.step_cost(learner, state, stream)
  training.train_stream(
    learner,
    state,
    stream,
    evaluate=lambda state: {**evaluate(state), **cost},
    evaluate_every=EVERY,
    on_record=file.append,
    about={'row': 'naive'},
  )
  return reports.read_records(root), by_hand()


def test_the_series_and_the_matrix_are_those_of_the_run(run):
  records, (accuracy, steps) = run
  series = reports.continual_series(records, 'naive')
  np.testing.assert_array_equal(series.steps, steps)
  np.testing.assert_allclose(series.accuracy[0], accuracy, rtol=1e-6)
  assert [steps[n] for n in series.ends] == list(ENDS)
  matrix = reports.accuracy_matrix(records, 'naive')
  wanted = accuracy[[steps.index(end) for end in ENDS]]
  np.testing.assert_allclose(matrix[0], wanted, rtol=1e-6)
  assert 0 < twins.forgetting(wanted) < 1  # there is something to measure


def test_a_summary_has_the_metrics_of_the_run(run):
  records, (accuracy, steps) = run
  ends = [steps.index(end) for end in ENDS]
  matrix = accuracy[ends]
  gap = twins.stability_gap(accuracy, ends, steps)
  wanted = {
    'average_accuracy': twins.average_accuracy(matrix),
    'average_incremental_accuracy': twins.average_incremental_accuracy(matrix),
    'forgetting': twins.forgetting(matrix),
    'backward_transfer': twins.backward_transfer(matrix),
    'learning_accuracy': twins.learning_accuracy(matrix),
    'min_accuracy': twins.min_accuracy(accuracy, ends),
    'worst_case_accuracy': twins.worst_case_accuracy(accuracy, ends),
    'gap_depth': gap['depth'].mean(),
    'recovery_steps': gap['recovery_steps'].mean(),
    'forward_passes': 1.0,
    'backward_passes': 1.0,
    'memory_bytes': 0.0,
    'parameters': 6 * 8 + 8 + 8 * 4 + 4,
  }
  [row] = reports.summarize(records)
  got = {name: row[name].mean for name in wanted}
  assert got == pytest.approx(wanted, rel=1e-6)


def test_other_metrics_of_records(run):
  """Those that a summary does not show take the same arrays."""
  records, (accuracy, steps) = run
  series = reports.continual_series(records, 'naive')
  fall = metrics.windowed_forgetting(series.accuracy, 3)[0]
  np.testing.assert_allclose(
    fall, twins.windowed_forgetting(accuracy, 3), atol=1e-6
  )
  area = metrics.area_under_accuracy(series.accuracy.mean(-1), series.steps)
  want = twins.area_under_accuracy(accuracy.mean(-1), steps)
  np.testing.assert_allclose(area[0], want, rtol=1e-6)
  # And what is merged evaluation by evaluation is what the file has.
  matrix = metrics.RunningMatrix.empty(len(LENGTHS))
  for n, row in enumerate(series.accuracy[0]):
    ended = series.tasks[series.ends.index(n)] if n in series.ends else -1
    one = metrics.RunningMatrix.of(jnp.asarray(row, jnp.float32), ended)
    matrix = matrix.merge(one)
  np.testing.assert_allclose(
    matrix.compute(), reports.accuracy_matrix(records, 'naive')[0], rtol=1e-6
  )
