"""Progress along an expert's steps, and the discount that follows it."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import schedules

HORIZON = 6
SETTINGS = hypothesis.settings(max_examples=40, deadline=None)
# Small whole numbers: ties between frames are frequent, and go to the first.
COSTS = st.lists(
  st.lists(st.integers(0, 4), min_size=HORIZON, max_size=HORIZON),
  min_size=HORIZON,
  max_size=HORIZON,
).map(lambda rows: np.array(rows, np.float32))


def slow_progress(costs, steps):
  """The longest rise of the nearest frames, by trying every pair."""
  nearest = costs[:steps, :steps].argmin(1)
  best = np.ones(len(nearest), int)
  for i in range(len(nearest)):
    for j in range(i):
      if nearest[j] < nearest[i]:
        best[i] = max(best[i], best[j] + 1)
  return best.max()


progress = jax.jit(schedules.leading_progress)


@SETTINGS
@hypothesis.given(COSTS)
def test_leading_progress_is_the_longest_rise(costs):
  got = [progress(costs, steps) for steps in range(1, HORIZON + 1)]
  want = [slow_progress(costs, steps) for steps in range(1, HORIZON + 1)]
  np.testing.assert_array_equal(got, want)


def test_leading_progress_of_a_stack_and_of_unequal_lengths():
  costs = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
  got = progress(costs, 7)
  assert got.shape == (2, 3) and got.dtype == jnp.int32
  want = [slow_progress(c, 7) for c in costs.reshape(6, 8, 8)]
  np.testing.assert_array_equal(got.ravel(), want)
  wide = np.abs(np.arange(4.0)[:, None] - 2.0 * np.arange(9.0)[None])
  # Matches 0, 0, 1, 1: a frame half way goes to the first of two.
  assert progress(wide, 9) == slow_progress(wide, 9) == 2


@pytest.mark.parametrize(
  ('progress', 'discount'),
  [
    (1, 0.2),
    (5, 0.7247797),
    (10, 0.8513399),
    (25, 0.9376510),
    (50, 0.9683238),
    (100, 0.9840344),
    (125, 0.9872070),
  ],
)
def test_discounts_of_the_reference(progress, discount):
  rate = schedules.progress_discount(range(1, 126))
  state = schedules.DiscountState(jnp.int32(progress))
  np.testing.assert_allclose(rate(state), discount, rtol=1e-6)


def test_it_starts_at_a_fifth_of_the_horizon():
  start = lambda horizon: schedules.progress_discount([1.0] * horizon).init()
  assert [int(start(h).progress) for h in (1, 4, 5, 9, 125)] == [1, 1, 1, 1, 25]


def slow_update(costs, k, needed):
  for _ in range(5):
    scores = [slow_progress(c, k) for c in costs]
    enough = np.percentile(scores, 90) >= int(0.9 * needed[k - 1])
    k += bool(k < HORIZON and enough)
  return k


@SETTINGS
@hypothesis.given(st.lists(COSTS, min_size=3, max_size=3))
def test_the_rule_against_a_slow_twin(costs):
  needed = [1.0, 2.0, 2.5, 3.5, 4.0, 5.0]
  discount = schedules.progress_discount(needed)
  state = UPDATE(discount.init(), np.stack(costs))
  assert state.progress == slow_update(costs, 1, needed)


UPDATE = jax.jit(
  lambda state, costs: schedules.progress_discount(
    [1.0, 2.0, 2.5, 3.5, 4.0, 5.0]
  ).update(state, costs=costs)
)


def test_it_never_falls_and_ends_at_the_horizon():
  discount = schedules.progress_discount(np.arange(1, HORIZON + 1))
  frames = np.arange(float(HORIZON))
  same = np.abs(frames[:, None] - frames[None])[None]
  state, seen = discount.init(), []
  for costs in (same, same, np.zeros_like(same)):
    state = discount.update(state, costs=costs)
    seen.append(int(state.progress))
  assert seen == [6, 6, 6]


def test_a_percentile_that_is_reached_in_real_numbers_counts():
  # 90 % of 1, 1, 11 is 9; in float32 it comes out as 8.999999.
  frames = np.arange(12.0)
  same = np.abs(frames[:, None] - frames[None])
  costs = np.stack([np.zeros_like(same), np.zeros_like(same), same])
  for needed, want in ((9.0, 12), (9.01, 12), (10.0, 11)):
    discount = schedules.progress_discount([needed] * 12, threshold=1.0)
    state = schedules.DiscountState(jnp.int32(11))
    assert jax.jit(discount.update)(state, costs=costs).progress == want


WRONG = [
  ({'reference': []}, r'reference is \[\]'),
  ({'reference': [1.0, np.nan]}, 'reference is'),
  ({'reference': [[1.0]]}, 'reference is'),
  ({'alpha': 1.0}, 'alpha is 1.0; it must be < 1'),
  ({'alpha': 0.0}, 'alpha is 0.0'),
  ({'start_fraction': 0.0}, 'start_fraction is 0.0'),
  ({'threshold': 1.5}, 'threshold is 1.5'),
  ({'max_increase': 0}, 'max_increase is 0'),
  ({'percentile': 101.0}, 'percentile is 101.0'),
]


@pytest.mark.parametrize(('wrong', 'message'), WRONG)
def test_refused(wrong, message):
  with pytest.raises(ValueError, match=f'^progress_discount: .*{message}'):
    schedules.progress_discount(**{'reference': [1.0, 2.0], **wrong})


def test_costs_of_another_shape_are_refused():
  discount = schedules.progress_discount([1.0, 2.0])
  with pytest.raises(ValueError, match=r'costs has shape \(2, 3\).*2, 2\]'):
    discount.update(discount.init(), costs=np.ones((2, 3)))
  with pytest.raises(ValueError, match='leading_progress: costs has shape'):
    schedules.leading_progress(jnp.ones(3), 1)


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    ({'values': []}, 'values is empty'),
    ({'values': [1, np.inf]}, r'values\[1\] is inf'),
    ({'threshold': np.nan}, 'threshold is nan'),
    ({'patience': 0}, 'patience is 0'),
  ],
)
def test_a_staircase_that_is_refused(wrong, message):
  good = {'values': [1, 2], 'threshold': 0.9}
  with pytest.raises(ValueError, match=f'^mastery_staircase: .*{message}'):
    schedules.mastery_staircase(**{**good, **wrong})


def test_a_metric_that_is_not_a_number_masters_nothing():
  length = schedules.mastery_staircase([1, 2], 0.9, patience=2)
  state = length.update(length.init(), metric=1.0)
  state = length.update(state, metric=np.nan)
  assert state == (0, 0)
