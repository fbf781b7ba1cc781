"""Rows of schedules for a run of known length, and of those without an end."""

from experiments.gallery.row import make_row as row
from experiments.gallery.row import record

BUDGETS = {
  'rex_schedule': row(
    'Falls late: for a budget of known length, tuned anew for each.',
    record('rex_schedule', peak_value=1.0, decay_steps=1000, beta=0.5),
    vary={'beta': (0.5, 0.9)},
  ),
  'uba_schedule': row(
    'Between constant and exponential; 2 is the cosine.',
    record('uba_schedule', peak_value=1.0, decay_steps=1000, phi=0.5),
    vary={'phi': (0.5, 1.0, 2.0, 5.0)},
  ),
  'refined_schedule': row(
    'Follows from the gradient norms of a first run; equal ones give a line.',
    record(
      'refined_schedule',
      gradient_norms=(4.0, 3.0, 2.0, 1.5, 1.2, 1.0, 1.0, 1.0, 1.5, 2.0, 2.0),
      peak_value=1.0,
      power=2,
      smoothing=None,
    ),
    steps=10,
    vary={'power': (2, 1)},
  ),
  'piecewise_linear_schedule': row(
    'Lines from knot to knot: what a search or a law has found.',
    record(
      'piecewise_linear_schedule',
      steps=(0, 100, 700, 850, 950, 1000),
      values=(0.0, 1.0, 1.0, 0.6, 0.15, 0.01),
    ),
  ),
  'sampled': row(
    'Reads a schedule at every so many steps: a step decay from any profile.',
    record(
      'sampled',
      schedule=record('rex_schedule', peak_value=1.0, decay_steps=1000),
      every=250,
    ),
    vary={'every': (250, 100, 1)},
  ),
  'inverse_sqrt_schedule': row(
    'Warm-up, then the inverse square root of the step, without an end.',
    record(
      'inverse_sqrt_schedule', peak_value=1.0, warmup_steps=50, timescale=50
    ),
    vary={'timescale': (50, 200)},
  ),
  'noam_schedule': row(
    'The same with a peak that follows from the width and the warm-up.',
    record('noam_schedule', model_size=512, warmup_steps=200),
    vary={'warmup_steps': (200, 400)},
  ),
  'power_schedule': row(
    'A power of the tokens seen, at most the peak.',
    record(
      'power_schedule',
      peak_value=0.02,
      batch_size=128,
      sequence_length=4096,
      exponent=-0.51,
      warmup_steps=100,
    ),
    steps=10_000,
    vary={'exponent': (-0.51, -0.55)},
  ),
}
"""By name, as in `rows.ROWS`."""
