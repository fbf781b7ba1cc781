"""Plans of branches: brute force, records that build them, invariants."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl.forecasting import (
  AnnealingLaw,
  ConvexLaw,
  MultiPowerLaw,
  plan_branches,
)
from lrcl.schedules import build_schedule, decay_branch
from lrcl.training import Branches

MULTI_POWER = MultiPowerLaw(2.0, 0.5, 0.5, 2.0, 0.5, 0.6, 0.5)
ANNEALING = AnnealingLaw(2.0, 0.5, 0.5, 0.05, 0.9)
LAWS = [MULTI_POWER, ANNEALING, ConvexLaw(2.0)]
SHAPES = ('linear', 'one_minus_sqrt', 'cosine', 'square')
TRUNK = {
  'name': 'infinite_schedule',
  'kwargs': {
    'peak_value': 1.0,
    'constant_value': 0.5,
    'warmup_steps': 4,
    'cooldown_steps': 12,
  },
}


@functools.partial(jax.jit, static_argnums=(1, 2))
def _losses_of_all_forks(law, budget, decay):
  """By the schedules of the library, every fork there is."""
  trunk = build_schedule(TRUNK)

  def loss(fork):
    # A decay's length is static, so its rates are those of a longer one.
    over = jnp.arange(budget)
    top, u = trunk(fork), (over - fork).astype(jnp.float32)
    u = jnp.clip(u / (budget - fork).astype(jnp.float32), 0.0, 1.0)
    left = {
      'linear': 1 - u,
      'one_minus_sqrt': 1 - jnp.sqrt(u),
      'cosine': jnp.cos(jnp.pi * u / 2) ** 2,
      'square': (1 - u) * (1 + u),
    }[decay]
    rates = jnp.where(over <= fork, jax.vmap(trunk)(over), top * left)
    return law.predict(rates, jnp.array([budget - 1]))[0]

  return jax.lax.map(loss, jnp.arange(4, budget))


@pytest.mark.parametrize('law', LAWS, ids=lambda law: type(law).__name__)
def test_brute_force(law):
  # Within the warm-up there is a valley of its own.
  shapes = SHAPES if law is ANNEALING else ('linear', 'one_minus_sqrt')
  (branch,) = plan_branches(
    law, [60], build_schedule(TRUNK), decays=shapes, first_fork=4
  ).branches
  every = [_losses_of_all_forks(law, 60, decay) for decay in shapes]
  np.testing.assert_allclose(branch.loss, np.min(every), rtol=3e-6)
  its = every[shapes.index(branch.decay)][branch.start_step - 4]
  np.testing.assert_allclose(branch.loss, its, rtol=3e-6)


def _rates(plan):
  """The rates of every branch, by its records and its lineage."""
  trunk = build_schedule(TRUNK)
  rates = {'main': np.asarray(trunk(np.arange(plan.trunk_steps)))}
  for branch in plan.branches:
    own = build_schedule(branch.record(TRUNK))
    new = np.asarray(own(np.arange(branch.fork_step, branch.budget)))
    before = rates[branch.source][: branch.fork_step]
    assert len(before) == branch.fork_step
    rates[branch.name] = np.append(before, new)
  return rates


@pytest.mark.parametrize('law', LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize('after', ['trunk', 'decayed'])
def test_the_records_build_what_was_predicted(law, after):
  plan = plan_branches(
    law, [20, 40, 60], build_schedule(TRUNK), after_decay=after, end_value=0.05
  )
  rates = _rates(plan)
  for branch in plan.branches:
    loss = law.predict(rates[branch.name], np.array([branch.budget - 1]))
    np.testing.assert_allclose(branch.loss, loss[0], rtol=3e-6)
    assert branch.loss < branch.trunk_loss
  trained = len(rates['main'])
  trained += sum(b.budget - b.fork_step for b in plan.branches)
  assert plan.total_steps == trained
  if after == 'decayed':
    assert plan.total_steps == 60


@settings(deadline=None, max_examples=8)
@given(
  st.lists(st.integers(12, 60), min_size=2, max_size=4, unique=True),
  st.integers(1, 5),
)
def test_invariants(budgets, every):
  budgets = sorted(budgets)
  make = functools.partial(
    plan_branches,
    MULTI_POWER,
    trunk=build_schedule(TRUNK),
    first_fork=4,
    every=every,
  )
  # One length, whatever the budgets: the last is the same for all.
  wsd = make([*budgets, 61])
  for branch in wsd.branches:
    assert 4 <= branch.start_step < branch.budget
    assert branch.start_step % every == 0
    assert branch.start_step + branch.decay_steps == branch.budget
    assert branch.source == 'main' and branch.fork_step == branch.start_step
  alone = make([budgets[0], 61]).branches[0]
  np.testing.assert_allclose(alone.loss, wsd.branches[0].loss, rtol=1e-9)
  assert alone.start_step == wsd.branches[0].start_step
  assert wsd.total_steps >= 61
  finer = make([budgets[0], 61], every=1).branches[0]
  assert finer.loss <= alone.loss + 1e-9


def test_wsd_s_goes_on_from_the_decayed_state():
  plan = plan_branches(
    MULTI_POWER,
    [20, 40, 60],
    build_schedule(TRUNK),
    after_decay='decayed',
  )
  first, second, third = plan.branches
  assert (first.source, first.fork_step) == ('main', first.start_step)
  assert (second.source, second.fork_step) == ('decay-20', 20)
  assert (third.source, third.fork_step) == ('decay-40', 40)
  assert second.start_step >= 20 and third.start_step >= 40
  wsd = plan_branches(MULTI_POWER, [20, 40, 60], build_schedule(TRUNK))
  np.testing.assert_allclose(first.loss, wsd.branches[0].loss, rtol=1e-9)


def test_the_plan_is_what_branches_take(tmp_path):
  plan = plan_branches(ANNEALING, [30, 60], build_schedule(TRUNK), every=5)
  forks = {b.fork_step for b in plan.branches}
  with Branches(tmp_path) as branches:
    branches.create('main', schedule=TRUNK)
    for step in sorted(forks):
      branches.save({'w': jnp.full(2, step)}, step=step, keep=True)
    for b in plan.branches:
      branches.fork(b.source, b.fork_step, b.name, schedule=b.record(TRUNK))
      restored = branches.restore(b.name, schedule=b.record(TRUNK))
      assert restored.step == b.fork_step
    tree = branches.tree()
  assert tree['decay-60'].parent == 'main'


def test_a_branch_is_a_decay_branch():
  plan = plan_branches(
    ANNEALING, [60], build_schedule(TRUNK), decays=['square']
  )
  (branch,) = plan.branches
  own = decay_branch(
    build_schedule(TRUNK), branch.start_step, branch.decay_steps, decay='square'
  )
  over = np.arange(80)
  built = build_schedule(branch.record(TRUNK))
  np.testing.assert_array_equal(built(over), own(over))


@pytest.mark.parametrize(
  'kwargs,message',
  [
    (dict(budgets=[]), 'budgets is empty'),
    (dict(budgets=[20, 20]), r'budgets\[1\] is 20.*>= 21'),
    (dict(first_fork=20), 'budget 20 leaves no multiple of 1'),
    (dict(every=30, first_fork=1), 'budget 20 leaves no multiple of 30'),
    (dict(decays=['exponential']), "decay is 'exponential'.*linear"),
    (dict(decays=[]), 'decays is empty'),
    (dict(after_decay='main'), "after_decay is 'main'"),
    (dict(end_value=-1.0), 'end_value is -1'),
  ],
)
def test_errors(kwargs, message):
  kwargs = {'budgets': [20]} | kwargs
  with pytest.raises(ValueError, match=message):
    plan_branches(ANNEALING, trunk=optax.constant_schedule(1.0), **kwargs)
