"""MAS against a loop over single examples, both ways."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree
from lrcl.methods import _dense_fisher, _fisher_sums
from tests.methods.fisher_test import (
  B,
  C,
  Net,
  Scaled,
  close,
  is_fast,
  make,
  make_batch,
)

both = pytest.mark.parametrize('module', [Net(), Scaled()])


def loop(apply_fn, params, batch):
  """The definition: one gradient an example, and its absolute value."""
  mask = batch.get('class_mask', jnp.ones((B, C), bool))

  @jax.jit
  @jax.grad
  def slope(params, x, allowed):
    options = {'rng': None, 'model_state': {}, 'train': False}
    outputs = apply_fn(params, x[None], **options)[0][0]
    return jnp.sum(jnp.where(allowed, jnp.square(outputs), 0.0))

  weight = np.asarray(batch['weight']) / np.sum(batch['weight'])
  rows = [slope(params, batch['inputs'][i], mask[i]) for i in range(B)]
  mean = lambda *g: np.sum(
    [w * np.abs(x) for w, x in zip(weight, g, strict=True)], axis=0
  )
  return jax.tree.map(mean, *rows)


@pytest.mark.parametrize('masked', [False, True])
@both
def test_against_the_definition(module, masked):
  apply_fn, params = make(module)
  batch = make_batch(masked)
  assert is_fast(apply_fn, params, batch) == isinstance(module, Net)
  importance = methods.mas_importance(apply_fn, params, batch)
  close(importance, loop(apply_fn, params, batch))


def test_both_ways_agree(monkeypatch):
  results = []
  for find in (_dense_fisher.find_dense_layers, lambda *args: None):
    monkeypatch.setattr(_fisher_sums._dense_fisher, 'find_dense_layers', find)
    apply_fn, params = make(Net())
    results.append(methods.mas_importance(apply_fn, params, make_batch(True)))
  close(*results)


@both
def test_labels_are_not_needed_and_weights_are_relative(module):
  apply_fn, params = make(module)
  batch = make_batch()
  mas = functools.partial(methods.mas_importance, apply_fn, params)
  whole = mas(batch)
  close(mas({**batch, 'labels': (batch['labels'] + 1) % C}), whole)
  bare = {k: batch[k] for k in ('inputs', 'weight')}
  close(mas(bare), whole)
  close(mas({**bare, 'weight': 3 * bare['weight']}), whole)
  junk = {**bare, 'inputs': bare['inputs'].at[4].set(1e4)}  # weighs nothing
  close(mas(junk), whole)
  stack = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), bare)
  close(mas(stack), whole)


def test_examples_that_pull_apart_do_not_cancel():
  apply_fn = lambda p, x, **_: (x @ p + 1.0, ())
  batch = {'inputs': jnp.array([[1.0], [-1.0]])}
  importance = methods.mas_importance(apply_fn, jnp.zeros((1, 1)), batch)
  np.testing.assert_allclose(importance, 2.0)  # the mean of |2 x|, not |mean|


def test_importance_grows_with_the_square_of_the_outputs():
  apply_fn, params = make(Net())
  double = lambda *args, **kw: (2 * apply_fn(*args, **kw)[0], ())
  once, twice = (
    methods.mas_importance(f, params, make_batch()) for f in (apply_fn, double)
  )
  close(twice, jax.tree.map(lambda x: 4 * x, once))


def test_tokens():
  """The mean over time of the squared norm."""
  apply_fn = lambda p, x, **_: (jnp.tanh(x @ p['in']) @ p['out'], ())
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), 'f')
  params, batch = (
    {'in': draw(2, 4), 'out': draw(4, C)},
    {'inputs': draw(B, 3, 2)},
  )
  norm = lambda p, x: jnp.sum(jnp.square(apply_fn(p, x)[0])) / x.shape[0]
  rows = [jax.grad(norm)(params, x) for x in batch['inputs']]
  expected = jax.tree.map(lambda *g: np.mean(np.abs(g), axis=0), *rows)
  close(methods.mas_importance(apply_fn, params, batch), expected)


def test_inside_jit_and_vmap():
  apply_fn, first = make(Net())
  second = make(Net(), seed=1)[1]
  mas = lambda p: methods.mas_importance(apply_fn, p, make_batch())
  stack = lambda *trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
  together = jax.jit(jax.vmap(mas))(stack(first, second))
  close(together, stack(mas(first), mas(second)))


def test_it_is_what_the_penalty_takes():
  apply_fn, params = make(Net())
  mask = lambda p: jax.tree.map(lambda leave: not leave, _heads(p))
  importance = methods.mas_importance(apply_fn, params, make_batch(), mask=mask)
  assert importance['head']['kernel'] == optax.MaskedNode()
  tx = methods.add_ewc_penalty(2.0, mask=mask)
  state = tx.init(params)
  for _ in range(2):
    state = methods.consolidate(
      state, params, fisher=importance, merge='online', decay=0.5
    )
  kernel = importance['Dense_0']['kernel']
  close(state.fisher['Dense_0']['kernel'], 1.5 * kernel)


def _heads(params):
  return tree.path_mask('head/')(params)


@pytest.mark.parametrize(
  ('params', 'batches', 'kwargs', 'match'),
  [
    (jnp.ones((5, C)), list, {}, 'batches is empty'),
    (jnp.ones((5, C)), make_batch, {'mask': lambda _: False}, 'matches none'),
    (jnp.ones(5), make_batch, {}, 'logits have 1 axes'),
  ],
)
def test_errors(params, batches, kwargs, match):
  apply_fn = lambda params, inputs, **_: (inputs @ params, ())
  with pytest.raises(ValueError, match=f'mas_importance: .*{match}'):
    methods.mas_importance(apply_fn, params, batches(), **kwargs)
