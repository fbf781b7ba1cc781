import itertools

import numpy as np
import pytest

from experiments.papers import class_orders, images
from experiments.papers import class_orders_ranks as ranks
from experiments.papers import class_orders_report as report
from experiments.papers import class_orders_runs as runs
from lrcl import protocols, streams

ORDERS = tuple(itertools.permutations(range(5)))
SCALE = runs.Scale(64, 20, (0.03, 0.1), (100,), (0, 1), 60, 60, 20)


def _distances(seed):
  rng = np.random.default_rng(seed)
  return streams.class_distances(rng.random((10, 4)), np.arange(10) % 5)


def test_the_variance_is_split_into_orders_and_seeds():
  rng = np.random.default_rng(0)
  orders = 0.05 * rng.standard_normal((4000, 1))
  seeds = 0.3 * rng.standard_normal((1, 4))
  noise = 0.02 * rng.standard_normal((4000, 4))
  effect = ranks.order_effect(orders + seeds + noise)
  assert effect.between == pytest.approx(0.05, rel=0.05)
  assert effect.within == pytest.approx(0.02, rel=0.05)
  assert effect.exceeds
  assert not ranks.order_effect(seeds + noise[:120]).matters
  # Orders that differ, but by less than one run and the next.
  small = ranks.order_effect(0.2 * orders + noise)
  assert small.matters
  assert not small.exceeds


def test_the_score_predicts_itself_and_not_its_opposite():
  scores = ranks.renamed_scores(_distances(1), ORDERS)
  assert scores.shape == (120, 120)
  wanted = [streams.class_order_score(_distances(1), o) for o in ORDERS]
  np.testing.assert_allclose(scores[0], wanted)
  # Another name for two classes is another order.
  names = list(itertools.permutations(range(5)))[1]
  place = ORDERS.index(tuple(names[c] for c in ORDERS[7]))
  assert scores[1, 7] == scores[0, place]

  found = ranks.predict(scores, scores[0] ** 3)
  assert found.rho == pytest.approx(1)
  assert (found.exact, found.overlap) == (1 / 120, ranks.TOP)
  assert found.holds
  worst = ranks.predict(scores, -scores[0])
  assert worst.rho == pytest.approx(-1)
  assert (worst.exact, worst.overlap, worst.holds) == (1, 0, False)


def test_rankings_are_compared_between_halves_of_the_seeds():
  rng = np.random.default_rng(0)
  truth = rng.standard_normal((120, 1))
  make = lambda size: size * rng.standard_normal((120, 4))
  same = ranks.agreement(truth + make(0.01), 2 * truth + make(0.01))
  assert same.across > 0.99
  assert same.within > 0.99
  # Noise that both conditions share is no agreement.
  shared = make(1.0)
  none = ranks.agreement(shared, shared)
  assert abs(none.across) < 0.3
  noisy = ranks.agreement(truth + make(1.0), truth + make(1.0))
  assert noisy.across == pytest.approx(noisy.within, abs=0.15)
  assert ranks.agreement(truth + make(0.01), -truth + make(0.01)).across < -0.99


def _found(accuracy):
  one = runs.Runs(
    protocols.Tuned({'rate': 0.1}, (), np.zeros(1)),
    {condition: accuracy for condition in runs.CONDITIONS},
    {condition: 1 - accuracy for condition in runs.CONDITIONS},
  )
  distances = {'pixels': _distances(1), 'features': _distances(2)}
  scores = {n: ranks.renamed_scores(d, ORDERS) for n, d in distances.items()}
  subset = report.Subset(images.Images({}, {}), distances)
  return report.Found(subset, ORDERS, scores, {'naive': one}, {})


def test_each_part_can_fail():
  scores = ranks.renamed_scores(_distances(1), ORDERS)[0]
  noise = 1e-3 * np.random.default_rng(0).standard_normal((120, 4))
  found = _found(scores[:, None] + noise)
  parts = class_orders.judge(found)
  assert parts['order matters to naive']
  assert parts['pixels predict naive']
  design = streams.design_class_order(_distances(1))
  place = ORDERS.index(tuple(design))
  wanted = np.mean(scores < scores[place])
  assert found.designed('naive', 'pixels') == pytest.approx(wanted, abs=0.02)
  parts = class_orders.judge(_found(-scores[:, None] + noise))
  assert parts['order matters to naive']
  assert not parts['pixels predict naive']
  parts = class_orders.judge(_found(noise))
  assert not parts['order matters to naive']
  assert not parts['more than the seed to naive']


def test_an_order_is_the_order_of_the_tasks():
  data = runs.take_classes(images.load_images('digits'), range(5, 10), SCALE)
  assert np.bincount(data.train['labels']).tolist() == [64] * 5
  assert np.bincount(data.test['labels']).tolist() == [20] * 5
  stream = runs.make_stream(data, (3, 0, 4, 1, 2), [0, 1])
  chunk = stream.chunk(0, stream.num_steps)
  labels = data.train['labels'][chunk.indices[:, 0]]
  assert labels[:, 0].tolist() == [3, 3, 0, 0, 4, 4, 1, 1, 2, 2]
  assert (labels == labels[:, :1]).all()  # one class in a batch
  assert sorted(chunk.indices[:, 0].ravel()) == list(range(320))  # one pass


def test_all_conditions_come_from_one_program():
  data = runs.take_classes(images.load_images('digits'), range(5), SCALE)
  found = runs.measure(data, 'replay', SCALE)
  assert set(found.accuracy) == set(runs.CONDITIONS)
  assert found.accuracy['linear to 0'].shape == (2, 2)
  assert not np.array_equal(
    found.accuracy['linear to 0'], found.accuracy['the tuned rate']
  )
