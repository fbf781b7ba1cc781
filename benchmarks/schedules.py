"""CPU time of each schedule over that of its arithmetic written by hand.

python -m benchmarks.schedules [--repeats=31] [--only=wsd]

A million int32 steps under `jit(vmap)`, one thread, interleaved A/B/A/B in one
process, warm; the ratio of the medians over repeats of a few calls each. The
other side is `benchmarks/schedules_by_hand.py`, and both must give the same
within 1e-6. At most 1.2 is wanted of every ratio.
"""

# isort: skip_file
import statistics
import time

from absl import app, flags

from benchmarks import one_thread  # noqa: F401  before jax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import schedules_by_hand as by_hand
from lrcl import schedules

_REPEATS = flags.DEFINE_integer('repeats', 31, 'Runs of each, interleaved.')
_CALLS = flags.DEFINE_integer('calls', 10, 'Calls in a run.')
_ONLY = flags.DEFINE_string('only', '', 'Only labels that contain this.')
WANTED = 1.2
T, W, D = by_hand.TOTAL, by_hand.WARMUP, by_hand.DECAY
PEAK, LOW = by_hand.PEAK, by_hand.LOW


def wsd(decay, end_value=0.0):
  return schedules.wsd_schedule(
    PEAK, W, T - D - W, D, end_value=end_value, decay=decay
  )


def infinite(cooldown, **kwargs):
  return schedules.infinite_schedule(
    PEAK, PEAK / 2, W, 590_000, cooldown=cooldown, **kwargs
  )


def make_cases():
  """`{label: (ours, by hand)}`."""
  cases = {}
  for name, decay in by_hand.DECAYS.items():
    end_value = LOW if name in ('exponential', 'inverse') else 0.0
    cases[f'wsd {name}'] = wsd(name, end_value), by_hand.wsd(decay)
  profiles = {
    'power_profile': (
      schedules.power_profile(1.5),
      by_hand.power_decay(1.5),
    ),
    'half_life_profile': (
      schedules.half_life_profile(0.25),
      by_hand.half_life_decay(0.25),
    ),
    'inverse_sqrt_profile': (
      schedules.inverse_sqrt_profile(10.0),
      by_hand.inverse_sqrt(10.0),
    ),
    'rex_profile': (schedules.rex_profile(0.9), by_hand.rex(0.9)),
    'uba_profile': (schedules.uba_profile(5.0), by_hand.uba(5.0)),
  }
  for name, (profile, decay) in profiles.items():
    cases[f'wsd {name}'] = wsd(profile), by_hand.wsd(decay)
  anneal = {'anneal_start': T - D, 'anneal_steps': D, 'end_value': LOW}
  cooldowns = {
    'cosine': by_hand.DECAYS['cosine'],
    'inverse_sqrt': by_hand.inverse_sqrt(10.0),
    'linear': by_hand.DECAYS['linear'],
  }
  for name, decay in cooldowns.items():
    ours = infinite(name, **anneal)
    cases[f'infinite {name}'] = ours, by_hand.infinite(decay)
  rex = schedules.rex_schedule(PEAK, T)
  norms = 1.0 + np.cos(np.arange(T) / 1000.0) ** 2
  refined = schedules.refined_schedule(norms, PEAK, smoothing=0)
  table = jnp.asarray(
    schedules.refined_schedule(norms, 1.0, smoothing=0)(np.arange(T))
  )
  return cases | {
    'wsd_s': (
      schedules.wsd_s_schedule(PEAK, W, by_hand.ENDS, end_value=LOW),
      by_hand.wsd_s,
    ),
    'wsd_s, 50 cycles': (
      schedules.wsd_s_schedule(PEAK, W, by_hand.MANY_ENDS, end_value=LOW),
      by_hand.wsd_s_of(by_hand.MANY_ENDS),
    ),
    'repeated_cosine': (
      schedules.repeated_cosine_schedule(PEAK, T // 10, W, end_value=LOW),
      by_hand.repeated_cosine,
    ),
    'rewarmed': (
      schedules.rewarmed_schedule(
        PEAK, [300_000, 300_000, 400_000], W, end_value=LOW, peak_decay=0.5
      ),
      by_hand.rewarmed,
    ),
    'cyclical_fraction': (
      schedules.cyclical_fraction_schedule(4000),
      by_hand.cyclical_fraction,
    ),
    'geometric_budget': (
      schedules.geometric_budget_schedule(256.0, 20_000, 0.8),
      by_hand.geometric_budget,
    ),
    'decay_branch': (
      schedules.decay_branch(infinite('linear'), T // 2, D),
      by_hand.branch,
    ),
    'rex': (rex, by_hand.over_budget(by_hand.rex(0.5))),
    'uba': (
      schedules.uba_schedule(PEAK, T, 0.5),
      by_hand.over_budget(by_hand.uba(0.5)),
    ),
    'sampled': (
      schedules.sampled(rex, 1000),
      by_hand.held(by_hand.over_budget(by_hand.rex(0.5)), 1000),
    ),
    'inverse_sqrt': (
      schedules.inverse_sqrt_schedule(PEAK, W),
      by_hand.inverse_root,
    ),
    'noam': (schedules.noam_schedule(512, W), by_hand.noam),
    'power': (schedules.power_schedule(0.02, 128, 4096), by_hand.power),
    'refined': (refined, by_hand.table(table)),
  }


def seconds(run, steps):
  """This process's CPU time for a few calls."""
  began = time.process_time()
  for _ in range(_CALLS.value):
    jax.block_until_ready(run(steps))
  return time.process_time() - began


def measure(label, ours, theirs) -> float:
  """Prints one line and returns the ratio."""
  steps = jnp.arange(T, dtype=jnp.int32)
  runs = [jax.jit(jax.vmap(schedule)) for schedule in (ours, theirs)]
  np.testing.assert_allclose(*[run(steps) for run in runs], rtol=1e-6)
  times = [[], []]
  for _ in range(_REPEATS.value):
    for spent, run in zip(times, runs, strict=True):
      spent.append(seconds(run, steps))
  a, b = (statistics.median(spent) / _CALLS.value for spent in times)
  print(
    f'{label:24} {a / b:5.2f}   ({1e3 * a:.3f} against {1e3 * b:.3f} ms)',
    flush=True,
  )
  return a / b


def main(argv: list[str]) -> None:
  del argv
  print(f'{T:,} steps; one thread; medians of {_REPEATS.value}; ours / by hand')
  cases = {k: v for k, v in make_cases().items() if _ONLY.value in k}
  ratios = [measure(label, *pair) for label, pair in cases.items()]
  good = sum(ratio <= WANTED for ratio in ratios)
  print(f'{good} of {len(ratios)} within {WANTED}')


if __name__ == '__main__':
  app.run(main)
