"""Streams without boundaries, and streams brought to one source."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import streams


def make_data(rows=60, classes=6):
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(rows, 3)).astype(np.float32)
  return {'inputs': inputs, 'labels': np.arange(rows) % classes}


def read_rows(stream):
  chunk = stream.chunk(0, stream.num_steps)
  return chunk.indices[chunk.weights > 0]


def test_hidden_tasks_leave_the_order_of_rows_and_nothing_else():
  stream = streams.blurry(
    make_data(61), num_tasks=3, batch_size=7, test=make_data(), split_seed=3
  )
  assert len(stream.boundaries) == 2
  hidden = streams.hide_tasks(stream)
  np.testing.assert_array_equal(read_rows(hidden), read_rows(stream))
  assert (hidden.num_steps, hidden.num_tasks) == (9, 1)
  assert hidden.boundaries == () and hidden.next_boundary(0) == 9
  chunk = hidden.chunk(0, 9)
  assert not chunk.task_ids.any()
  assert (chunk.weights[:-1] == 1).all() and chunk.weights[-1].sum() == 61 - 56
  assert hidden.evaluation is stream.evaluation


def test_stochastic_streams_are_stacked_once_their_tasks_are_hidden():
  train = make_data()
  make = lambda seed: streams.blurry(
    train, num_tasks=3, batch_size=1, split_seed=seed
  )
  drawn = [make(seed) for seed in (2, 3, 4)]
  assert len({s.boundaries for s in drawn}) > 1
  with pytest.raises(ValueError, match='differ in'):
    streams.replicate(drawn)
  stack = streams.replicate(
    [streams.hide_tasks(s, batch_size=5) for s in drawn]
  )
  indices = stack.chunk(0, stack.num_steps).indices
  assert indices.shape == (12, 3, 5)
  for number, stream in enumerate(drawn):
    np.testing.assert_array_equal(indices[:, number].ravel(), read_rows(stream))


def test_streams_whose_tasks_cannot_be_hidden():
  train = make_data()
  make = functools.partial(streams.split, train, num_tasks=2, batch_size=4)
  with pytest.raises(ValueError, match='single stream'):
    streams.hide_tasks(streams.replicate([make(), make(seed=1)]))
  with pytest.raises(ValueError, match='depends on the task'):
    streams.hide_tasks(make(scenario='task'))
  with pytest.raises(ValueError, match='depends on the task'):
    streams.hide_tasks(streams.permuted(train, num_tasks=2, batch_size=4))
  with pytest.raises(ValueError, match='no end'):
    streams.hide_tasks(make().hold(3))


def read_batches(stream):
  tables = jax.tree.map(jnp.asarray, stream.tables)
  chunk = stream.chunk(0, stream.num_steps)
  make = lambda source, *step: streams.make_batch(
    source.rows(step[1]), tables, step[0], step[2], source.prepare
  )
  train = [make(stream, *step) for step in zip(*chunk, strict=True)]
  sets = stream.evaluation
  tasks = np.arange(sets.num_tasks, dtype=np.int32)
  tests = zip(tasks, sets.indices, sets.weights, strict=True)
  return train + [make(sets, *step) for step in tests]


def test_pooled_streams_give_the_batches_that_they_gave():
  make = functools.partial(
    streams.instance_test, make_data(), num_sets=2, ways=4, steps_per_set=3
  )
  noise = functools.partial(streams.add_noise, scale=0.1)
  drawn = [make(draw_seed=seed, corrupt=noise) for seed in range(3)]
  pooled = streams.pool_sources(drawn)
  assert len({id(s.source) for s in pooled}) == 1
  assert pooled[2].chunk(0, 6).indices.max() == 23
  for before, after in zip(drawn, pooled, strict=True):
    pairs = zip(read_batches(before), read_batches(after), strict=True)
    for wanted, found in pairs:
      jax.tree.map(np.testing.assert_array_equal, wanted, found)
  assert streams.replicate(pooled).replicas == 3


def test_streams_that_do_not_go_together():
  first = streams.split(make_data(), num_tasks=2, batch_size=4)
  wide = make_data() | {'inputs': np.zeros((60, 5), np.float32)}
  other = streams.split(wide, num_tasks=2, batch_size=4)
  with pytest.raises(ValueError, match='training rows of stream 1'):
    streams.pool_sources([first, other])
  tested = streams.split(
    make_data(), num_tasks=2, batch_size=4, test=make_data()
  )
  with pytest.raises(ValueError, match='only some'):
    streams.pool_sources([first, tested])
  with pytest.raises(ValueError, match='single streams'):
    streams.pool_sources([streams.replicate([first, first])])
  with pytest.raises(ValueError, match='at least one'):
    streams.pool_sources([])
