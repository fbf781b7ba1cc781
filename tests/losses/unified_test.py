"""The unified objective equals each method that it is said to contain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import losses, methods
from tests.methods import problem

ROWS, CLASSES = 6, problem.CLASSES
rng = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
LOGITS, TEACHER = 2 * draw(ROWS, CLASSES), 2 * draw(ROWS, CLASSES)
BATCH = {
  'inputs': draw(ROWS, problem.INPUTS),
  'labels': jnp.arange(ROWS) % CLASSES,
  'teacher_logits': TEACHER,
}
MEMORY = {'from_memory': jnp.arange(ROWS) >= 4}
PARAMS = problem.init_params()


def close(a, b, rtol=1e-5):
  check = lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)
  jax.tree.map(check, a, b)


def both(loss_fn, batch):
  """Losses, and the gradient of their sum."""
  loss = lambda x: (jnp.sum(loss_fn(x, batch)), loss_fn(x, batch))
  gradient, values = jax.jit(jax.grad(loss, has_aux=True))(LOGITS)
  return values, gradient


def test_replay():
  replay = losses.unified_loss(1.0, losses.log_partition(), losses.label_target)
  got = both(replay, BATCH | MEMORY)
  close(got, both(losses.cross_entropy, BATCH))


@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_learning_without_forgetting(temperature):
  lwf = losses.unified_loss(0.7, losses.log_partition(temperature))
  want = losses.distill_predictions(weight=0.7, temperature=temperature)
  close(both(lwf, BATCH), both(want, BATCH))


def test_dark_experience():
  """The gradient that the link for a memory adds, on the same rows."""
  weight = 0.3
  der = losses.unified_loss(2 * weight / CLASSES, losses.half_square)
  batch = BATCH | {'from_memory': jnp.ones(ROWS, bool)}

  def loss(params):
    return jnp.mean(der(problem.apply_fn(params, batch['inputs'])[0], batch))

  tx = methods.add_distillation_on_memory(problem.apply_fn, weight)
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  memory = {'inputs': BATCH['inputs'], 'logits': TEACHER}
  want, _ = jax.jit(tx.update)(
    zeros, tx.init(PARAMS), PARAMS, memory=memory, memory_ready=True
  )
  close(jax.jit(jax.grad(loss))(PARAMS), want)


def test_rows_of_a_memory_have_one_term_and_current_rows_the_other():
  der = losses.unified_loss(0.5, losses.half_square)
  got = der(LOGITS, BATCH | MEMORY)
  square = np.sum((np.asarray(LOGITS) - np.asarray(TEACHER)) ** 2, axis=1)
  np.testing.assert_allclose(got[4:], 0.25 * square[4:], rtol=1e-5)
  plain = losses.cross_entropy(LOGITS, BATCH)
  np.testing.assert_array_equal(got[:4], plain[:4])


def test_links_of_the_chain_are_the_divergence_of_parameters():
  anchor = problem.init_params(1)
  fisher = jax.tree.map(jnp.square, problem.init_params(2))
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  one = jax.tree.map(jnp.ones_like, PARAMS)
  links = [
    (methods.add_l2_anchor(0.4), methods.AnchorState(anchor), one),
    (methods.add_ewc_penalty(0.4), methods.EwcState(fisher, anchor), fisher),
  ]
  for tx, state, curvature in links:

    def psi(params, curvature=curvature):
      square = lambda f, p: jnp.sum(f * jnp.square(p)) / 2
      return sum(jax.tree.leaves(jax.tree.map(square, curvature, params)))

    def penalty(params, psi=psi):
      return 0.4 * losses.bregman_divergence(psi, params, anchor)

    added, _ = jax.jit(tx.update)(zeros, state, PARAMS)
    close(added, jax.jit(jax.grad(penalty))(PARAMS))


def test_a_divergence_by_its_definition():
  phi = lambda x: jnp.sum(jnp.exp(x), axis=-1)
  got = losses.bregman_divergence(phi, LOGITS, TEACHER)
  x, y = np.asarray(LOGITS, float), np.asarray(TEACHER, float)
  want = np.sum(np.exp(x) - np.exp(y) - np.exp(y) * (x - y), axis=1)
  np.testing.assert_allclose(got, want, rtol=1e-4)
  assert (np.asarray(got) > 0).all()


def test_without_a_target_nothing_is_kept():
  batch = {'labels': BATCH['labels']}
  lwf = losses.unified_loss(0.7, losses.log_partition())
  close(both(lwf, batch), both(losses.cross_entropy, batch))


def test_errors():
  with pytest.raises(ValueError, match='unified_loss: alpha is -1'):
    losses.unified_loss(-1.0, losses.half_square)
  with pytest.raises(ValueError, match='log_partition: temperature is 0'):
    losses.log_partition(0.0)
  with pytest.raises(ValueError, match='unified_loss: the target has shape'):
    losses.unified_loss(1.0, losses.half_square)(LOGITS[:, :2], BATCH)
