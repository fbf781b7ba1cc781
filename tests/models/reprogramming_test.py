"""Reprogrammed networks begin as their anchor, and forget nothing at all."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, streams, training, tree

TASKS = 3
MLP = models.MLP((32,), 10)
CNN = models.CNN((4, 8), 16, 10)


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


class Normalised(nn.Module):
  """Two layers with normalisations that have parameters."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(4, (3, 3))(x[..., None])
    x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
    x = nn.Dense(8)(x.reshape(x.shape[0], -1))
    x = nn.relu(nn.LayerNorm()(x))
    return nn.Dense(3, use_bias=False, name='out')(x)


def make(module, example, **options):
  variables = dict(module.init(jax.random.key(0), example))
  anchor = variables.pop('params')
  init_fn, apply_fn = models.reprogram(
    module, anchor, example, TASKS, model_state=variables, **options
  )
  call = functools.partial(apply_fn, rng=None, model_state={}, train=True)
  want = module.apply({'params': anchor, **variables}, example)
  return init_fn(jax.random.key(1))[0], call, want


def images(rows=5, size=8):
  return jax.random.normal(jax.random.key(3), (rows, size, size))


@pytest.mark.parametrize(
  'module,options,ratio',
  [
    (MLP, {}, 2 * 32 / (64 * 32 + 32 + 32 * 10 + 10)),
    (CNN, {}, (9 * 12 + 2 * 16) / (4 * 10 + 8 * 37 + 32 * 16 + 16 + 170)),
    (models.CNN((4,), 16, 10, normalize=True), {'kernel_size': 5}, None),
    (Normalised(), {'head': 'out'}, None),
  ],
  ids=['mlp', 'cnn', 'normalised cnn', 'affine norms'],
)
def test_begins_as_the_anchor(module, options, ratio):
  params, call, want = make(module, images(), **options)
  for task in (np.zeros(5, np.int32), np.array([0, 2, 1, 1, 0])):
    logits, _ = call(params, {'inputs': images(), 'task': jnp.asarray(task)})
    # Only the head is summed in another order.
    np.testing.assert_allclose(logits, want, atol=1e-6)
  if ratio is not None:
    found = models.reprogrammed_ratio(params)
    print(f'{type(module).__name__}: {found:.2%} more parameters for a task')
    assert found == pytest.approx(ratio)
    with_head = models.reprogrammed_ratio(params, with_head=True)
    head = sum(x.size for x in jax.tree.leaves(params['anchor']['head']))
    anchor = sum(x.size for x in jax.tree.leaves(params['anchor']))
    assert with_head == pytest.approx(ratio + head / anchor)


def test_all_but_the_head_is_the_anchor_to_the_bit():
  class Body(nn.Module):
    """A head that picks features, so that it sums nothing."""

    @nn.compact
    def __call__(self, x):
      x = nn.relu(models.Conv(4)(x[..., None]))
      return nn.Dense(2, use_bias=False, name='head')(x.reshape(x.shape[0], -1))

  example = images()
  anchor = Body().init(jax.random.key(0), example)['params']
  pick = jnp.zeros_like(anchor['head']['kernel']).at[[3, 77], [0, 1]].set(1.0)
  anchor = {**anchor, 'head': {'kernel': pick}}
  init_fn, apply_fn = models.reprogram(Body(), anchor, example, 2)
  logits, _ = apply_fn(
    init_fn(jax.random.key(0))[0],
    {'inputs': example, 'task': jnp.ones(5, jnp.int32)},
    rng=None,
    model_state={},
    train=True,
  )
  want = Body().apply({'params': anchor}, example)
  np.testing.assert_array_equal(logits, want)


def test_a_depthwise_kernel_is_that_of_lax():
  params, call, _ = make(CNN, images())
  kernel = jax.random.normal(jax.random.key(5), (TASKS, 3, 3, 4))
  params['tasks']['Conv_0']['kernel'] = kernel
  task = jnp.full(5, 1, jnp.int32)
  logits, _ = call(params, {'inputs': images(), 'task': task})

  def after(next_fn, args, kwargs, context):
    outputs = next_fn(*args, **kwargs)
    if context.module.path != ('Conv_0',):
      return outputs
    return jax.lax.conv_general_dilated(
      outputs,
      kernel[1][:, :, None],
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=4,
    )

  with nn.intercept_methods(after):
    want = CNN.apply({'params': params['anchor']}, images())
  np.testing.assert_allclose(logits, want, atol=1e-5)


def test_forgets_nothing_to_the_bit():
  train, test = streams.digits()
  stream = streams.permuted(
    train, num_tasks=TASKS, batch_size=16, steps_per_task=100, test=test
  )
  sets = stream.evaluation
  assert sets is not None
  stream = dataclasses.replace(
    stream,
    prepare=models.inputs_with_task(stream.prepare),
    evaluation=dataclasses.replace(
      sets, prepare=models.inputs_with_task(sets.prepare)
    ),
  )
  example = jnp.zeros((1, 64))
  anchor = MLP.init(jax.random.key(0), example)['params']
  init_fn, apply_fn = models.reprogram(MLP, anchor, example, TASKS)
  tx = optax.partition(
    {
      'tasks': optax.chain(
        optax.adamw(2e-2, weight_decay=0.1), methods.update_task_rows()
      ),
      'anchor': optax.set_to_zero(),
    },
    models.reprogrammed_labels,
  )
  learner = training.Learner(tx, apply_fn)
  state = training.create_state(init_fn, tx, jax.random.key(0))
  evaluate = training.make_evaluator(learner, stream)
  end, records = training.train_stream(
    learner, state, stream, evaluate=evaluate
  )
  accuracy = np.array([r['metrics']['accuracy'] for r in records])
  for task in range(TASKS):
    assert accuracy[task, task] > 0.7
    assert (accuracy[task:, task] == accuracy[task, task]).all()
  losses = np.array([r['metrics']['loss'] for r in records])
  assert losses[0, 0] == losses[2, 0]
  same = lambda x, y: np.testing.assert_array_equal(x, y)
  jax.tree.map(same, end.params['anchor'], anchor)


def test_the_task_may_be_traced():
  params, call, _ = make(MLP, images())
  head = params['tasks']['head']
  head['bias'] = jnp.arange(TASKS, dtype=jnp.float32)[:, None] + head['bias']
  run = jax.jit(
    lambda t: call(params, {'inputs': images(), 'task': jnp.full(5, t)})[0]
  )
  zero, two = run(jnp.int32(0)), run(jnp.int32(2))
  np.testing.assert_allclose(two - zero, 2.0, atol=1e-5)
  gradient = jax.grad(
    lambda p: jnp.sum(
      call(p, {'inputs': images(), 'task': jnp.ones(5, jnp.int32)})[0] ** 2
    )
  )(params)
  assert all((x == 0).all() for x in jax.tree.leaves(gradient['anchor']))
  for x in jax.tree.leaves(gradient['tasks']):
    assert (x[1] != 0).any() and (x[0] == 0).all() and (x[2] == 0).all()


def test_labels_and_rows_of_the_task():
  params, _, _ = make(MLP, images())
  labels = models.reprogrammed_labels(params)
  assert labels['anchor']['head'] == {'bias': 'anchor', 'kernel': 'anchor'}
  tx = methods.update_task_rows(mask=tree.path_mask('^tasks/'))
  ones = jax.tree.map(jnp.ones_like, params)
  updates, _ = tx.update(ones, tx.init(params), task_id=jnp.int32(2))
  for x in jax.tree.leaves(updates['tasks']):
    assert (x[2] == 1).all() and (x[:2] == 0).all()
  assert all((x == 1).all() for x in jax.tree.leaves(updates['anchor']))


def test_impossible_arguments():
  example, params = images(), MLP.init(jax.random.key(0), images())['params']
  for options, message in (
    (dict(num_tasks=0), 'num_tasks is 0'),
    (dict(num_tasks=1, kernel_size=2), 'kernel_size is 2'),
    (dict(num_tasks=1, head='out'), "is called 'out'"),
  ):
    with pytest.raises(ValueError, match=message):
      models.reprogram(MLP, params, example, **options)
  tx = methods.update_task_rows()
  with pytest.raises(ValueError, match="'w' is a scalar"):
    tx.update({'w': jnp.float32(1.0)}, tx.init({}), task_id=0)
