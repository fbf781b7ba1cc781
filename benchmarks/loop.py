"""Steps per CPU second of LRCL's loop over those of a scan written by hand.

python -m benchmarks.loop [--data_dir=DIR] [--repeats=5]

Six ratios: {std, online} x {naive, replay, ewc} (see benchmarks/problem.py).
Each is the median over repeats of whole five-task runs, interleaved A/B/A/B
in one process on one thread, warm, the data on the device, both writing loss
and rate at every step. Evaluation is in neither. At least 0.95 is wanted in all
six.
"""

# isort: skip_file
import dataclasses
import statistics
import time

from absl import app, flags

from benchmarks import one_thread  # noqa: F401  before jax
import jax
import jax.numpy as jnp

from benchmarks import by_hand, problem
from lrcl import training

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Where TFDS data sets are.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Runs of each, interleaved.')
_ONLY = flags.DEFINE_string('only', '', 'A setting or a method, to save time.')
WANTED = 0.95


def make_library_run(setting, method, stream):
  """A function that trains all tasks through `train_stream`."""
  init_fn, learner = problem.make_learner(setting, method, stream)
  state = training.create_state(init_fn, learner.tx, jax.random.key(0))
  jax.block_until_ready(state)

  def run():
    end, records = training.train_stream(learner, state, stream)
    jax.block_until_ready(end)
    return [x for r in records for x in r['trace']['loss']]

  return run


def make_hand_run(setting, method, stream):
  """A function that trains all tasks through the scan of `by_hand`."""

  def run():
    tasks = by_hand.tasks_of(stream)
    _, losses = by_hand.run(
      setting, method, stream.source, tasks, problem.STRENGTH
    )
    return losses.tolist()

  return run


def steps_per_second(run, steps):
  """Steps per second of this process's CPU time."""
  began = time.process_time()
  losses = run()
  spent = time.process_time() - began
  if len(losses) != steps:
    raise RuntimeError(f'{len(losses)} losses were written, not {steps}.')
  return steps / spent


def measure(setting, method, train, test) -> float:
  """Prints one line and returns the ratio."""
  stream = problem.make_stream(setting, train, test)
  source = jax.tree.map(jnp.asarray, dict(stream.source))
  stream = dataclasses.replace(stream, source=source)
  runs = [
    make(setting, method, stream) for make in (make_library_run, make_hand_run)
  ]
  first = [run() for run in runs]  # compiles
  if abs(first[0][-1] - first[1][-1]) > 0.5:
    print(f'  last losses differ: {first[0][-1]:.3f}, {first[1][-1]:.3f}')
  speeds = [[], []]
  for _ in range(_REPEATS.value):
    for speed, run in zip(speeds, runs, strict=True):
      speed.append(steps_per_second(run, stream.num_steps))
  ours, theirs = map(statistics.median, speeds)
  print(
    f'{setting.name:6} {method:6} {ours / theirs:5.3f}   '
    f'({ours:,.0f} against {theirs:,.0f} steps per CPU second)',
    flush=True,
  )
  return ours / theirs


def main(argv: list[str]) -> None:
  del argv
  name, train, test = problem.load(_DATA_DIR.value)
  print(f'{name}; one thread; medians of {_REPEATS.value}; ours / by hand')
  pairs = [(s, m) for s in problem.SETTINGS for m in problem.METHODS]
  if _ONLY.value:
    pairs = [(s, m) for s, m in pairs if _ONLY.value in (s.name, m)]
  ratios = [measure(s, m, train, test) for s, m in pairs]
  good = sum(ratio >= WANTED for ratio in ratios)
  print(f'{good} of {len(ratios)} at least {WANTED}')


if __name__ == '__main__':
  app.run(main)
