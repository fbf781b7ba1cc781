"""CPU seconds and memory of a whole run from nothing, for each method.

python -m benchmarks.cold_start [--data_dir=DIR]

A new process per method, one thread, without a compilation cache: import,
compile, five tasks of Split-Fashion-MNIST (setting `std` of
benchmarks/problem.py), evaluation. Wanted: at most 8 CPU seconds for naive and
12 for replay; at most 1.4 GB for naive and 1.8 GB for replay and EWC. How long
a second is depends on the machine: the run written by hand stands beside it.
"""

import os
import resource
import subprocess
import sys
import tempfile

from absl import app, flags

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Where TFDS data sets are.')
_METHOD = flags.DEFINE_string('method', None, 'Run this one, in this process.')
_BY_HAND = flags.DEFINE_bool('by_hand', False, 'The one by hand.')

WANTED = {'naive': (8.0, 1.4), 'replay': (12.0, 1.8), 'ewc': (None, 1.8)}


def run(method: str) -> float:
  """One run of the library, cold; returns its accuracy."""
  import jax

  from benchmarks import problem
  from lrcl import training

  setting = problem.SETTINGS[0]
  _, train, test = problem.load(_DATA_DIR.value or None)
  stream = problem.make_stream(setting, train, test)
  init_fn, learner = problem.make_learner(setting, method, stream)
  state = training.create_state(init_fn, learner.tx, jax.random.key(0))
  evaluate = training.make_evaluator(learner, stream)
  _, records = training.train_stream(learner, state, stream, evaluate=evaluate)
  accuracy = records[-1]['metrics']['accuracy']
  return sum(accuracy) / len(accuracy)


def run_by_hand(method: str) -> float:
  """The same by hand; returns its accuracy."""
  import jax
  import jax.numpy as jnp

  from benchmarks import by_hand, problem

  setting = problem.SETTINGS[0]
  _, train, test = problem.load(_DATA_DIR.value or None)
  stream = problem.make_stream(setting, train, test)
  data = jax.tree.map(jnp.asarray, dict(train))
  tasks = by_hand.tasks_of(stream)
  carry, _ = by_hand.run(setting, method, data, tasks, problem.STRENGTH)

  @jax.jit
  def accuracy(params, images, labels):
    logits = by_hand.forward(params, by_hand.normalize(images))
    return jnp.mean(jnp.argmax(logits, 1) == labels)

  return float(accuracy(carry.params, test['inputs'], test['labels']))


def measure(method: str, by_hand: bool) -> tuple[float, float, str]:
  """CPU seconds, gigabytes and output of one run in a new process."""
  with tempfile.TemporaryDirectory() as home:
    command = [sys.executable, '-m', 'benchmarks.cold_start']
    command += [f'--method={method}', f'--data_dir={_DATA_DIR.value or ""}']
    command += ['--by_hand'] if by_hand else []
    env = dict(os.environ, XDG_CACHE_HOME=home)
    env.pop('JAX_COMPILATION_CACHE_DIR', None)
    with subprocess.Popen(
      command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
      said = process.communicate()[0].decode().strip()
      usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  if process.returncode:
    sys.exit(f'error: {method} failed; run it with --method={method}.')
  return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9, said


def compare(method: str) -> bool:
  """Prints a line for a method, ours beside the one by hand."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  start = before.ru_utime + before.ru_stime
  theirs, _, _ = measure(method, by_hand=True)
  ours, gigabytes, said = measure(method, by_hand=False)
  ours, theirs = ours - theirs, theirs - start
  print(
    f'{method:6} {ours:5.1f} CPU s (by hand {theirs:.1f}, ratio '
    f'{ours / theirs:.2f})  at most {gigabytes:.2f} GB  accuracy {said}',
    flush=True,
  )
  most, memory = WANTED[method]
  return (most is None or ours <= most) and gigabytes <= memory


def main(argv: list[str]) -> None:
  del argv
  if _METHOD.value:
    from benchmarks import one_thread  # noqa: F401  before jax

    start = run_by_hand if _BY_HAND.value else run
    print(f'{start(_METHOD.value):.3f}')
    return
  good = [compare(method) for method in WANTED]
  print(f'{sum(good)} of {len(good)} within what is wanted')


if __name__ == '__main__':
  app.run(main)
