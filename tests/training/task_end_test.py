import jax
import jax.numpy as jnp
import numpy as np

from lrcl import streams, training
from lrcl.training import _task_end
from tests.training import problem


def note_task_data():
  """A learner whose optimizer state gathers what the ends of tasks see."""
  init_fn, plain = problem.plain()

  def on_task_end(state, task_data, key):
    seen = jnp.sum(task_data['labels'] * (task_data['weight'] > 0))
    count = jnp.sum(task_data['weight'])
    noise = jax.random.normal(key)
    return state._replace(
      model_state={
        'calls': state.model_state['calls'] + 1,
        'count': count,
        'labels': seen,
        'noise': noise,
      }
    )

  learner = training.Learner(
    plain.tx,
    lambda p, x, *, model_state, **kw: (
      plain.apply_fn(p, x, model_state={}, **kw)[0],
      model_state,
    ),
    on_task_end=on_task_end,
  )
  start = {
    'calls': jnp.int32(0),
    'count': jnp.float32(0),
    'labels': jnp.int32(0),
    'noise': jnp.float32(0),
  }
  return lambda key: (init_fn(key)[0], start), learner


def test_sees_the_finished_task_once_and_nothing_else():
  init_fn, learner = note_task_data()
  state = problem.new_state(init_fn, learner)
  stream = problem.stream((10, 10, 10))
  for stop, calls in ((9, 0), (10, 0), (11, 1), (21, 2), (30, 2)):
    end, _ = training.train_stream(learner, state, stream, steps=stop)
    assert int(end.model_state['calls']) == calls
    if calls:
      pool = stream.plan.pools[calls - 1]
      assert float(end.model_state['count']) == len(pool)
      labels = problem.arrays()['labels'][pool]
      assert int(end.model_state['labels']) == labels.sum()


def test_host_sources_and_replicas_see_the_same():
  init_fn, learner = note_task_data()
  ends = []
  for stream in (
    problem.stream((10, 10)),
    problem.stream((10, 10), source=problem.Host()),
  ):
    state = problem.new_state(init_fn, learner)
    end, _ = training.train_stream(learner, state, stream)
    ends.append(jax.device_get(end.model_state))
  stacked = streams.replicate([problem.stream((10, 10))] * 2)
  states = training.create_states(init_fn, learner.tx, (0, 1))
  end, _ = training.train_stream(learner, states, stacked)
  ends.append(jax.tree.map(lambda x: np.asarray(x[0]), end.model_state))
  for other in ends[1:]:
    jax.tree.map(np.testing.assert_array_equal, ends[0], other)
  assert end.model_state['noise'][0] != end.model_state['noise'][1]


def test_a_look_back_takes_more_rows_where_they_are_small():
  assert _task_end.look_back_size(problem.stream()) == 128
  wide = {'inputs': np.zeros((64, 2**14), np.float32), 'labels': np.zeros(64)}
  assert _task_end.look_back_size(problem.stream(source=wide)) == 15
  huge = {'inputs': np.zeros((64, 2**18), np.float32), 'labels': np.zeros(64)}
  stream = problem.stream(source=huge)
  assert _task_end.look_back_size(stream) == problem.BATCH


def test_a_held_stream_does_not_end_its_task():
  init_fn, learner = note_task_data()
  state = problem.new_state(init_fn, learner)
  stream = problem.stream((10, 10)).hold(10)
  end, _ = training.train_stream(learner, state, stream, steps=15)
  assert int(end.model_state['calls']) == 0
