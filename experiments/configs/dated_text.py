"""The State of the Union, 1790 to 2021, period after period, and what is kept.

A byte-level GPT on eight periods of equally many addresses, under an infinite
schedule with a decay branch at the end of every period; the held-out addresses
of all periods are evaluated after each.

Command: python -m experiments.fetch_data data state_of_the_union, then
  python -m experiments.main --config=experiments/configs/dated_text.py \
  --config.data.data_dir=data --workdir=runs/dated_text
  and, for the losses by period: python -m experiments.main --mode=losses \
  --workdir=runs/dated_text
Time: 3 minutes on 2 CPU cores.
Expected: losses at the end, in nats per byte, mean over the periods and three
  seeds: 2.36 for naive, 2.23 for replay (two batches a step), 2.33 for joint
  training. The model is still learning everywhere: naive goes from 2.51 on the
  first period, right after it, to 2.32 at the end, and forgets 0.01 of it in
  the last two periods.

`:smoke` is the same in a few steps. The table of the report counts bytes that
are predicted right. The rates were not tuned: this is an example, no contest.
"""

import ml_collections


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """The configuration; `arg` is '' or 'smoke'."""
  if arg not in ('', 'smoke'):
    raise ValueError(f'dated_text.py:{arg}: the argument is smoke or nothing.')
  smoke = arg == 'smoke'
  length = ml_collections.FieldReference(16 if smoke else 64)
  return ml_collections.ConfigDict(
    {
      'data': {'name': 'texts', 'set': 'state_of_the_union', 'data_dir': ''},
      'stream': {
        'name': 'dated_text',
        'num_tasks': 2 if smoke else 8,
        'length': length,
        'batch_size': 4 if smoke else 8,
        'steps_per_task': 4 if smoke else 100,
        'test_fraction': 0.1,
        'test_windows': 8 if smoke else 256,  # of each period
        'split_seed': 0,  # all seeds hold out the same addresses
      },
      'model': {
        'name': 'gpt',
        'length': length,
        'width': 8 if smoke else 32,
        'layers': 1 if smoke else 2,
        'heads': 2 if smoke else 4,
      },
      'optimizer': {
        'clip': 1.0,
        'adam_b2': 0.99,
        'momentum': 0.0,
        'weight_decay': 0.0,
      },
      'schedule': {
        'name': 'infinite_schedule',
        'peak_value': 3e-3,
        'constant_value': 1.5e-3,
        'warmup_steps': 1 if smoke else 20,
        'cooldown_steps': 2 if smoke else 280,
      },
      'decay': {
        'steps': 2 if smoke else 20,
        'end_value': 0.0,
        'shape': 'linear',
      },
      'rows': {
        'naive': {'methods': ()},
        'replay': {'methods': ('replay',)},
        'joint': {'methods': (), 'joint': True},
      },
      'methods': {
        'replay': {
          'capacity': 16 if smoke else 2000,
          'batch_size': 4 if smoke else 8,
          'weight': 1.0,
        },
      },
      'branch': {'row': 'naive', 'at': 0, 'steps': 20},  # for --mode=decay
      'only': (),  # train these rows only; () for all
      'references': ('chance',),
      'seeds': (0,) if smoke else (0, 1, 2),
      'evaluate_every': 0,
      'save_every': 0,
    }
  )
