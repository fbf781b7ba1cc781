"""Runs of the slow learner: what scale 0 freezes, and what alignment does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import slca as claim
from experiments.papers import slca_runs as runs

DATA = runs.load('digits', None)


def test_features_are_those_under_the_head():
  params = runs._MODULE.init(jax.random.key(0), jnp.ones((1, 64)))['params']
  x = jnp.asarray(DATA.test[0])
  found = runs.features(params, x) @ params['head']['kernel']
  wanted = runs._MODULE.apply({'params': params}, x)
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_rows_are_balanced_and_apart():
  sizes = runs.SIZES['digits']
  assert DATA.train.shape == (10, sizes.base_rows, 64)
  assert DATA.choice.shape == DATA.test.shape == (10, sizes.test_rows, 64)
  rows = np.concatenate([x.reshape(-1, 64) for x in DATA])
  assert len(np.unique(rows, axis=0)) == len(rows)


def test_a_run_learns_and_alignment_helps():
  settings = {'rate': np.array([0.1, 0.1]), 'scale': np.array([0.0, 0.1])}
  sweep = lambda seeds: runs.sweep(
    'digits', DATA, settings, seeds, base_rate=0.1, report=False
  )
  found = sweep((3, 4))
  assert found.shape == (2, 2, 1 + len(runs.ALIGN_RATES))
  assert (found[..., 1:].max(-1) > found[..., 0] + 0.1).all()
  assert found.max() > 0.7
  np.testing.assert_allclose(sweep((4, 3)), found[:, ::-1], atol=1e-6)


def test_the_softmax_is_over_the_classes_of_the_task():
  params = runs._MODULE.init(jax.random.key(0), jnp.ones((1, 64)))['params']
  classes = jnp.array([2, 7])
  x = jnp.asarray(DATA.train)[classes]
  after = runs._fit(
    optax.sgd(0.1), params, jax.random.key(1), x, classes, 1, 16
  )
  moved = np.abs(after['head']['kernel'] - params['head']['kernel']).max(0)
  assert set(np.flatnonzero(moved)) == {2, 7}


def _rows(**finals):
  noise = np.array([-0.01, 0.0, 0.01])
  rows = []
  for scale in claim.SCALES:
    for aligned in (False, True):
      key = f'{scale:g}{"+" if aligned else ""}'
      usual = 0.9 if aligned and scale == 0.1 else 0.7 if aligned else 0.5
      value = finals.get(key, usual)
      rows.append(
        claim.Row(scale, aligned, '', value, (value + noise).tolist())
      )
  return rows


def test_each_part_of_the_rule_can_fail():
  fails = lambda **f: [k for k, v in claim.judge(_rows(**f)).items() if not v]
  assert claim.best_inside(_rows()).scale == 0.1
  assert fails() == []
  assert fails(**{'1+': 0.9}) == ['slow above fast']
  assert fails(**{'0+': 0.95}) == ['slow above frozen']
  assert fails(**{'0.1': 0.9}) == ['alignment adds']


def test_rates_are_chosen_with_and_without_alignment():
  rates = (0.1, 0.2, 0.3)
  errors = np.full((3, 2, 1 + len(runs.ALIGN_RATES)), 0.9)
  errors[2, :, 0] = 0.5
  errors[1, :, 2] = (0.1, 0.3)
  column, tuned = claim._choose(errors, rates, aligned=False)
  assert (column, tuned.setting) == (0, {'rate': 0.3})
  assert tuned.edges == ('rate',)
  column, tuned = claim._choose(errors, rates, aligned=True)
  wanted = {'rate': 0.2, 'alignment': runs.ALIGN_RATES[1]}
  assert (column, tuned.setting, tuned.edges) == (2, wanted, ())
  np.testing.assert_allclose(tuned.losses, [0.1, 0.3])
