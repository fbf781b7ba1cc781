"""WSD, WSD-S and cosines as contenders for several checkpoints, and a judge.

What two claims have in common: each contender turns a setting, `peak` and
`end` (the fraction of the peak at which a decay ends), into one schedule per
checkpoint. A contender of one run has the same schedule at each of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.papers import claims
from lrcl import protocols, schedules

DECAY = 0.1
"""The fraction of its run, or of its cycle, that a decay takes."""

Simulate = Callable[[jax.Array, jax.Array, Sequence[int]], jax.Array]
"""`simulate(rates, key, at) -> losses[len(at)]`: a run of `len(rates)` steps,
and its loss after `at` steps, increasing; step `n` draws from `key` and `n`."""

Make = Callable[[protocols.Setting, Sequence[int]], list[optax.Schedule]]


class Contender(NamedTuple):
  """A way to several checkpoints.

  Attributes:
    name: for the table.
    make: `make(setting, ends)`, one schedule per checkpoint.
    steps: `steps(ends)`, the steps of all its runs together.
    ends: `ends(ends)`, where its checkpoints stand: the ends themselves, or
      earlier ones where it has to save steps.
  """

  name: str
  make: Make
  steps: Callable[[Sequence[int]], int]
  ends: Callable[[Sequence[int]], list[int]] = list


def _wsd(
  setting: protocols.Setting, ends: Sequence[int]
) -> list[optax.Schedule]:
  """A constant trunk, and a decay that leaves it for every checkpoint."""
  trunk = optax.constant_schedule(setting['peak'])
  last = setting['peak'] * setting['end']
  return [
    schedules.decay_branch(
      trunk, end - decay, decay, end_value=last, decay='inverse'
    )
    for end, decay in zip(ends, decay_lengths(ends), strict=True)
  ]


def _cycles(decay_fraction: float, decay: str) -> Make:
  """One run that decays before every end."""

  def make(setting, ends):
    schedule = schedules.wsd_s_schedule(
      setting['peak'],
      0,
      ends,
      decay_fraction=decay_fraction,
      end_value=setting['peak'] * setting['end'],
      decay=decay,
    )
    return [schedule] * len(ends)

  return make


def _cosines(
  setting: protocols.Setting, ends: Sequence[int]
) -> list[optax.Schedule]:
  last = setting['peak'] * setting['end']
  return [
    schedules.repeated_cosine_schedule(setting['peak'], end, 0, end_value=last)
    for end in ends
  ]


def _constant(
  setting: protocols.Setting, ends: Sequence[int]
) -> list[optax.Schedule]:
  return [optax.constant_schedule(setting['peak'])] * len(ends)


def decay_lengths(ends: Sequence[int]) -> list[int]:
  """Steps of the decay before each checkpoint of WSD.

  Example:
    >>> decay_lengths([1000, 2000, 4000])
    [100, 200, 400]
  """
  return [round(DECAY * end) for end in ends]


def wsd_steps(ends: Sequence[int]) -> int:
  """The trunk up to the last fork, and all the decays.

  Example:
    >>> wsd_steps([1000, 2000, 4000])
    4300
  """
  decays = decay_lengths(ends)
  return ends[-1] - decays[-1] + sum(decays)


def affordable_ends(ends: Sequence[int]) -> list[int]:
  """The ends of WSD if each decay is paid for before the next checkpoint.

  Example:
    >>> affordable_ends([1000, 2000, 4000]), wsd_steps([1000, 1900, 3710])
    ([1000, 1900, 3710], 4000)
  """
  found, spent = [], 0
  for end in ends:
    found.append(end - spent)
    spent += decay_lengths(found[-1:])[0]
  return found


_last = lambda ends: ends[-1]

CONTENDERS = (
  Contender('WSD, a branch each', _wsd, wsd_steps),
  Contender('WSD, equal steps', _wsd, _last, affordable_ends),
  Contender('WSD-S', _cycles(DECAY, 'inverse'), _last),
  Contender('WSD-S, longer decays', _cycles(2 * DECAY, 'inverse'), _last),
  Contender('cyclic cosine', _cycles(1.0, 'cosine'), _last),
  Contender('cosine, a run each', _cosines, sum),
  Contender('constant', _constant, _last),
)


def compare(
  simulate: Simulate,
  axes: protocols.Axes,
  ends: Sequence[int],
  *,
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
  batch_size: int | None = None,
) -> dict[str, protocols.Tuned]:
  """Tunes and measures every contender: losses `[seeds, checkpoints]`."""
  return {
    contender.name: protocols.tune(
      measure(contender, ends, simulate),
      axes if contender.make is not _constant else {**axes, 'end': [1.0]},
      tuning_seeds=tuning_seeds,
      seeds=seeds,
      batch_size=batch_size,
    )
    for contender in CONTENDERS
  }


def measure(
  contender: Contender, ends: Sequence[int], simulate: Simulate
) -> protocols.Measure:
  """Losses at the checkpoints of a contender, given a setting and a key."""
  own = contender.ends(ends)

  def losses(setting: protocols.Setting, key: jax.Array) -> jax.Array:
    made = contender.make(setting, own)
    if all(schedule is made[0] for schedule in made):
      return simulate(_rates(made[0], own[-1]), key, own)
    runs = zip(made, own, strict=True)
    found = [simulate(_rates(s, end), key, [end])[0] for s, end in runs]
    return jnp.stack(found)

  return losses


def _rates(schedule: optax.Schedule, steps: int) -> jax.Array:
  rates = jnp.asarray(schedule(jnp.arange(steps)), jnp.float32)
  return jnp.broadcast_to(rates, (steps,))


def holds(found: Mapping[str, protocols.Tuned]) -> dict[str, bool]:
  """What holds, by the mean over checkpoints, seed by seed."""
  mean = {name: tuned.losses.mean(1) for name, tuned in found.items()}
  wsd = mean['WSD, equal steps']
  return {
    'WSD-S below WSD of equal steps': claims.is_below(mean['WSD-S'], wsd),
    'WSD below cyclic cosine': claims.is_below(wsd, mean['cyclic cosine']),
    'WSD below a constant': claims.is_below(wsd, mean['constant']),
  }
