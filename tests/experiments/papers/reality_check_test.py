import numpy as np

from experiments import contenders
from experiments.papers import images, reality_check
from lrcl import protocols

SCALE = reality_check._SCALES['smoke']


def _contest(apart, together, tuned):
  array = lambda x: np.array(x, np.float64)
  return reality_check.Contest(
    array(apart), array(together), array(together), tuned, ''
  )


def _verdicts(gain, second):
  """Two methods; tuned on these classes both gain, tuned apart by `second`."""
  noise = np.array([0.0, 0.001, -0.001])
  found = {
    'a': _contest(0.5 + noise, 0.5 + gain + noise[::-1], 0.6),
    'b': _contest(second + noise, 0.4 + gain + noise, 0.5),
  }
  return {'half': reality_check.judge(found)}


def test_flattery_and_places_decide():
  rule = lambda *x: reality_check._outcome(_verdicts(*x), [], SCALE).verdict
  assert rule(0.1, 0.4) == 'partly reproduced'  # flatters, same order
  assert rule(0.0, 0.55) == 'partly reproduced'  # another order, no flattery
  assert rule(0.3, 0.55) == 'reproduced'
  assert rule(0.0, 0.4) == 'not reproduced'


def test_who_moved_is_named():
  (verdict,) = _verdicts(0.1, 0.55).values()
  assert verdict.moved == ('a', 'b')
  assert verdict.order == -1 and verdict.transfer == -1


def test_tuned_apart_is_what_the_protocol_reports():
  data = images.load_images('digits', train_rows=SCALE.train_rows)
  halves = protocols.halve_classes(data.train, data.test, seed=0)
  first, _ = reality_check.contest('ER', halves, SCALE)
  bench = reality_check.Bench('ER', halves.tuning, SCALE)
  make = lambda stream: contenders.build(
    contenders.METHODS['ER'], reality_check.FEATURES, stream
  )
  report = protocols.tune_then_report(
    {'ER': protocols.Contender(make, bench.axes)},
    halves,
    contenders.make_scenario('class', SCALE.steps, contenders.Size()),
    tuning_seeds=SCALE.tuning_seeds,
    seeds=SCALE.seeds,
    budget=SCALE.budget,
    equal_compute=False,
  )
  np.testing.assert_allclose(report.accuracy['ER'], first.apart, atol=1e-6)
