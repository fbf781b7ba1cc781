"""Rows of schedules for runs of many tasks, and of those that react."""

from experiments.gallery.row import make_row as row
from experiments.gallery.row import record

_RETURN = {'task_id': ((0, 0, 300), (1, 1, 400), (0, 0, 300))}
"""A first task, a second, and the first once more."""

_LOSSES = {
  'value': (
    (2.0, 0.8, 100),
    (0.8, 0.8, 200),
    (3.0, 1.0, 150),
    (1.0, 1.0, 250),
    (2.0, 0.6, 300),
  )
}
"""A loss that falls and rests, in each of three tasks."""

INFINITE = record(
  'infinite_schedule',
  peak_value=1.0,
  constant_value=0.5,
  warmup_steps=50,
  cooldown_steps=300,
)

TASKS = {
  'infinite_schedule': row(
    'Down to a constant that lasts, until a result is wanted.',
    record(
      'infinite_schedule',
      peak_value=1.0,
      constant_value=0.5,
      warmup_steps=50,
      cooldown_steps=300,
      anneal_start=800,
      anneal_steps=150,
      cooldown='cosine',
    ),
    vary={'cooldown': ('cosine', 'inverse_sqrt', 'linear')},
  ),
  'infinite_run_schedule': row(
    'The same by fractions of a run.',
    record(
      'infinite_run_schedule',
      peak_value=1.0,
      constant_value=0.5,
      total_steps=1000,
      cooldown_fraction=0.6,
    ),
    vary={'cooldown_fraction': (0.6, 0.3)},
  ),
  'infinite_task_schedule': row(
    'The same by fractions of a task; only the first one warms up.',
    record(
      'infinite_task_schedule',
      peak_value=1.0,
      constant_value=0.5,
      task_steps=1000,
      is_first=True,
    ),
    vary={'is_first': (True, False)},
  ),
  'repeated_cosine_schedule': row(
    'Warms up again for every new data set.',
    record(
      'repeated_cosine_schedule',
      peak_value=1.0,
      cycle_steps=250,
      warmup_steps=25,
      end_value=0.1,
    ),
  ),
  'rewarmed_schedule': row(
    'Warm-up and decay once for every task of a known length.',
    record(
      'rewarmed_schedule',
      peak_value=1.0,
      task_steps=(400, 200, 400),
      warmup_steps=25,
      end_value=0.05,
      peak_decay=0.7,
    ),
    vary={'peak_decay': (0.7, 1.0)},
  ),
  'per_task': row(
    'The same schedule from its start in every task, a return included.',
    record(
      'per_task',
      schedule=record(
        'wsd_schedule',
        peak_value=1.0,
        warmup_steps=30,
        stable_steps=170,
        decay_steps=100,
      ),
    ),
    feed=_RETURN,
  ),
  'by_task': row(
    'A schedule of its own for every task.',
    record(
      'by_task', schedules=(INFINITE, record('constant_schedule', value=0.5))
    ),
    feed=_RETURN,
  ),
  'plateau_per_task': row(
    'Cuts the rate where the loss of a task rests; a new task starts anew.',
    record(
      'plateau_per_task',
      schedule=record('constant_schedule', value=1.0),
      factor=0.5,
      patience=50,
    ),
    vary={'factor': (0.5, 0.1)},
    feed={**_RETURN, **_LOSSES},
  ),
  'greedy': row(
    'Raises the rate while the loss falls, and cuts it while it does not.',
    record('greedy', init_value=0.5, factor=0.8, patience=30, per_task=True),
    vary={'per_task': (True, False)},
    feed={**_RETURN, **_LOSSES},
  ),
}
"""By name, as in `rows.ROWS`."""
