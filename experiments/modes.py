"""What `experiments.main` can do: train, decay, show what came of it."""

from collections.abc import Callable
import pathlib
from typing import Any

from experiments import build, references, run, workdirs
from experiments.gallery import make
from lrcl import base, reports
from lrcl.training import CheckpointError

ERRORS = (
  ValueError,
  FloatingPointError,
  CheckpointError,
  OSError,
  ImportError,
)
"""What a user can cause, and mend: shown as one line."""


def train(config: Any, workdir: str) -> None:
  """Trains every row of the configuration, then reports.

  Everything is built before anything is written, so that a mistake in the
  configuration leaves no trace.
  """
  run.set_up_jax()
  config = workdirs.plain(config)
  references.check(config)
  names = config['only'] or list(config['rows'])
  contenders = [build.make_contender(name, config) for name in names]
  with workdirs.claim(config, workdir) as root:
    for contender in contenders:
      run.train_row(contender, config, root)
    references.write(config, contenders[0].stream, root)
    report(None, workdir)


def decay(config: Any, workdir: str) -> None:
  """Forks one more decay branch: `branch.row`, `branch.at`, `branch.steps`."""
  run.set_up_jax()
  config = workdirs.plain(config)
  workdirs.check(config, workdir)
  branch = config['branch']
  base.check_steps('decay', 'branch.steps', branch['steps'], 1)
  if branch['row'] not in config['rows']:
    raise ValueError(
      f'branch.row is {branch["row"]!r}; it must be one of '
      f'{", ".join(config["rows"])}.'
    )
  own_decay = {**config['decay'], 'steps': branch['steps']}
  longer = {**config, 'decay': own_decay}
  contender = build.make_contender(branch['row'], longer)
  if not (pathlib.Path(workdir) / branch['row'] / 'main').is_dir():
    raise ValueError(
      f'--workdir={workdir} has no run of the row {branch["row"]!r} to branch '
      'off; train it first, with --mode=train.'
    )
  with workdirs.claim(config, workdir) as root:
    run.train_decay(contender, longer, root, branch['at'])
  show_tree(None, workdir)


def report(config: Any, workdir: str) -> None:
  """Prints the table and writes `report.html`, from the records alone."""
  del config
  records = reports.read_records(workdir)
  reports.print_table(records)
  path = reports.write_report(workdir)
  print(f'\nThe report: {pathlib.Path(path)}')


def show_tree(config: Any, workdir: str) -> None:
  """Prints the tree of branches, from the records alone."""
  del config
  print(reports.format_tree(reports.read_records(workdir)))


def show_losses(config: Any, workdir: str) -> None:
  """Prints the loss on every task after every task, from the records alone."""
  del config
  records = reports.read_records(workdir)
  trained = dict.fromkeys(r['row'] for r in records if r.get('trace'))
  print('\n\n'.join(reports.format_losses(records, row) for row in trained))


def draw_gallery(config: Any, workdir: str) -> None:
  """Draws the schedules of `rows`, and a page that shows them."""
  config = workdirs.plain(config)
  files = make.make_files(config['rows'])
  with workdirs.claim(config, workdir) as root:
    print(f'The gallery: {make.write(files, root)}')


def do(mode: str | None, config: Any, workdir: str) -> None:
  """Runs a mode; None is the one that the configuration is made for.

  Raises:
    ValueError: if the configuration is made for another mode.
  """
  own = str(config.get('mode', 'train')) if config else 'train'
  mode = mode or own
  if mode != own and 'gallery' in (mode, own):
    raise ValueError(
      f'--mode={mode} does not go with this configuration, which is for '
      f'--mode={own}.'
    )
  MODES[mode](config, workdir)


MODES: dict[str, Callable[[Any, str], None]] = {
  'train': train,
  'decay': decay,
  'gallery': draw_gallery,
  'losses': show_losses,
  'report': report,
  'tree': show_tree,
}
WITHOUT_CONFIG = ('losses', 'report', 'tree')
