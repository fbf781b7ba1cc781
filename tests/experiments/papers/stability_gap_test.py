import functools

import numpy as np

from experiments.papers import stability_gap
from experiments.papers import stability_gap_runs as runs
from lrcl import protocols


def test_the_schedules_differ_at_the_start_of_a_task():
  made = runs.make_schedules(10)
  ids = np.repeat(np.arange(3), 10)
  values = {name: runs.values_of(s, ids) for name, s in made.items()}
  np.testing.assert_array_equal(values['constant'], np.ones(30))
  first = {name: x[10:14] for name, x in values.items()}
  np.testing.assert_allclose(first['re-warm'], [0, 0.5, 1, 1])
  np.testing.assert_allclose(first['WSD'], [0, 0.5, 1, 1])
  assert first['cosine restart'][0] == 1.0
  np.testing.assert_allclose(values['infinite'][6:], 0.5, rtol=1e-6)
  np.testing.assert_allclose(values['WSD'][18:20], [1.0, 0.5], rtol=1e-6)
  for name in ('re-warm', 'WSD', 'cosine restart'):
    by_task = values[name].reshape(3, 10)
    np.testing.assert_array_equal(by_task[1:], by_task[:-1])


def test_the_late_dip_is_what_a_loop_finds():
  accuracy = np.random.default_rng(0).random((2, 3, 6, 3))
  found = protocols.Found(accuracy, np.zeros((2, 3, 6)), ())
  wanted = []
  for seed in range(2):
    dips = []
    for task in (1, 2):
      level = [np.mean(accuracy[seed, task, n, :task]) for n in (3, 4, 5)]
      dips.append(max(min(level[0], level[2]) - min(level), 0))
    wanted.append(np.mean(dips))
  np.testing.assert_allclose(runs.late_dip(found), wanted)


def _gap(rng, old, lowest, depth, late):
  draw = lambda mean: mean + 0.001 * rng.standard_normal(5)
  return runs.Gap(
    '', draw(old), draw(old), draw(lowest), draw(lowest), draw(depth),
    draw(10.0), draw(late),
  )  # fmt: skip


def test_a_method_shows_a_gap_if_it_is_low_deep_and_knows_the_old_tasks():
  rng = np.random.default_rng(0)
  cases = {
    'gap': (0.8, 0.6, 0.1, 0.01),
    'shallow': (0.8, 0.78, 0.1, 0.01),
    'noise': (0.8, 0.6, 0.1, 0.1),
    'lost': (0.0, 0.0, 0.0, 0.0),
  }
  gaps = {name: {'constant': _gap(rng, *case)} for name, case in cases.items()}
  parts = stability_gap.judge(gaps)
  assert parts == {'gap': True, 'shallow': False, 'noise': False}


def test_a_method_is_tuned_and_followed_under_every_schedule():
  scale = runs.Scale(10, 5, (0.001, 0.2), 1, (100,), (0, 1))
  sequence = stability_gap.load('smoke', None)['permuted digits']
  make = functools.partial(sequence.make_stream, sequence.images)
  gaps = runs.measure(stability_gap.METHODS['ER'], make, (16,), scale)
  assert list(gaps) == [
    'constant', runs.QUARTER, 're-warm', 'cosine restart', 'WSD', 'infinite'
  ]  # fmt: skip
  first = gaps['constant']
  assert 'rate 0.2' in first.setting
  assert 'rate 0.05' in gaps[runs.QUARTER].setting
  for gap in gaps.values():
    assert all(len(x) == 2 for x in gap[1:])
    assert (gap.lowest <= gap.old + 1e-6).all()
    assert (gap.depth >= 0).all()
    assert (gap.recovery <= 10).all()
  assert (first.final > gaps[runs.QUARTER].final).all()
