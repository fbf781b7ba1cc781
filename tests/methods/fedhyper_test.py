"""FedHyper's three schedulers: golden values, slow twins of both forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods

FORMS = ('paper', 'official')
DELTAS = np.random.default_rng(3).normal(0.2, 0.8, (14, 5))


def split(vector):
  return {'a': jnp.float32(vector[:2]), 'b': jnp.float32(vector[2:])}


def run(tx, vectors):
  """The rates and the updates, with the vectors cut into two leaves."""
  state, rates, updates = tx.init(split(vectors[0])), [], []
  step = jax.jit(tx.update)
  for vector in vectors:
    update, state = step(split(vector), state)
    rates.append(float(methods.applied_rate(state)[0]))
    updates.append(np.concatenate([update['a'], update['b']]))
  return np.array(rates), np.array(updates)


def product(a, b, normalize):
  norms = np.linalg.norm(a) * np.linalg.norm(b)
  if normalize == 'none':
    return float(a @ b)
  return float(a @ b / norms) if norms else 0.0


@pytest.mark.parametrize(
  'form,want', [('paper', [1, 1.5, 1 / 3]), ('official', [1, 1.5, 0.2])]
)
def test_golden_global(form, want):
  tx = methods.scale_by_fedhyper_global(form=form)
  rates, updates = run(tx, np.array([[1, 0], [0.5, 0.5], [-4, 0]]))
  np.testing.assert_allclose(rates, want, rtol=1e-6)
  np.testing.assert_allclose(updates[2], [4 * want[2], 0], rtol=1e-6)


def test_golden_client():
  # The code's form at a rate of 1, so that factors are rates; what leaves is
  # the u of the code.
  u = np.array([[0.1, 0.2], [0.2, 0.2], [-0.3, 0.1]])
  delta = jnp.array([-0.5, -0.5])  # of the server's gradient: minus its update
  tx = methods.scale_by_fedhyper_client(1.0, delta, 0.1 / 10, form='official')
  state, rate, rates = tx.init(delta), 1.0, []
  for row in u:
    # Gradients at which the steps are those of the example, whatever the rate.
    update, state = tx.update(jnp.float32(-row / rate), state)
    np.testing.assert_allclose(update, row, rtol=1e-6)
    rate = float(state.next_rate)
    rates.append(rate)
  np.testing.assert_allclose(rates, [1.0, 1.062, 1.018458], rtol=1e-6)


@pytest.mark.parametrize('normalize', ['none', 'cosine'])
@pytest.mark.parametrize('form', FORMS)
def test_global_equals_the_slow_twin(form, normalize):
  rate, before, rates = 1.0, np.zeros(5), []
  low, high = {'paper': (1 / 3, 3.0), 'official': (0.2, 5.0)}[form]
  deltas = 2 * DELTAS
  for delta in deltas:
    rate = min(max(rate + product(delta, before, normalize), low), high)
    rates.append(rate)
    before = delta
  tx = methods.scale_by_fedhyper_global(form=form, normalize=normalize)
  got, updates = run(tx, deltas)
  np.testing.assert_allclose(got, rates, rtol=1e-5)
  if normalize == 'none':  # both bounds have been reached
    np.testing.assert_allclose([min(got), max(got)], [low, high], rtol=1e-6)
  steps = -np.array(rates)[:, None] * deltas
  np.testing.assert_allclose(updates, steps, rtol=1e-4, atol=1e-6)


def test_global_with_momentum_is_the_recommended_variant():
  # As the code is written: aggregate, then move the mean of the clients on.
  aggregate, last, moves = 0.0, None, []
  for delta in -DELTAS:  # the code's vectors are updates, not gradients
    if last is None:
      move, last = delta, delta
    else:
      aggregate = min(max(aggregate + last @ delta, -0.2), 4.0)
      move = delta + aggregate * delta + 0.9 * aggregate * last
      last = delta + 0.9 * last
    moves.append(move)
  tx = methods.scale_by_fedhyper_global(
    form='official', momentum=0.9, min_value=0.8
  )
  _, updates = run(tx, DELTAS)
  np.testing.assert_allclose(updates, moves, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('normalize', ['none', 'cosine'])
@pytest.mark.parametrize('form', FORMS)
def test_client_rate_equals_the_slow_twin(form, normalize):
  start, hyper_rate = 0.01, {'paper': 0.01, 'official': 1.0}[form]
  rate, total, before, rates = start, 0.0, np.zeros(5), []
  for delta in DELTAS:
    change = hyper_rate * product(delta, before, normalize)
    total += change
    rate = rate + change if form == 'paper' else start * (1 + total)
    rate = min(max(rate, start / 10), start * 10)
    rates.append(rate)
    before = delta
  tx = methods.track_fedhyper_client_rate(
    start, form=form, hyper_rate=hyper_rate, normalize=normalize
  )
  got, updates = run(tx, DELTAS)
  np.testing.assert_allclose(got, rates, rtol=1e-4)
  assert len(set(got)) > 5
  np.testing.assert_array_equal(updates, np.float32(DELTAS))


@pytest.mark.parametrize('normalize', ['none', 'cosine'])
def test_client_equals_the_slow_twin_of_the_paper(normalize):
  sent, weight, hyper_rate = DELTAS[0], 0.2, 0.01
  rate, rates = 0.1, [0.1]
  for k in range(2, len(DELTAS)):
    change = product(DELTAS[k], DELTAS[k - 1], normalize)
    change += weight * product(DELTAS[k], sent, normalize)
    rate = min(max(rate + hyper_rate * change, 0.01), 1.0)
    rates.append(rate)
  tx = methods.scale_by_fedhyper_client(
    0.1, split(sent), weight, hyper_rate=hyper_rate, normalize=normalize
  )
  got, updates = run(tx, DELTAS[1:])
  np.testing.assert_allclose(got, rates, rtol=1e-4)
  steps = -np.array(rates)[:, None] * DELTAS[1:]
  np.testing.assert_allclose(updates, steps, rtol=1e-3, atol=1e-6)


def test_client_equals_the_slow_twin_of_the_code():
  sent, clients, lr, beta = DELTAS[0], 5, 0.5, 1.0
  before, moves, rates = None, [], []
  for gradient in DELTAS[1:]:
    move = -lr * beta * gradient
    moves.append(move)
    rates.append(lr * beta)
    if before is not None:
      factor = 1 + 0.1 * (move @ -sent) / clients + move @ before
      beta = min(max(min(1.1, factor) * beta, 0.1), 10.0)
    before = move
  tx = methods.scale_by_fedhyper_client(
    lr, split(sent), 0.1 / clients, form='official'
  )
  got, updates = run(tx, DELTAS[1:])
  np.testing.assert_allclose(got, rates, rtol=1e-4)
  np.testing.assert_allclose(updates, moves, rtol=1e-4, atol=1e-6)
  ratios = got[2:] / got[1:-1]  # some are held at 1.1, some fall
  assert np.isclose(max(ratios), 1.1) and min(ratios) < 1


def test_without_a_global_update_the_paper_s_client_is_hypergradient_descent():
  # Another way to write the same rule: an inner method of SGD, clipped.
  zeros = split(np.zeros(5))
  client = methods.scale_by_fedhyper_client(0.1, zeros, 0.5, hyper_rate=0.02)
  plain = methods.scale_by_hypergradient(
    optax.identity(), 0.1, 0.02, min_value=0.01, max_value=1.0
  )
  for ours, theirs in zip(run(client, DELTAS), run(plain, DELTAS), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_masked_leaves_take_no_part():
  mask = {'a': True, 'b': False}
  tx = optax.masked(
    methods.scale_by_fedhyper_client(
      0.1, split(np.ones(5)), 1.0, hyper_rate=0.01
    ),
    mask,
  )
  rates, updates = run(tx, np.ones((2, 5)))
  # Two entries of one: 2 of the last gradient, 2 of the global update.
  np.testing.assert_allclose(rates, [0.1, 0.14], rtol=1e-6)
  np.testing.assert_array_equal(updates[1, 2:], 1.0)


MAKE = {
  'scale_by_fedhyper_global': methods.scale_by_fedhyper_global,
  'track_fedhyper_client_rate': lambda **kwargs: (
    methods.track_fedhyper_client_rate(**(dict(init_value=0.1) | kwargs))
  ),
  'scale_by_fedhyper_client': lambda **kwargs: methods.scale_by_fedhyper_client(
    **(dict(init_value=0.1, global_update=1.0, global_weight=0.1) | kwargs)
  ),
}


@pytest.mark.parametrize('name', MAKE)
@pytest.mark.parametrize(
  'arguments,message',
  [
    (dict(form='code'), "form is 'code'; it must be 'paper' or 'official'"),
    (dict(normalize='sign'), "normalize is 'sign'; it must be 'none' or"),
    (dict(hyper_rate=-1.0), 'hyper_rate is -1.0; it must be >= 0'),
    (dict(init_value=-1.0), 'init_value is -1.0; it must be'),
    (dict(min_value=7.0), 'it must be >= 7'),
    (dict(max_value=0.01), 'it must be <= 0.01'),
  ],
)
def test_errors(name, arguments, message):
  with pytest.raises(ValueError, match=f'{name}: .*{message}'):
    MAKE[name](**arguments)


def test_errors_of_single_arguments():
  with pytest.raises(ValueError, match='momentum is 2; it must be <= 1'):
    methods.scale_by_fedhyper_global(momentum=2)
  with pytest.raises(ValueError, match='global_weight is -1; it must be >= 0'):
    methods.scale_by_fedhyper_client(0.1, 1.0, -1)
