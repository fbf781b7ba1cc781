import jax
import numpy as np

from experiments.papers import binary_metaplasticity as claim
from experiments.papers import images, sequences
from lrcl import metrics, protocols

SEEDS = (3, 5)


def test_the_inverse_temperature_is_that_of_the_code():
  with jax.numpy_dtype_promotion('standard'):
    beta = claim.anneal(20)
    found = [float(beta(step)) for step in range(20)]
  share = np.arange(1, 21) / 20
  np.testing.assert_allclose(found, 10 * np.tanh(0.1 + 2 * share), rtol=1e-6)


def test_a_strong_divergence_keeps_fields_where_they_are():
  digits = images.load_images('digits', train_rows=300, test_rows=100)
  stream = sequences.permuted_stream(
    digits, SEEDS, steps_per_task=40, num_tasks=2, batch_size=64
  )
  with jax.numpy_dtype_promotion('standard'):
    trials = claim.make_trials(stream, SEEDS, (16,))
    settings = {'rate': np.full(2, 0.03), 'strength': np.array([0.0, 100.0])}
    learnt = metrics.learning_accuracy(trials.sweep(settings, SEEDS).matrix)
  assert np.all(learnt[0] > learnt[1] + 0.1)


def test_verdicts_follow_from_the_seeds():
  tuned, noise = (
    protocols.Tuned({}, (), np.zeros(3)),
    np.array([0, 0.01, -0.01]),
  )
  run = lambda forgetting, learning: claim.Run(
    tuned, noise, forgetting + noise, learning + noise
  )
  runs = dict(
    zip(
      claim.STRENGTHS,
      [run(0.5, 0.9), run(0.3, 0.9), run(0.1, 0.5)],
      strict=True,
    )
  )
  assert list(claim.judge(runs).values()) == [True, False]
