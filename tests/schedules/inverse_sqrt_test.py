"""The inverse square root against its formulas in float64."""

import numpy as np
import pytest

from lrcl import schedules

STEPS = np.unique(np.geomspace(1, 2**31 - 1, 3000).astype(np.int64))


@pytest.mark.parametrize('warmup', [1, 100, 10_000])
def test_without_an_end(warmup):
  got = schedules.inverse_sqrt_schedule(0.3, warmup)(STEPS)
  want = 0.3 * np.minimum(STEPS / warmup, np.sqrt(warmup / STEPS))
  np.testing.assert_allclose(got, want, rtol=4e-7)


@pytest.mark.parametrize('warmup', [0, 50])
def test_levanters_time_scale(warmup):
  got = schedules.inverse_sqrt_schedule(0.3, warmup, timescale=10_000)(STEPS)
  count = STEPS - warmup  # there the warm-up is joined in front
  decay = 1 / np.sqrt(np.maximum(count + warmup, 1) / 10_000)
  want = np.where(
    STEPS < warmup, 0.3 * STEPS / max(warmup, 1), 0.3 * np.minimum(1, decay)
  )
  np.testing.assert_allclose(got, want, rtol=4e-7)


def test_noam_counts_from_one():
  got = schedules.noam_schedule(512, 4000, factor=2.0)(STEPS)
  want = 2 * 512**-0.5 * np.minimum(STEPS**-0.5, STEPS * 4000**-1.5)
  np.testing.assert_allclose(got, want, rtol=5e-7)
  schedule = schedules.noam_schedule(512, 4000)
  assert schedule(0) == schedule(0.5) == schedule(1) > 0
