"""Which rows stay: each policy against a slow twin, and its own promise."""

import functools
import re

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from lrcl import methods
from tests.methods import problem
from tests.methods.memory_test import all_bits, loop_text

SIZE, STEPS, SHOWN = 7, 6, 3
POLICIES = {
  'reservoir': 'reservoir',
  'ring': 'ring',
  'class_balanced': 'class_balanced',
  'gss': methods.gss_policy(2, 4),
  'importance': methods.importance_policy(8),
}


def below(word, bound):
  return (int(word) * bound) >> 32


def stack(weights, labels):
  """Batches of examples that are numbered from 1 in order of arrival."""
  count, size = np.shape(weights)
  numbers = 1.0 + np.arange(count * size, dtype=np.float32)
  return {
    'inputs': numbers.reshape(count, size),
    'labels': np.asarray(labels, np.int32),
    'weight': np.asarray(weights, np.float32),
  }


def square_loss(params, rows):
  return jnp.square(params - rows['inputs'])


@functools.cache
def jitted_run(policy, capacity, size):
  """Runs a stack of batches at given parameters; gives the memory."""
  spec = lambda dtype: jax.ShapeDtypeStruct((size,), dtype)
  example = {
    'inputs': spec(jnp.float32),
    'labels': spec(jnp.int32),
    'weight': spec(jnp.float32),
  }

  @jax.jit
  def run(seed, batches, params):
    tx = methods.with_memory(
      optax.identity(), capacity, example, SHOWN, policy=policy, seed=seed
    )

    def body(state, xs):
      batch, p = xs
      extras = {'batch': batch, 'value_fn': square_loss}
      return tx.update(p, state, p, **extras)[1], None

    return jax.lax.scan(body, tx.init(()), (batches, params))[0].memory

  return run


def run(policy, capacity, seed, batches, params=None):
  count, size = batches['weight'].shape
  params = np.zeros(count, np.float32) if params is None else params
  return jitted_run(policy, capacity, size)(seed, batches, params)


def rows_of(batches):
  """Every row that counts, one after another: step, place, number, label."""
  for step, place in np.ndindex(*batches['weight'].shape):
    if batches['weight'][step, place] > 0:
      number = float(batches['inputs'][step, place])
      yield step, place, number, int(batches['labels'][step, place])


weight_lists = st.lists(
  st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=SIZE, max_size=SIZE),
  min_size=STEPS,
  max_size=STEPS,
)
label_lists = st.lists(
  st.lists(st.integers(-1, 3), min_size=SIZE, max_size=SIZE),
  min_size=STEPS,
  max_size=STEPS,
)
capacities = st.sampled_from([1, 5, 9])
seeds = st.integers(0, 2**31 - 1)
settings = hypothesis.settings(max_examples=50, deadline=None, derandomize=True)


@settings
@hypothesis.given(weight_lists, capacities, seeds)
def test_the_ring_holds_the_newest(weights, capacity, seed):
  batches = stack(weights, np.zeros((STEPS, SIZE)))
  memory = run('ring', capacity, seed, batches)
  numbers = [number for _, _, number, _ in rows_of(batches)]
  want = [0.0] * capacity
  for i, number in enumerate(numbers):
    want[i % capacity] = number
  assert memory.items['inputs'].tolist() == want
  assert int(memory.seen) == len(numbers)


def balanced_twin(batches, bits, capacity):
  """Class-balancing reservoir sampling, row by row, on Python lists."""
  stored, met, full = [], {}, set()
  words = np.asarray(bits)[:, SHOWN:].reshape(len(bits), -1, 2)
  count = lambda label: sum(row[1] == label for row in stored)
  for step, place, number, label in rows_of(batches):
    first, second = words[step, place]
    own = [i for i, row in enumerate(stored) if row[1] == label]
    met[label] = met.get(label, 0) + 1 if own else 1
    if len(stored) < capacity:
      stored.append((number, label))
    elif label in full:
      drawn = below(first, met[label])
      if drawn < len(own):
        stored[own[drawn]] = (number, label)
    else:
      most = max(count(row[1]) for row in stored)
      largest = [i for i, row in enumerate(stored) if count(row[1]) == most]
      stored[largest[below(second, len(largest))]] = (number, label)
    full = {c for c in full if count(c)}
    if len(stored) == capacity:
      most = max(count(row[1]) for row in stored)
      full |= {row[1] for row in stored if count(row[1]) == most}
  return stored


@settings
@hypothesis.given(weight_lists, label_lists, capacities, seeds)
def test_class_balanced_equals_a_twin_and_is_balanced(
  weights, labels, capacity, seed
):
  batches = stack(weights, labels)
  memory = run('class_balanced', capacity, seed, batches)
  bits = all_bits(seed, SHOWN + 2 * SIZE, STEPS)
  want = balanced_twin(batches, bits, capacity)
  items = memory.items
  have = list(
    zip(items['inputs'].tolist(), items['labels'].tolist(), strict=True)
  )
  assert have[: len(want)] == want
  offered = [label for *_, label in rows_of(batches)]
  assert int(memory.seen) == len(offered)
  assert len(want) == min(len(offered), capacity)
  if len(set(offered)) <= capacity and len(want) == capacity:
    kept = [label for _, label in want]
    most = max(map(kept.count, kept))
    for label in set(offered):
      all_kept = kept.count(label) == offered.count(label)
      assert all_kept or kept.count(label) >= most - 1


def test_within_a_class_every_row_has_one_chance():
  """The stream is sorted by class, and classes are of different sizes."""
  capacity, runs, sizes = 12, 2000, {0: 30, 1: 4, 2: 18}
  labels = np.concatenate([np.full(n, c) for c, n in sizes.items()])
  total = labels.size
  batches = stack(np.ones((total // 4, 4)), labels.reshape(-1, 4))
  many = jax.jit(
    jax.vmap(lambda seed: run('class_balanced', capacity, seed, batches))
  )
  items = many(jnp.arange(runs)).items
  for label, size in sizes.items():
    per_run = np.sum(np.asarray(items['labels']) == label, axis=1)
    np.testing.assert_array_equal(per_run, 4)
    own = np.asarray(items['inputs'])[np.asarray(items['labels']) == label]
    first = 1 + np.flatnonzero(labels == label)[0]
    counts = np.bincount(own.astype(int) - first, minlength=size)
    want = runs * 4 / size
    if size == 4:
      np.testing.assert_array_equal(counts, want)
      continue
    spread = want * (1 - 4 / size) * size / (size - 1)
    chi2 = np.sum((counts - want) ** 2) / spread
    assert 1e-4 < stats.chi2.sf(chi2, size - 1) < 1 - 1e-4


def test_balance_may_be_over_tasks():
  batch = {
    'inputs': jnp.arange(12.0),
    'task': jnp.array([0] * 9 + [1] * 3, jnp.int32),
  }
  tx = methods.with_memory(
    optax.identity(), 6, batch, 2, policy=methods.class_balanced_policy('task')
  )
  _, state = tx.update((), tx.init(()), batch=batch)
  assert sorted(state.memory.items['task'].tolist()) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize('name', POLICIES)
def test_the_memory_is_never_copied_in_a_loop(name):
  capacity, params, batch = 123, problem.init_params(), problem.make_batch()
  inner = optax.chain(methods.add_memory_gradient(), optax.scale(-0.1))
  tx = methods.with_memory(inner, capacity, batch, 8, policy=POLICIES[name])
  text = loop_text(tx, params, batch)
  assert re.search(rf'\[{capacity},4\]\S* (fusion|scatter)\(', text)
  assert not re.findall(rf'\[{capacity},4\]\S* copy\(.*', text)


def test_a_policy_of_ones_own():
  """Nothing is stored once the memory is full."""

  def choose(memory, offer):
    slots = memory.seen + jnp.cumsum(offer.valid, dtype=jnp.int32) - 1
    slots = jnp.where(offer.valid, slots, 4)
    assert offer.extra_args['batch'] is not None
    return slots, memory.seen + jnp.sum(offer.valid, dtype=jnp.int32), ()

  policy = methods.MemoryPolicy(lambda *_: (), choose, lambda *_: 0)
  batch = {'inputs': jnp.arange(3.0)}
  tx = methods.with_memory(optax.identity(), 4, batch, 2, policy=policy)
  state = tx.init(())
  for _ in range(3):
    _, state = tx.update((), state, batch=batch)
  assert state.memory.items['inputs'].tolist() == [0, 1, 2, 0]


def test_errors():
  batch = problem.make_batch()
  make = functools.partial(methods.with_memory, optax.identity(), 8)
  without = lambda name: {k: v for k, v in batch.items() if k != name}
  for name, field in (
    ('class_balanced', 'labels'),
    ('importance', 'labels'),
    ('gss', 'weight'),
  ):
    with pytest.raises(ValueError, match=f"'{name}' needs the field '{field}'"):
      make(without(field), 2, policy=name)
  for bad in (jnp.ones((8, 2), jnp.int32), jnp.ones(8)):
    with pytest.raises(ValueError, match=r'whole numbers \[batch\] in .labels'):
      make(batch | {'labels': bad}, 2, policy='class_balanced')
  for name, extra in (('gss', 'grad_fn'), ('importance', 'value_fn')):
    tx = make(batch, 2, policy=name)
    with pytest.raises(
      TypeError, match=f"'{name}' needs the extra arg '{extra}"
    ):
      tx.update((), tx.init(()), (), batch=batch)
    with pytest.raises(ValueError, match=f"policy '{name}' needs params"):
      tx.update((), tx.init(()), batch=batch, **{extra: None})
  for kwargs, message in (
    ({'num_batches': 0}, 'gss_policy: num_batches is 0'),
    ({'batch_size': 1.5}, r'gss_policy: batch_size is 1\.5'),
  ):
    with pytest.raises(ValueError, match=message):
      methods.gss_policy(**kwargs)
  with pytest.raises(ValueError, match='importance_policy: probe_size is 0'):
    methods.importance_policy(0)
  for decay in (-0.1, 1.0):
    with pytest.raises(ValueError, match='importance_policy: decay is'):
      methods.importance_policy(decay=decay)
