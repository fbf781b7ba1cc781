"""The rule of the verdict on few shots, and the tests under it."""

import numpy as np
import pytest

from experiments.papers import few_shot_instances as claim
from experiments.papers import few_shot_runs as runs
from lrcl import streams

NOISE = np.array([0.0, 0.01, -0.01, 0.005])
LEVELS = {'as shown': 0.9, 'noise 0.8': 0.5, 'occluded 0.6': 0.4}


def make_found(first, last, **levels):
  curve = np.stack([first + NOISE, last + NOISE[::-1]], axis=1)
  levels = {k: v + NOISE for k, v in (LEVELS | levels).items()}
  return runs.Found(curve, levels)


def make_results(changes=None):
  made = {
    'classes': {
      'k-NN': make_found(0.9, 0.7),
      'MLP': make_found(0.9, 0.2),
      'MLP + replay': make_found(0.9, 0.6),
      'joint MLP': make_found(0.1, 0.8),
    },
    'instances': {
      'k-NN': make_found(1.0, 1.0),
      'MLP': make_found(1.0, 0.2),
      'MLP + replay': make_found(1.0, 0.9),
      'joint MLP': make_found(0.1, 1.0),
    },
  }
  for (test, learner), found in (changes or {}).items():
    made[test][learner] = found
  return made


@pytest.mark.parametrize(
  ('where', 'found', 'parts'),
  [
    (('classes', 'k-NN'), (0.7, 0.7), {'more classes are harder'}),
    (('instances', 'MLP + replay'), (0.9, 0.9), {'more instances are harder'}),
    (('classes', 'MLP + replay'), (0.9, 0.2), {'replay helps classes'}),
    (
      ('instances', 'MLP + replay'),
      (0.9, 0.6),
      {'replay helps instances more'},
    ),
    (
      ('instances', 'MLP + replay'),
      (0.9, 0.2),
      {'replay helps instances', 'replay helps instances more'},
    ),
  ],
)
def test_each_part_of_the_rule_can_fail(where, found, parts):
  assert all(claim.judge(make_results()).values())
  judged = claim.judge(make_results({where: make_found(*found)}))
  assert {k for k, v in judged.items() if not v} == parts


def test_corruption_hurts_or_does_not():
  where = ('instances', 'MLP + replay')
  for part, level in {
    'noise hurts': 'noise 0.8',
    'occlusion hurts': 'occluded 0.6',
  }.items():
    found = make_found(1.0, 0.9, **{level: 0.9})
    judged = claim.judge(make_results({where: found}))
    assert [k for k, v in judged.items() if not v] == [part]


def test_accuracy_so_far_is_over_the_sets_that_came():
  matrix = np.array([[0.8, 0.9, 0.9], [0.2, 0.4, 0.9], [0.3, 0.6, 0.9]])
  np.testing.assert_allclose(runs.average_so_far(matrix), [0.8, 0.3, 0.6])


@pytest.fixture(name='rows', scope='module')
def load_rows():
  return runs.load('digits', None)


def test_neighbours_know_instances_and_are_hurt(rows):
  cell = runs.Cell('digits', 3, 3)
  found = runs.compute('k-NN', rows, cell, 'instances', [0, 1])
  assert (found.curve == 1).all() and (found.levels['as shown'] == 1).all()
  assert found.levels['occluded 0.6'].mean() < 0.7
  noisy = found.levels['noise 0.8']
  mean = runs.compute('nearest mean', rows, cell, 'instances', [0, 1])
  np.testing.assert_array_equal(mean.levels['noise 0.8'], noisy)
  classes = runs.compute('k-NN', rows, cell, 'classes', [0])
  assert classes.curve.shape == (1, 3) and classes.levels == {}
  assert 0.5 < classes.final[0] < 1.0


def test_a_square_is_hidden_and_noise_is_drawn(rows):
  made = runs.corruptions(64)
  white, rng = np.ones((5, 64), np.float32), np.random.default_rng(0)
  hidden = made['occluded 0.6'](white, rng).reshape(5, 8, 8) == 0
  assert (hidden.sum((1, 2)) == 36).all()
  assert set(hidden.any(2).sum(1)) == {6}
  assert made['noise 0.4'](white, rng).std() == pytest.approx(0.4, abs=0.05)


def test_what_is_read_back_is_what_was_trained(rows):
  cell = runs.Cell('digits', 2, 2)
  options = {'tuning_seeds': [100], 'seeds': [0, 1]}
  found = runs.train('MLP + replay', rows, cell, 'instances', (0.1,), **options)
  np.testing.assert_allclose(found.levels['as shown'], found.final)
  stream = runs.draw(rows, cell, 'instances', 0)
  assert stream.num_steps == 2 * runs.STEPS
  assert isinstance(stream, streams.Stream)
