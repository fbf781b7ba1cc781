"""Tools for pytrees: states, masks, names, norms, digests."""

from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import tree


class _CountState(NamedTuple):
  count: jax.Array


def _count() -> optax.GradientTransformation:
  init = lambda params: _CountState(jnp.int32(0))
  return optax.GradientTransformation(init, lambda u, s, p=None: (u, s))


_PARAMS = {'a': {'kernel': np.ones((2, 2), np.float32)}}
_WRAPPERS = {
  'chain': lambda tx: optax.chain(optax.scale(1.0), tx, tx),
  'masked': lambda tx: optax.masked(tx, {'a': {'kernel': True}}),
  'multi_steps': lambda tx: optax.MultiSteps(tx, 2),
  'apply_if_finite': lambda tx: optax.apply_if_finite(tx, 3),
  'partition': lambda tx: optax.partition(
    {'x': tx, 'y': optax.scale(1.0)}, {'a': {'kernel': 'x'}}
  ),
  'inject': lambda tx: optax.inject_hyperparams(lambda lr: tx)(lr=0.1),
}


@pytest.mark.parametrize('wrapper', _WRAPPERS)
def test_states_are_found_under_wrappers(wrapper):
  state = _WRAPPERS[wrapper](_count()).init(_PARAMS)
  number = 2 if wrapper == 'chain' else 1
  assert len(tree.get_states(state, _CountState)) == number
  bump = lambda s: s._replace(count=s.count + 5)
  after = tree.map_states(bump, state, _CountState)
  counts = [int(s.count) for s in tree.get_states(after, _CountState)]
  assert counts == [5] * number
  assert jax.tree.structure(after) == jax.tree.structure(state)


def test_states_that_are_not_there():
  state = optax.scale_by_adam().init(_PARAMS)
  assert tree.get_states(state, _CountState) == []
  unchanged = tree.map_states(lambda s: None, state, _CountState)
  assert jax.tree.structure(unchanged) == jax.tree.structure(state)


def test_mask_like_drops_what_is_masked():
  like = {'a': optax.MaskedNode(), 'b': 1.0}
  dropped = tree.mask_like({'a': 2.0, 'b': 3.0}, like)
  assert dropped == {'a': optax.MaskedNode(), 'b': 3.0}


def test_names_of_linen_and_nnx_agree():
  linen = {'layer': {'kernel': 0.0, 'bias': 0.0}}
  module = nnx.Dict(layer=nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
  state = nnx.state(module, nnx.Param)
  names = lambda t: {
    tree.leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(t)
  }
  assert names(linen) == names(state) == {'layer/kernel', 'layer/bias'}


def test_names_of_tuples_and_fields():
  state = (_CountState(jnp.int32(0)),)
  [(path, _)] = jax.tree_util.tree_leaves_with_path(state)
  assert tree.leaf_name(path) == '0/count'


def test_path_mask():
  params = {'Dense_0': {'kernel': 0, 'bias': 0}, 'head': {'kernel': 0}}
  mask = tree.path_mask('^Dense.*/kernel$')(params)
  assert mask == {
    'Dense_0': {'kernel': True, 'bias': False},
    'head': {'kernel': False},
  }


def test_resolve_mask():
  given = {'a': {'kernel': True}}
  assert tree.resolve_mask(None, _PARAMS, 'f') == given
  assert tree.resolve_mask(given, _PARAMS, 'f') == given
  mask = tree.resolve_mask(tree.path_mask('kernel'), _PARAMS, 'f')
  assert mask == given
  with pytest.raises(ValueError, match='f: the mask matches none'):
    tree.resolve_mask(tree.path_mask('nowhere'), _PARAMS, 'f')


def test_resolve_mask_leaves_out_what_is_masked():
  params = {'a': optax.MaskedNode(), 'b': 1.0}
  mask = tree.resolve_mask({'a': True, 'b': True}, params, 'f')
  assert jax.tree.leaves(mask) == [True]
  mask = tree.resolve_mask(None, params, 'f')
  assert jax.tree.leaves(mask) == [True]


def test_leaf_norms_are_float32():
  leaf = jnp.full((64, 64), 3.0, jnp.bfloat16)
  norm = tree.leaf_norms({'x': leaf})['x']
  assert norm.dtype == jnp.float32 and norm.shape == ()
  assert norm == 3.0 * 64


def test_copy_survives_donation():
  original = {'x': jnp.arange(3.0)}
  twin = tree.copy(original)
  jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(
    original
  )
  np.testing.assert_array_equal(twin['x'], np.arange(3.0))


def test_digest_sees_every_bit():
  base = {'x': np.zeros(3, np.float32), 'key': jax.random.key(0)}
  same = {'x': jnp.zeros(3), 'key': jax.random.key(0)}
  assert tree.digest(base) == tree.digest(same)
  others = [
    base | {'x': np.array([0, 0, -0.0], np.float32)},
    base | {'x': np.zeros(3, np.int32)},
    base | {'x': np.zeros((3, 1), np.float32)},
    base | {'key': jax.random.key(1)},
    {'y': base['x'], 'key': base['key']},
  ]
  assert len({tree.digest(t) for t in [base, *others]}) == 6


def test_digest_does_not_depend_on_strides():
  x = np.arange(6.0).reshape(2, 3)
  assert tree.digest({'x': x.T}) == tree.digest({'x': x.T.copy()})


def test_keys_are_told_from_numbers():
  assert tree.is_key(jax.random.key(0))
  assert not tree.is_key(jnp.zeros(2, jnp.uint32))
  assert not tree.is_key(3)
  assert tree.to_numpy(jax.random.key(0)).dtype == np.uint32
