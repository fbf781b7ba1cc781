"""Continual backpropagation: a slow twin, whole units, and means that stay."""

import jax
import numpy as np
import optax
import pytest

from lrcl import methods, models
from tests.methods import units_problem as problem
from tests.methods.units_problem import CNN, MLP

DECAY = 0.8


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def wrap(module, inner=None, **kwargs):
  return methods.continual_backprop(
    optax.sgd(0.0) if inner is None else inner,
    models.unit_graph(module),
    models.activations_from_module(module),
    **({'decay': DECAY} | kwargs),
  )


def twin(layers, activations, kernels, *, rate, maturity):
  """One update of all statistics, unit by unit; returns what is replaced."""
  replaced = []
  for stats, hidden, kernel in zip(layers, activations, kernels, strict=True):
    units = len(stats['age'])
    rows = kernel.reshape(-1, units, kernel.shape[-1])
    flat = hidden.reshape(-1, units)
    scores = []
    for i in range(units):
      stats['age'][i] += 1
      use = np.abs(flat[:, i]).mean() * np.abs(rows[:, i]).mean()
      for name, new in (('utility', use), ('mean', flat[:, i].mean())):
        stats[name][i] = DECAY * stats[name][i] + (1 - DECAY) * new
      if stats['age'][i] > maturity:
        corrected = stats['utility'][i] / (1 - DECAY ** stats['age'][i])
        scores.append((corrected, i))
    stats['due'] += rate * len(scores)
    count = int(stats['due'])
    stats['due'] -= count
    gone = [i for _, i in sorted(scores)[:count]]
    for i in gone:
      stats['age'][i] = stats['utility'][i] = stats['mean'][i] = 0
    replaced.append(gone)
  return replaced


@pytest.mark.parametrize('module', [MLP, CNN], ids=['mlp', 'cnn'])
def test_equals_the_slow_twin(module):
  rate, maturity = 0.13, 3
  tx = wrap(module, optax.sgd(0.05), replacement_rate=rate, maturity=maturity)
  params, graph = problem.make_params(module), models.unit_graph(module)
  update, state = problem.jit(tx.update), tx.init(params)
  layers = [
    {'age': [0] * n, 'utility': [0.0] * n, 'mean': [0.0] * n, 'due': 0.0}
    for n in (s.age.size for s in state.layers)
  ]
  total = 0
  for number in range(14):
    batch = problem.make_batch(module, seed=number)
    grads = problem.make_params(module, seed=number)
    hidden = problem.hidden(module, params, batch)
    gone = twin(
      layers,
      [np.float64(hidden[x.activation]) for x in graph],
      [np.float64(params[x.readers[0]]['kernel']) for x in graph],
      rate=rate,
      maturity=maturity,
    )
    before = params
    updates, state = update(grads, state, params, batch=batch)
    params = optax.apply_updates(params, updates)
    total += sum(map(len, gone))
    assert int(state.recycled) == total
    for stats, ours in zip(layers, state.layers, strict=True):
      assert ours.age.tolist() == stats['age']
      for name in ('utility', 'mean', 'due'):
        np.testing.assert_allclose(
          getattr(ours, name), stats[name], rtol=1e-4, atol=1e-5
        )
    for layer, units in zip(graph, gone, strict=True):
      kernel = params[layer.readers[0]]['kernel']
      rows = kernel.reshape(
        -1, params[layer.name]['bias'].size, *kernel.shape[-1:]
      )
      silent = np.flatnonzero(np.all(rows == 0, (0, 2)))
      assert set(units) <= set(silent.tolist())
      still = before[layer.name]['kernel'] - 0.05 * grads[layer.name]['kernel']
      moved = ~np.isclose(params[layer.name]['kernel'], still, atol=1e-6)
      moved = moved.reshape(-1, moved.shape[-1])
      # Weights that read a replaced unit moved as well, to 0.
      whole = np.flatnonzero(moved.mean(0) > 0.9)
      assert whole.tolist() == sorted(units)
  assert total > 5


@pytest.mark.parametrize('correct', [True, False])
def test_the_mean_input_of_the_next_layer_does_not_jump(correct):
  """The published code clears the mean before it is used."""
  params = problem.make_params(MLP)
  batch = problem.make_batch(MLP)
  graph = models.unit_graph(MLP)[1:]  # what the head reads
  tx = methods.continual_backprop(
    optax.sgd(0.0),
    graph,
    models.activations_from_module(MLP),
    replacement_rate=0.1,
    maturity=3,
    decay=DECAY,
    correct_bias=correct,
  )
  state, point = tx.init(params), params
  for _ in range(5):
    point, state = problem.step(tx, state, point, batch)
  assert int(state.recycled) == 1
  means = [problem.logits(MLP, p, batch).mean(0) for p in (params, point)]
  drift = float(np.abs(means[1] - means[0]).max())
  assert drift < 1e-5 if correct else drift > 0.1
  if not correct:
    np.testing.assert_array_equal(point['head']['bias'], params['head']['bias'])


def test_positions_of_an_image_share_a_mean():
  """A channel that is constant goes without a trace behind the flattening."""
  module = CNN
  params = problem.make_params(module)
  kernel, bias = params['Conv_0']['kernel'], params['Conv_0']['bias']
  params['Conv_0'] = {
    'kernel': kernel.at[..., 1].set(0.0),
    'bias': bias.at[1].set(0.01),  # of least use, the same everywhere
  }
  tx = methods.continual_backprop(
    optax.sgd(0.0),
    models.unit_graph(module)[:1],
    models.activations_from_module(module),
    replacement_rate=0.34,
    maturity=0,
  )
  batch = problem.make_batch(module)
  end, state = problem.step(tx, tx.init(params), params, batch)
  assert int(state.recycled) == 1 and int(state.layers[0].age[1]) == 0
  np.testing.assert_allclose(
    problem.logits(module, end, batch),
    problem.logits(module, params, batch),
    rtol=1e-5,
    atol=1e-5,
  )


@pytest.mark.parametrize(('rate', 'steps'), [(0.01, 60), (0.07, 40)])
def test_fractions_add_up_to_whole_units(rate, steps):
  tx = wrap(MLP, replacement_rate=rate, maturity=0)
  params, batch = problem.make_params(MLP), problem.make_batch(MLP)

  def body(carry, _):
    params, state = carry
    updates, state = tx.update(
      problem.zeros(params), state, params, batch=batch
    )
    return (optax.apply_updates(params, updates), state), state.recycled

  run = problem.jit(lambda c: jax.lax.scan(body, c, None, steps)[1])
  counts = run((params, tx.init(params)))
  want = sum(int(np.floor(rate * units * steps + 1e-4)) for units in (6, 5))
  assert int(counts[-1]) == want
  assert np.max(np.diff(counts)) <= 2  # one in each layer


def test_a_new_unit_is_safe_until_it_is_mature():
  tx = wrap(MLP, replacement_rate=1.0, maturity=4)
  params, batch = problem.make_params(MLP), problem.make_batch(MLP)
  state, counts = tx.init(params), []
  for _ in range(11):
    params, state = problem.step(tx, state, params, batch)
    counts.append(int(state.recycled))
  assert counts == [0] * 4 + [11] * 5 + [22] * 2


def test_moments_of_replaced_units_are_gone_and_the_count_stays():
  tx = wrap(MLP, optax.adam(0.01), replacement_rate=0.2, maturity=1)
  params, batch = problem.make_params(MLP), problem.make_batch(MLP)
  state = tx.init(params)
  for _ in range(2):
    params, state = problem.step(tx, state, params, batch, problem.ones(params))
  mu = state.inner_state[0].mu
  assert [int(np.sum(s.age == 0)) for s in state.layers] == [1, 1]
  assert int(np.sum(mu['Dense_0']['kernel'] == 0)) == 4
  assert int(np.sum(mu['Dense_1']['kernel'] == 0)) == 5 + 6 - 1
  assert int(np.sum(mu['head']['kernel'] == 0)) == 3
  assert not np.any(mu['head']['bias'] == 0)  # was shifted, not made new
  assert int(state.inner_state[0].count) == 2


@pytest.mark.parametrize(
  ('kwargs', 'match'),
  [
    ({'replacement_rate': 1.5}, 'replacement_rate is 1.5'),
    ({'maturity': -1}, 'maturity is -1'),
    ({'decay': 1.0}, 'decay is 1'),
  ],
)
def test_constructor_errors(kwargs, match):
  with pytest.raises(ValueError, match=match):
    wrap(MLP, **kwargs)


def test_errors():
  params, tx = problem.make_params(MLP), wrap(MLP)
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, tx.init(params), batch=problem.make_batch(MLP))
  with pytest.raises(TypeError, match='batch'):
    tx.update(params, tx.init(params), params)
