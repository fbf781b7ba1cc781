"""Alignment of a head: one step by hand, moments of the draws, what is kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import models
from lrcl.models import _alignment

rng = np.random.default_rng(0)
CLASSES, FEATURES = 4, 3
TASKS = np.array([0, 1, -1, 1])  # class 2 has not been seen
SEEN = TASKS >= 0
MEANS = rng.normal(size=(CLASSES, FEATURES))
PARAMS = {
  'kernel': jnp.asarray(rng.normal(size=(FEATURES, CLASSES)), jnp.float32),
  'bias': jnp.asarray(rng.normal(size=CLASSES), jnp.float32),
}
NOISELESS = models.ClassGaussians(
  jnp.asarray(MEANS, jnp.float32),
  jnp.zeros((CLASSES, FEATURES, FEATURES)),
  jnp.asarray(TASKS),
)


def twin(kernel, bias):
  """The loss at the shrunk means, by loops, in float64."""
  losses = []
  for c in np.flatnonzero(SEEN):
    row = MEANS[c] * (0.9 + 0.1 * (TASKS[c] + 1) / 2)
    z = row @ kernel + bias
    norm = np.mean([np.linalg.norm(z[TASKS == t]) for t in (0, 1)])
    z = z / norm / 0.1
    losses.append(np.log(np.exp(z[SEEN]).sum()) - z[c])
  return np.mean(losses)


@functools.partial(jax.jit, static_argnames='rows_per_class')
def one_step(params, statistics, rows_per_class=2):
  return models.align_head(
    jax.random.key(0),
    params,
    statistics,
    optax.sgd(1.0),
    1,
    rows_per_class=rows_per_class,
    jitter=1e-12,
  )


def test_one_step_follows_the_gradient_of_the_twin():
  stepped = one_step(PARAMS, NOISELESS)
  moved = {k: np.asarray(PARAMS[k] - stepped[k], float) for k in PARAMS}
  point = {k: np.asarray(v, float) for k, v in PARAMS.items()}
  for name in PARAMS:
    for index in np.ndindex(point[name].shape):
      shift = np.zeros_like(point[name])
      shift[index] = 1e-5
      high = twin(**{**point, name: point[name] + shift})
      low = twin(**{**point, name: point[name] - shift})
      slope = (high - low) / 2e-5
      np.testing.assert_allclose(moved[name][index], slope, atol=2e-4)


def test_unseen_classes_neither_move_nor_matter():
  stepped = one_step(PARAMS, NOISELESS)
  assert not (stepped['kernel'] - PARAMS['kernel'])[:, 2].any()
  assert stepped['bias'][2] == PARAMS['bias'][2]
  unknown = NOISELESS._replace(
    means=NOISELESS.means.at[2].set(jnp.nan),
    covariances=NOISELESS.covariances.at[2].set(jnp.nan),
  )
  again = one_step(PARAMS, unknown)
  jax.tree.map(np.testing.assert_array_equal, again, stepped)


def test_draws_have_the_means_and_covariances():
  roots = rng.normal(size=(CLASSES, FEATURES, FEATURES))
  wanted = roots @ roots.transpose(0, 2, 1)
  made = NOISELESS._replace(covariances=jnp.asarray(wanted, jnp.float32))

  @jax.jit
  def draw(key):
    means, factors = _alignment._prepare(made, 0.0, 1e-6)
    return _alignment._draw(key, means, factors, 40_000)

  rows = np.asarray(draw(jax.random.key(1)), float)
  for c in np.flatnonzero(SEEN):
    scale = np.sqrt(np.trace(wanted[c]))
    error = np.abs(rows[:, c].mean(axis=0) - MEANS[c])
    assert error.max() < 5 * scale / 200  # five standard errors
    error = np.abs(np.cov(rows[:, c].T) - wanted[c])
    assert error.max() < 5 * 2**0.5 * scale**2 / 200


def test_errors():
  align = functools.partial(
    models.align_head, jax.random.key(0), PARAMS, NOISELESS, optax.sgd(0.1)
  )
  with pytest.raises(ValueError, match='align_head: steps is 0'):
    align(0)
  with pytest.raises(ValueError, match='align_head: rows_per_class is 0'):
    align(1, rows_per_class=0)
  with pytest.raises(ValueError, match='align_head: logit_norm is 0'):
    align(1, logit_norm=0.0)
  with pytest.raises(ValueError, match='align_head: shrink is 2'):
    align(1, shrink=2.0)
  with pytest.raises(ValueError, match='align_head: jitter is 0'):
    align(1, jitter=0.0)
  small = {'kernel': PARAMS['kernel'][:, :3]}
  with pytest.raises(ValueError, match='align_head: means, covariances'):
    models.align_head(jax.random.key(0), small, NOISELESS, optax.sgd(0.1), 1)
