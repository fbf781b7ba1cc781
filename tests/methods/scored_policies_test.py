"""Policies that measure rows, against slow twins."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import methods
from tests.methods import policies_test, problem
from tests.methods.memory_test import all_bits
from tests.methods.policies_test import SHOWN, STEPS, below, rows_of

IMPORTANCE = methods.importance_policy(4, decay=0.75)


def importance_twin(batches, params, bits, capacity, probe_size, decay):
  """The policy on Python lists; a row is number, label, and importance."""
  stored, drawn, probe, seen = [], [], [], 0
  for step in range(len(params)):
    words = np.asarray(bits[step])
    now = lambda slot, p=params[step]: (p - stored[slot][0]) ** 2
    decreases = [loss - now(slot) for slot, loss in probe]
    for slot in set(drawn) if decreases else ():
      step_size = (1 - decay) * (np.mean(decreases) - stored[slot][2])
      stored[slot][2] += step_size
    filled = len(stored)
    drawn, probe = [], []
    if filled:
      drawn = [below(w, filled) for w in words[:SHOWN]]
      slots = [below(w, filled) for w in words[SHOWN : SHOWN + probe_size]]
      probe = [(slot, now(slot)) for slot in slots]
    for at, _, number, label in rows_of(batches):
      if at != step:
        continue
      seen += 1
      slot = len(stored)
      if slot < capacity:
        stored.append([number, label, 0.0])
      else:
        classes = [row[1] for row in stored]
        count = lambda c, classes=classes, new=label: (
          classes.count(c) + (c == new)
        )
        most = max(map(count, classes))
        rivals = [i for i, c in enumerate(classes) if count(c) == most]
        worth = [row[2] for row in stored]
        slack = 1e-5 * max(map(abs, worth))
        least = min(worth[i] for i in rivals)
        slot = next(i for i in rivals if worth[i] <= least + slack)
        stored[slot] = [number, label, 0.0]
        drawn = [s for s in drawn if s != slot]
        probe = [(s, loss) for s, loss in probe if s != slot]
      others = [row for i, row in enumerate(stored) if i != slot]
      own = [row for row in others if row[1] == label] or others
      stored[slot][2] = float(np.mean([row[2] for row in own])) if own else 0.0
  return stored, seen


@hypothesis.settings(policies_test.settings, max_examples=30)
@hypothesis.given(
  policies_test.weight_lists,
  policies_test.label_lists,
  policies_test.capacities,
  policies_test.seeds,
)
def test_importance_equals_a_twin(weights, labels, capacity, seed):
  batches, probe_size = policies_test.stack(weights, labels), 4
  params = np.float32(np.random.default_rng(seed).integers(-9, 9, STEPS))
  memory = policies_test.run(IMPORTANCE, capacity, seed, batches, params)
  bits = all_bits(seed, SHOWN + probe_size, STEPS)
  want, seen = importance_twin(
    batches, params.astype(float), bits, capacity, probe_size, 0.75
  )
  assert int(memory.seen) == seen
  filled = len(want)
  for name, at in (('inputs', 0), ('labels', 1)):
    have = memory.items[name].tolist()[:filled]
    assert have == [row[at] for row in want]
  np.testing.assert_allclose(
    memory.aux.importance[:filled], [row[2] for row in want], rtol=1e-4
  )


def test_importance_finds_the_rows_that_help():
  """Of two kinds of rows, only those with an even number move the loss."""
  capacity, size = 8, 8
  batch = {
    'inputs': jnp.arange(1.0, 9.0),
    'labels': jnp.zeros(size, jnp.int32),
    'weight': jnp.ones(size),
  }
  policy = methods.importance_policy(16)
  tx = methods.with_memory(
    methods.add_memory_gradient(), capacity, batch, 1, policy=policy
  )
  value_fn = lambda params, rows: jnp.square(params) + 0.0 * rows['inputs']
  grad_fn = lambda params, rows: jnp.where(
    rows['inputs'][0] % 2 == 0, 0.2 * params, 0.0 * params
  )

  def body(carry, _):
    params, state = carry
    empty = batch | {'weight': jnp.zeros(size)}
    updates, state = tx.update(
      jnp.zeros([]), state, params, batch=empty, **extras
    )
    return (params - updates, state), None

  extras = {'value_fn': value_fn, 'grad_fn': grad_fn}
  params = jnp.float32(1.0)
  _, state = tx.update(params, tx.init(params), params, batch=batch, **extras)
  (_, state), _ = jax.lax.scan(body, (params, state), length=40)
  importance = np.asarray(state.memory.aux.importance)
  even = np.asarray(state.memory.items['inputs']) % 2 == 0
  assert importance[even].min() > importance[~even].max()


def greatest_cosine(gradient, references):
  def cosine(r):
    norms = np.linalg.norm(gradient) * np.linalg.norm(r)
    return gradient @ r / norms if norms else 0.0

  return max(map(cosine, references))


def test_gss_equals_a_twin():
  capacity, size, num_batches, rows = 10, 6, 2, 4
  policy = methods.gss_policy(num_batches, rows)
  params = problem.init_params(3)
  batches = [problem.make_batch(i, size, i % 2) for i in range(9)]
  for i, batch in enumerate(batches):  # first one class, then another
    batch['labels'] = jnp.full(size, i > 2, jnp.int32)
  tx = methods.with_memory(
    optax.identity(), capacity, batches[0], SHOWN, policy=policy
  )
  gradient = jax.jit(jax.grad(problem.scalar_loss))

  def flat_gradient(batch):
    leaves = jax.tree.leaves(gradient(params, batch))
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in leaves])

  @jax.jit
  def update(state, batch):
    extras = problem.extra_args(params, batch)
    return tx.update(params, state, params, **extras)[1]

  words = num_batches * rows + size + capacity
  bits = np.asarray(all_bits(0, SHOWN + words, len(batches)))[:, SHOWN:]
  uniform = lambda word: np.float64(int(word) >> 8) * 2.0**-24
  state, items, scores, replaced = tx.init(params), [], [], 0
  for step, batch in enumerate(batches):
    state = update(state, batch)
    filled = len(items)
    take = lambda i, batch=batch: jax.tree.map(lambda x: x[i : i + 1], batch)
    join = lambda parts: jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    single = [flat_gradient(take(i)) for i in range(size)]
    own, whole = [0.1] * size, 1.0
    if filled:
      slots = [below(w, filled) for w in bits[step, : num_batches * rows]]
      references = [
        flat_gradient(join([items[s] for s in slots[k * rows :][:rows]]))
        for k in range(num_batches)
      ]
      own = [greatest_cosine(g, references) for g in single]
      whole = greatest_cosine(flat_gradient(batch), references)
    rest = bits[step, num_batches * rows :]
    keys = []
    for slot in range(filled):
      noise = -np.log(-np.log(max(uniform(rest[size + slot]), 1e-7)))
      keys.append(np.log(scores[slot] - min(scores) + 1e-8) + noise)
    rivals = np.argsort(keys, kind='stable')[::-1]
    for i in range(size):
      if batch['weight'][i] == 0:
        continue
      if len(items) < capacity:
        items.append(take(i))
        scores.append(own[i])
      elif whole < 0 and i < len(rivals):
        theirs, mine = scores[rivals[i]] + 1, own[i] + 1
        if uniform(rest[i]) < theirs / (theirs + mine):
          items[rivals[i]], scores[rivals[i]] = take(i), own[i]
          replaced += 1
  assert replaced > 3
  want = np.concatenate([row['inputs'] for row in items])
  np.testing.assert_array_equal(state.memory.items['inputs'], want)
  np.testing.assert_allclose(state.memory.aux, scores, atol=1e-5)
