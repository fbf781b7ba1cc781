"""Extra args arrive where optax's own wrappers would lose or refuse them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods


def spy(seen):
  """A transformation that notes the extra args it is given."""

  def update_fn(updates, state, params=None, **extra_args):
    seen.append(sorted(extra_args))
    return updates, state

  init_fn = lambda params: optax.EmptyState()
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def strict_on(name):
  """A transformation that refuses every extra arg but one."""

  def update_fn(updates, state, params=None, **extra_args):
    assert list(extra_args) == [name]
    return updates * extra_args[name], state

  init_fn = lambda params: optax.EmptyState()
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@pytest.fixture
def optax_promotes():
  with jax.numpy_dtype_promotion('standard'):
    yield


def test_accumulate_keeps_extra_args_inside_a_chain(optax_promotes):
  lost, kept = [], []
  multi = optax.MultiSteps(spy(lost), 2).gradient_transformation()
  tx = optax.chain(multi, methods.accumulate(spy(kept), 2))
  params = jnp.ones(2)
  tx.update(params, tx.init(params), params, task_id=1, value=2.0)
  # MultiSteps may trace its inner update more than once.
  assert not any(lost)
  assert kept[0] == ['task_id', 'value']


def test_accumulate_is_the_mean(optax_promotes):
  tx = methods.accumulate(optax.sgd(0.5), 3)
  state, total = tx.init(jnp.zeros(1)), []
  for gradient in (1.0, 2.0, 6.0, 1.0, 1.0, 1.0):
    updates, state = tx.update(jnp.full(1, gradient), state)
    total.append(float(updates[0]))
  np.testing.assert_allclose(total, [0, 0, -1.5, 0, 0, -0.5], atol=1e-6)


def test_accumulate_takes_a_schedule(optax_promotes):
  tx = methods.accumulate(optax.identity(), lambda step: step + 1)
  state, emitted = tx.init(jnp.zeros(1)), []
  for _ in range(6):
    updates, state = tx.update(jnp.ones(1), state)
    emitted.append(bool(updates[0] != 0))
  assert emitted == [True, False, True, False, False, True]


def test_memory_goes_outside(optax_promotes):
  batch = {'inputs': jnp.ones((8, 2)), 'weight': jnp.ones(8)}
  memory = lambda inner: methods.with_memory(inner, 64, batch, 2)
  outside = memory(methods.accumulate(optax.identity(), 4))
  inside = methods.accumulate(memory(optax.identity()), 4)
  params, seen = jnp.ones(1), []
  for tx in (outside, inside):
    state = tx.init(params)
    for _ in range(4):
      _, state = tx.update(params, state, batch=batch)
    seen.append(int(optax.tree.get(state, 'seen')))
  assert seen == [32, 8]


@pytest.mark.parametrize('every_k', [0, -1, 1.5, True])
def test_accumulate_checks(every_k):
  with pytest.raises(ValueError, match='accumulate: every_k is'):
    methods.accumulate(optax.identity(), every_k)


def test_keep_extra_args():
  tx = optax.chain(
    methods.keep_extra_args(strict_on('value'), 'value'), optax.scale(2.0)
  )
  state = tx.init(jnp.ones(1))
  updates, _ = tx.update(jnp.ones(1), state, value=3.0, task_id=0, batch={})
  assert float(updates[0]) == 6.0


def test_keep_no_extra_args_and_missing_ones():
  seen = []
  tx = methods.keep_extra_args(spy(seen))
  tx.update(jnp.ones(1), tx.init(jnp.ones(1)), value=1.0)
  tx = methods.keep_extra_args(spy(seen), 'value', 'grad')
  tx.update(jnp.ones(1), tx.init(jnp.ones(1)), value=1.0, task_id=0)
  assert seen == [[], ['value']]


def test_keep_lets_a_line_search_into_a_chain(optax_promotes):
  search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=5)
  value_fn = lambda params: jnp.sum(params**2)
  extra = {'value_fn': value_fn, 'value': jnp.float32(2.0), 'task_id': 0}
  params = jnp.ones(2)
  extra['grad'] = jax.grad(value_fn)(params)
  kept = methods.keep_extra_args(search, 'value', 'value_fn', 'grad')
  for tx, fails in ((search, True), (kept, False)):
    tx = optax.chain(optax.sgd(1.0), tx)
    update = lambda tx=tx: tx.update(
      extra['grad'], tx.init(params), params, **extra
    )
    if fails:
      with pytest.raises(TypeError):
        update()
    else:
      assert value_fn(params + update()[0]) < 2.0
