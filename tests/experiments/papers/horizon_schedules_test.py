import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.papers import horizon_training
from experiments.papers.learned_schedule import LearnedSchedule
from experiments.papers.lifetimes import Lifetimes
from lrcl import schedules

_SIZE = LearnedSchedule.NUM_PARAMS


@pytest.fixture(scope='module')
def live():
  lives = Lifetimes()

  def learned(params, length, key):
    schedule = horizon_training.learned((params, True), length)
    return lives.live(schedule, length, key)

  return jax.jit(learned)


def test_without_parameters_the_rate_is_a_tenth():
  schedule = LearnedSchedule(jnp.zeros(_SIZE), 50, True)
  assert schedule(schedule.init()) == pytest.approx(0.1)


def test_the_horizon_is_seen_only_where_it_should_be():
  params = jax.random.normal(jax.random.key(0), (_SIZE,))
  rates = {}
  for sees in (False, True):
    for count, total in ((10, 40), (20, 40), (20, 80)):
      schedule = LearnedSchedule(params, total, sees)
      state = schedule.init()._replace(count=jnp.int32(count))
      rates[sees, count, total] = float(schedule(state))
  assert (
    len({rates[True, n, t] for n, t in ((10, 40), (20, 40), (20, 80))}) == 3
  )
  assert (
    len({rates[False, n, t] for n, t in ((10, 40), (20, 40), (20, 80))}) == 1
  )


def test_the_rate_is_the_network_of_the_features():
  params = np.random.default_rng(0).normal(size=_SIZE).astype(np.float32)
  schedule = LearnedSchedule(jnp.asarray(params), 128, True)
  state = schedule.init()
  for loss in (0.5, 0.25):
    state = schedule.update(state, value=jnp.float32(loss))
  log_loss = np.log(np.log(2.0))
  for loss in (0.5, 0.25):
    log_loss += 0.1 * (np.log(loss) - log_loss)
  x = np.array([2 * 2 / 128 - 1, np.log(2.0), log_loss + 1])
  hidden = np.tanh(x @ params[:24].reshape(3, 8) + params[24:32])
  wanted = 0.1 * np.exp(np.clip(hidden @ params[32:40] + params[40], -8, 4))
  assert float(schedule(state)) == pytest.approx(wanted, rel=1e-5)


def test_a_lifetime_learns_and_says_its_rates(live):
  params = jnp.zeros(_SIZE).at[0].set(-1.0).at[32].set(1.0)  # of n / N alone
  life = live(params, jnp.int32(96), jax.random.key(0))
  assert life.loss < 0.6 * np.log(2.0)
  schedule = LearnedSchedule(params, 96, True)
  states = [schedule.init()._replace(count=jnp.int32(n)) for n in range(96)]
  wanted = np.array([schedule(state) for state in states])
  np.testing.assert_allclose(
    life.rates, wanted.reshape(3, 32).mean(1), rtol=1e-5
  )


def test_lives_of_many_lengths_in_one_batch_are_those_alone(live):
  params = 0.3 * jax.random.normal(jax.random.key(1), (_SIZE,))
  lengths = jnp.array([9, 30])
  keys = jax.random.split(jax.random.key(2))
  mapped = jax.jit(jax.vmap(live, (None, 0, 0)))(params, lengths, keys)
  for i in range(2):
    alone = live(params, lengths[i], keys[i])
    np.testing.assert_allclose(mapped.loss[i], alone.loss, rtol=1e-4)
    np.testing.assert_allclose(mapped.rates[i], alone.rates, rtol=1e-4)


def test_the_cosine_is_that_of_optax():
  wanted = optax.cosine_decay_schedule(0.3, 40)
  found = horizon_training.cosine(0.3, jnp.int32(40))
  for step in (0, 7, 20, 39, 40):
    np.testing.assert_allclose(found(step), wanted(step), atol=1e-7)
  assert schedules.horizon_features(10, 40)[0] == 0.25


def test_lengths_are_log_uniform():
  keys = jax.random.split(jax.random.key(0), 4000)
  lengths = np.asarray(jax.vmap(horizon_training.draw_length)(keys))
  assert (lengths.min(), lengths.max()) == (16, 128)
  middle = np.sqrt(16 * 128)
  assert np.mean(lengths < middle) == pytest.approx(0.5, abs=0.03)
