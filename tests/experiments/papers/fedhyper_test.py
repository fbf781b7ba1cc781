"""How the claim on FedHyper is counted and judged, and one run of it."""

import numpy as np

from experiments.papers import fedhyper, fedhyper_runs


def found(first, low, high, seeds=5, rounds=10):
  """A contender that is at the target from round `first` on."""
  noise = np.linspace(0, 1e-3, seeds)[:, None]
  tuned = np.where(np.arange(1, rounds + 1) >= first, 0.95, 0.5) - noise
  flat = lambda level: np.full((seeds, rounds), level) - noise
  return fedhyper.Found(0.1, False, tuned, flat(low), flat(high))


def test_rounds_to_target():
  accuracies = np.array([[0.5, 0.9, 0.1], [0.1, 0.2, 0.3], [0.95, 0.1, 0.1]])
  np.testing.assert_array_equal(
    fedhyper.rounds_to_target(accuracies), [2, 4, 1]
  )


def test_judgement():
  base = found(8, low=0.6, high=0.6)
  cases = {
    'G': found(8, low=0.605, high=0.7),  # as fast, higher from a high rate
    'SL': found(4, low=0.8, high=0.6),  # twice as fast, higher from a low one
    'CL': found(9, low=0.5, high=0.5),  # worse throughout
  }
  parts = fedhyper.judge({'FedAvg': base} | cases)
  assert {name for name, holds in parts.items() if holds} == {
    'G higher from the high rate',
    'SL faster',
    'SL higher from the low rate',
  }
  assert len(parts) == 9


def test_less_than_a_tenth_is_not_faster():
  cell = lambda first: found(first, 0.5, 0.5, rounds=30)
  base = {'FedAvg': cell(21)}
  for first, holds in ((20, False), (18, True)):
    parts = fedhyper.judge(base | dict.fromkeys(('G', 'SL', 'CL'), cell(first)))
    assert (
      parts['G faster'] == parts['SL faster'] == parts['CL faster'] == holds
    )
    assert sum(parts.values()) == 3 * holds


def test_a_run_learns_and_is_a_function_of_its_seed():
  run = fedhyper_runs.make_run(fedhyper_runs.CONTENDERS['SL'], (), rounds=4)
  first = run(0.3, 0)
  assert first.shape == (4,) and first[-1] > 0.6
  np.testing.assert_array_equal(first, run(0.3, 0))
  assert (first != run(0.3, 1)).any()
