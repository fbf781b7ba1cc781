import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import base, streams, training, tree
from tests.training import problem

DEVICES = 4


def spy(seen):
  """A transformation that notes the extra args it was given."""

  def update_fn(updates, state, params=None, **extra_args):
    seen.append(extra_args)
    return updates, state

  return optax.GradientTransformationExtraArgs(
    optax.init_empty_state, update_fn
  )


def batch_of(seed=0, weight=None):
  rng = np.random.default_rng(seed)
  batch = problem.example()
  inputs = rng.normal(size=batch['inputs'].shape).astype(np.float32)
  labels = rng.integers(0, problem.CLASSES, problem.BATCH).astype(np.int32)
  weight = np.ones(problem.BATCH, np.float32) if weight is None else weight
  return {**batch, 'inputs': inputs, 'labels': labels, 'weight': weight}


def make(tx):
  init_fn, apply_fn = problem.model()
  learner = training.Learner(tx, apply_fn)
  state = problem.new_state(init_fn, learner)
  step = training.make_train_step(apply_fn, learner.loss_fn, tx)
  return learner, state, step


def test_passes_the_vocabulary_and_nothing_else():
  seen = []
  _, state, step = make(optax.chain(spy(seen), optax.sgd(0.1)))
  step(state, batch_of(), jnp.int32(3))
  assert set(seen[0]) == set(base.EXTRA_ARGS)
  assert int(seen[0]['task_id']) == 3


def test_extra_args_are_what_their_names_say():
  seen = []
  learner, state, step = make(optax.chain(spy(seen), optax.sgd(0.1)))
  weight = np.array([1, 1, 0.5, 0, 2, 1, 0, 1], np.float32)
  batch = batch_of(weight=weight)
  _, info = step(state, batch, jnp.int32(0))
  extra = seen[0]
  logits, _ = learner.apply_fn(
    state.params, batch['inputs'], rng=None, model_state={}, train=True
  )
  losses = learner.loss_fn(logits, batch)
  value = np.sum(losses * weight) / weight.sum()
  np.testing.assert_allclose(extra['logits'], logits, rtol=1e-5)
  np.testing.assert_allclose(
    extra['value_fn'](state.params, batch), losses, rtol=1e-5
  )
  np.testing.assert_allclose([extra['value'], info.loss], value, rtol=1e-5)

  def objective(params):
    logits, _ = learner.apply_fn(
      params, batch['inputs'], rng=None, model_state={}, train=True
    )
    return jnp.sum(learner.loss_fn(logits, batch) * weight) / weight.sum()

  want = jax.grad(objective)(state.params)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, extra['grad_fn'](state.params, batch), want)


def test_a_batch_of_padding_changes_nothing():
  _, state, step = make(optax.sgd(0.1))
  batch = batch_of(weight=np.zeros(problem.BATCH, np.float32))
  after, info = step(state, batch, jnp.int32(0))
  assert tree.digest(after.params) == tree.digest(state.params)
  assert float(info.loss) == 0.0


def test_dropout_draws_anew_at_every_step_and_alike_in_grad_fn():
  def apply_fn(params, inputs, *, rng, model_state, train):
    noise = jax.random.normal(rng, inputs.shape)
    return (inputs + noise) @ params['w'], model_state

  seen = []
  tx = optax.chain(spy(seen), optax.sgd(0.0))
  params = {'w': jnp.ones((problem.FEATURES, problem.CLASSES))}
  learner = training.Learner(tx, apply_fn)
  state = training.create_state(lambda key: (params, ()), tx, jax.random.key(0))
  step = training.make_train_step(apply_fn, learner.loss_fn, tx)
  state, _ = step(state, batch_of(), jnp.int32(0))
  state, _ = step(state, batch_of(), jnp.int32(0))
  assert not np.allclose(seen[0]['logits'], seen[1]['logits'])


def test_from_loss_has_no_logits_and_no_value_fn():
  seen = []
  tx = optax.chain(spy(seen), optax.sgd(0.1))
  loss_fn = lambda params, batch: jnp.mean((batch['inputs'] @ params) ** 2)
  step = training.make_train_step_from_loss(loss_fn, tx)
  params = jnp.ones((problem.FEATURES, 2))
  state = training.TrainState(
    jnp.int32(0), params, tx.init(params), jax.random.key(0)
  )
  batch = batch_of()
  after, info = step(state, batch, jnp.int32(0))
  assert set(seen[0]) == {'value', 'grad_fn', 'batch', 'task_id'}
  np.testing.assert_allclose(info.loss, loss_fn(params, batch), rtol=1e-6)
  assert int(after.step) == 1

  def needs_logits(updates, state, params=None, *, logits, **extra_args):
    return updates, state

  strict = optax.GradientTransformationExtraArgs(
    optax.init_empty_state, needs_logits
  )
  step = training.make_train_step_from_loss(loss_fn, strict)
  with pytest.raises(TypeError, match='logits'):
    step(state._replace(opt_state=strict.init(params)), batch, jnp.int32(0))


def test_mesh_and_axis_name_exclude_one_another():
  with pytest.raises(ValueError, match='exclude one another'):
    training.make_train_step(
      None, None, optax.sgd(0.1), mesh=training.data_mesh(), axis_name='data'
    )


def train(mesh=None, axis_name=None, capacity=16):
  """Twenty steps of everything, over two tasks; the memory overflows."""
  init_fn, learner = problem.everything(capacity=capacity)
  stream = problem.stream((10, 10))
  state = problem.new_state(init_fn, learner)
  end, records = training.train_stream(
    learner,
    state,
    stream,
    evaluate=training.make_evaluator(learner, stream),
    mesh=mesh,
    axis_name=axis_name,
    chunk_steps=10,
  )
  return jax.device_get(end.params), records, end.opt_state.memory


def test_one_device_equals_a_mesh_of_four_equals_pmap():
  assert jax.device_count() == DEVICES
  one, records, memory = train()
  mesh, mesh_records, mesh_memory = train(mesh=training.data_mesh())
  pmap, pmap_records, pmap_memory = train(axis_name='data')
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
  jax.tree.map(close, mesh, one)
  jax.tree.map(close, pmap, one)
  for other in (mesh_records, pmap_records):
    for record, want in zip(other, records, strict=True):
      close(record['trace']['loss'], want['trace']['loss'])
      close(record['metrics']['loss'], want['metrics']['loss'])
      assert record['trace']['learning_rate'] == want['trace']['learning_rate']
  # which rows are stored is not a matter of rounding
  for other in (mesh_memory, pmap_memory):
    np.testing.assert_array_equal(other.items['inputs'], memory.items['inputs'])
    assert int(other.seen) == int(memory.seen) == 160


def test_weights_are_right_when_they_differ_between_devices():
  weight = np.array([0, 0, 1, 0.5, 1, 1, 3, 1], np.float32)
  tx = optax.sgd(0.1)
  learner, state, step = make(tx)
  want, info = jax.jit(step)(state, batch_of(weight=weight), jnp.int32(0))
  mapped = jax.pmap(
    training.make_train_step(
      learner.apply_fn, learner.loss_fn, tx, axis_name='data'
    ),
    axis_name='data',
    in_axes=(None, 0, None),
    out_axes=None,
  )
  split = lambda x: np.reshape(x, (DEVICES, -1, *np.shape(x)[1:]))
  batch = jax.tree.map(split, batch_of(weight=weight))
  got, mapped_info = mapped(state, batch, jnp.int32(0))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, got.params, want.params)
  close(mapped_info.loss, info.loss)


def test_cost_counts_gradients_and_bytes():
  stream = problem.stream()
  for make, gradients in ((problem.plain, 1.0), (problem.everything, 2.0)):
    init_fn, learner = make()
    state = problem.new_state(init_fn, learner)
    cost = training.step_cost(learner, state, stream)
    assert cost['gradient_evaluations'] == gradients
    stacked = streams.replicate([stream, problem.stream(seed=1)])
    states = training.create_states(init_fn, learner.tx, (0, 1))
    assert training.step_cost(learner, states, stacked) == cost
  items = state.opt_state.memory.items
  assert cost['stored_bytes'] > sum(x.nbytes for x in items.values())
