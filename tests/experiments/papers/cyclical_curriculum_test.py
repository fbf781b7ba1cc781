import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import cyclical_curriculum, images
from experiments.papers import cyclical_curriculum_runs as runs
from lrcl import protocols

SCALE = runs.Scale(2, (0.1, 0.3), (100,), (0, 1))
SCORES = {seed: np.linspace(1.0, 50.0, 256) for seed in SCALE.every}


def _images(rows=256):
  return runs.square(images.load_images('digits', test_rows=50), rows)


@pytest.mark.parametrize('name', runs.CONTENDERS)
def test_contenders_have_as_many_examples_and_epochs_of_their_own(name):
  contender = runs.CONTENDERS[name]
  stream = runs.make_stream(_images(), SCALE, contender, SCORES)
  assert SCALE.sizes == (0.25, 0.5, 1.0, 0.5)
  assert stream.num_steps == 18 * contender.times  # 2.25 epochs of 8 steps
  chunk = stream.chunk(0, stream.num_steps)
  assert (chunk.weights == 1).all()
  ends = runs.own_ends(contender, SCALE)
  steps = [0, *(2 * (end + 1) for end in ends)]  # an evaluation in two steps
  for first, last in itertools.pairwise(steps):
    rows = chunk.indices[first:last, 1].ravel()
    assert len(np.unique(rows)) == len(rows)  # no row twice in an epoch
  # A quarter of the rows comes first where the size is cyclical.
  assert steps[1] == (8 if contender.data == 'all' else 2)
  drawn = chunk.indices[: steps[1]].mean()
  by_scores = contender.data == 'scores'
  assert (drawn > 145) == by_scores  # the mean of all rows is 127.5


def test_the_rate_goes_with_the_size_of_the_data_or_against_it():
  steps = jnp.arange(18)
  rate = lambda power: np.asarray(
    runs.make_rate({'rate': 0.3, 'power': power}, 8)(steps)
  )
  share = np.repeat([0.25, 0.5, 1.0, 0.5], [2, 4, 8, 4])
  np.testing.assert_allclose(rate(0.0), 0.3, rtol=1e-6)
  for power in (1.0, -1.0):
    wanted = 0.3 * share**power / np.mean(share**power)
    np.testing.assert_allclose(rate(power), wanted, rtol=1e-5)


def test_scores_are_those_of_the_rows_that_are_learned_worst():
  data = runs.spoil(_images(), 0.2)
  clean = _images().train['labels'] == data.train['labels']
  assert (~clean).sum() == round(0.2 * 256)
  scale = SCALE._replace(epochs=100, rates=(0.15, 0.2))
  scores = runs.score_rows(data, scale)
  assert list(scores) == [100, 0, 1]
  for found in scores.values():
    assert found.shape == (256,)
    assert np.median(found[clean]) > 2 * np.median(found[~clean])


def test_a_quarter_of_the_rows_must_be_whole_batches():
  with pytest.raises(ValueError, match='there are 250 rows; 128 must divide'):
    runs.epoch_steps(_images(250))


def _runs(best, last):
  noise = np.array([0.0, 0.01, -0.01, 0.005])
  tuned = protocols.Tuned({'rate': 0.1}, (), noise)
  return runs.Runs(tuned, best + noise, best + noise, last + noise)


def test_each_part_can_fail():
  found = {
    runs.VANILLA: _runs(0.5, 0.4),
    runs.CYCLICAL: _runs(0.6, 0.55),
    runs.LONG: _runs(0.6, 0.5),
  }
  wobble = np.array([0.001, -0.001, 0.002, 0.0])
  ours = found[runs.CYCLICAL]
  found[runs.CYCLICAL] = ours._replace(
    best=ours.best + wobble, last=ours.last + wobble
  )
  judge = cyclical_curriculum.judge
  assert all(judge(found).values())
  for part, changes in {
    'best epoch higher': {runs.VANILLA: _runs(0.6, 0.4)},
    'last epoch higher': {runs.VANILLA: _runs(0.5, 0.55)},
    'higher at equal cost': {runs.LONG: _runs(0.5, 0.6)},
  }.items():
    parts = judge(found | changes)
    assert [name for name, holds in parts.items() if not holds] == [part]
