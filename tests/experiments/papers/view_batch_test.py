import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import images, sequences, view_batch
from experiments.papers import view_batch_runs as runs
from lrcl import protocols

SCALE = runs.Scale(4, (0.05, 0.1), (100,), (0, 1))


def _data():
  few = images.load_images('digits', train_rows=320, test_rows=50)
  return runs.Data(few, 1)


def test_a_view_is_the_image_moved_by_whole_pixels():
  image = np.arange(1.0, 17.0, dtype=np.float32).reshape(4, 4)
  inputs = jnp.asarray(np.tile(image.reshape(1, 16), (400, 1)))
  made = np.asarray(runs.shift_images(jax.random.key(0), inputs, 1))
  padded = np.pad(image, 1)
  wanted = {
    padded[i : i + 4, j : j + 4].tobytes(): 0
    for i in range(3)
    for j in range(3)
  }
  for row in made:
    wanted[row.tobytes()] += 1  # a KeyError for any other image
  assert min(wanted.values()) > 20
  still = runs.shift_images(jax.random.key(0), inputs, 0)
  np.testing.assert_array_equal(still, inputs)


def test_views_are_for_training_alone():
  data = _data()
  stream = runs.make_stream(data, SCALE, 1, [0])
  init_fn, apply_fn = runs.make_model(stream, 1)
  plain = sequences.make_mlp(stream, runs.FEATURES)[1]
  params, state = init_fn(jax.random.key(0))
  inputs = data.images.train['inputs'][:6]
  options = {'rng': jax.random.key(1), 'model_state': state}
  shown = apply_fn(params, inputs, train=False, **options)[0]
  np.testing.assert_array_equal(
    shown, plain(params, inputs, train=False, **options)[0]
  )
  trained = apply_fn(params, inputs, train=True, **options)[0]
  assert np.abs(trained - shown).max() > 1e-3


@pytest.mark.parametrize('repeats', [1, 2, 4])
def test_contenders_have_the_same_steps_and_views_of_a_task(repeats):
  stream = runs.make_stream(_data(), SCALE, repeats, [0, 1])
  steps = stream.num_steps // runs.TASKS
  assert steps == 4 * 64 // runs.BATCH
  rows = stream.chunk(0, stream.num_steps).indices[:, 1].reshape(5, -1)
  for task in rows:
    _, counts = np.unique(task, return_counts=True)
    assert counts.sum() == 4 * 64  # and about four views of each row
    assert abs(len(counts) - 64) < 16
  first = rows[0][: runs.BATCH].reshape(-1, repeats)
  assert (first == first[:, :1]).all()
  assert len(np.unique(first)) == runs.BATCH // repeats


def test_all_contenders_come_from_one_program():
  found = runs.measure(_data(), SCALE)
  assert list(found) == list(runs.CONTENDERS)
  finals = [one.accuracy.tobytes() for one in found.values()]
  assert len(set(finals)) == len(finals)  # each is a run of its own
  assert all(one.tuned.setting['rate'] in SCALE.rates for one in found.values())


def _runs(accuracy, forgetting):
  noise = np.array([0.0, 0.01, -0.01, 0.005])
  tuned = protocols.Tuned({'rate': 0.1}, (), noise)
  return runs.Runs(
    tuned, accuracy + noise, forgetting - np.roll(noise, 1), accuracy + noise
  )


@pytest.mark.parametrize(
  ('accuracy', 'forgetting', 'better'),
  [
    (0.6, 0.3, True),
    (0.5, 0.2, True),
    (0.5, 0.3, False),
    (0.4, 0.2, False),  # forgets less, but since it learns less
    (0.6, 0.4, False),
    (0.4, 0.4, False),
  ],
)
def test_better_is_better_by_one_and_worse_by_none(
  accuracy, forgetting, better
):
  found = {runs.BASE: _runs(0.5, 0.3), 'R = 4': _runs(accuracy, forgetting)}
  noise = np.array([0.001, -0.001, 0.002, 0.0])
  one = found['R = 4']
  found['R = 4'] = one._replace(accuracy=one.accuracy + noise)
  assert view_batch.judge(found) == {'R = 4 is better': better}
