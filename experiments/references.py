"""The rows that need no training: nearest class mean, and chance."""

from collections.abc import Mapping
import pathlib
from typing import Any
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from lrcl import streams, training

Config = Mapping[str, Any]


def check(config: Config) -> None:
  """Refuses a reference that does not exist.

  Raises:
    ValueError: names it, and those that there are.
  """
  for name in config['references']:
    if name not in REFERENCES:
      raise ValueError(
        f'references names {name!r}; known are {", ".join(REFERENCES)}.'
      )


def write(config: Config, stream: streams.Stream, root: pathlib.Path) -> None:
  """Writes one record for each reference that the configuration names."""
  for name in config['references']:
    accuracy = REFERENCES[name](stream)
    file = training.RecordFile(root / name / 'main' / 'records.jsonl')
    file.truncate(-1)
    file.append(_record(name, config, stream, accuracy))


def _record(name, config, stream, accuracy):
  return dict(
    step=stream.num_steps,
    task=stream.num_tasks - 1,
    task_end=True,
    num_tasks=stream.num_tasks,
    row=name,
    branch='main',
    parent=None,
    learning_rate=None,
    schedule_count=None,
    schedule=None,
    seeds=list(config['seeds']),
    metrics={
      'accuracy': accuracy,
      'forward_passes': 0.0,
      'backward_passes': 0.0,
      'gradient_evaluations': 0.0,
      'memory_bytes': 0.0,
      'stored_bytes': 0.0,
    },
    trace=None,
    config=config['digest'],
    plan=stream.digest,
    versions=training.versions(),
  )


def nearest_mean(stream: streams.Stream) -> np.ndarray:
  """Accuracy `[seeds, test sets]` of the nearest class mean on raw inputs.

  The means are over all tasks: they are sums, so that learning them task by
  task gives the same.
  """
  from sklearn.neighbors import NearestCentroid

  rows = []
  for seed in range(stream.replicas or 1):
    tables = jax.tree.map(lambda x, s=seed: jnp.asarray(x[s]), stream.tables)
    train = [_train_rows(stream, task, seed, tables) for task in _tasks(stream)]
    inputs, labels = (np.concatenate(x) for x in zip(*train, strict=True))
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # pixels that are always dark
      model = NearestCentroid().fit(inputs, labels)
    score = lambda task, seed=seed, tables=tables, model=model: model.score(
      *_test_rows(stream, task, seed, tables)
    )
    rows.append([score(task) for task in _test_sets(stream)])
  return np.array(rows, np.float32)


def chance(stream: streams.Stream) -> np.ndarray:
  """Accuracy `[seeds, test sets]` of a guess among all classes."""
  shape = (stream.replicas or 1, len(_test_sets(stream)))
  return np.full(shape, 1 / stream.num_classes, np.float32)


def _tasks(stream):
  return range(stream.num_tasks)


def _test_sets(stream):
  """As many as tasks, or one for each class where tasks overlap."""
  sets = stream.evaluation
  return range(stream.num_tasks if sets is None else sets.num_tasks)


def _train_rows(stream, task, seed, tables):
  indices, weights = stream.task_batches(task, stream.batch_size)
  keep = weights[:, seed] > 0
  return _prepared(stream, indices[:, seed][keep], task, tables)


def _test_rows(stream, task, seed, tables):
  sets = stream.evaluation
  keep = sets.weights[seed, task] > 0
  return _prepared(sets, sets.indices[seed, task][keep], task, tables)


def _prepared(source, indices, task, tables):
  """Inputs, flattened, and labels as the learner sees them."""
  rows = jax.tree.map(jnp.asarray, source.rows(indices))
  weights = jnp.ones(len(indices))
  batch = streams.make_batch(
    rows, tables, jnp.int32(task), weights, source.prepare
  )
  inputs = np.asarray(batch['inputs'])
  return inputs.reshape(len(inputs), -1), np.asarray(batch['labels'])


REFERENCES = {'nearest_mean': nearest_mean, 'chance': chance}
