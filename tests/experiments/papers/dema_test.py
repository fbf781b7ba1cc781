import jax
import numpy as np
import pytest

from experiments.papers import dema, images, sequences
from lrcl import methods, protocols

SEEDS = (3, 5)
OPTIONS = {'steps_per_task': 40, 'num_tasks': 5, 'batch_size': 16}


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam and schedules mix ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def found_by(stream, make_learners, rate):
  init_fn, apply_fn = sequences.make_mlp(stream, (32, 16))
  trials = protocols.Trials(stream, SEEDS, init_fn, make_learners(apply_fn))
  return trials.sweep({'rate': np.array([rate])}, SEEDS).pick(0)


def test_an_average_of_one_point_is_no_average():
  digits = images.load_images('digits', train_rows=300, test_rows=100)
  stream = sequences.permuted_stream(digits, SEEDS, **OPTIONS)
  none, last = (
    found_by(stream, lambda a, link=link: dema.learners(a, link), 0.1)
    for link in (None, methods.params_window(1))
  )
  np.testing.assert_allclose(last.accuracy, none.accuracy, atol=1e-6)


def test_verdicts_follow_from_the_seeds():
  tuned, noise = (
    protocols.Tuned({}, (), np.zeros(3)),
    np.array([0, 0.01, -0.01]),
  )
  run = lambda forgetting, learning: dema.Run(
    tuned, noise, forgetting + noise, learning + noise, noise
  )
  runs = {
    'none': run(0.5, 0.9),
    f'EMA {dema.DECAY}': run(0.3, 0.9),
    'DEMA': run(0.1, 0.85),  # forgets less, and has learnt less
  }
  assert list(dema.judge(runs).values()) == [True, False]
  assert all(dema.judge(runs | {'DEMA': run(0.1, 0.9)}).values())
