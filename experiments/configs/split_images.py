"""Split-Fashion-MNIST (or another image set of TFDS), class-incremental.

Command: python -m experiments.fetch_data data fashion_mnist, then
  python -m experiments.main --config=experiments/configs/split_images.py \
  --config.data.data_dir=data --workdir=runs/split_fashion
Time: MEASURE
Expected: MEASURE

`--config.data.set=mnist` takes another set; `:smoke` runs a few steps.
"""

import ml_collections

from experiments.configs import quickstart


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """The quickstart's rows on images; `arg` is '' or 'smoke'."""
  config = quickstart.get_config(arg)
  smoke = arg == 'smoke'
  config.update(
    {
      'data': {'name': 'tfds', 'set': 'fashion_mnist', 'data_dir': ''},
      'stream': {'batch_size': 128, 'steps_per_task': 8 if smoke else 94},
      'model': {'features': (400, 400)},
      'methods': {
        'replay': {'capacity': 500, 'batch_size': 128},
        'ewc': {'estimator': 'empirical'},
      },
      'evaluate_every': 0,
    }
  )
  return config
