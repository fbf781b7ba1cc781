"""Launches an experiment: trains, branches, reports, draws.

python -m experiments.main --config=experiments/configs/quickstart.py \
  --workdir=runs/quickstart
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import command_line, modes

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'The experiment: file.py or file.py:argument.',
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')
_MODE = flags.DEFINE_enum('mode', None, modes.MODES, 'Default: train.')
_TRACEBACK = flags.DEFINE_bool('traceback', False, 'Show where errors arise.')


def main(argv: list[str]) -> None:
  """Runs the mode; an error of the user's is one line and exit code 1."""
  logging.set_verbosity(logging.ERROR)  # orbax and tfds tell a lot
  if len(argv) > 1:
    sys.exit(f'error: unexpected argument {argv[1]!r}; flags begin with --.')
  workdir = _WORKDIR.value or (_CONFIG.value or {}).get('workdir')
  if workdir is None:
    sys.exit('error: --workdir is missing: the directory for the run.')
  if _CONFIG.value is None and _MODE.value not in modes.WITHOUT_CONFIG:
    sys.exit('error: --config is missing: a file of experiments/configs/.')
  try:
    modes.do(_MODE.value, _CONFIG.value, workdir)
  except KeyboardInterrupt as stop:
    print(
      f'\n{stop or "stopped"}; the same command goes on from there.',
      file=sys.stderr,
    )
    sys.exit(130)
  except modes.ERRORS as error:
    if _TRACEBACK.value:
      raise
    sys.exit(f'error: {command_line.one_line(error)}')


if __name__ == '__main__':
  app.run(main, flags_parser=command_line.parse)
