"""CPU seconds of a fit and milliseconds of a prediction, over their limits.

python -m benchmarks.forecasting [--repeats=5]

Two curves of 24,000 steps and one of 16,000, with a loss every 128 steps, of
a known multi-power law with noise, as in the law's paper: a constant rate, a
cosine and two stages. After compilation a fit of all three (without bootstrap)
may take 10 CPU seconds and the prediction of all 24,000 losses under the cosine
50 ms. Each is the median over repeats.
"""

import statistics
import time

from absl import app, flags
import jax
import numpy as np

from lrcl import forecasting

_REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements of each.')

STEPS, WARMUP, PEAK = 24_000, 2160, 3e-4
FIT_SECONDS, PREDICT_MILLISECONDS = 10.0, 50.0
LAW = forecasting.MultiPowerLaw(2.65, 0.6, 0.45, 438.0, 2.13, 0.6, 0.655)


def rates():
  """The rates of the three curves."""
  step = np.arange(STEPS)
  part = np.clip((step - WARMUP) / (STEPS - WARMUP), 0, 1)
  shapes = {
    'constant': np.ones(STEPS),
    'cosine': 0.1 + 0.45 * (1 + np.cos(np.pi * part)),
    'two_stage': np.where(step < 8000, 1.0, 0.3)[:16_000],
  }
  rise = np.minimum(step / (WARMUP - 1), 1)
  return {k: PEAK * rise[: len(x)] * x for k, x in shapes.items()}


def curves():
  """The three curves, with 0.1% of noise."""
  rng, result = np.random.default_rng(0), []
  for name, lrs in rates().items():
    steps = np.arange(WARMUP, len(lrs), 128)
    noise = np.exp(1e-3 * rng.standard_normal(len(steps)))
    losses = np.asarray(LAW.predict(lrs, steps)) * noise
    result.append(forecasting.Curve(lrs, losses, steps, name))
  return result


def median(run, clock):
  """The median time of a run on a clock, the first one left out."""
  run()
  times = []
  for _ in range(_REPEATS.value):
    began = clock()
    run()
    times.append(clock() - began)
  return statistics.median(times)


def report(name, value, limit, unit):
  """One line: the value, its limit, and their ratio."""
  print(f'{name:30}{value:8.2f} {unit:3} of {limit:4.0f}: {value / limit:5.2f}')


def main(argv):
  del argv
  data = curves()
  for fit in (forecasting.fit_multi_power_law, forecasting.fit_annealing_law):
    seconds = median(lambda fit=fit: fit(data), time.process_time)
    report(fit.__name__, seconds, FIT_SECONDS, 's')
  lrs = np.float32(rates()['cosine'])
  annealing = forecasting.AnnealingLaw(2.9, 0.59, 0.77, 0.47)
  for law in (LAW, annealing):
    predict = jax.jit(lambda law, lrs: law.predict(lrs))
    seconds = median(
      lambda: jax.block_until_ready(predict(law, lrs)),  # noqa: B023
      time.perf_counter,
    )
    name = f'{type(law).__name__}.predict'
    report(name, 1e3 * seconds, PREDICT_MILLISECONDS, 'ms')


if __name__ == '__main__':
  app.run(main)
