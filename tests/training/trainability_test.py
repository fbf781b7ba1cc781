"""Trainability: a slow twin, networks that can and cannot learn, and jit."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, metrics, models, training

FEATURES, CLASSES, ROWS = 5, 3, 24
INPUTS = jax.random.normal(jax.random.key(7), (ROWS, FEATURES))
MODULE = models.MLP((12,), CLASSES)
TX = methods.scale_by_schedule_value(0.3)

init_fn, apply_fn = models.from_module(MODULE, INPUTS[:1])
SIZES: dict[str, Any] = dict(steps=60, batch_size=8, num_classes=CLASSES)


@functools.partial(jax.jit, static_argnames='measure')
def measured(params, key, measure: Any = 'final'):
  return training.trainability(
    init_fn, apply_fn, TX, params, INPUTS, key, measure=measure, **SIZES
  )


def new(seed):
  return init_fn(jax.random.key(seed))[0]


def dead(params):
  """The same network with every hidden unit silent on all inputs."""
  hidden = params['Dense_0']
  silent = hidden | {'bias': jnp.full_like(hidden['bias'], -100.0)}
  return params | {'Dense_0': silent}


@functools.cache
def pairs(measure):
  """Gaps of silent and of untrained networks, each a draw of its own."""
  keys = jax.random.split(jax.random.key(1), 400)
  untrained = jax.vmap(lambda k: init_fn(k)[0])(
    jax.random.split(jax.random.key(2), 400)
  )
  many = jax.vmap(functools.partial(measured, measure=measure))
  silent = jax.vmap(dead)(untrained)
  return np.asarray(many(silent, keys).gap), np.asarray(
    many(untrained, keys).gap
  )


@pytest.mark.parametrize('measure', ['final', 'area'])
def test_dead_units_are_lost_and_new_ones_are_not(measure):
  lost, kept = pairs(measure)
  assert (lost > 0.1).all()  # the entropy of the labels is all that it learns
  mean, half = metrics.mean_interval(kept)
  assert abs(float(mean)) < 2 * float(half) < 0.02
  assert lost.mean() > 20 * abs(float(mean))


def test_silent_means_silent():
  fn, batch = models.activations_from_module(MODULE), {'inputs': INPUTS}
  assert float(metrics.dormant_fraction(fn(dead(new(1)), batch))) == 1.0
  assert float(metrics.dormant_fraction(fn(new(1), batch))) < 0.5


def test_new_parameters_against_themselves_are_zero():
  key = jax.random.key(5)
  same = init_fn(jax.random.split(key)[0])[0]
  for measure in ('final', 'area'):
    assert abs(float(measured(same, key, measure).gap)) < 1e-6


def twin(params, key):
  """The same training in numpy, of one layer and its softmax."""
  fresh_key, key = jax.random.split(key)
  label_key, order_key, _ = jax.random.split(key, 3)
  labels = np.asarray(jax.random.randint(label_key, (ROWS,), 0, CLASSES))
  x = np.asarray(INPUTS, np.float64)

  def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)

  def nll(w, rows):
    return -np.log(softmax(x[rows] @ w)[np.arange(len(rows)), labels[rows]])

  ends = []
  for w in (params, jax.random.normal(fresh_key, (FEATURES, CLASSES))):
    w, losses = np.asarray(w, np.float64), []
    for k in jax.random.split(order_key, 10):
      rows = np.asarray(jax.random.permutation(k, ROWS))[:6]
      losses.append(nll(w, rows).mean())
      grad = softmax(x[rows] @ w) - np.eye(CLASSES)[labels[rows]]
      w = w - 0.5 * x[rows].T @ grad / len(rows)
    ends.append((nll(w, np.arange(ROWS)).mean(), np.mean(losses)))
  return np.array(ends)


@pytest.mark.parametrize('seed', [0, 1])
def test_it_is_the_training_by_hand(seed):
  key = jax.random.key(seed)
  params = jax.random.normal(jax.random.key(9), (FEATURES, CLASSES))
  want = twin(params, key)
  names: Any = ('final', 'area')
  for at, measure in enumerate(names):
    got = training.trainability(
      lambda k: (jax.random.normal(k, (FEATURES, CLASSES)), ()),
      lambda p, x, **_: (x @ p, ()),
      optax.sgd(0.5),
      params,
      INPUTS,
      key,
      steps=10,
      batch_size=6,
      num_classes=CLASSES,
      measure=measure,
    )
    np.testing.assert_allclose(got[1:], want[:, at], rtol=1e-4)
    gap = want[0, at] - want[1, at]
    np.testing.assert_allclose(got.gap, gap, rtol=1e-3, atol=1e-6)
    assert got.gap.dtype == jnp.float32


def test_seeded_and_pure():
  params, key = new(1), jax.random.key(2)
  before = jax.tree.map(np.array, params)
  first, second = measured(params, key), measured(params, key)
  np.testing.assert_array_equal(np.array(first), np.array(second))
  jax.tree.map(np.testing.assert_array_equal, before, params)
  assert float(measured(params, jax.random.key(4)).fresh) != float(first.fresh)


def test_a_state_of_the_model_is_trained_along():
  module = models.MLP((4,), CLASSES)
  start, apply = models.from_module(module, INPUTS[:1])
  counted = lambda p, x, *, model_state, **kw: (
    apply(p, x, model_state={}, **kw)[0] * model_state,
    model_state,
  )
  find = lambda state: training.trainability(
    lambda k: (start(k)[0], jnp.float32(1.0)),
    counted,
    optax.sgd(0.3),
    start(jax.random.key(0))[0],
    INPUTS,
    jax.random.key(1),
    steps=20,
    batch_size=8,
    num_classes=CLASSES,
    model_state=state,
  )
  mute = find(jnp.float32(0.0))  # of the current model only
  np.testing.assert_allclose(mute.current, np.log(CLASSES), rtol=1e-6)
  assert float(mute.fresh) == float(find(None).fresh) != float(mute.current)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(steps=0), 'steps is 0; it must be >= 1'),
    (dict(batch_size=25), 'at most the number of inputs, 24'),
    (dict(num_classes=1), 'num_classes is 1; it must be >= 2'),
    (dict(measure='best'), "measure is 'best'; it must be 'final' or 'area'"),
  ],
)
def test_errors(change, message):
  with pytest.raises(ValueError, match=f'trainability: .*{message}'):
    training.trainability(
      init_fn,
      apply_fn,
      TX,
      new(0),
      INPUTS,
      jax.random.key(0),
      **SIZES | change,
    )
