"""The memory is a fair sample, drawn from before the step, updated in place."""

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

from lrcl import methods, tree
from lrcl.methods import _random, _reservoir
from tests.methods import problem


def spy():
  """Puts what the memory shows into the state, so that tests can read it."""

  def update_fn(updates, state, params=None, *, memory, memory_ready, **extra):
    return updates, (memory, memory_ready)

  return optax.GradientTransformationExtraArgs(lambda _: (), update_fn)


def numbered(start, size, pad=0):
  """A batch whose inputs are the examples' arrival numbers (from 1)."""
  weight = np.ones(size, np.float32)
  weight[size - pad :] = 0.0
  return {
    'inputs': jnp.arange(start + 1, start + size + 1, dtype=jnp.float32),
    'weight': jnp.asarray(weight),
  }


def offer(tx, state, batches):
  update = jax.jit(lambda s, b: tx.update((), s, batch=b)[1], donate_argnums=0)
  for batch in batches:
    state = update(state, batch)
  return state


def twin(bits_of, batches, capacity, batch_size):
  """Algorithm R, one example after another, on Python ints."""
  stored, seen, shown = [0.0] * capacity, 0, []
  for step, batch in enumerate(batches):
    bits = [int(b) for b in bits_of(step)]
    below = lambda word, bound: (word * bound) >> 32
    filled = max(min(seen, capacity), 1)
    shown.append([stored[below(b, filled)] for b in bits[:batch_size]])
    rows = zip(batch['inputs'], batch['weight'], bits[batch_size:], strict=True)
    for x, weight, word in rows:
      if weight == 0:
        continue
      slot = seen if seen < capacity else below(word, seen + 1)
      if slot < capacity:
        stored[slot] = float(x)
      seen += 1
  return stored, seen, shown


@functools.partial(jax.jit, static_argnums=(1, 2))
def all_bits(seed, count, steps):
  draw = lambda key, _: _random.random_bits(key, count)
  return jax.lax.scan(draw, jax.random.key(seed), length=steps)[1]


@functools.cache
def jitted_run(capacity, batch_size, size):
  """Runs a stack of batches; gives the memory and what was shown, by step."""

  def run(seed, batches):
    example = numbered(0, size)
    tx = methods.with_memory(spy(), capacity, example, batch_size, seed=seed)

    def body(state, batch):
      _, state = tx.update((), state, batch=batch)
      memory, ready = state.inner_state
      state = state._replace(inner_state=())
      return state, (memory['inputs'], ready)

    state, shown = jax.lax.scan(body, tx.init(()), batches)
    return state.memory, shown

  return jax.jit(run)


STEPS = 6


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
  sizes=st.sampled_from([(1, 1, 2), (4, 3, 1), (4, 2, 9), (11, 3, 9)]),
  weights=st.lists(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=9, max_size=9),
    min_size=STEPS,
    max_size=STEPS,
  ),
  seed=st.integers(0, 2**31 - 1),
)
def test_equals_a_sequential_twin(sizes, weights, seed):
  capacity, batch_size, size = sizes
  weights = np.array(weights, np.float32)[:, :size]
  inputs = 1.0 + np.arange(STEPS * size, dtype=np.float32).reshape(STEPS, size)
  run = jitted_run(capacity, batch_size, size)
  memory, (shown, ready) = run(seed, {'inputs': inputs, 'weight': weights})
  bits = np.asarray(all_bits(seed, batch_size + size, STEPS))
  rows = [
    {'inputs': x, 'weight': w} for x, w in zip(inputs, weights, strict=True)
  ]
  stored, seen, want = twin(bits.__getitem__, rows, capacity, batch_size)
  assert memory.items['inputs'].tolist() == stored
  assert int(memory.seen) == seen
  assert shown.tolist() == want
  before = np.cumsum(np.sum(weights > 0, 1)) - np.sum(weights > 0, 1)
  assert ready.tolist() == (before > 0).tolist()


@pytest.mark.parametrize('size,pad', [(1, 0), (8, 3), (40, 5)])
def test_every_example_is_kept_with_one_probability(size, pad):
  capacity, seeds = 10, 3000
  steps = -(-60 // (size - pad))
  total = steps * (size - pad)
  batches = [numbered(i * (size - pad), size, pad) for i in range(steps)]
  stack = jax.tree.map(lambda *x: jnp.stack(x), *batches)

  @jax.jit
  @jax.vmap
  def run(seed):
    inner = optax.identity()
    tx = methods.with_memory(inner, capacity, batches[0], 1, seed=seed)
    body = lambda state, batch: (tx.update((), state, batch=batch)[1], None)
    return jax.lax.scan(body, tx.init(()), stack)[0].memory

  memory = run(jnp.arange(seeds))
  np.testing.assert_array_equal(memory.seen, total)
  items = np.asarray(memory.items['inputs'], int)
  assert all(len(set(row)) == capacity for row in items)  # no example twice
  counts = np.bincount(items.ravel(), minlength=total + 1)
  assert counts[0] == 0 and len(counts) == total + 1  # nor any padding
  # Counts of sampling without replacement vary less than independent ones:
  # by the factor 1 - capacity / total, which makes the test exact.
  want = seeds * capacity / total
  spread = want * (1 - capacity / total) * total / (total - 1)
  chi2 = np.sum((counts[1:] - want) ** 2) / spread
  assert 1e-4 < stats.chi2.sf(chi2, total - 1) < 1 - 1e-4


def test_draws_are_uniform_over_what_is_stored():
  seeds, filled, drawn = 2000, 6, 5
  batch = numbered(0, filled)

  @jax.jit
  @jax.vmap
  def run(seed):
    tx = methods.with_memory(spy(), 20, batch, drawn, seed=seed)
    state = offer(
      tx, tx.init(()), [batch, batch | {'weight': 0.0 * batch['weight']}]
    )
    return state.inner_state[0]['inputs']

  counts = np.bincount(np.asarray(run(jnp.arange(seeds)), int).ravel())
  assert counts[0] == 0 and len(counts) == filled + 1
  assert stats.chisquare(counts[1:]).pvalue > 1e-4


def test_scaled_bits_are_exact():
  rng = np.random.default_rng(0)
  bits = rng.integers(0, 2**32, 2000, np.uint64)
  bounds = rng.integers(1, 2**31, 2000) >> rng.integers(0, 31, 2000)
  bounds = np.maximum(bounds, 1)
  got = _random.below(
    jnp.asarray(bits, jnp.uint32), jnp.asarray(bounds, jnp.int32)
  )
  want = (bits * bounds.astype(np.uint64)) >> np.uint64(32)
  np.testing.assert_array_equal(got, want)


def test_count_stops_before_it_overflows():
  size, top = 4, 2**31 - 1
  bits = jnp.full(size, 2**32 - 1, jnp.uint32)
  slots, seen = _reservoir.slots(
    jnp.int32(top - 1), jnp.ones(size, bool), bits, 3
  )
  assert int(seen) == top and np.all(np.asarray(slots) >= 3)


def test_slots_are_different_and_the_last_row_wins():
  # All rows but the last draw slot 0 once the memory is full.
  bits = jnp.array([0, 0, 0, 2**32 - 1], jnp.uint32)
  slots, _ = _reservoir.slots(jnp.int32(9), jnp.ones(4, bool), bits, 5)
  assert len(set(slots.tolist())) == 4
  assert [s for s in slots.tolist() if s < 5] == [0]
  assert slots.tolist()[2] == 0


def test_rows_come_from_before_the_step():
  first, second = numbered(0, 3), numbered(3, 3)
  tx = methods.with_memory(spy(), 10, first, 50)
  state = offer(tx, tx.init(()), [first])
  memory, ready = state.inner_state
  assert not ready and not np.any(memory['weight'])
  state = offer(tx, state, [second])
  memory, ready = state.inner_state
  assert ready and set(memory['inputs'].tolist()) == {1.0, 2.0, 3.0}
  np.testing.assert_array_equal(memory['weight'], 1.0)


def test_first_gradient_is_unchanged_even_where_the_memory_gives_nan():
  params, batch = problem.init_params(), problem.make_batch()
  tx = methods.with_memory(methods.add_memory_gradient(), 16, batch, 8)
  extras = problem.extra_args(params, batch)
  grads = extras['grad_fn'](params, batch)
  bad = lambda params, batch: jax.tree.map(lambda p: p * jnp.nan, params)
  extras['grad_fn'] = bad
  updates, _ = jax.jit(lambda s: tx.update(grads, s, params, **extras))(
    tx.init(params)
  )
  jax.tree.map(np.testing.assert_array_equal, updates, grads)


def test_stores_logits():
  params = problem.init_params()
  logits_spec = jax.ShapeDtypeStruct((8, problem.CLASSES), jnp.float32)
  example = {**problem.make_batch(), 'logits': logits_spec}
  inner = optax.chain(spy(), methods.add_memory_gradient())
  tx = methods.with_memory(inner, 64, example, 32, store=('logits',))

  @jax.jit
  def update(state, params, batch):
    extras = problem.extra_args(params, batch)
    return tx.update(params, state, params, **extras)[1], extras['logits']

  state, offered = tx.init(params), []
  for i in range(3):
    batch = problem.make_batch(i, pad=i)
    moved = jax.tree.map(lambda p, i=i: p + 0.1 * i, params)
    state, logits = update(state, moved, batch)
    if i < 2:
      offered += list(
        zip(batch['inputs'].tolist(), logits.tolist(), strict=True)
      )
  memory, _ = state.inner_state[0]
  assert set(memory) == {'inputs', 'labels', 'weight', 'task', 'logits'}
  pairs = dict((tuple(x), tuple(z)) for x, z in offered)
  for x, z in zip(
    memory['inputs'].tolist(), memory['logits'].tolist(), strict=True
  ):
    assert pairs[tuple(x)] == tuple(z)  # the logits of that very step


def test_keeps_dtypes_and_nested_inputs():
  batch = {
    'inputs': {
      'image': jnp.ones((2, 3), jnp.uint8),
      'mask': jnp.ones((2, 2), bool),
      'half': jnp.ones((2, 1), jnp.bfloat16),
    },
    'labels': jnp.ones((2, 4), jnp.int32),
    'weight': jnp.ones(2),
  }
  tx = methods.with_memory(spy(), 5, batch, 3)
  state = jax.jit(lambda: offer(tx, tx.init(()), [batch, batch]))()
  memory, _ = state.inner_state
  kinds = lambda t: jax.tree.map(lambda x: (x.shape[1:], x.dtype), t)
  assert kinds(memory) == kinds(batch) == kinds(state.memory.items)
  jax.tree.map(lambda x: np.testing.assert_array_equal(x, 1), memory)


def test_without_weights_every_row_counts():
  batch = {'inputs': jnp.ones((3, 2))}
  tx = methods.with_memory(optax.identity(), 8, batch, 2)
  assert int(offer(tx, tx.init(()), [batch, batch]).memory.seen) == 6


def test_only_inner_sees_the_memory():
  batch = numbered(0, 3)
  tx = optax.chain(
    methods.with_memory(optax.identity(), 4, batch, 2),
    methods.add_memory_gradient(),
  )
  with pytest.raises(TypeError, match="'memory' and 'memory_ready'"):
    tx.update((), tx.init(()), (), batch=batch, grad_fn=None)


def test_seeds():
  batch = numbered(0, 4)
  state = lambda seed: methods.with_memory(
    optax.identity(), 4, batch, 2, seed=seed
  ).init(())
  data = lambda s: jax.random.key_data(s.memory.key).tolist()
  assert data(state(1)) == data(state(jnp.int32(1))) != data(state(2))
  new = tree.map_states(
    lambda s: s._replace(key=jax.random.key(2)),
    optax.chain(methods.with_memory(optax.identity(), 4, batch, 2)).init(()),
    methods.MemoryState,
  )
  assert data(new[0]) == data(state(2))


def loop_text(tx, params, batch):
  """The compiled text of ten steps in a loop, with everything donated."""
  step = problem.make_step(tx)

  def run(params, state, batch):
    body = lambda _, carry: step(*carry, batch, 0)
    return jax.lax.fori_loop(0, 10, body, (params, state))

  compiled = jax.jit(run, donate_argnums=(0, 1))
  return compiled.lower(params, tx.init(params), batch).compile().as_text()


@pytest.mark.parametrize('replay', [False, True])
def test_memory_is_never_copied_in_a_loop(replay):
  # Reading and writing in no fixed order would copy it all at every step.
  capacity, params, batch = 123, problem.init_params(), problem.make_batch()
  links = [methods.add_memory_gradient()] if replay else []
  inner = optax.chain(*links, methods.scale_by_schedule_value(0.1))
  tx = methods.with_memory(inner, capacity, batch, 8)
  text = loop_text(tx, params, batch)
  assert re.search(rf'\[{capacity},4\]\S* (fusion|scatter)\(', text)
  assert not re.findall(rf'\[{capacity}[,\d]*\]\S* copy\(.*', text)


@pytest.mark.parametrize('spec', ['data', None])
def test_sharded_memory_is_the_memory(spec):
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  place = lambda *axes: jax.NamedSharding(mesh, jax.P(*axes))
  params, capacity = problem.init_params(), 12
  batches = [problem.make_batch(i, pad=i) for i in range(4)]
  make = functools.partial(
    methods.with_memory, spy(), capacity, batches[0], 8, seed=3
  )
  plain, laid_out = make(), make(sharding=place(spec))
  want = offer(plain, plain.init(params), batches)
  update = jax.jit(lambda s, b: laid_out.update((), s, batch=b)[1])
  state = jax.jit(laid_out.init)(params)
  for batch in batches:
    state = update(state, jax.device_put(batch, place('data')))
  items = state.memory.items['inputs']
  assert items.sharding.is_equivalent_to(place(spec), items.ndim)
  assert tree.digest(state) == tree.digest(want)
  text = (
    update.lower(state, jax.device_put(batches[0], place('data')))
    .compile()
    .as_text()
  )
  moved = re.findall(rf'\[{capacity},4\]\S* all-', text)
  assert not moved  # rows travel between devices, the memory does not


BAD_BATCHES = {
  'shape': ({'inputs': jnp.ones((4, 3))}, r"'inputs' is float32\[4, 3\]; by"),
  'dtype': (
    {'labels': jnp.ones(4)},
    r"'labels' is float32\[4\]; by the example it must be int32\[batch\]",
  ),
  'rows': ({'task': jnp.ones(3, jnp.int32)}, r"'task' is int32\[3\]"),
  'scalar': ({'task': jnp.int32(0)}, r"'task' is int32\[\]"),
  'field': ({'class_mask': jnp.ones((4, 3), bool)}, 'the step has the fields'),
}


@pytest.mark.parametrize('name', BAD_BATCHES)
def test_batch_must_look_like_the_example(name):
  change, message = BAD_BATCHES[name]
  example = problem.make_batch(size=4)
  tx = methods.with_memory(optax.identity(), 8, example, 2)
  state = tx.init(())
  with pytest.raises(ValueError, match=message):
    jax.jit(lambda b: tx.update((), state, batch=b))({**example, **change})


def test_example_takes_numpy_and_shapes():
  batch = numbered(0, 3)
  wide = {
    'inputs': np.ones((7,), np.float64),
    'weight': jax.ShapeDtypeStruct((1,), jnp.float32),
  }
  tx = methods.with_memory(optax.identity(), 8, wide, 2)
  assert int(offer(tx, tx.init(()), [batch]).memory.seen) == 3


def test_bad_arguments():
  batch = numbered(0, 3)
  make = functools.partial(methods.with_memory, optax.identity())
  with pytest.raises(ValueError, match='capacity is 0; it must be a whole'):
    make(0, batch, 2)
  with pytest.raises(ValueError, match=r'batch_size is 1\.5'):
    make(4, batch, 1.5)
  with pytest.raises(ValueError, match=r"policy is 'newest'.* 'reservoir'"):
    make(4, batch, 2, policy='newest')
  with pytest.raises(ValueError, match="store names 'logits'; add this field"):
    make(4, batch, 2, store=('logits',))
  with pytest.raises(ValueError, match="store names 'weight', but the batch"):
    tx = make(4, batch, 2, store=('weight',))
    tx.update((), tx.init(()), batch=batch, weight=batch['weight'])
  stored = make(4, {**batch, 'logits': batch['inputs']}, 2, store=('logits',))
  with pytest.raises(TypeError, match="store names 'logits'; pass this"):
    stored.update((), stored.init(()), batch=batch)
  with pytest.raises(TypeError, match="'batch'"):
    stored.update((), stored.init(()))
