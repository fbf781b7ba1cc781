"""DER++ with and without refresh learning, for the claim."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import replay_cells, sequences
from experiments.papers.replay_cells import BATCH, Cell
from lrcl import base, losses, methods, protocols, streams, training, tree

WEIGHT = 0.5
"""Of either term of DER++."""


class Probe(NamedTuple):
  """What unlearning does at the end of a task; arrays `[..., deltas]`.

  Attributes:
    rise: of the loss on the rows in memory.
    distance: moved by a tensor, over delta and its norm: of all tensors the
      one that is furthest from 1.
    held: the largest share by which the Fisher shortens a move.
  """

  rise: Any
  distance: Any
  held: Any


class Found(NamedTuple):
  """What came of one cell.

  Attributes:
    plain: DER++, errors as losses.
    refreshed: the same for each delta, with the best rate for it.
    best: the delta of the best of these on the tuning seeds.
    probe: with the last delta's runs: of all seeds, ends of tasks and deltas.
    references: the rows of every comparison.
  """

  plain: protocols.Tuned
  refreshed: Mapping[float, protocols.Tuned]
  best: float
  probe: Probe
  references: Mapping[str, Any]

  def gain(self, delta: float) -> np.ndarray:
    """Accuracy above that of DER++, `[seeds]`."""
    return self.plain.losses - self.refreshed[delta].losses


def measure(
  cell: Cell,
  data_dir: str | None,
  rates: Sequence[float],
  deltas: Sequence[float],
  seeds: Sequence[int],
) -> Found:
  """Tunes the rate of DER++, and of each delta, in one cell."""
  data = replay_cells.load(cell, data_dir)
  every = [*replay_cells.TUNING_SEEDS, *seeds]
  stream = data.stream(every)
  init_fn, apply_fn = sequences.make_mlp(stream, replay_cells.FEATURES)
  make = lambda **options: protocols.Trials(
    stream, every, init_fn, _learners(stream, apply_fn, cell), **options
  )
  plain, _ = make().tune(
    {'rate': rates}, tuning_seeds=replay_cells.TUNING_SEEDS, seeds=seeds
  )
  trials = make(read=lambda state: _probe(apply_fn, deltas, state))
  grid = protocols.grid({'delta': deltas, 'rate': rates})
  tried = 1 - trials.sweep(grid, replay_cells.TUNING_SEEDS).final
  tried = np.nan_to_num(tried.reshape(len(deltas), len(rates), -1), nan=1.0)
  refreshed, found = {}, None
  for delta, errors in zip(deltas, tried, strict=True):
    setting, edges = protocols.choose({'rate': rates}, errors)
    alone = {'delta': np.array([delta]), 'rate': np.array([setting['rate']])}
    found = trials.sweep(alone, seeds).pick(0)
    refreshed[delta] = protocols.Tuned(setting, edges, 1 - found.final)
  assert found is not None
  best = deltas[int(np.argmin(tried.mean(-1).min(-1)))]
  references = data.references(rates, seeds)
  return Found(plain, refreshed, best, found.read, references)


def _learners(stream: streams.Stream, apply_fn: Any, cell: Cell) -> Any:
  """`make_learner`: refreshed where the setting has a delta."""

  def on_task_end(state, task_data, key):
    fisher = methods.fisher_diagonal(
      apply_fn, state.params, task_data, estimator='sampled', key=key
    )
    kept = methods.consolidate(state.opt_state, state.params, fisher=fisher)
    return state._replace(opt_state=kept)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    tx = _make_tx(stream, apply_fn, cell.capacity, setting)
    if 'delta' not in setting:
      return training.Learner(tx, apply_fn)
    return training.Learner(tx, apply_fn, on_task_end=on_task_end)

  return make_learner


def _make_tx(
  stream: streams.Stream,
  apply_fn: Any,
  capacity: int,
  setting: protocols.Setting,
) -> optax.GradientTransformation:
  """DER++ with independent draws."""
  part = lambda start: (
    lambda memory: jax.tree.map(lambda x: x[start : start + BATCH], memory)
  )
  distil = methods.add_distillation_on_memory(apply_fn, WEIGHT)
  replay = methods.add_memory_gradient(WEIGHT)
  links = optax.chain(
    methods.map_memory(distil, part(0)),
    methods.map_memory(replay, part(BATCH)),
    methods.scale_by_schedule_value(setting['rate']),
  )
  if 'delta' in setting:
    links = methods.refresh(links, setting['delta'])
  logits = jax.ShapeDtypeStruct((BATCH, stream.num_classes), jnp.float32)
  example = {**stream.batch_spec, 'logits': logits}
  return methods.with_memory(
    links, capacity, example, 2 * BATCH, store=('logits',)
  )


def _probe(apply_fn: Any, deltas: Sequence[float], state: Any) -> Probe:
  """One unlearning of the rows in memory for each delta, and its effect."""
  memory = tree.get_states(state.opt_state, methods.MemoryState)[0]
  fisher = tree.get_states(state.opt_state, methods.RefreshState)[0].fisher
  in_use = jnp.arange(memory.items['weight'].size) < memory.seen
  rows = {**memory.items, 'weight': in_use.astype(jnp.float32)}

  def loss(params, rows):
    logits, _ = apply_fn(
      params, rows['inputs'], rng=None, model_state={}, train=False
    )
    return base.weighted_mean(
      losses.cross_entropy(logits, rows), rows['weight']
    )

  def one(delta):
    tx = methods.refresh(optax.set_to_zero(), delta, noise=0.0)
    params, grad_fn = state.params, jax.grad(loss)
    move, _ = tx.update(
      grad_fn(params, rows),
      tx.init(params),
      params,
      batch=rows,
      grad_fn=grad_fn,
    )
    rise = loss(optax.apply_updates(params, move), rows) - loss(params, rows)
    far = jax.tree.map(
      lambda d, p: d / (delta * p),
      tree.leaf_norms(move),
      tree.leaf_norms(params),
    )
    far = jnp.stack(jax.tree.leaves(far))
    return rise, far[jnp.argmax(jnp.abs(far - 1))]

  rise, distance = jax.lax.map(one, jnp.asarray(deltas, jnp.float32))
  largest = jnp.max(jnp.stack([jnp.max(f) for f in jax.tree.leaves(fisher)]))
  return Probe(rise, distance, 1 - 1 / (1 + 1e-3 * largest))
