"""Comparisons and ranks against what scipy and a slow loop say."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from lrcl import protocols


def test_compare_is_the_paired_t_test():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=7), rng.normal(size=7)
  found = protocols.compare(a, b)
  assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)
  interval = stats.ttest_rel(a, b).confidence_interval()
  assert found.difference - found.half_width == pytest.approx(interval.low)
  assert found.difference + found.half_width == pytest.approx(interval.high)
  assert found.decided == (interval.low > 0 or interval.high < 0)


def test_compare_of_one_seed_and_of_the_same():
  one = protocols.compare([0.5], [0.25])
  assert one.difference == 0.25 and math.isnan(one.p_value) and not one.decided
  same = protocols.compare([0.5, 0.5], [0.5, 0.5])
  assert same.p_value == 1.0 and not same.decided
  sure = protocols.compare([0.5, 0.75], [0.25, 0.5])
  assert sure.p_value == 0.0 and sure.decided


def _slow_ranks(table, larger):
  """Mean rank of each contender, ties shared, by counting."""
  contenders, cases, seeds = table.shape
  ranks = np.zeros((contenders, cases, seeds))
  for c in range(cases):
    for s in range(seeds):
      for i in range(contenders):
        mine, others = table[i, c, s], table[:, c, s]
        better = others > mine if larger else others < mine
        ranks[i, c, s] = better.sum() + ((others == mine).sum() + 1) / 2
  return ranks.mean((1, 2))


@settings(max_examples=60, deadline=None)
@given(
  seed=st.integers(0, 2**31),
  shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4)),
  larger=st.booleans(),
)
def test_ranks_are_those_of_counting(seed, shape, larger):
  table = np.random.default_rng(seed).integers(0, 4, shape) / 4
  scores = {f'm{i}': row for i, row in enumerate(table)}
  found = protocols.rank_contenders(scores, larger_is_better=larger)
  slow = _slow_ranks(table, larger)
  by_name = dict(zip(found.names, found.ranks, strict=True))
  for i, rank in enumerate(slow):
    assert by_name[f'm{i}'] == pytest.approx(rank)
  assert (np.diff(found.ranks) >= 0).all()


def test_the_friedman_test_sees_a_winner():
  rng = np.random.default_rng(0)
  noise = rng.normal(size=(3, 12))
  alike = dict(zip('abc', noise, strict=True))
  apart = {**alike, 'c': alike['c'] + 10}
  assert protocols.rank_contenders(apart).p_value < 0.01
  assert protocols.rank_contenders(alike).p_value > 0.05
  assert math.isnan(protocols.rank_contenders({'a': noise[0]}).p_value)


def test_a_lost_run_is_the_worst():
  found = protocols.rank_contenders({'a': [0.1], 'b': [float('nan')]})
  assert found.names == ('a', 'b') and found.ranks.tolist() == [1, 2]


def test_rank_correlation():
  first = [1.0, 2.0, 3.0, 4.0]
  assert protocols.rank_correlation(first, first) == pytest.approx(1)
  assert protocols.rank_correlation(first, first[::-1]) == pytest.approx(-1)
  assert math.isnan(protocols.rank_correlation(first, [1, 1, 1, 1]))


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: protocols.compare([1, 2], [1]), r'must be \[seeds\]'),
    (lambda: protocols.compare([], []), r'must be \[seeds\]'),
    (
      lambda: protocols.rank_contenders({'a': [1], 'b': [1, 2]}),
      'must have the same',
    ),
    (lambda: protocols.rank_contenders({'a': 1.0}), 'must have the same'),
    (lambda: protocols.rank_correlation([1], [1]), 'at least two'),
  ],
)
def test_statistics_name_what_does_not_fit(call, message):
  with pytest.raises(ValueError, match=message):
    call()
