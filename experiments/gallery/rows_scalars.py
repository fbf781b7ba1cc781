"""Rows of schedules of scalars other than the learning rate."""

from experiments.gallery.row import make_row as row
from experiments.gallery.row import record

SCALARS = {
  'cyclical_fraction_schedule': row(
    'The fraction of the data to draw from, up and down a ladder.',
    record(
      'cyclical_fraction_schedule',
      epoch_steps=100,
      min_fraction=0.25,
      max_fraction=1.0,
      factor=0.5,
    ),
    vary={'factor': (0.5, 0.7)},
  ),
  'geometric_budget_schedule': row(
    'A budget of whole units, of tokens say, that shrinks geometrically.',
    record(
      'geometric_budget_schedule',
      init_value=256.0,
      transition_steps=100,
      decay_rate=0.8,
      staircase=True,
    ),
    vary={'staircase': (True, False)},
  ),
  'token_temperature_schedule': row(
    'A sampling temperature that falls along a response, later with training.',
    record('token_temperature_schedule', peak_value=1.2, end_value=0.1),
    axis='token',
    vary={'step': (0, 10, 50)},
  ),
  'mastery_staircase': row(
    'Moves on to the next value once a metric has stayed above a threshold.',
    record(
      'mastery_staircase', values=(2, 4, 8, 16), threshold=0.9, patience=20
    ),
    feed={'metric': tuple((0.5, 1.0, 100) for _ in range(4))},
  ),
  'progress_discount': row(
    'A discount that looks as far ahead as an agent can follow its expert.',
    record(
      'progress_discount',
      reference=tuple(float(n) for n in range(1, 11)),
      alpha=0.2,
    ),
    vary={'alpha': (0.2, 0.5)},
    feed={'frames': ((2, 2, 20), (3, 10, 80), (10, 10, 20))},
  ),
}
"""By name, as in `rows.ROWS`."""
