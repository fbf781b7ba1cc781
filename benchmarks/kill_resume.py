"""Kills a run at random moments and starts it again; compares what comes out.

python -m benchmarks.kill_resume [--kills=20] [--seed=0]

The run is one row of the quickstart (replay, EWC and NaP in one chain, two
seeds, main branch and decay branches), saved every few steps. It is launched
by the ordinary command, killed by SIGKILL at a random moment, and launched
again by the same command until it ends. The states of all branches and the
bytes of all records must equal those of a run that was never killed. Prints
`20 of 20 identical` as its last line where that is so.
"""

import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl import app, flags, logging

_KILLS = flags.DEFINE_integer('kills', 20, 'How many runs to kill.')
_SEED = flags.DEFINE_integer('seed', 0, 'Decides the moments.')

ROW = 'replay_ewc_nap'
_TIMEOUT = 600


def command(workdir: pathlib.Path) -> list[str]:
  """The command that both starts the run and goes on with it."""
  return [
    sys.executable,
    '-m',
    'experiments.main',
    '--config=experiments/configs/quickstart.py:smoke',
    f"--config.only=('{ROW}',)",
    '--config.stream.steps_per_task=24',
    '--config.save_every=5',
    f'--workdir={workdir}',
  ]


def launch(workdir: pathlib.Path) -> subprocess.Popen:
  root = pathlib.Path(__file__).parents[1]
  return subprocess.Popen(
    command(workdir),
    cwd=root,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process: subprocess.Popen) -> str:
  """Waits for a run to end well and returns what it printed."""
  output, _ = process.communicate(timeout=_TIMEOUT)
  if process.returncode:
    raise RuntimeError(f'the run failed ({process.returncode}):\n{output}')
  return output


def wait_for_start(process: subprocess.Popen, workdir: pathlib.Path) -> None:
  """Waits until the run has taken its directory: from here on it can lose."""
  deadline = time.monotonic() + _TIMEOUT
  while not (workdir / 'config.json').exists():
    if process.poll() is not None or time.monotonic() > deadline:
      raise RuntimeError(f'the run did not start:\n{finish(process)}')
    time.sleep(0.01)


def texts(workdir: pathlib.Path) -> dict[str, str]:
  """The text of the records of every branch."""
  records = sorted((workdir / ROW).glob('*/records.jsonl'))
  return {str(p.relative_to(workdir)): p.read_text() for p in records}


def states(workdir: pathlib.Path) -> dict[str, str]:
  """The digest of the newest state of every branch."""
  from experiments import build, workdirs
  from experiments.configs import quickstart
  from lrcl import training, tree

  config = quickstart.get_config('smoke')
  config.stream.steps_per_task = 24
  like = build.make_contender(ROW, workdirs.plain(config)).state
  with training.Branches(workdir / ROW, like=like) as branches:
    names = list(branches.tree())
    return {n: tree.digest(branches.restore(n).state) for n in names}


def compare(workdir: pathlib.Path, reference: pathlib.Path) -> str:
  """Says in words what differs; empty where nothing does."""
  for what, read in (('records', texts), ('state', states)):
    found, wanted = read(workdir), read(reference)
    for name in sorted({*found, *wanted}):
      if found.get(name) != wanted.get(name):
        return f'the {what} of {name} differs'
  return ''


def main(argv: list[str]) -> None:
  del argv
  logging.set_verbosity(logging.ERROR)  # orbax tells of its every step
  moments = random.Random(_SEED.value)
  with tempfile.TemporaryDirectory() as directory:
    root = pathlib.Path(directory)
    finish(launch(root / 'warm'))  # fills the compilation cache
    process = launch(root / 'reference')
    wait_for_start(process, root / 'reference')
    began = time.monotonic()
    finish(process)
    duration = time.monotonic() - began
    print(f'a run that is not killed takes {duration:.1f} s', flush=True)
    good = 0
    for number in range(_KILLS.value):
      moment = moments.uniform(0, duration)
      difference = kill_once(root / 'killed', root / 'reference', moment)
      good += not difference
      words = difference or 'identical'
      print(f'{number + 1}: killed after {moment:.2f} s: {words}', flush=True)
  print(f'{good} of {_KILLS.value} identical')
  sys.exit(good != _KILLS.value)


def kill_once(
  workdir: pathlib.Path, reference: pathlib.Path, moment: float
) -> str:
  """One run, killed once and started again; says what differs."""
  shutil.rmtree(workdir, ignore_errors=True)
  process = launch(workdir)
  wait_for_start(process, workdir)
  time.sleep(moment)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  finish(launch(workdir))
  return compare(workdir, reference)


if __name__ == '__main__':
  app.run(main)
