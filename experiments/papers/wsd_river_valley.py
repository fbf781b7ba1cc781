"""WSD, WSD-S and cyclic cosine on a river in a valley, peaks tuned for each.

A point drifts down a river, x, while noise throws it from bank to bank, y. A
high rate gets far along the river, a low one settles at its bottom. Every
schedule owes three checkpoints, after 1000, 2000 and 4000 steps; its peak, and
the fraction of the peak at which a decay ends, are chosen from one grid.

  python -m experiments.papers.wsd_river_valley

takes about a minute of CPU time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.papers import claims, wsd_family, wsd_report
from lrcl import protocols

CLAIM = claims.Claim(
  name='wsd_river_valley',
  title='WSD and WSD-S against cyclic cosine in a river valley',
  paper='Wen et al., 2024, Understanding Warmup-Stable-Decay Learning Rates: A '
  'River Valley Loss Landscape Perspective, https://arxiv.org/abs/2410.05192',
  says='The stable phase makes progress along the river and the decay reveals '
  'it; for several checkpoints of one run, WSD-S is better than WSD, and WSD '
  'than cyclic cosine (from the abstract, about language models of 0.1B to '
  '1.2B parameters; their numbers were not read).',
)

NOISE = 3.0
LENGTH = 200.0


class _Scale(NamedTuple):
  ends: tuple[int, ...]
  chains: int
  seeds: int


_SCALES = {
  'smoke': _Scale((40, 80, 160), 16, 3),
  'default': _Scale((1000, 2000, 4000), 512, 10),
  'full': _Scale((1000, 2000, 4000), 2048, 20),
}
_TUNING_SEEDS = range(100, 103)
_AXES = {
  'peak': protocols.geometric(0.04, 2.56, 2),
  'end': protocols.geometric(0.00078125, 0.2),
}


def river(x: jax.Array) -> jax.Array:
  """The loss along the river, from 2 down to 0."""
  return 2.0 / (1.0 + x / LENGTH)


def simulate(
  rates: jax.Array, key: jax.Array, at: Sequence[int], chains: int
) -> jax.Array:
  """Descends with noise across the river; mean losses over the chains.

  Args:
    rates: `[steps]`, the rate of each step.
    key: of the noise; step `n` draws from it and `n`.
    at: after how many steps to give the loss.
    chains: points that descend together, each with noise of its own.

  Returns:
    `[len(at)]` losses, `river(x) + mean(y**2) / 2`.
  """

  def step(state, inputs):
    x, y = state
    rate, n = inputs
    x -= 100.0 * rate * jax.grad(river)(x)
    noise = jax.random.normal(jax.random.fold_in(key, n), (chains,))
    y -= rate * (y + NOISE * noise)
    return (x, y), river(x) + jnp.mean(jnp.square(y)) / 2.0

  start = (jnp.float32(0.0), jnp.zeros(chains))
  steps = jnp.arange(len(rates))
  _, losses = jax.lax.scan(step, start, (rates, steps))
  return losses[jnp.asarray(at) - 1]


def run(size: claims.Size) -> claims.Outcome:
  """Tunes and measures every schedule."""
  scale = _SCALES[size]
  seeds = range(scale.seeds)
  found = wsd_family.compare(
    lambda rates, key, at: simulate(rates, key, at, scale.chains),
    _AXES,
    scale.ends,
    tuning_seeds=_TUNING_SEEDS,
    seeds=seeds,
  )
  parts = wsd_family.holds(found)
  sweep = wsd_report.describe(_AXES, scale.ends, _TUNING_SEEDS, seeds)
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'{claims.format_parts(parts)}. Mean loss over the '
    'checkpoints minus that of WSD-S: '
    f'{wsd_report.differences(found, 4)}.',
    table=wsd_report.rows(found, scale.ends),
    setting=f'Loss 2 / (1 + x / {LENGTH:g}) + y^2 / 2, noise of deviation '
    f'{NOISE:g} in the gradient of y, which diverges at rates above 2; '
    f'{scale.chains} chains per seed, {sweep}',
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
