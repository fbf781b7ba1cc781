"""The interval over seeds against tables and simulation."""

import doctest
import importlib

import numpy as np
import pytest

from lrcl.metrics import mean_interval


def test_golden_from_the_printed_table():
  # t(0.975, 2) = 4.303; the deviation of (1, 2, 3) is 1.
  mean, half = mean_interval([1.0, 2.0, 3.0])
  assert mean == 2
  assert half == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
  # t(0.95, 4) = 2.132; the deviation of (0, 0, 0, 0, 5) is sqrt(5).
  mean, half = mean_interval([0, 0, 0, 0, 5], confidence=0.9)
  assert (mean, half) == (1, pytest.approx(2.1318, abs=1e-4))


def test_axes():
  x = np.random.default_rng(0).random((3, 4, 2))
  mean, half = mean_interval(x, axis=1)
  assert mean.shape == half.shape == (3, 2)
  one, width = mean_interval(x[0, :, 1])
  assert (mean[0, 1], half[0, 1]) == (pytest.approx(one), pytest.approx(width))


def test_one_seed_has_no_interval_and_equal_seeds_a_width_of_zero():
  mean, half = mean_interval([0.3])
  assert mean == 0.3
  assert np.isnan(half)
  assert mean_interval([0.5, 0.5, 0.5])[1] == 0


def test_it_covers_as_often_as_it_says():
  draws = np.random.default_rng(0).normal(2.0, 3.0, (4, 20000))
  mean, half = mean_interval(draws)
  assert np.mean(abs(mean - 2) <= half) == pytest.approx(0.95, abs=0.005)


def test_errors():
  with pytest.raises(ValueError, match='at least one seed'):
    mean_interval([])
  with pytest.raises(ValueError, match='at least one seed'):
    mean_interval(0.5)
  with pytest.raises(ValueError, match='confidence is 95; it must lie inside'):
    mean_interval([1, 2], confidence=95)


@pytest.mark.parametrize('name', ['_matrix', '_continual', '_interval'])
def test_examples(name):
  module = importlib.import_module(f'lrcl.metrics.{name}')
  result = doctest.testmod(module)
  assert result.attempted > 0
  assert result.failed == 0
