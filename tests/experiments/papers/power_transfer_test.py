import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import power_law, texts
from experiments.papers.ngrams import BATCH, CONTEXT, NGrams

_RATES = [0.01 * 2**i for i in range(7)]
_TOKENS = [1e4, 1e5, 1e6]


def _losses(best):
  """Parabolas over the log rate, lowest at `best[budgets, seeds]`."""
  logs = np.log(_RATES)[:, None, None]
  return 2.0 + 0.3 * (logs - np.log(best)[None]) ** 2


def test_the_fit_finds_the_law_that_made_the_losses():
  scale = np.array([1.0, 0.9, 1.2])
  best = scale * (np.array(_TOKENS)[:, None] / 1e5) ** -0.25 * 0.08
  law = power_law.fit(_RATES, _TOKENS, _losses(best))
  np.testing.assert_allclose(law.rates, best, rtol=1e-6)
  np.testing.assert_allclose(law.exponents, -0.25, rtol=1e-6)
  assert law.smaller == pytest.approx(-0.25)
  assert law.reference == pytest.approx(1e5)


def test_a_best_rate_beyond_the_grid_is_its_edge():
  best = power_law.best_rates(_RATES, _losses(np.array([[1e-4], [9.0]])))
  np.testing.assert_allclose(best[:, 0], [_RATES[0], _RATES[-1]])


def test_power_is_the_law_between_warmup_and_decay():
  options = {'warmup': 10, 'batch_size': 128, 'exponent': -0.3, 'peak': 1.0}
  schedule = power_law.power(0.02, 1000, reference=5e4, **options)
  steps = np.array([10, 100, 500, 800])
  wanted = 0.02 * (steps * 128 / 5e4) ** -0.3
  np.testing.assert_allclose(schedule(jnp.asarray(steps)), wanted, rtol=1e-5)
  assert schedule(900) == pytest.approx(wanted[-1] / 2, rel=1e-5)
  assert schedule(1000) == 0.0


def test_training_learns_and_stops_at_its_budget():
  model = NGrams(texts.read_sources('optax', 60_000))
  train = jax.jit(model.train)
  rates, key = jnp.full(60, 0.02), jax.random.key(0)
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam relies on it
    losses = [model.test_loss(train(rates, n, key)) for n in (0, 10, 60)]
    changed = train(rates.at[10:].set(5.0), 10, key)
  assert float(losses[0]) == pytest.approx(np.log(texts.VOCABULARY))
  assert losses[2] < losses[1] < losses[0]
  assert model.test_loss(changed) == losses[1]


def test_no_window_for_training_holds_a_byte_for_testing():
  tokens = np.where(np.arange(60_000) // 1000 % 20 == 0, 1, 2).astype(np.uint8)
  model = NGrams(tokens)
  batch = model._draw(model._train, jax.random.key(0), BATCH)
  assert batch.shape == (BATCH, CONTEXT + 1)
  assert set(np.unique(batch)) == {2}
  assert set(np.unique(model._test)) == {1}
