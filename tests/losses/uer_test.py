"""UER: which rows train on cosines, and which on products."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import losses, methods, models

rng = np.random.default_rng(0)
ROWS, FEATURES, CLASSES = 6, 4, 3
HEAD = models.CosineDotHead(CLASSES)
PARAMS = {'kernel': jnp.asarray(rng.normal(size=(FEATURES, CLASSES)), 'f4')}
BATCH = {
  'inputs': jnp.asarray(rng.normal(size=(ROWS, FEATURES)), 'f4'),
  'labels': jnp.arange(ROWS) % CLASSES,
}
MEMORY = jnp.arange(ROWS) >= 4
LOSS = losses.uer(scale=5.0)


def outputs(params, inputs):
  got = HEAD.apply({'params': params}, inputs)
  assert isinstance(got, jax.Array)
  return got


def cosines(params, inputs):
  norms = jnp.linalg.norm(inputs, axis=1)[:, None]
  product = inputs @ params['kernel']
  return product / (norms * jnp.linalg.norm(params['kernel'], axis=0)[None])


@jax.jit
def mean_loss(params, batch):
  return jnp.mean(LOSS(outputs(params, batch['inputs']), batch))


def test_rows_of_the_memory_use_products_and_the_others_cosines():
  got = LOSS(outputs(PARAMS, BATCH['inputs']), BATCH | {'from_memory': MEMORY})
  product = BATCH['inputs'] @ PARAMS['kernel']
  angle = 5.0 * cosines(PARAMS, BATCH['inputs'])
  want = np.where(
    MEMORY,
    losses.cross_entropy(product, BATCH),
    losses.cross_entropy(angle, BATCH),
  )
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_current_rows_do_not_move_along_the_weights():
  """So that, to first order, they cannot raise the norm of a class."""
  kernel = np.asarray(PARAMS['kernel'])
  gradient = np.asarray(jax.jit(jax.grad(mean_loss))(PARAMS, BATCH)['kernel'])
  along = np.sum(gradient * kernel, axis=0)
  np.testing.assert_allclose(along, 0.0, atol=1e-6)
  replayed = BATCH | {'from_memory': jnp.ones(ROWS, bool)}
  gradient = np.asarray(
    jax.jit(jax.grad(mean_loss))(PARAMS, replayed)['kernel']
  )
  along = np.sum(gradient * kernel, axis=0)
  assert np.all(np.abs(along) > 1e-3)


def test_with_the_memory_of_the_chain():
  """The gradient is that of the paper's sum of two means."""
  mark = lambda m: {**m, 'from_memory': jnp.ones(len(m['labels']), bool)}
  tx = methods.map_memory(methods.add_memory_gradient(), mark)
  memory = {'inputs': 2 * BATCH['inputs'][:3], 'labels': jnp.array([2, 2, 0])}

  def add(params) -> Any:
    gradient = jax.grad(mean_loss)(params, BATCH)
    extra = {'memory': memory, 'memory_ready': True}
    extra['grad_fn'] = jax.grad(mean_loss)
    return tx.update(gradient, tx.init(params), params, **extra)[0]

  def paper(params):
    new = losses.cross_entropy(5.0 * cosines(params, BATCH['inputs']), BATCH)
    old = losses.cross_entropy(memory['inputs'] @ params['kernel'], memory)
    return jnp.mean(new) + jnp.mean(old)

  got, want = jax.jit(lambda p: (add(p), jax.grad(paper)(p)))(PARAMS)
  np.testing.assert_allclose(got['kernel'], want['kernel'], rtol=1e-4)


def test_predicts_by_the_product():
  made = jnp.array([[[1.0, 3.0, 2.0], [0.9, 0.1, 0.5]]])
  assert losses.uer_argmax(made, {}).tolist() == [1]
  mask = {'class_mask': jnp.array([[True, False, True]])}
  assert losses.uer_argmax(made, mask).tolist() == [2]


def test_errors():
  with pytest.raises(ValueError, match='uer: scale is 0'):
    losses.uer(0.0)
  with pytest.raises(ValueError, match='uer: outputs have shape'):
    LOSS(jnp.zeros((ROWS, CLASSES)), BATCH)
  with pytest.raises(ValueError, match='uer_argmax: outputs have shape'):
    losses.uer_argmax(jnp.zeros((ROWS, CLASSES)), {})
