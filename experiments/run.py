"""Trains the rows of a configuration: a trunk each, and its decay branches."""

from collections.abc import Mapping
import os
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp

from experiments import build
from lrcl import training

Config = Mapping[str, Any]


def set_up_jax() -> None:
  """Keeps compiled programs between runs, so that a second start is quick."""
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    home = pathlib.Path(os.environ.get('XDG_CACHE_HOME', '~/.cache'))
    cache = (home / 'lrcl' / 'jax').expanduser()
    jax.config.update('jax_compilation_cache_dir', str(cache))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def train_row(
  contender: build.Contender, config: Config, root: pathlib.Path
) -> None:
  """Trains the main branch, then a decay from the end of every task.

  A row that is finished is left alone; one that was cut short goes on from
  its newest good checkpoint.
  """
  done = root / contender.name / 'done'
  if done.exists():
    print(f'{contender.name}: finished already')
    return
  began = time.monotonic()
  stream = contender.stream
  with training.Branches(root / contender.name) as branches:
    evaluate = make_evaluate(contender)
    branches.create(
      'main', schedule=contender.schedule, config=config['digest']
    )
    train_branch(contender, config, branches, evaluate)
    if config['decay']['steps']:
      for end in (*stream.boundaries, stream.num_steps):
        fork_decay(contender, config, branches, evaluate, end)
  done.touch()
  print(f'{contender.name}: {time.monotonic() - began:.1f} s')


def train_decay(
  contender: build.Contender, config: Config, root: pathlib.Path, start: int
) -> None:
  """Trains one more decay branch, from a checkpoint of the main branch."""
  with training.Branches(root / contender.name) as branches:
    evaluate = make_evaluate(contender)
    fork_decay(contender, config, branches, evaluate, start)


def make_evaluate(contender: build.Contender) -> Any:
  """Accuracy and loss on every task, and what a step costs."""
  evaluate = training.make_evaluator(contender.learner, contender.stream)
  cost = training.step_cost(
    contender.learner,
    contender.state,
    contender.stream,
    jnp.int32(build.NEVER),
  )
  return lambda state: {**evaluate(state), **cost}


def fork_decay(
  contender: build.Contender,
  config: Config,
  branches: training.Branches,
  evaluate: Any,
  start: int,
) -> None:
  """Forks at `start` and lets the rate decay on the data of that task."""
  steps = config['decay']['steps']
  name = f'decay-{start}-{steps}'
  record = build.decay_record(config, contender.schedule, start)
  branches.fork('main', start, name, schedule=record)
  train_branch(
    contender,
    config,
    branches,
    evaluate,
    branch=name,
    decay_start=start,
    stop=start + steps,
  )


def train_branch(
  contender: build.Contender,
  config: Config,
  branches: training.Branches,
  evaluate: Any,
  *,
  branch: str = 'main',
  decay_start: int | None = None,
  stop: int | None = None,
) -> None:
  """Trains one branch from its newest checkpoint on, or from the start."""
  file = training.RecordFile(branches.directory(branch) / 'records.jsonl')
  state, trace, stream = contender.state, None, contender.stream
  try:
    restored = branches.restore(branch, like=state)
    state = restored.state
    if restored.step != decay_start:  # else the trace is the parent's
      trace = restored.extra.get('trace')
    file.truncate(restored.step)
  except training.NoCheckpoint:
    file.truncate(0)
  if decay_start is None:
    decay_start = build.NEVER
  else:
    stream = stream.hold(decay_start)
  training.train_stream(
    contender.learner,
    state,
    stream,
    steps=stop,
    evaluate=evaluate,
    evaluate_every=config['evaluate_every'] or None,
    save_every=config['save_every'] or None,
    branches=branches,
    branch=branch,
    on_record=file.append,
    about={
      'row': contender.name,
      'config': config['digest'],
      'seeds': list(config['seeds']),
    },
    trace=trace,
    hyperparams=jnp.int32(decay_start),
  )
