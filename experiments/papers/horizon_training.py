"""Evolves learned schedules, and measures them and others over lifetimes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import evolution
from experiments.papers.learned_schedule import LearnedSchedule
from experiments.papers.lifetimes import Life, Lifetimes
from lrcl import base, protocols, schedules

TRAINED = (16, 128)
"""The least and the greatest length of a lifetime for training."""

RATES = protocols.geometric(0.0125, 3.2)
SIGMA = 0.1
LEARNING_RATE = 0.05

_FIRST_TUNING = 10**6

Make = Callable[[Any, Any], base.ScheduleLike]
"""`make(values, total_steps)`: a schedule of values that may be traced."""


def constant(rate: Any, total_steps: Any) -> optax.Schedule:
  """The same rate at every step."""
  del total_steps
  return optax.constant_schedule(rate)


def cosine(peak: Any, total_steps: Any) -> optax.Schedule:
  """Half a cosine to 0 over a length that may be traced."""

  def schedule(step: Any) -> jax.Array:
    done, _ = schedules.horizon_features(step, total_steps)
    return peak * jnp.square(jnp.cos(jnp.pi / 2 * done))

  return schedule


def learned(values: Any, total_steps: Any) -> LearnedSchedule:
  """The learned schedule of `(params, sees_horizon)`."""
  params, sees_horizon = values
  return LearnedSchedule(params, total_steps, sees_horizon)


def draw_length(key: jax.Array) -> jax.Array:
  """The length of a lifetime for training, log-uniform."""
  low, high = np.log(TRAINED)
  log = jax.random.uniform(key, minval=low, maxval=high)
  return jnp.round(jnp.exp(log)).astype(jnp.int32)


class Scale(NamedTuple):
  """How much is done.

  Attributes:
    generations: of the evolution.
    pairs: of each generation; each lives one lifetime twice.
    lifetimes: for each loss that is measured.
    seeds: evolutions that are run, and sets of lifetimes to measure on.
  """

  generations: int
  pairs: int
  lifetimes: int
  seeds: int


class Trainer:
  """Evolves schedules and measures them, each by one compiled program."""

  def __init__(self, scale: Scale):
    self._lives, self._scale = Lifetimes(), scale
    self._evolve = jax.jit(self._evolve_one)
    self._measure = jax.jit(self._live_many, static_argnums=0)

  def evolve(self, seed: int, sees_horizon: bool) -> jax.Array:
    """The parameters of a schedule that is learned from scratch."""
    return self._evolve(jax.random.key(seed), jnp.asarray(sees_horizon))

  def measure(self, make: Make, values: Any, length: int, seed: int) -> Life:
    """Means over lifetimes of one length; the seed gives these."""
    keys = jax.random.split(jax.random.key(seed), self._scale.lifetimes)
    return self._measure(make, values, jnp.int32(length), keys)

  def tune(self, make: Make, lengths: Sequence[int]) -> list[protocols.Tuned]:
    """The best of `RATES` on lifetimes apart from those of `measure`.

    Args:
      make: the schedule of a rate.
      lengths: for each a rate is chosen; with 0 every lifetime has a length of
        its own, as in training.
    """
    count = self._scale.lifetimes

    def loss(setting: protocols.Setting, key: jax.Array) -> jax.Array:
      length = jnp.asarray(setting['length'], jnp.int32)
      return self._live(make, setting['rate'], key, length)

    settings = protocols.grid({'rate': RATES, 'length': lengths})
    seeds = range(_FIRST_TUNING, _FIRST_TUNING + count)
    # Together live those of one length, so that none waits for a longer one.
    found = protocols.sweep(loss, settings, seeds, batch_size=count)
    found = found.reshape(len(RATES), len(lengths), count)
    return [
      protocols.Tuned(
        *protocols.choose({'rate': RATES}, found[:, i]), found[:, i]
      )
      for i in range(len(lengths))
    ]

  def _live(
    self, make: Make, values: Any, key: jax.Array, length: Any = 0
  ) -> jax.Array:
    """The loss of one lifetime, of a length that is drawn if it is 0."""
    length_key, key = jax.random.split(key)
    length = jnp.where(length > 0, length, draw_length(length_key))
    return self._lives.live(make(values, length), length, key).loss

  def _evolve_one(self, key: jax.Array, sees_horizon: jax.Array) -> jax.Array:
    loss_fn = lambda params, key: self._live(
      learned, (params, sees_horizon), key
    )
    return evolution.evolve(
      loss_fn,
      jnp.zeros(LearnedSchedule.NUM_PARAMS),
      key,
      generations=self._scale.generations,
      pairs=self._scale.pairs,
      sigma=SIGMA,
      tx=optax.adam(
        optax.cosine_decay_schedule(LEARNING_RATE, self._scale.generations)
      ),
    ).params

  def _live_many(
    self, make: Make, values: Any, length: jax.Array, keys: jax.Array
  ) -> Life:
    live = lambda key: self._lives.live(make(values, length), length, key)
    return jax.tree.map(lambda x: jnp.mean(x, 0), jax.vmap(live)(keys))
