import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrcl import protocols

_AXES = {'rate': [1.0, 2.0, 4.0, 8.0], 'a': [0.0, 1.0, 2.0], 'b': [0.0, 1.0]}


def _bowl(tried):
  return (
    (np.log2(tried['rate']) - 1) ** 2 + (tried['a'] - 2) ** 2 + tried['b'] / 2
  )


def _rows(found):
  return list(zip(*(c.tolist() for c in found.tried.values()), strict=True))


def test_the_rate_is_tried_whole_with_the_middle_of_the_rest():
  found = protocols.search(_bowl, _AXES, budget=4)
  assert _rows(found) == [(rate, 1.0, 1.0) for rate in _AXES['rate']]
  assert found.setting == {'rate': 2.0, 'a': 1.0, 'b': 1.0}
  assert found.edges == ('b',)


def test_what_is_left_goes_to_the_best_rate_then_its_neighbours():
  found = protocols.search(_bowl, _AXES, budget=4 + 5 + 10)
  rates = [row[0] for row in _rows(found)][4:]
  assert rates[:5] == [2.0] * 5
  assert set(rates[5:]) == {1.0, 4.0}
  assert found.setting == {'rate': 2.0, 'a': 2.0, 'b': 0.0}


def test_without_a_budget_it_is_the_whole_grid():
  found = protocols.search(_bowl, _AXES)
  every = set(itertools.product(*_AXES.values()))
  assert set(_rows(found)) == every and len(_rows(found)) == len(every)
  more = protocols.search(_bowl, _AXES, budget=1000)
  np.testing.assert_array_equal(more.losses, found.losses)


@settings(deadline=None, max_examples=30)
@given(budget=st.integers(4, 30), seed=st.integers(0, 5))
def test_no_setting_is_tried_twice_and_the_best_is_the_best(budget, seed):
  found = protocols.search(_bowl, _AXES, budget=budget, seed=seed)
  rows = _rows(found)
  assert len(rows) == len(set(rows)) == min(budget, 24)
  losses = _bowl(found.tried)
  np.testing.assert_allclose(found.losses, losses)
  best = rows[int(np.argmin(losses))]
  assert tuple(found.setting.values()) == best


def test_a_lost_run_is_never_chosen_and_does_not_mislead_the_search():
  def measure(tried):
    losses = np.stack([_bowl(tried), _bowl(tried)], axis=1)
    losses[tried['rate'] == 2.0, 1] = np.nan
    return losses

  found = protocols.search(measure, _AXES, budget=6)
  assert found.setting['rate'] in (1.0, 4.0)
  assert np.isnan(found.losses[1])
  with pytest.raises(FloatingPointError, match='no setting has finite'):
    protocols.search(lambda t: np.full(len(t['rate']), np.inf), _AXES)


def test_what_cannot_be_searched_is_named():
  with pytest.raises(ValueError, match="budget is 3, but the first axis, 'rat"):
    protocols.search(_bowl, _AXES, budget=3)
  with pytest.raises(ValueError, match='needs an axis, and each a value'):
    protocols.search(_bowl, {'rate': []})
  with pytest.raises(ValueError, match='needs an axis'):
    protocols.search(_bowl, {})
