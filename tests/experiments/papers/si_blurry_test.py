"""The rule of the verdict on Si-Blurry, its masks, metrics and heads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import feature_sets, si_blurry, si_blurry_heads
from experiments.papers import si_blurry_masks as masks
from experiments.papers import si_blurry_runs as runs
from lrcl import losses, models

NOISE = np.array([0.0, 0.01, -0.01, 0.005])
PRETRAINED = 'pretrained features'


EXACT = si_blurry_heads.Joint(1e-12, 0)


def make_found(joint=EXACT, **areas):
  areas = {
    'naive': 0.3,
    'naive, masked': 0.5,
    'ER': 0.6,
    'ER, masked': 0.7,
    'G-ACIL': 0.9,
    'nearest class mean': 0.8,
  } | areas
  rows = {
    name: runs.Scores(area + np.roll(NOISE, i), None, None)
    for i, (name, area) in enumerate(areas.items())
  }
  return si_blurry.Found(rows, joint, 0.2)


def test_each_part_of_the_rule_can_fail():
  judge = lambda **made: si_blurry.judge(PRETRAINED, make_found(**made))
  assert all(judge().values()) and len(judge()) == 5
  for part, made in {
    'G-ACIL above ER': {'G-ACIL': 0.6},
    'nearest mean above ER': {'nearest class mean': 0.6},
    'mask above plain': {'naive, masked': 0.3},
    'mask above plain with replay': {'ER, masked': 0.6},
  }.items():
    assert [k for k, v in judge(**made).items() if not v] == [part]
  for joint in (si_blurry_heads.Joint(1e-7, 0), si_blurry_heads.Joint(0.0, 1)):
    assert not judge(joint=joint)['G-ACIL is joint ridge']
  on_pixels = si_blurry.judge('pixels', make_found())
  assert 'nearest mean above ER' not in on_pixels


def test_accuracy_counts_on_the_classes_seen_so_far():
  accuracy = np.array([[[0.8, 0.0], [0.4, 0.6]]])
  seen = np.array([[[True, False], [True, True]]])
  found = runs.score(accuracy, seen)
  assert found.area == pytest.approx([0.65])
  assert found.last == pytest.approx([0.5])
  assert found.forgetting == pytest.approx([0.4])


@pytest.fixture(name='cell', scope='module')
def make_cell():
  sizes = dict(per_class=64, choice_per_class=20, test_per_class=20)
  sets = feature_sets.load('digits', None, **sizes)
  return runs.make_cells(sets, 'digits')[0]


def test_test_sets_are_those_to_choose_on_and_those_to_report(cell):
  stream = runs.make_stream(cell, [0, 1])
  sets: Any = stream.evaluation
  assert sets.indices.shape == (2, 20, 20)
  labels = sets.rows(sets.indices)['labels']
  np.testing.assert_array_equal(
    labels, np.broadcast_to(np.arange(20)[:, None] % 10, labels.shape)
  )
  inputs = sets.rows(sets.indices[0, 10:].ravel())['inputs']
  assert set(map(bytes, inputs)) == set(map(bytes, cell.images.test['inputs']))
  seen = runs.find_seen(cell, stream)
  assert (np.diff(seen.astype(int), axis=1) >= 0).all()
  assert seen[:, -1].all() and not seen[:, 0].all()


def test_the_analytic_head_is_joint_ridge_along_any_stream(cell):
  head = si_blurry_heads.HEADS['G-ACIL']
  scores, kernels, ridge = si_blurry_heads.compute(
    head, cell, (1.0, 1e7), tuning_seeds=[100], seeds=[0, 1]
  )
  assert ridge == 1.0 and kernels.shape == (2, si_blurry_heads.WIDTH, 10)
  joint = si_blurry_heads.compare_to_joint(cell, kernels, ridge)
  assert joint.kernel < 1e-10 and joint.predictions == 0
  assert scores.last[0] == scores.last[1] > 0.9
  other = si_blurry_heads.compare_to_joint(cell, kernels, 10.0)
  assert other.kernel > 1e-3


def make_masked(seed=0):
  module = masks.MaskedPerceptron((6,), 3, 4)
  inputs = jax.random.normal(jax.random.key(seed), (5, 7))
  batch = {'labels': jnp.array([0, 1, 2, 0, 1]), 'weight': jnp.ones(5)}
  init_fn, apply_fn = models.from_module(module, inputs)
  params, state = init_fn(jax.random.key(1))
  apply: Any = lambda params, **kw: apply_fn(
    params, inputs, rng=None, model_state=state, **kw
  )
  return params, apply, batch


def test_a_row_is_ignored_by_the_gradients_of_the_head():
  params, apply, batch = make_masked()
  outputs, _ = apply(params, train=True)

  def losses_of(kernel):
    head = params['head'] | {'kernel': kernel}
    return losses.cross_entropy(
      apply(params | {'head': head}, train=True)[0].logits, batch
    )

  per_row = np.asarray(jax.jacobian(losses_of)(params['head']['kernel']))
  of_class = per_row.sum(0)
  found = masks.ignorance(outputs, batch)
  for row, label in enumerate(batch['labels'].tolist()):
    a, b = per_row[row, :, label], of_class[:, label]
    wanted = 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    assert float(found[row]) == pytest.approx(wanted, abs=1e-5)


def test_keys_that_were_picked_often_have_a_handicap_in_training():
  params, apply, _ = make_masked()
  _, state = apply(params, train=True)
  assert float(state['usage']['picked'].sum()) == 5
  _, same = apply(params, train=False)
  assert float(same['usage']['picked'].sum()) == 0
  gates = params | {'masks': jnp.arange(12.0).reshape(4, 3)}
  outputs, _ = apply(gates, train=False)
  assert len(np.unique(outputs.gate, axis=0)) > 1
  assert (np.asarray(outputs.key_loss) > 0).all()
