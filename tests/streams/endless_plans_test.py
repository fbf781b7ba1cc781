"""Plans that list nothing: drawn phases and mixtures."""

import itertools
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import optax
import pytest
from scipy import stats

from lrcl.schedules import wsd_schedule
from lrcl.streams import (
  ENDLESS,
  AgeWeights,
  CyclePools,
  DrawPools,
  MixturePlan,
  PhasePlan,
  ScheduledWeights,
)

_POOLS = tuple(np.arange(100 * i, 100 * i + 7 + i) for i in range(5))


def _phases(named='phase', num_steps=63, **kwargs):
  draw = DrawPools((1.0,) * 5, 1 if named == 'pool' else 2, 3)
  return PhasePlan(_POOLS, draw, 4, num_steps, 3, 0, named, **kwargs)


def _mixture(phase_steps=None, num_steps=63, **kwargs):
  weights = AgeWeights('power', 5, phase_steps or 7)
  return MixturePlan(_POOLS, weights, num_steps, 3, 0, phase_steps, **kwargs)


_MAKERS = {
  'drawn phases': _phases,
  'drawn pools': lambda **kwargs: _phases('pool', **kwargs),
  'mixture': _mixture,
  'mixture of phases': lambda **kwargs: _mixture(7, **kwargs),
}


@pytest.fixture(params=_MAKERS)
def make(request):
  return _MAKERS[request.param]


def _equal(a, b):
  for x, y in zip(a, b, strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def test_a_chunk_equals_its_steps(make):
  plan = make()
  parts = zip(*(plan.chunk(step, 1) for step in range(63)), strict=True)
  _equal(plan.chunk(0, 63), [np.concatenate(part) for part in parts])
  dtypes = [part.dtype for part in plan.chunk(0, 63)]
  assert dtypes == [np.int32, np.int32, np.float32]


def test_boundaries_are_where_the_task_changes(make):
  plan = make()
  tasks = plan.chunk(0, 63).task_ids
  changes = (np.flatnonzero(np.diff(tasks)) + 1).tolist()
  assert list(plan.boundaries) == changes
  for step in range(63):
    following = [s for s in changes if s > step] + [63]
    assert plan.next_boundary(step) == following[0]


@pytest.mark.parametrize('step', [1, 4, 13, 62, 63])
def test_hold_goes_on_with_the_task_before(make, step):
  plan = make()
  held = plan.hold(step)
  assert held.num_steps == ENDLESS
  _equal(held.chunk(0, step), plan.chunk(0, step))
  after = held.chunk(step, 40).task_ids
  assert (after == plan.chunk(step - 1, 1).task_ids[0]).all()
  assert held.next_boundary(step) == ENDLESS
  assert all(boundary < step for boundary in held.boundaries)
  again = held.hold(step + 50)
  _equal(again.chunk(step, 40), held.chunk(step, 40))


def test_the_digest_knows_what_decides(make):
  plan = make()
  assert plan.digest == make().digest
  assert plan.digest != make(num_steps=62).digest
  assert plan.digest != plan.hold(9).digest


def test_ten_million_steps_take_the_memory_of_ten(make):
  def peak(num_steps, start):
    plan = make(num_steps=num_steps)
    tracemalloc.start()
    plan.chunk(start, 20), plan.next_boundary(start)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found

  peak(40, 20)  # what is imported and cached on the first call
  assert peak(10_000_000, 9_999_980) < 1.5 * peak(40, 20)


def test_chunk_outside_the_plan(make):
  with pytest.raises(ValueError, match='steps 60 to 64 go past the end'):
    make().chunk(60, 4)
  with pytest.raises(ValueError, match='step is 64; it must be from 1 to 63'):
    make().hold(64)


def test_a_phase_visits_every_row_of_its_pools_once():
  plan = PhasePlan(_POOLS, DrawPools((1.0,) * 5, 2, 3), 8, 800, 3, 0)
  orders = set()
  for phase in range(50):
    pools = plan.sampler.draw(np.array([phase]))[0]
    rows = np.concatenate([_POOLS[pool] for pool in pools])
    epoch = plan.chunk(phase * 8, -(-len(rows) // 3))
    real = epoch.indices[epoch.weights > 0]
    assert sorted(real) == sorted(rows)
    assert np.isin(epoch.indices, rows).all()
    orders.add(tuple(real))
    batches = plan.task_batches(phase, 4)
    assert sorted(batches[0][batches[1] > 0]) == sorted(rows)
  assert len(orders) == 50


def test_pools_are_drawn_by_their_weights_without_replacement():
  weights = np.array([4.0, 2.0, 1.0, 1.0])
  draws = DrawPools(tuple(weights), 2, 0).draw(np.arange(20_000))
  share = weights / weights.sum()
  expected = {
    (a, b): share[a] * share[b] / (1 - share[a])
    + share[b] * share[a] / (1 - share[b])
    for a, b in itertools.combinations(range(4), 2)
  }
  found = [int((draws == pair).all(1).sum()) for pair in expected]
  wanted = 20_000 * np.array(list(expected.values()))
  assert sum(found) == 20_000
  assert stats.chisquare(found, wanted).pvalue > 1e-3


def test_removed_pools_do_not_come_back():
  draw = DrawPools((1.0,) * 5, 2, 0, removed=(0, 3), removed_from=100)
  assert np.isin(draw.draw(np.arange(100)), (0, 3)).any()
  assert not np.isin(draw.draw(np.arange(100, 5000)), (0, 3)).any()
  same = DrawPools((1.0,) * 5, 2, 0).draw(np.arange(100))
  np.testing.assert_array_equal(draw.draw(np.arange(100)), same)


def test_a_cycle_repeats_itself_and_leaves_as_often_as_it_is_told():
  drawn = DrawPools((1.0,) * 4, 2, 0)
  exact = CyclePools((3, 1, 0, 2), 2, drawn)
  np.testing.assert_array_equal(
    exact.draw(np.arange(5)), [[3, 1], [0, 2], [3, 1], [0, 2], [3, 1]]
  )
  phases = np.arange(20_000)
  loose = CyclePools((3, 1, 0, 2), 2, drawn, 0.3).draw(phases)
  # A draw is the pair of the cycle in one of 6 cases, and in order in half
  # of them that it is written so: (3, 1) is not, (0, 2) is.
  left = (loose != exact.draw(phases)).any(1)
  assert stats.binomtest(int(left[::2].sum()), 10_000, 0.3).pvalue > 1e-3
  assert stats.binomtest(int(left[1::2].sum()), 10_000, 0.25).pvalue > 1e-3


def _slow_weights(law, phase, tasks, share, exponent):
  def of_age(age):
    age = age + 1 if share is None else age
    if law == 'power':
      return age**-exponent
    return np.exp(-exponent * age) if law == 'exponential' else 1.0

  now = min(phase, tasks - 1)
  if share is None:
    found = [of_age(now - j) if j <= now else 0.0 for j in range(tasks)]
    return np.array(found) / sum(found)
  past = [of_age(now - j) if j < now else 0.0 for j in range(tasks)]
  total = sum(past)
  found = [share * p / total if total else 0.0 for p in past]
  found[now] = 1 - share if total else 1.0
  return np.array(found)


@settings(max_examples=80, deadline=None)
@given(
  law=st.sampled_from(['power', 'exponential', 'uniform']),
  phase=st.integers(0, 9),
  share=st.one_of(st.none(), st.floats(0.05, 0.95)),
  exponent=st.floats(0.1, 3.0),
)
def test_weights_of_age_are_those_of_the_slow_form(law, phase, share, exponent):
  weights = AgeWeights(law, 6, 10, share, exponent)
  plan = MixturePlan(_POOLS[:1] * 6, weights, 100, 2, 0, 10)
  found = plan.shares(np.array([10 * phase + 3]))[0]
  slow = _slow_weights(law, phase, 6, share, exponent)
  np.testing.assert_allclose(found, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
  'law, share, expected',
  [
    ('recency', 0.25, [0.0, 0.25, 0.75]),
    ('none', 0.25, [0.0, 0.0, 1.0]),
    ('recency', None, [0.0, 0.5, 0.5]),
    ('none', None, [0.0, 0.0, 1.0]),
  ],
)
def test_weights_that_forget(law, share, expected):
  weights = AgeWeights(law, 3, 10, share)(np.array([25]))[0]
  np.testing.assert_allclose(weights / weights.sum(), expected)


def test_rows_are_drawn_by_the_weights():
  weights = ScheduledWeights((optax.linear_schedule(1.0, 3.0, 1000), 1.0, 0))
  plan = MixturePlan(_POOLS[:3], weights, ENDLESS, 50, 0)
  for start, share in ((0, 0.5), (5000, 0.75)):
    chunk = plan.chunk(start, 1)
    indices = np.stack(
      [
        MixturePlan(_POOLS[:3], weights, ENDLESS, 50, seed)
        .chunk(start, 1)
        .indices[0]
        for seed in range(100)
      ]
    )
    assert chunk.indices.shape == (1, 50)
    first = int((indices < 100).sum())
    assert stats.binomtest(first, 5000, share).pvalue > 1e-3
    assert (indices < 200).all()
    # Every row of a pool is as likely as any other.
    counts = np.bincount(indices[indices < 100], minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_weights_follow_a_schedule_as_jax_evaluates_it():
  schedule = wsd_schedule(2.0, 50, 400, 50)
  steps = np.array([0, 1, 77, 499, 10**9])
  found = ScheduledWeights((schedule, 0.5))(steps)
  wanted = jax.vmap(schedule)(steps.astype(np.int32))
  np.testing.assert_array_equal(found[:, 0], np.asarray(wanted, np.float64))
  assert (found[:, 1] == 0.5).all()


def test_weights_that_vanish_are_named():
  weights = ScheduledWeights((optax.linear_schedule(1.0, 0.0, 10), 0.0))
  plan = MixturePlan(_POOLS[:2], weights, 100, 2, 0)
  with pytest.raises(
    ValueError, match=r'step 10 are \[0. 0.\]; they must be 2'
  ):
    plan.chunk(5, 10)


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'law': 'powr'}, "law is 'powr'; it must be one of"),
    ({'share': 1.5}, 'share is 1.5; it must be'),
    ({'exponent': -1.0}, 'exponent is -1.0; it must be'),
    ({'phase_steps': 0}, 'phase_steps'),
  ],
)
def test_bad_laws_are_named(kwargs, message):
  given_ = {'law': 'power', 'num_tasks': 3, 'phase_steps': 5, **kwargs}
  with pytest.raises(ValueError, match=message):
    AgeWeights(**given_)
