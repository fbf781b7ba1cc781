"""muP: the table of factors, the initialisation, and a coordinate check."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, models, tree

WIDTHS = (64, 128, 256, 512)


def mlp(width, base=64, **options):
  """A network of one shape at every width, its function and its shapes."""
  module = models.MLP(
    (width, width), 10, readout_multiplier=base / width, **options
  )
  init_fn, apply_fn = models.from_module(module, jnp.zeros((1, 16)))
  shapes = jax.eval_shape(init_fn, jax.random.key(0))[0]
  return apply_fn, shapes


def draw(shapes):
  """What flax would draw, without the time to compile it."""
  rng = np.random.default_rng(0)

  def kernel(leaf):
    values = rng.normal(size=leaf.shape) / leaf.shape[0] ** 0.5
    return jnp.asarray(values * (len(leaf.shape) > 1), jnp.float32)

  return jax.tree.map(kernel, shapes)


def factors(width, **options):
  """By name, of a network of four times the base width."""
  *_, shapes = mlp(width)
  *_, base = mlp(64)
  found = methods.mup_multipliers(shapes, base, **options)
  leaves = jax.tree_util.tree_leaves_with_path(found)
  assert all(type(x) is float for _, x in leaves)
  return {tree.leaf_name(path): x for path, x in leaves}


INPUT = ('Dense_0/kernel', 'Dense_0/bias', 'Dense_1/bias')
TABLE = {  # m = 4: hidden matrix, input and biases, readout
  ('adam', True): (0.25, 1.0, 1.0),
  ('adam', False): (0.25, 1.0, 0.25),
  ('sgd', True): (1.0, 4.0, 4.0),
  ('sgd', False): (1.0, 4.0, 0.25),
}


@pytest.mark.parametrize(('kind', 'multiplier'), TABLE)
def test_the_table_at_four_times_the_width(kind, multiplier):
  found = factors(256, kind=kind, readout_multiplier=multiplier)
  hidden, inputs, readout = TABLE[kind, multiplier]
  assert found == {
    **dict.fromkeys(INPUT, inputs),
    'Dense_1/kernel': hidden,
    'head/kernel': readout,
    'head/bias': 1.0,
  }


@pytest.mark.parametrize('kind', ['adam', 'sgd'])
def test_rates_of_the_reference(kind):
  """Adam 1e-3: hidden 2.5e-4; SGD .1: input, bias and output .4."""
  rate = {'adam': 1e-3, 'sgd': 0.1}[kind]
  *_, shapes = mlp(256)
  *_, base = mlp(64)
  tx = optax.chain(
    methods.scale_by_mup(base, kind=kind),
    methods.scale_by_schedule_value(rate),
  )
  ones = jax.tree.map(lambda s: jnp.ones(s.shape), shapes)
  steps, _ = tx.update(ones, tx.init(ones))
  got = [-float(steps['Dense_1'][n].ravel()[0]) for n in ('kernel', 'bias')]
  want = {'adam': (2.5e-4, 1e-3), 'sgd': (0.1, 0.4)}[kind]
  np.testing.assert_allclose(got, want, rtol=1e-6)
  head = -float(steps['head']['kernel'][0, 0])
  np.testing.assert_allclose(head, want[1], rtol=1e-6)


def test_at_the_base_nothing_changes():
  _, shapes = mlp(64)
  params = draw(shapes)
  for kind in ('adam', 'sgd'):
    for multiplier in (True, False):
      options = {'readout_multiplier': multiplier}
      found = methods.mup_multipliers(shapes, shapes, kind=kind, **options)
      assert set(jax.tree.leaves(found)) == {1.0}
      same = methods.mup_init(params, shapes, **options)
      assert tree.digest(same) == tree.digest(params)


def test_any_ratio_and_every_kind_of_layer():
  shapes = lambda w, h: {
    'tokens': {'embedding': (11, w)},
    'stack': {'kernel': (3, w, 2 * w), 'scale': (3, w)},
    'query': {'kernel': (w, h, 8)},
    'out': {'kernel': (h, 8, w)},
    'conv': {'kernel': (3, 3, w, w)},
    'head': {'kernel': (w, 11), 'bias': (11,)},
  }
  is_shape = lambda x: isinstance(x, tuple)
  struct = lambda s: jax.ShapeDtypeStruct(s, jnp.float32)
  big = jax.tree.map(struct, shapes(96, 9), is_leaf=is_shape)
  found = methods.mup_multipliers(big, shapes(64, 4), kind='sgd')
  assert found == {
    'tokens': {'embedding': 1.5},
    'stack': {'kernel': 1.0, 'scale': 1.5},
    'query': {'kernel': 2.25 / 1.5},
    'out': {'kernel': 1.5 / 2.25},
    'conv': {'kernel': 1.0},
    'head': {'kernel': 1.5, 'bias': 1.0},
  }
  narrow = jax.tree.map(struct, shapes(32, 4), is_leaf=is_shape)
  found = methods.mup_multipliers(narrow, shapes(64, 4), kind='adam')
  assert found['stack']['kernel'] == found['conv']['kernel'] == 2.0


def test_base_shapes_in_any_form():
  _, shapes = mlp(64)
  *_, big = mlp(128)
  tuples = jax.tree.map(lambda s: s.shape, shapes)
  arrays = draw(shapes)
  found = [methods.mup_multipliers(big, s) for s in (shapes, tuples, arrays)]
  assert found[0] == found[1] == found[2]

  class Net(nnx.Module):
    def __init__(self, width):
      self.Dense_0 = nnx.Linear(4, width, rngs=nnx.Rngs(0))

  make = lambda width: nnx.state(Net(width), nnx.Param)
  found = methods.mup_multipliers(make(8), make(2), kind='sgd')
  assert jax.tree.leaves(found) == [4.0, 4.0]


def test_masked_leaves_stay_out():
  params = {'a': jnp.ones((8, 8)), 'b': jnp.ones((8, 8))}
  link = methods.scale_by_mup({'a': (2, 2), 'b': (2, 2)})
  tx = optax.masked(link, {'a': True, 'b': False})
  updates, _ = tx.update(params, tx.init(params), params)
  assert updates['a'][0, 0] == 0.25 and updates['b'][0, 0] == 1.0


def test_bfloat16_is_rounded_once():
  updates = jnp.full((9, 9), 1.0 + 2**-7, jnp.bfloat16)
  tx = methods.scale_by_mup(jnp.ones((3, 3)))
  got, _ = tx.update(updates, tx.init(updates))
  want = (updates.astype(jnp.float32) / 3).astype(jnp.bfloat16)
  assert got.dtype == jnp.bfloat16
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('kind', ['adam', 'sgd'])
def test_decay_behind_it_is_that_of_the_mup_package(kind):
  """There the rate is times f and the coupled decay divided by f."""
  rate, decay, params = 0.1, 0.2, jnp.full((8, 8), 3.0)
  tx = optax.chain(
    methods.scale_by_mup((2, 2), kind=kind),
    optax.add_decayed_weights(decay),
    methods.scale_by_schedule_value(rate),
  )
  got, _ = tx.update(jnp.ones((8, 8)), tx.init(params), params)
  factor = methods.mup_multipliers(params, (2, 2), kind=kind)
  want = -rate * factor * (1 + decay / factor * params)
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_init_has_the_variances_of_the_table():
  shapes = lambda w: {
    'tokens': {'embedding': jax.ShapeDtypeStruct((50, w), jnp.float32)},
    'Dense_0': {'kernel': jax.ShapeDtypeStruct((w, w), jnp.float32)},
    'head': {'kernel': jax.ShapeDtypeStruct((w, 50), jnp.float32)},
  }
  draw = lambda s, fan: jax.random.normal(jax.random.key(0), s.shape) / fan**0.5
  params = jax.tree.map(lambda s: draw(s, 1024), shapes(1024))
  std = lambda tree: jax.tree.map(lambda x: float(x.std()), tree)
  got = std(methods.mup_init(params, shapes(64)))
  want = {'tokens': 64**-0.5, 'Dense_0': 1024**-0.5, 'head': 64**-0.5}
  np.testing.assert_allclose(
    [x for layer in got.values() for x in layer.values()],
    [want[name] for name in got],
    rtol=0.02,
  )
  got = std(methods.mup_init(params, shapes(64), readout_multiplier=False))
  np.testing.assert_allclose(got['head']['kernel'], 64**0.5 / 1024, rtol=0.02)


def test_leaves_that_start_at_zero_do_so_at_every_width():
  *_, base = mlp(64)
  for width in (64, 128):
    params = draw(mlp(width)[1])
    zero = tree.path_mask('head/kernel$')
    found = methods.mup_init(params, base, zero=zero)
    assert not found['head']['kernel'].any()
    assert found['Dense_1']['kernel'].all()


def test_multiplier_and_initial_scale_are_one_function():
  """The readout: 1/m in the forward pass, or in the initial weights."""
  *_, base = mlp(64)
  with_multiplier, shapes = mlp(256)
  without = mlp(256, base=256)[0]
  params = draw(shapes)
  call = functools.partial(
    jax.jit(
      lambda f, p, x: f(p, x, rng=None, model_state={}, train=False)[0],
      static_argnums=0,
    ),
    x=jax.random.normal(jax.random.key(1), (4, 16)),
  )
  ours = call(with_multiplier, methods.mup_init(params, base))
  other = methods.mup_init(params, base, readout_multiplier=False)
  np.testing.assert_allclose(ours, call(without, other), rtol=1e-4, atol=1e-6)


def moved(kind, width, mup):
  """How far hidden activations and logits have moved after three steps."""
  apply_fn, shapes = mlp(width, base=64 if mup else width)
  _, base = mlp(64)
  inputs = jnp.asarray(np.random.default_rng(1).normal(size=(32, 16)), 'f')
  labels = jnp.arange(32) % 10
  scaling = [methods.scale_by_mup(base, kind=kind)] if mup else []
  before = [optax.scale_by_adam()] if kind == 'adam' else []
  rate = {'adam': 0.01, 'sgd': 0.1}[kind]
  tx = optax.chain(*before, *scaling, methods.scale_by_schedule_value(rate))

  def outputs(params):
    layer = lambda p, x: x @ p['kernel'] + p['bias'][None]
    hidden = jax.nn.relu(layer(params['Dense_0'], inputs))
    logits, _ = apply_fn(params, inputs, rng=None, model_state={}, train=True)
    return layer(params['Dense_1'], hidden), logits

  def loss(params):
    logits = outputs(params)[1]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()

  @functools.partial(
    jax.jit, compiler_options={'xla_backend_optimization_level': 0}
  )
  def run(start):
    def step(_, carry):
      params, state = carry
      updates, state = tx.update(jax.grad(loss)(params), state, params)
      return optax.apply_updates(params, updates), state

    end, _ = jax.lax.fori_loop(0, 3, step, (start, tx.init(start)))
    apart = lambda a, b: jnp.abs(a - b).mean()
    return jax.tree.map(apart, outputs(end), outputs(start))

  # With a readout of 0 all widths begin as one function.
  start = methods.mup_init(
    draw(shapes), base if mup else shapes, zero=tree.path_mask('head/kernel')
  )
  with jax.numpy_dtype_promotion('standard'):
    return [float(x) for x in run(start)]


@pytest.mark.parametrize('kind', ['adam', 'sgd'])
def test_coordinate_check(kind):
  """In muP three steps move every layer as far at any width; else not."""
  mup = np.array([moved(kind, width, True) for width in WIDTHS])
  assert (mup.max(0) < 1.5 * mup.min(0)).all(), mup
  standard = np.array([moved(kind, width, False) for width in WIDTHS])
  assert (standard[-1] > 3 * standard[0]).all(), standard


def test_errors():
  with pytest.raises(ValueError, match="scale_by_mup: kind is 'lion'"):
    methods.scale_by_mup({}, kind='lion')  # pyright: ignore
  call = lambda params, shapes: methods.scale_by_mup(shapes).init(params)
  one = jnp.ones((4, 4))
  with pytest.raises(ValueError, match="only base_shapes have a leaf 'b'"):
    call({'a': one}, {'a': (2, 2), 'b': (2, 2)})
  with pytest.raises(ValueError, match="only the parameters have a leaf 'a/k'"):
    call({'a': {'k': one}}, {})
  with pytest.raises(ValueError, match=r"'a' has shape \(4, 4\) and \(2,\)"):
    call({'a': one}, {'a': (2,)})
  with pytest.raises(ValueError, match='at most two axes'):
    call({'a': jnp.ones((4, 4, 4))}, {'a': (2, 2, 2)})
  with pytest.raises(ValueError, match='none empty'):
    call({'a': one}, {'a': (0, 4)})
  with pytest.raises(ValueError, match='matches none'):
    methods.mup_init({'a': one}, {'a': one}, zero=tree.path_mask('head'))
