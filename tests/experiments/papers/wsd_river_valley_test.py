import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import wsd_river_valley


def test_the_valley_has_the_moments_that_follow_from_its_recursion():
  rates = np.linspace(0.5, 0.05, 60).astype(np.float32)
  chains = 20_000
  found = wsd_river_valley.simulate(
    jnp.asarray(rates), jax.random.key(0), [20, 60], chains
  )
  x, variance, wanted = 0.0, 0.0, []
  for n, rate in enumerate(np.float64(rates)):
    x += 100 * rate * 2 / 200 / (1 + x / 200) ** 2
    variance = (1 - rate) ** 2 * variance + rate**2 * 9
    if n + 1 in (20, 60):
      wanted.append((2 / (1 + x / 200), variance / 2))
  for loss, (river, noise) in zip(found, wanted, strict=True):
    error = 4 * noise * np.sqrt(2 / chains)  # four deviations of a mean
    assert loss == pytest.approx(river + noise, abs=error)
