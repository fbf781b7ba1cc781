"""The rows of the gallery; a new schedule is one more row."""

from experiments.gallery.row import make_row as row
from experiments.gallery.row import record
from experiments.gallery.rows_budgets import BUDGETS
from experiments.gallery.rows_scalars import SCALARS
from experiments.gallery.rows_tasks import INFINITE, TASKS

STEPS = {
  'wsd_schedule': row(
    'Warm-up, stable, decay; the decay may bend.',
    record(
      'wsd_schedule',
      peak_value=1.0,
      warmup_steps=100,
      stable_steps=400,
      decay_steps=500,
      end_value=0.05,
      decay='linear',
    ),
    vary={
      'decay': (
        'linear',
        'cosine',
        'one_minus_sqrt',
        'square',
        'mirror_cosine',
        'exponential',
        'inverse',
      )
    },
  ),
  'wsd_schedule_profiles': row(
    'A decay may also be a profile.',
    record(
      'wsd_schedule',
      peak_value=1.0,
      warmup_steps=100,
      stable_steps=400,
      decay_steps=500,
      decay=record('power_profile', exponent=1.5),
    ),
    vary={
      'decay': (
        record('power_profile', exponent=1.5),
        record('half_life_profile', half_life=0.25),
        record('inverse_sqrt_profile', timescale=10.0),
        record('rex_profile', beta=0.5),
        record('uba_profile', phi=5.0),
      )
    },
  ),
  'wsd_s_schedule': row(
    'One run that decays at the end of every cycle and goes on from there.',
    record(
      'wsd_s_schedule',
      peak_value=1.0,
      warmup_steps=50,
      cycle_ends=(250, 500, 1000),
      decay_of='cycle',
    ),
    vary={'decay_of': ('cycle', 'total')},
  ),
  'decay_branch': row(
    'Any trunk, and a decay that leaves it; the trunk itself goes on.',
    record('decay_branch', schedule=INFINITE, start_step=400, decay_steps=100),
    vary={'start_step': (400, 600, 800)},
  ),
}
"""Functions of the step of one run."""

ROWS = {**STEPS, **BUDGETS, **TASKS, **SCALARS}
"""The plots by name, in the order of the page.

The name of a row is that of its schedule, and a word more where a schedule has
several rows.
"""
