"""Every schedule, drawn: one small plot each, with the call that makes it.

Command: python -m experiments.main \
  --config=experiments/configs/schedule_gallery.py, with --workdir=DIR for
  another directory than runs/gallery
Time: 8 s on one core of a CPU
Expected: `schedule_gallery.md`, which shows the plots in `gallery/`; with no
  override the same as docs/schedule_gallery.md

An override draws other values of a row, such as
  --config.rows.wsd_schedule.call.kwargs.decay_steps=200
"""

import ml_collections

from experiments.gallery import rows


def get_config() -> ml_collections.ConfigDict:
  """The configuration: rows that are drawn instead of trained."""
  return ml_collections.ConfigDict(
    {'mode': 'gallery', 'workdir': 'runs/gallery', 'rows': rows.ROWS}
  )
