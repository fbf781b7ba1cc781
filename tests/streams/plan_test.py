from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrcl.streams import ENDLESS, Plan, make_plan


def _pools(sizes):
  ends = np.cumsum(sizes)
  rows = np.random.default_rng(0).permutation(ends[-1])
  return np.split(rows, ends[:-1])


def _plan(sizes=(7, 12, 5), phases=((0, 5), (1, 9), (0, 4), (2, 3)), **kwargs):
  return make_plan(_pools(sizes), phases, **{'batch_size': 3, **kwargs})


def _equal(a, b):
  for x, y in zip(a, b, strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


@st.composite
def plans(draw):
  sizes = draw(st.lists(st.integers(4, 40), min_size=1, max_size=4))
  phase = st.tuples(st.integers(0, len(sizes) - 1), st.integers(1, 20))
  return make_plan(
    _pools(sizes),
    draw(st.lists(phase, min_size=1, max_size=6)),
    batch_size=draw(st.integers(1, 4)),
    seed=draw(st.one_of(st.none(), st.integers(0, 99))),
  )


@settings(max_examples=60, deadline=None)
@given(plan=plans(), data=st.data())
def test_chunk_equals_single_steps(plan, data):
  start = data.draw(st.integers(0, plan.num_steps))
  steps = data.draw(st.integers(0, plan.num_steps - start))
  chunk = plan.chunk(start, steps)
  assert chunk.indices.shape == (steps, plan.batch_size)
  singles = [plan.chunk(s, 1) for s in range(start, start + steps)]
  if singles:
    parts = zip(*singles, strict=True)
    _equal(chunk, [np.concatenate(part) for part in parts])


@settings(max_examples=60, deadline=None)
@given(plan=plans())
def test_every_epoch_visits_each_row_once(plan):
  whole = plan.chunk(0, plan.num_steps)
  for task, pool in enumerate(plan.pools):
    mine = whole.task_ids == task
    indices, weights = whole.indices[mine], whole.weights[mine]
    assert np.isin(indices, pool).all(), 'padding is rows of the same task'
    per_epoch = -(-len(pool) // plan.batch_size)
    for at in range(0, len(indices) - per_epoch + 1, per_epoch):
      epoch = slice(at, at + per_epoch)
      seen = indices[epoch][weights[epoch] > 0]
      np.testing.assert_array_equal(np.sort(seen), np.sort(pool))


@settings(max_examples=60, deadline=None)
@given(plan=plans(), data=st.data())
def test_hold(plan, data):
  step = data.draw(st.integers(1, plan.num_steps))
  held = plan.hold(step)
  _equal(held.chunk(0, step), plan.chunk(0, step))
  task = plan.chunk(step - 1, 1).task_ids[0]
  later = held.chunk(step, 50)
  assert (later.task_ids == task).all()
  assert held.num_steps == ENDLESS
  assert all(boundary < step for boundary in held.boundaries)
  assert held.chunk(10**9, 2).indices.shape == (2, plan.batch_size)


def test_held_task_goes_on_as_a_longer_one_would():
  short = _plan(phases=[(0, 5), (1, 9)], sizes=(7, 12))
  long = _plan(phases=[(0, 40)], sizes=(7, 12))
  _equal(short.hold(4).chunk(0, 40), long.chunk(0, 40))


def test_returning_task_goes_on_with_its_epochs():
  apart = _plan().chunk(0, 21)
  whole = _plan(phases=[(0, 9)]).chunk(0, 9)
  mine = apart.task_ids == 0
  np.testing.assert_array_equal(apart.indices[mine], whole.indices)
  np.testing.assert_array_equal(apart.weights[mine], whole.weights)


def test_last_batch_of_an_epoch_is_padded():
  plan = make_plan([np.arange(12_000)], [(0, 188)], batch_size=128)
  weights = plan.chunk(0, 188).weights.sum(axis=1)
  assert plan.num_steps == 188
  np.testing.assert_array_equal(np.flatnonzero(weights < 128), [93, 187])
  assert weights[93] == 96


def test_epochs_tasks_and_seeds_differ():
  same = [np.arange(40), np.arange(40)]
  plan = make_plan(same, [(0, 2), (1, 1)], batch_size=40, seed=0)
  other = make_plan(same, [(0, 2), (1, 1)], batch_size=40, seed=1)
  orders = [*plan.chunk(0, 3).indices, *other.chunk(0, 3).indices]
  assert len({tuple(order) for order in orders}) == 6


def test_no_seed_keeps_the_order():
  plan = make_plan([np.arange(10, 15)], [(0, 3)], batch_size=2, seed=None)
  assert plan.chunk(0, 3).indices.ravel()[:5].tolist() == [10, 11, 12, 13, 14]


def test_boundaries_are_changes_of_task():
  plan = _plan(phases=[(0, 2), (0, 3), (2, 1), (1, 4)])
  assert plan.boundaries == (5, 6)
  assert plan.num_steps == 10


def test_task_batches_hold_each_row_once():
  plan = _plan()
  indices, weights = plan.task_batches(1, 5)
  assert indices.shape == weights.shape == (3, 5)
  seen = indices[weights > 0]
  np.testing.assert_array_equal(np.sort(seen), np.sort(plan.pools[1]))
  assert indices.dtype == np.int32 and weights.dtype == np.float32


def test_digest_changes_with_all_that_decides():
  swapped = _pools((7, 12, 5))
  swapped[1] = swapped[1][::-1]
  phases = [(0, 5), (1, 9), (0, 4), (2, 3)]
  variants = [
    _plan(seed=1),
    _plan(seed=None),
    _plan(batch_size=2),
    _plan(phases=[(0, 5), (1, 9), (0, 4), (2, 2)]),
    _plan(phases=[(0, 5), (1, 9), (1, 4), (2, 3)]),
    _plan(sizes=(7, 11, 6)),
    make_plan(swapped, phases, batch_size=3),
    _plan().hold(2),
  ]
  digests = {plan.digest for plan in variants}
  assert len(digests) == len(variants)
  assert _plan().digest not in digests
  assert _plan().digest == _plan().digest == _plan().digest.lower()
  assert len(_plan().digest) == 64


def test_plan_depends_on_nothing_else():
  plan = _plan()
  plan.chunk(9, 3)
  np.random.seed(0)  # noqa: NPY002
  _equal(plan.chunk(3, 9), _plan().chunk(3, 9))
  rebuilt = Plan(plan.pools, plan.phases, plan.batch_size, plan.seed)
  _equal(plan.chunk(3, 9), rebuilt.chunk(3, 9))


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: _plan(batch_size=6), 'task 2 has only 5 training rows'),
    (lambda: _plan(batch_size=0), 'batch_size is 0'),
    (lambda: _plan(phases=[(3, 1)]), 'names task 3'),
    (lambda: _plan(phases=[(0, 0)]), 'steps of task 0 is 0'),
    (lambda: _plan(phases=[]), 'no phases'),
    (lambda: make_plan([[]], [(0, 1)], batch_size=1), 'task 0 has no training'),
    (lambda: _plan(phases=[(0, 2**31)]), 'int32'),
    (lambda: _plan().chunk(20, 2), 'past the end'),
    (lambda: _plan().chunk(-1, 2), 'start is -1'),
    (lambda: _plan().hold(0), 'from 1 to 21'),
    (lambda: _plan().hold(22), 'from 1 to 21'),
    (lambda: _plan().task_batches(3, 2), 'task is 3'),
  ],
)
def test_errors(call, message):
  with pytest.raises(ValueError, match=message):
    call()
