"""The task and the network against slow twins, and how the claim is judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import parity, parity_curricula
from experiments.papers.parity_runs import Contender, Run, Runner, Size, trained

LEVELS, UNITS = 3, 5


def _drawn(level=1, seed=0, batch=4):
  return parity.draw_bits(
    jax.random.key(seed), level, num_levels=LEVELS, batch=batch, units=UNITS
  )


def test_parities_are_counted_bit_by_bit():
  bits = np.asarray(_drawn(batch=20).bits)
  found = np.asarray(parity.parities(jnp.asarray(bits), LEVELS))
  for row, answers in zip(bits, found, strict=True):
    for n in range(2, 2 + LEVELS):
      odd = False
      for bit in row[-n:]:
        odd = not odd if bit else odd
      assert answers[n - 2] == odd


def test_lengths_and_rates_are_those_of_the_task():
  lengths = [int(_drawn(level=1, seed=i, batch=1).length) for i in range(120)]
  assert (min(lengths), max(lengths)) == (5, 13)  # [N + 2, 4 N + 2), N = 3
  assert parity.longest(LEVELS) == 4 * 4 + 1
  ones = np.asarray(_drawn(batch=2000).bits).mean(1)
  assert ones.mean() == pytest.approx(0.5, abs=0.03)
  assert ones.std() > 0.28  # 0.29 of a uniform rate, 0.12 of a fair coin


@pytest.mark.parametrize('n', [2, 3, 4])
def test_the_more_frequent_parity(n):
  bits = _drawn(batch=20_000).bits
  share = float(parity.parities(bits, LEVELS)[:, n - 2].mean())
  wanted = parity.majority(n)
  assert max(share, 1 - share) == pytest.approx(wanted, abs=0.015)


def _slow(params, drawn):
  """The network, a loop over the bits that are shown."""
  p = [np.asarray(x, np.float64) for x in params]
  recurrent, inputs, bias, tau = p[:4]
  np.fill_diagonal(recurrent, 0)
  tau = np.where(tau < 1, 1, tau)
  states = []
  for bits, h in zip(np.asarray(drawn.bits), drawn.start, strict=True):
    h = np.asarray(h, np.float64)
    for bit in bits[-int(drawn.length) :]:
      drive = recurrent @ h + bias + inputs * bit
      h = (1 - 1 / tau) * h + drive / tau
      h = np.where(h > 0, h, 0.01 * h)
    states.append(h)
  return np.stack(states)


def _params():
  params = parity.init_params(jax.random.key(1), units=UNITS, num_levels=LEVELS)
  return params._replace(tau=params.tau.at[0].set(0.3))


def test_the_network_is_a_loop_over_the_bits_that_are_shown():
  params = _params()
  drawn = _drawn()
  assert int(drawn.length) < drawn.bits.shape[1]
  found = parity.run_network(params, drawn)
  np.testing.assert_allclose(found, _slow(params, drawn), rtol=1e-4, atol=1e-6)
  logits = parity.read_out(params, found)
  wanted = found[2] @ params.heads[1] + params.head_biases[1]
  np.testing.assert_allclose(logits[2, 1], wanted, rtol=1e-5)


def test_gradients_pass_through_what_is_shown_alone():
  params, drawn = _params(), _drawn()
  loss = lambda params: jnp.sum(parity.run_network(params, drawn) ** 2)
  found = jax.jit(jax.grad(loss))(params)
  assert found.tau[0] == 0 and np.all(np.asarray(found.tau[1:]) != 0)
  assert np.all(np.diag(found.recurrent) == 0)
  step = 1e-3
  for name, place in (('inputs', 2), ('tau', 3), ('recurrent', (0, 4))):
    both = [
      np.sum(_slow(_moved(params, name, place, sign * step), drawn) ** 2)
      for sign in (1, -1)
    ]
    slope = (both[0] - both[1]) / (2 * step)
    assert getattr(found, name)[place] == pytest.approx(slope, rel=1e-2)


def _moved(params, name, place, by):
  return params._replace(**{name: getattr(params, name).at[place].add(by)})


@pytest.mark.parametrize(
  ('window', 'level', 'wanted'),
  [(1, 2, '0010'), (3, 1, '1100'), (3, 3, '0111'), (99, 2, '1110')],
)
def test_what_is_trained(window, level, wanted):
  found = trained(Contender(window), level, 4)
  assert ''.join(str(int(x)) for x in found) == wanted


def test_a_run_climbs_the_stairs_and_stops_at_the_top():
  runner = Runner(Size(2, 400, units=24, batch=32))
  many = runner(Contender(99), 0.8, 0)
  assert many.level == 1 and many.mastered[0] < many.mastered[1] == many.steps
  assert many.steps < 400 and np.all(np.diag(many.accuracy) > 0.98)
  assert many.accuracy[1].mean() > 0.98 and many.probe.min() > 0.95
  np.testing.assert_array_equal(many.final, many.accuracy[1])
  again = runner(Contender(99), 0.8, 0)
  jax.tree.map(np.testing.assert_array_equal, again, many)
  one = runner(Contender(1, shared=True), 0.8, 0)
  assert one.level == 1
  # One head answers N = 3, which says nothing about N = 2.
  assert one.accuracy[1, 1] > 0.98 and one.accuracy[1, 0] < 0.7
  joint = runner(Contender(99, joint=True), 0.8, 0)
  assert np.all(joint.mastered == joint.steps)
  lost = runner(Contender(99), 1e-6, 0)
  assert lost.level == -1 and lost.steps == 400
  assert np.isnan(lost.mastered).all()


def _found(steps, old, taus):
  """Four seeds with a little noise; all three N mastered."""
  runs = []
  for noise in (0.0, 1e-3, 2e-3, 3e-3):
    accuracy = np.full((LEVELS, LEVELS), old - noise)
    runs.append(
      Run(
        np.array(steps) * (1 + noise),
        accuracy,
        np.array(taus) + noise,
        accuracy[-1],
        accuracy[-1],
        np.int32(9),
      )
    )
  return parity_curricula.Found('', runs, 1000)


def test_judgement():
  naive = 'one N at a time, heads kept (naive)'
  slow, quick = [100, 300, 700], [100, 200, 300]
  good = {
    'single-head': _found(slow, 0.5, [1.5, 1.8, 2.2]),
    naive: _found(slow, 0.7, [1.5, 1.8, 2.2]),
    'multi-head': _found(quick, 0.99, [1.5, 1.4, 1.3]),
  }
  assert all(parity_curricula.judge(good).values())
  bad = {
    'single-head': _found(quick, 0.5, [1.5, 1.4, 1.3]),
    naive: _found(quick, 0.99, [1.5, 1.4, 1.3]),
    'multi-head': _found(slow, 0.7, [1.5, 1.8, 2.2]),
  }
  assert not any(parity_curricula.judge(bad).values())


def test_an_n_that_was_not_mastered_counts_with_all_steps():
  run = _found([100, 200, 300], 0.9, [1.5, 1.4, 1.3]).runs[0]
  cut = run._replace(
    mastered=np.array([100, 200, np.nan]), tau=np.array([1.5, 1.6, np.nan])
  )
  found = parity_curricula.Found('', [cut, run], 1000)
  assert found.mastered.tolist() == [[100, 200, 1000], [100, 200, 300]]
  np.testing.assert_allclose(found.last_tau, [1.6, 1.3])
  other = parity_curricula.Found('', [run, run], 1000)
  tau = parity_curricula._common_tau(found, other)
  np.testing.assert_allclose(tau, [[1.6, 1.3], [1.4, 1.3]])
