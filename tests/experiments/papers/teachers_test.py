import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import teachers
from lrcl import losses, training

CLASSES = 4


def _init(key):
  return jax.random.normal(key, (3, CLASSES)), {'calls': jnp.zeros([])}


def _apply(params, inputs, *, rng, model_state, train):
  del rng
  calls = model_state['calls'] + (1.0 if train else 0.0)
  return inputs @ params, {'calls': calls}


def _batch(seed=0):
  rng = np.random.default_rng(seed)
  return {
    'inputs': jnp.asarray(rng.normal(size=(6, 3)), jnp.float32),
    'labels': jnp.array([0, 2, 0, 2, 0, 1]),
    'weight': jnp.array([1.0, 1, 1, 1, 1, 0]),
  }


def _learner(loss_fn):
  model = teachers.with_teacher(_init, _apply, CLASSES)
  learner = training.Learner(
    optax.sgd(0.1), model.apply_fn, loss_fn, on_task_end=model.on_task_end
  )
  key = jax.random.key(1)
  return learner, training.create_state(model.init_fn, learner.tx, key)


def _end(learner, state):
  data = jax.tree.map(lambda x: x[None], _batch())
  return learner.on_task_end(state, data, jax.random.key(0))


def _losses(learner, state, params, batch, train):
  outputs, _ = learner.apply_fn(
    params,
    batch['inputs'],
    rng=None,
    model_state=state.model_state,
    train=train,
  )
  return learner.loss_fn(outputs, batch)


def test_the_teacher_is_the_model_at_the_last_end_and_knows_its_classes():
  learner, state = _learner(teachers.hear(losses.distill_predictions()))
  state = state._replace(params=state.params + 1.0)
  ended = _end(learner, state)
  np.testing.assert_array_equal(ended.model_state['teacher'][0], state.params)
  assert ended.model_state['known'].tolist() == [True, False, True, False]


def test_the_loss_is_that_of_distillation_by_hand():
  weight, temperature = 0.7, 2.0
  loss_fn = losses.distill_predictions(weight=weight, temperature=temperature)
  learner, state = _learner(teachers.hear(loss_fn))
  batch, moved = _batch(3), state.params - 0.3
  first = _losses(learner, state, moved, batch, True)
  plain = losses.cross_entropy(batch['inputs'] @ moved, batch)
  np.testing.assert_allclose(first, plain, rtol=1e-6)

  state = _end(learner, state)
  found = _losses(learner, state, moved, batch, True)
  known = [0, 2]  # class 1 occurred in padding only
  soften = lambda params: jax.nn.softmax(
    (np.asarray(batch['inputs']) @ np.asarray(params))[:, known] / temperature
  )
  p, q = np.asarray(soften(state.params)), np.asarray(soften(moved))
  wanted = plain + weight * temperature**2 * (p * np.log(p / q)).sum(1)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  silent = _losses(learner, state, moved, batch, False)
  np.testing.assert_allclose(silent, plain, rtol=1e-6)


def test_a_step_trains_the_model_and_leaves_the_teacher():
  loss_fn = teachers.hear(losses.distill_predictions())
  learner, state = _learner(loss_fn)
  state = _end(learner, state)
  tx: optax.GradientTransformation = learner.tx  # pyright: ignore
  step = training.make_train_step(learner.apply_fn, learner.loss_fn, tx)
  after, _ = jax.jit(step)(state, _batch(5), jnp.int32(1))
  assert not np.allclose(after.params, state.params)
  same = functools.partial(np.testing.assert_array_equal)
  jax.tree.map(same, after.model_state['teacher'], state.model_state['teacher'])
  assert float(after.model_state['model']['calls']) == 1.0


def test_features_teach_nothing_before_the_first_end():
  loss_fn = teachers.hear(losses.distill_features(weight=2.0), features=True)
  rows, far = jnp.ones((6, CLASSES)), jnp.full((6, 3), 5.0)
  outputs = lambda known: teachers.Heard(
    (rows, jnp.zeros((6, 3))), (rows, far), jnp.full(CLASSES, known)
  )
  batch = _batch()
  before, after = (loss_fn(outputs(known), batch) for known in (False, True))
  np.testing.assert_allclose(before, np.log(CLASSES), rtol=1e-6)
  np.testing.assert_allclose(after - before, 2.0 * 3 * 25, rtol=1e-6)
