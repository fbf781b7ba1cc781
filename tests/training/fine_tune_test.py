"""Fine-tuning on a memory: what moves, what is drawn, where it stops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import losses, methods, streams, training, tree
from lrcl.training import _fine_tune, _fine_tune_stages
from tests.training import problem

HEAD = tree.path_mask('head')
STEPS, ROWS, RATE = 7, 6, 0.1


def make_memory(counts=(5, 1, 0, 3), capacity=16, **fields):
  """A memory with so many rows of each class, in a mixed order."""
  labels = np.repeat(np.arange(len(counts)), counts)
  labels = np.random.default_rng(0).permutation(labels).astype(np.int32)
  pad = lambda x: np.concatenate(
    [x, np.zeros((capacity - len(x), *x.shape[1:]), x.dtype)]
  )
  inputs = np.random.default_rng(1).normal(size=(len(labels), problem.FEATURES))
  items = {
    'inputs': inputs.astype(np.float32),
    'labels': labels,
    'weight': np.ones(len(labels), np.float32),
    **{k: v[: len(labels)] for k, v in fields.items()},
  }
  items = jax.tree.map(lambda x: jnp.asarray(pad(x)), items)
  seen = jnp.int32(len(labels))
  return methods.MemoryState(items, seen, jax.random.key(0), ())


@functools.cache
def make_params():
  init_fn, apply_fn = problem.model()
  return init_fn(jax.random.key(3))[0], apply_fn


# Compiling is most of the time here: skip LLVM's optimisations.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


@functools.cache
def compiled(loss_fn):
  params, apply_fn = make_params()
  tx = optax.sgd(optax.cosine_decay_schedule(RATE, STEPS))
  tune = functools.partial(
    training.fine_tune_on_memory,
    apply_fn,
    params,
    tx=tx,
    loss_fn=loss_fn,
    mask=HEAD,
    steps=STEPS,
    batch_size=ROWS,
  )
  return jit(lambda memory, key: tune(memory=memory, key=key)[0])


def fine_tune(memory, key=0, loss_fn=losses.cross_entropy):
  return compiled(loss_fn)(memory, jax.random.key(key))


def test_only_the_masked_parameters_move():
  params, _ = make_params()
  tuned = fine_tune(make_memory())
  assert tree.digest(tuned['Dense_0']) == tree.digest(params['Dense_0'])
  for name, leaf in tuned['head'].items():
    assert np.all(leaf != params['head'][name]), name


def test_the_same_key_gives_the_same_bits():
  first, again, other = (fine_tune(make_memory(), key) for key in (0, 0, 1))
  assert tree.digest(first) == tree.digest(again)
  assert tree.digest(first) != tree.digest(other)


def test_is_sgd_on_the_drawn_rows():
  """A loop over steps with the whole gradient, of which the head is used."""
  (params, apply_fn), memory = make_params(), make_memory()
  draw_key, _ = jax.random.split(jax.random.key(0))
  slots = _fine_tune.draw_balanced(draw_key, memory, (STEPS, ROWS))

  @jit
  def gradient(params, rows):
    def loss(params):
      logits = apply_fn(
        params, rows['inputs'], rng=None, model_state={}, train=True
      )[0]
      return jnp.mean(losses.cross_entropy(logits, rows))

    return jax.grad(loss)(params)

  want = dict(params)
  for number, chosen in enumerate(np.asarray(slots)):
    rows = {k: v[chosen] for k, v in memory.items.items()}
    rate = RATE * (1 + np.cos(np.pi * number / STEPS)) / 2
    down = lambda p, g, rate=rate: p - rate * g
    head = gradient(want, rows)['head']
    want['head'] = jax.tree.map(down, want['head'], head)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, fine_tune(memory)['head'], want['head'])


def test_draws_are_balanced_over_the_stored_classes():
  memory = make_memory(counts=(30, 2, 0, 8), capacity=64)
  slots = _fine_tune.draw_balanced(jax.random.key(0), memory, (300, 40))
  assert int(slots.max()) < 40  # never a slot that is not in use
  labels = np.asarray(memory.items['labels'])[slots].ravel()
  share = np.bincount(labels, minlength=4) / labels.size
  np.testing.assert_allclose(share, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.015)
  rows = np.bincount(np.asarray(slots).ravel(), minlength=40) / labels.size
  stored = np.asarray(memory.items['labels'])[:40]
  want = 1 / 3 / np.bincount(stored)[stored]  # each row of a class alike
  np.testing.assert_allclose(rows, want, atol=0.01)


def test_an_empty_memory_is_an_error_or_changes_nothing():
  params, _ = make_params()
  empty = make_memory()._replace(seen=jnp.int32(0))
  tuned = fine_tune(empty)  # its size is traced
  assert tree.digest(tuned) == tree.digest(params)
  with pytest.raises(ValueError, match='memory is empty; train a step before'):
    training.fine_tune_on_memory(
      make_params()[1], params, empty, optax.sgd(0.1), jax.random.key(0)
    )


def test_stored_logits_are_there_for_the_loss():
  """k-FPF-KD: cross-entropy and a mean square, as the unified loss has it."""
  weight, logits = 0.7, np.random.default_rng(5).normal(size=(16, 4))
  memory = make_memory(logits=logits.astype(np.float32))
  kept = lambda outputs, batch: batch['logits']
  unified = losses.unified_loss(2 * weight / 4, losses.half_square, kept)

  def by_hand(outputs, batch):
    far = jnp.mean(jnp.square(outputs - batch['logits']), axis=-1)
    return losses.cross_entropy(outputs, batch) + weight * far

  tuned, want = (fine_tune(memory, loss_fn=f) for f in (unified, by_hand))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, tuned, want)
  plain = fine_tune(memory)
  assert np.max(np.abs(plain['head']['bias'] - want['head']['bias'])) > 1e-3


@functools.cache
def storing(capacity=12):
  """SGD that stores rows and replays none, and its fine-tuning."""
  init_fn, apply_fn = problem.model()
  rate = methods.scale_by_schedule_value(0.05)
  tx = methods.with_memory(rate, capacity, problem.example(), 1)
  tuning = training.FineTuning(
    apply_fn, optax.sgd(RATE), mask=HEAD, steps=5, batch_size=ROWS
  )
  return init_fn, training.Learner(tx, apply_fn), tuning


def by_hand(learner, state, stream, tuning, stops):
  for stop in stops:
    state, _ = training.train_stream(learner, state, stream, steps=stop)
    key = jax.random.fold_in(state.rng, state.step)
    key = jax.random.fold_in(key, _fine_tune_stages._SALT)
    state = jax.jit(tuning)(state, {}, key)
  return state


def test_stages_are_training_and_fine_tuning_in_turn():
  """Three times in 47 steps of three tasks: no stop is the end of a task."""
  init_fn, learner, tuning = storing()
  stream = problem.stream()
  assert _fine_tune_stages.fine_tuning_stops(47, 3) == [15, 31, 47]
  state = problem.new_state(init_fn, learner)
  end, records = training.train_and_fine_tune(
    learner, state, stream, tuning, times=3
  )
  assert {15, 31, 47} <= {r['step'] for r in records}
  want = by_hand(learner, state, stream, tuning, (15, 31, 47))
  assert tree.digest(end) == tree.digest(want)
  assert tuning.rows == 30


def test_a_run_that_is_restored_ends_with_the_same_bits(tmp_path):
  """From a stop, from between two of them, and from the end."""
  init_fn, learner, tuning = storing()
  stream = problem.stream()
  branches = training.Branches(tmp_path, keep_last=9)
  state = problem.new_state(init_fn, learner)
  run = functools.partial(
    training.train_and_fine_tune, learner, fine_tune=tuning, times=3
  )
  whole, _ = run(state=state, stream=stream, branches=branches, save_every=20)
  for step in (15, 20, 47):
    restored = branches.restore('main', step, like=state).state
    again, _ = run(state=restored, stream=stream)
    assert tree.digest(again) == tree.digest(whole), step


def test_replicas_are_single_runs():
  init_fn, learner, tuning = storing()
  both = streams.replicate([problem.stream(seed=0), problem.stream(seed=1)])
  states = training.create_states(init_fn, learner.tx, (4, 5))
  end, _ = training.train_and_fine_tune(learner, states, both, tuning, times=2)
  for i in (0, 1):
    state = problem.new_state(init_fn, learner, 4 + i)
    single, _ = training.train_and_fine_tune(
      learner, state, problem.stream(seed=i), tuning, times=2
    )
    mine = jax.tree.map(lambda x, i=i: x[i], end)
    assert tree.digest(mine) == tree.digest(single)


def test_as_the_end_of_a_task():
  init_fn, learner, tuning = storing()
  stream, state = problem.stream((10, 10)), problem.new_state(init_fn, learner)
  hooked = training.Learner(learner.tx, learner.apply_fn, on_task_end=tuning)
  plain, _ = training.train_stream(learner, state, stream, steps=11)
  tuned, _ = training.train_stream(hooked, state, stream, steps=11)
  assert tree.digest(plain.params) != tree.digest(tuned.params)


def test_errors():
  params, apply_fn = make_params()
  memory, key, tx = make_memory(), jax.random.key(0), optax.sgd(0.1)
  tune = functools.partial(training.fine_tune_on_memory, apply_fn, params)
  with pytest.raises(ValueError, match='fine_tune_on_memory: steps is 0'):
    tune(memory, tx, key, steps=0)
  with pytest.raises(ValueError, match='batch_size is 0; it must be >= 1'):
    tune(memory, tx, key, batch_size=0)
  with pytest.raises(ValueError, match='fine_tune_on_memory: the mask matches'):
    tune(memory, tx, key, mask=tree.path_mask('nothing'))
  bare = {k: v for k, v in memory.items.items() if k != 'labels'}
  with pytest.raises(ValueError, match=r'whole numbers labels.*it has None'):
    tune(memory._replace(items=bare), tx, key)
  floats = {**memory.items, 'labels': memory.items['inputs']}
  with pytest.raises(ValueError, match=r'it has float32\[16, 6\]'):
    tune(memory._replace(items=floats), tx, key)
  init_fn, learner, tuning = storing()
  simple = problem.plain()[1]
  state = problem.new_state(init_fn, simple)
  with pytest.raises(ValueError, match=r'FineTuning: .* has no memory; wrap'):
    tuning(state, {}, key)
  stages = functools.partial(
    training.train_and_fine_tune, learner, state, problem.stream(), tuning
  )
  with pytest.raises(ValueError, match='train_and_fine_tune: times is 0'):
    stages(0)
  with pytest.raises(ValueError, match='times is 48; there are 47 steps only'):
    stages(48)
