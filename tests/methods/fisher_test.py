"""Every estimator against a loop over single examples, both ways."""

import functools

from flax import linen as nn
from flax import nnx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree
from lrcl.methods import _dense_fisher, _fisher_sums

ESTIMATORS = ('exact', 'sampled', 'predicted', 'empirical')
B, D, C = 6, 5, 3


class Net(nn.Module):
  """Dense layers with a normalisation that has no parameters."""

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(x.reshape(x.shape[0], -1))
    x = nn.relu(nn.RMSNorm(use_scale=False)(x))
    return nn.Dense(C, use_bias=False, name='head')(x)


class Scaled(nn.Module):
  """A normalisation with parameters: one example at a time."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(C, name='head')(nn.LayerNorm()(nn.Dense(4)(x)))


class Conv(nn.Module):
  """Shared weights below, a dense head above."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(2, (2,))(x[..., None]))
    return nn.Dense(C, name='head')(x.reshape(x.shape[0], -1))


def pure(module):
  def apply_fn(params, inputs, *, rng, model_state, train):
    assert rng is None and not train
    return module.apply({'params': params}, inputs), model_state

  return apply_fn


def make(module, seed=0):
  """A new apply_fn each time, so that nothing compiled is reused."""
  init = jax.jit(module.init)
  params = init(jax.random.key(seed), jnp.ones((B, D)))['params']
  return pure(module), params


def make_batch(masked=False, seed=0):
  rng = np.random.default_rng(seed)
  batch = {
    'inputs': rng.normal(size=(B, D)).astype('f'),
    'labels': rng.integers(0, C, B).astype('i4'),
    'weight': np.array([1.0, 0.5, 2.0, 1.0, 0.0, 1.0], 'f'),
    'task': np.zeros(B, 'i4'),
  }
  if masked:
    mask = np.array([[True, True, False], [True, False, True]] * 3)
    batch['labels'] = np.where(mask[:, 1], 1, 2).astype('i4')
    batch['class_mask'] = mask
  return jax.tree.map(jnp.asarray, batch)


def loop(apply_fn, params, batch, estimator, key):
  """The definition: a sum over examples and labels of squared gradients."""
  mask = batch.get('class_mask', jnp.ones((B, C), bool))

  def log_probs(params, x, allowed):
    logits, _ = apply_fn(params, x[None], rng=None, model_state={}, train=False)
    return jax.nn.log_softmax(jnp.where(allowed, logits[0], -1e9))

  @jax.jit
  def rows(params):
    logp = lambda x, m: log_probs(params, x, m)
    slope = lambda x, m: jax.jacrev(log_probs)(params, x, m)
    fold = lambda i: jax.random.fold_in(key, i)
    draw = lambda i, logp: jax.random.categorical(fold(i), logp)
    values = jax.vmap(logp)(batch['inputs'], mask)
    drawn = jax.vmap(draw)(jnp.arange(B), values)
    return values, jax.vmap(slope)(batch['inputs'], mask), drawn

  logp, slopes, drawn = jax.tree.map(np.asarray, rows(params))
  share = np.zeros((B, C))
  for i in range(B):
    if estimator == 'exact':
      share[i] = np.exp(logp[i])
    elif estimator == 'sampled':
      share[i, drawn[i]] = 1.0
    elif estimator == 'predicted':
      share[i, np.argmax(logp[i])] = 1.0
    else:
      share[i, batch['labels'][i]] = 1.0
  share *= np.asarray(batch['weight'])[:, None] / float(batch['weight'].sum())
  square = lambda s: np.einsum('bc,bc...->...', share, np.square(s))
  return jax.tree.map(square, slopes)


def close(a, b, rtol=1e-5, atol=1e-7):
  check = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
  jax.tree.map(check, a, b)


def is_fast(apply_fn, params, batch, mask=None):
  leaves, structure = jax.tree.flatten(params)
  keep = tree.resolve_mask(mask, params, 'test')

  def forward(leaves, batch):
    params = jax.tree.unflatten(structure, leaves)
    options = {'rng': None, 'model_state': {}, 'train': False}
    return apply_fn(params, batch['inputs'], **options)[0]

  found = _dense_fisher.find_dense_layers(
    forward, leaves, jax.tree.leaves(keep), batch
  )
  return found is not None


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('estimator', ESTIMATORS)
@pytest.mark.parametrize('module', [Net(), Scaled()])
def test_against_the_definition(module, estimator, masked, key):
  apply_fn, params = make(module)
  batch = make_batch(masked)
  assert is_fast(apply_fn, params, batch) == isinstance(module, Net)
  fisher = methods.fisher_diagonal(
    apply_fn, params, batch, estimator=estimator, key=key
  )
  close(fisher, loop(apply_fn, params, batch, estimator, key))


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_both_ways_agree(estimator, key, monkeypatch):
  results = []
  for find in (_dense_fisher.find_dense_layers, lambda *args: None):
    monkeypatch.setattr(_fisher_sums._dense_fisher, 'find_dense_layers', find)
    apply_fn, params = make(Net())
    results.append(
      methods.fisher_diagonal(
        apply_fn, params, make_batch(True), estimator=estimator, key=key
      )
    )
  close(*results)


def test_head_of_a_convolutional_network(key):
  apply_fn, params = make(Conv())
  batch, mask = make_batch(), tree.path_mask('head/')
  assert is_fast(apply_fn, params, batch, mask)
  assert not is_fast(apply_fn, params, batch)
  head = methods.fisher_diagonal(apply_fn, params, batch, mask=mask)
  whole = methods.fisher_diagonal(apply_fn, params, batch)
  close(head['head'], whole['head'])
  close(whole, loop(apply_fn, params, batch, 'exact', key))
  assert head['Conv_0']['kernel'] == optax.MaskedNode()
  tx = methods.add_ewc_penalty(1.0, mask=mask)
  state = methods.consolidate(tx.init(params), params, fisher=head)
  close(state.fisher['head'], head['head'])


class Twice(nn.Module):
  @nn.compact
  def __call__(self, x):
    layer = nn.Dense(D)
    return nn.Dense(C)(layer(nn.relu(layer(x))))


class Tied(nn.Module):
  @nn.compact
  def __call__(self, x):
    layer = nn.Dense(D)
    y = layer(x)
    return nn.Dense(C)(y) + jnp.sum(layer.variables['params']['kernel'])


class Positions(nn.Module):
  @nn.compact
  def __call__(self, x):
    y = nn.Dense(2)(x[..., None])
    return nn.Dense(C)(y.reshape(x.shape[0], -1))


class Flattened(nn.Module):
  @nn.compact
  def __call__(self, x):
    y = nn.Dense(2)(x.reshape(-1, 1))
    return nn.Dense(C)(y.reshape(x.shape[0], -1))


class Remat(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.remat(nn.Dense)(C)(x)


class Custom(nn.Module):
  @nn.compact
  def __call__(self, x):
    def double(a, b, dims, **kwargs):
      return 2 * jax.lax.dot_general(a, b, dims, **kwargs)

    return nn.Dense(C, dot_general=double)(x)


@pytest.mark.parametrize(
  'module',
  [Twice(), Tied(), Positions(), Flattened(), Remat(), Custom()],
  ids=lambda m: type(m).__name__,
)
def test_models_that_need_single_examples(module, key):
  apply_fn, params = make(module)
  batch = make_batch()
  assert not is_fast(apply_fn, params, batch)
  fisher = methods.fisher_diagonal(apply_fn, params, batch)
  close(fisher, loop(apply_fn, params, batch, 'exact', key))


def changed(change):
  plain = pure(Net())
  return lambda params, *args, **kw: plain(change(params), *args, **kw)


def jitted(params, inputs, **kwargs):
  return jax.jit(Net().apply)({'params': params}, inputs), ()


@pytest.mark.parametrize(
  'apply_fn',
  [changed(lambda p: jax.tree.map(lambda x: 2.0 * x, p)), jitted],
  ids=['changed', 'jitted'],
)
def test_hidden_layers_need_single_examples(apply_fn, key):
  _, params = make(Net())
  batch = make_batch()
  assert not is_fast(apply_fn, params, batch)
  fisher = methods.fisher_diagonal(apply_fn, params, batch)
  close(fisher, loop(apply_fn, params, batch, 'exact', key))


def test_nested_names_do_not_matter():
  plain, params = make(Net())
  nested = lambda p, *args, **kw: plain(p['net'][0], *args, **kw)
  batch = make_batch()
  assert is_fast(nested, {'net': [params]}, batch)
  fisher = methods.fisher_diagonal(nested, {'net': [params]}, batch)
  close(fisher['net'][0], methods.fisher_diagonal(plain, params, batch))


def test_unused_parameters_have_no_importance():
  apply_fn, params = make(Net())
  used = lambda p, *args, **kw: apply_fn(p['net'], *args, **kw)
  params = {'net': params, 'other': jnp.ones(2)}
  assert is_fast(used, params, make_batch())
  fisher = methods.fisher_diagonal(used, params, make_batch())
  np.testing.assert_array_equal(fisher['other'], jnp.zeros(2))


def test_nnx_model(key):
  model = nnx.Linear(D, C, rngs=nnx.Rngs(0))
  graph, params = nnx.split(model, nnx.Param)

  def apply_fn(params, inputs, **_):
    return nnx.merge(graph, params)(inputs), ()

  batch = make_batch()
  fisher = methods.fisher_diagonal(apply_fn, params, batch)
  close(fisher, loop(apply_fn, params, batch, 'exact', key))


@pytest.mark.parametrize('module', [Net(), Scaled()])
def test_forms_of_batches(module, key):
  """A dict, a stack, lists and generators: one mean, one draw of labels."""
  apply_fn, params = make(module)
  first, second = make_batch(seed=0), make_batch(seed=1)
  fisher = functools.partial(
    methods.fisher_diagonal, apply_fn, params, estimator='sampled', key=key
  )
  joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
  stack = jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)
  whole = fisher(joined)
  close(fisher(stack), whole)
  close(fisher([first, second]), whole)
  close(fisher(jax.tree.map(np.asarray, b) for b in (first, second)), whole)
  close(fisher([stack]), whole)


@pytest.mark.parametrize('module', [Net(), Scaled()])
def test_weights(module):
  apply_fn, params = make(module)
  batch = make_batch()
  fisher = functools.partial(methods.fisher_diagonal, apply_fn, params)
  whole = fisher(batch)
  close(fisher({**batch, 'weight': 3 * batch['weight']}), whole)
  junk = {**batch, 'inputs': batch['inputs'].at[4].set(1e6)}
  close(fisher(junk), whole)
  short = jax.tree.map(lambda x: jnp.delete(x, 4, axis=0), batch)
  close(fisher(short), whole)
  none = fisher({**batch, 'weight': jnp.zeros(B)})
  assert all(not x.any() for x in jax.tree.leaves(none))
  ones = {**batch, 'weight': jnp.ones(B)}
  bare = {k: batch[k] for k in ('inputs', 'labels')}
  close(fisher(ones), fisher(bare))


@pytest.mark.parametrize('module', [Net(), Scaled()])
def test_squares_of_single_examples_and_not_of_the_batch(module):
  """Two examples that pull apart: no batch gradient, but importance."""
  apply_fn = lambda p, x, **_: (jnp.concatenate([x @ p, -x @ p], 1), ())
  batch = {
    'inputs': jnp.ones((2, 1)),
    'labels': jnp.array([0, 1]),
    'weight': jnp.ones(2),
  }
  fisher = methods.fisher_diagonal(
    apply_fn, jnp.zeros((1, 1)), batch, estimator='empirical'
  )
  close(fisher, jnp.ones((1, 1)))
  apply_fn, params = make(module)
  batch = make_batch()

  def loss(params):
    options = {'rng': None, 'model_state': {}, 'train': False}
    logits, _ = apply_fn(params, batch['inputs'], **options)
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['labels']
    )
    return jnp.sum(losses * batch['weight']) / jnp.sum(batch['weight'])

  fisher = methods.fisher_diagonal(
    apply_fn, params, batch, estimator='empirical'
  )
  square = jax.tree.map(np.square, jax.jit(jax.grad(loss))(params))
  excess = jax.tree.map(lambda f, s: np.all(f >= s - 1e-6), fisher, square)
  assert all(jax.tree.leaves(excess))
  total = lambda t: sum(float(x.sum()) for x in jax.tree.leaves(t))
  assert total(fisher) > 1.5 * total(square)


@pytest.mark.parametrize('module', [Net(), Scaled()])
def test_inside_jit_vmap_and_map_over_seeds(module, key):
  apply_fn, first = make(module)
  second = make(module, seed=1)[1]
  batch = make_batch(True)
  fisher = lambda p: methods.fisher_diagonal(
    apply_fn, p, batch, estimator='sampled', key=key
  )
  seeds = jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)
  single = [fisher(first), fisher(second)]
  expected = jax.tree.map(lambda a, b: jnp.stack([a, b]), *single)
  close(jax.jit(jax.vmap(fisher))(seeds), expected)
  close(jax.jit(lambda s: jax.lax.map(fisher, s))(seeds), expected)


def test_state_of_the_model_and_no_coupling():
  """Normalisation by running averages; the batch itself plays no role."""

  class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))
      return nn.Dense(C)(x)

  module = Normed()
  variables = jax.jit(module.init)(jax.random.key(0), jnp.ones((B, D)))
  params, state = variables['params'], {'batch_stats': variables['batch_stats']}
  state = jax.tree.map(lambda x: x + 0.5, state)

  def apply_fn(params, inputs, *, model_state, **_):
    return module.apply({'params': params, **model_state}, inputs), model_state

  batch = make_batch()
  fisher = functools.partial(
    methods.fisher_diagonal, apply_fn, params, model_state=state
  )
  rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], batch) for i in range(B)]
  close(fisher(rows), fisher(batch))


def test_tokens(key):
  """The gradient of the mean log-likelihood over time, squared."""

  def apply_fn(params, inputs, **_):
    return jnp.tanh(inputs @ params['in']) @ params['out'], ()

  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), 'f')
  params = {'in': draw(2, 4), 'out': draw(4, C)}
  labels = jnp.asarray(rng.integers(0, C, (B, 3)), 'int32')
  batch = {'inputs': draw(B, 3, 2), 'labels': labels, 'weight': jnp.ones(B)}

  def mean_log_prob(params, x, y):
    logits, _ = apply_fn(params, x)
    return -optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  one = jax.jit(jax.grad(mean_log_prob))
  rows = [one(params, batch['inputs'][i], labels[i]) for i in range(B)]
  expected = jax.tree.map(lambda *g: np.mean(np.square(g), axis=0), *rows)
  fisher = functools.partial(methods.fisher_diagonal, apply_fn, params, batch)
  close(fisher(estimator='empirical'), expected)
  for estimator in ('sampled', 'predicted'):
    values = jax.tree.leaves(fisher(estimator=estimator, key=key))
    assert all(np.all(np.isfinite(v)) and v.any() for v in values)
  with pytest.raises(ValueError, match='logits have 3 axes'):
    fisher()


@pytest.mark.parametrize('module', [Net(), Scaled()])
def test_bfloat16_parameters_give_float32(module, key):
  apply_fn, params = make(module)
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  batch = make_batch()
  inputs = batch['inputs'].astype(jnp.bfloat16)
  with jax.numpy_dtype_promotion('standard'):
    fisher = methods.fisher_diagonal(
      apply_fn, narrow, {**batch, 'inputs': inputs}
    )
  dtypes = {x.dtype for x in jax.tree.leaves(fisher)}
  assert dtypes == {jnp.dtype('float32')}
  close(fisher, loop(apply_fn, params, batch, 'exact', key), 0.2, 0.02)


@hypothesis.settings(deadline=None, max_examples=15)
@hypothesis.given(seed=st.integers(0, 999), scale=st.floats(0.01, 100.0))
def test_softmax_regression_in_closed_form(seed, scale):
  """F of a kernel entry is the mean of x^2 p (1 - p)."""
  rng = np.random.default_rng(seed)
  kernel = jnp.asarray(scale * rng.normal(size=(D, C)), 'f')
  batch = make_batch(seed=seed)
  fisher = methods.fisher_diagonal(linear, {'kernel': kernel}, batch)
  p = jax.nn.softmax(batch['inputs'] @ kernel)
  weight = batch['weight'] / batch['weight'].sum()
  rows = batch['inputs'][:, :, None] ** 2 * (p * (1 - p))[:, None, :]
  expected = np.einsum('b,bdc->dc', weight, rows)
  close(fisher['kernel'], expected, 1e-4, 1e-6)


def linear(params, inputs, **_):
  return nn.Dense(C, use_bias=False).apply({'params': params}, inputs), ()


@pytest.mark.parametrize(
  ('batches', 'kwargs', 'match'),
  [
    (make_batch, {'estimator': 'true'}, "estimator is 'true'"),
    (make_batch, {'estimator': 'sampled'}, 'needs a key'),
    (list, {}, 'batches is empty'),
    (make_batch, {'mask': tree.path_mask('no')}, 'matches none'),
  ],
)
def test_errors(batches, kwargs, match):
  params = {'kernel': jnp.ones((D, C))}
  with pytest.raises(ValueError, match=match):
    methods.fisher_diagonal(linear, params, batches(), **kwargs)
