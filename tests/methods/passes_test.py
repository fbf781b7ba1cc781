"""Counting of passes: every transformation of JAX, by hand; and no trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl.methods import Passes, count_passes, mark_pass

ROWS = 8
PARAMS = jnp.ones((3, 1))
INPUTS = jnp.linspace(0.0, 1.0, 3 * ROWS).reshape(ROWS, 3)


def model(params, inputs, mark=True):
  outputs = jnp.tanh(inputs @ params)
  return mark_pass(outputs, inputs.shape[0]) if mark else outputs


def loss(params, inputs, mark=True):
  return jnp.mean(jnp.square(model(params, inputs, mark)))


grad = jax.grad(loss)


def scanned(params, inputs):
  """Four times three steps."""
  step = lambda _, p: p - grad(p, inputs)
  body = lambda p, _: (jax.lax.fori_loop(0, 3, step, p), None)
  return jax.lax.scan(body, params, None, length=4)[0]


def through_a_loop(params, inputs):
  """The gradient of five applications, one upon another."""

  total = lambda p: jax.lax.scan(
    lambda x, _: (x + model(p, x), None), inputs, None, length=5
  )[0].sum()
  return jax.grad(total)(params)


def remat(params, inputs):
  inner = jax.checkpoint(lambda p: jnp.sum(jnp.sin(model(p, inputs))))
  return jax.grad(inner)(params)


def branch(params, inputs):
  cheap = lambda: mark_pass(params, 100)  # 100 rows forward only
  dear = lambda: sum(grad(params, x) for x in [inputs] * 5)  # 40 and 40
  nothing = lambda: params
  return jax.lax.switch(inputs.shape[0], [cheap, dear, nothing])


def looped(params, inputs):
  return jax.lax.while_loop(
    lambda p: jnp.sum(p) > 0, lambda p: p - grad(p, inputs), params
  )


def turned(turns, params, inputs):
  return jax.lax.fori_loop(0, turns, lambda _, p: p - grad(p, inputs), params)


def one_by_one(map_fn, params, inputs):
  return map_fn(lambda row: grad(params, row[None]), inputs)


CASES = {
  'forward': (model, (8, 0)),
  'gradient': (grad, (8, 8, 0)),
  'under jit': (jax.jit(jax.value_and_grad(loss)), (8, 8, 0)),
  'tangent': (lambda p, x: jax.jvp(lambda q: loss(q, x), (p,), (p,)), (16, 0)),
  # A tangent of each pass.
  'forward over reverse': (
    lambda p, x: jax.jvp(lambda q: grad(q, x), (p,), (p,)),
    (16, 16),
  ),
  'reverse over reverse': (
    jax.grad(lambda p, x: jnp.sum(jnp.square(grad(p, x)))),
    (16, 16),
  ),
  'rows by vmap': (
    functools.partial(one_by_one, lambda f, x: jax.vmap(f)(x)),
    (8, 8),
  ),
  'rows by map': (functools.partial(one_by_one, jax.lax.map), (8, 8)),
  'rows by map in batches': (
    functools.partial(one_by_one, functools.partial(jax.lax.map, batch_size=3)),
    (8, 8),
  ),
  'several parameters': (
    lambda p, x: jax.vmap(grad, (0, None))(jnp.stack([p] * 5), x),
    (40, 40),
  ),
  'nested loops': (scanned, (96, 96)),
  'a gradient through a loop': (through_a_loop, (40, 40)),
  'rematerialised': (remat, (16, 8)),
  'the dearest branch': (branch, (40, 40)),
  'a loop of unknown length': (looped, (8, 8, 1)),
  'an array of turns': (
    # Not known before it runs, once `fn` is traced.
    lambda p, x: turned(jnp.argmax(x).astype(jnp.int32), p, x),
    (8, 8, 1),
  ),
  'a turn or none': (
    lambda p, x: turned((jnp.sum(x) > 0).astype(jnp.int32), p, x),
    (8, 8, 0),
  ),
  'a turn more': (
    lambda p, x: turned((jnp.sum(x) > 0).astype(jnp.int32) + 1, p, x),
    (8, 8, 1),
  ),
  'a loop between numbers that may stop': (
    lambda p, x: jax.lax.while_loop(
      lambda c: c[0] < c[1], lambda c: (c[0] + 1, c[1], grad(p, x)), (0, 2, p)
    ),
    (8, 8, 1),
  ),
  'a loop from elsewhere': (
    lambda p, x: jax.lax.fori_loop(
      -3, (jnp.sum(x) > 0).astype(jnp.int32), lambda _, p: p - grad(p, x), p
    ),
    (8, 8, 1),
  ),
  'a number of turns': (functools.partial(turned, 3), (24, 24)),
  'a loss with a rule of its own': (
    jax.grad(
      lambda p, x: optax.softmax_cross_entropy(
        model(p, x), jnp.ones((ROWS, 1))
      ).sum()
    ),
    (8, 8),
  ),
  'no pass': (lambda p, x: x @ p, (0, 0)),
}


@pytest.mark.parametrize('name', CASES)
def test_by_hand(name):
  fn, wanted = CASES[name]
  assert count_passes(fn, PARAMS, INPUTS) == Passes(*wanted)
  shapes = jax.eval_shape(lambda: (PARAMS, INPUTS))
  assert count_passes(fn, *shapes) == Passes(*wanted)


def test_the_mark_is_the_identity():
  draw = jax.random.normal(jax.random.key(0), PARAMS.shape)
  several = lambda f: lambda p, x: jax.vmap(f, (0, None))(jnp.stack([p, -p]), x)
  for transform in (lambda f: f, jax.grad, jax.hessian, several):
    marked = transform(functools.partial(loss, mark=True))
    bare = transform(functools.partial(loss, mark=False))
    np.testing.assert_array_equal(marked(draw, INPUTS), bare(draw, INPUTS))
    got, want = jax.jit(marked)(draw, INPUTS), jax.jit(bare)(draw, INPUTS)
    np.testing.assert_array_equal(got, want)


def test_the_mark_leaves_nothing_in_the_program():
  text = lambda mark: (
    jax.jit(jax.grad(functools.partial(loss, mark=mark)))
    .lower(PARAMS, INPUTS)
    .as_text()
  )
  lines = lambda text: [line.split(' = ')[-1] for line in text.splitlines()]
  assert len(lines(text(True))) == len(lines(text(False)))
  assert 'lrcl' not in text(True)


def test_trees_keep_their_structure_and_their_integers():
  outputs = {'a': jnp.ones(3), 'b': (jnp.arange(2), jnp.zeros((2, 2)))}
  marked = mark_pass(outputs, 3)
  jax.tree.map(np.testing.assert_array_equal, marked, outputs)
  # Only one of the marked arrays is differentiated.
  part = lambda p: mark_pass({'a': INPUTS @ p, 'b': INPUTS}, ROWS)['a'].sum()
  assert count_passes(jax.grad(part), PARAMS) == Passes(8, 8)
  with pytest.raises(ValueError, match='mark_pass: outputs has no array of fl'):
    mark_pass({'labels': jnp.arange(3)}, 3)


def test_keyword_arguments_are_passed_on():
  assert count_passes(loss, PARAMS, inputs=INPUTS).forward == ROWS
