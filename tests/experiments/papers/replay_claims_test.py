"""The rules of the claims on UER, FPF and refresh learning, and their costs."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import (
  fpf,
  fpf_runs,
  images,
  refresh,
  refresh_runs,
  replay_cells,
  sequences,
  uer,
)
from lrcl import protocols


def make_data(steps_per_task=10):
  return replay_cells.Data(images.load_images('digits'), steps_per_task)


def test_a_cell_says_what_it_is_and_how_long_it_takes():
  cell = replay_cells.Cell('digits', 5, 100)
  assert cell.label == 'digits, memory 100, 5 passes'
  assert replay_cells.Cell('mnist', 1, 50).label == (
    'Split-MNIST, memory 50, one pass'
  )
  data = replay_cells.load(cell, None)
  assert data.steps_per_task == 5 * 18  # 280 rows in batches of 16
  stream = data.stream([3, 4])
  assert (stream.replicas, stream.num_steps) == (2, 5 * 90)


def test_contenders_differ_in_the_loss_alone():
  outputs = jnp.array([[[3.0, 0.0], [0.1, 0.0]]])
  batch = {'labels': jnp.array([1])}
  loss = {
    n: float(c.loss_fn(outputs, batch)[0]) for n, c in uer.CONTENDERS.items()
  }
  assert loss['ER'] == pytest.approx(np.log1p(np.exp(3.0)))
  assert loss['ER, cosines only'] == pytest.approx(np.log1p(np.exp(1.0)))
  assert loss['UER'] == pytest.approx(loss['ER, cosines only'])
  stored = batch | {'from_memory': jnp.array([True])}
  replayed = uer.CONTENDERS['UER'].loss_fn(outputs, stored)[0]
  assert float(replayed) == pytest.approx(loss['ER'])


def test_work_is_counted_in_units_of_replay():
  data = make_data(steps_per_task=10)  # 50 steps of 16 rows
  whole, head = 64 * 100 + 100 * 100 + 100 * 10, 100 * 10
  rows, work = fpf_runs.cost(data, fpf_runs.CONTENDERS['ER'])
  assert (rows, work) == (1600, 1.0)
  rows, work = fpf_runs.cost(data, fpf_runs.CONTENDERS['SGD + 3-FPF'])
  assert rows == 800 + 3 * 1600
  tuned = 3 * 1600 * (whole + 2 * head)
  assert work == pytest.approx((800 * 3 * whole + tuned) / (1600 * 3 * whole))


def tuned(accuracy):
  accuracy = np.asarray(accuracy)
  return protocols.Tuned({'rate': 0.1}, (), 1 - accuracy)


NOISE = np.array([0.0, 0.01, -0.01, 0.005])


def fpf_found(**changes):
  accuracy = {
    'ER': 0.8,
    'SGD + FPF': 0.7,
    'SGD + 3-FPF': 0.75,
    'SGD + 9-FPF': 0.79,
    'ER + FPF': 0.85,
    'naive': 0.2,
  } | changes
  rows = {
    n: tuned(a + np.roll(NOISE, i)) for i, (n, a) in enumerate(accuracy.items())
  }
  naive = 1 - rows.pop('naive').losses
  jumps = {'Dense_0': 2 + NOISE, 'head': changes.get('head', 4) + 3 * NOISE}
  references = {'naive': sequences.Reference(naive, '')}
  return fpf.Found(rows, references, jumps, make_data(1000))


def test_each_part_of_fpf_can_fail():
  assert all(fpf.judge(fpf_found()).values())
  for part, changes in {
    'the head jumps most': {'head': 2.01},
    'FPF adds 0.1 to SGD': {'SGD + FPF': 0.29},
    'FPF adds to ER': {'ER + FPF': 0.8},
    '9-FPF is not below ER': {'SGD + 9-FPF': 0.7},
  }.items():
    assert not fpf.judge(fpf_found(**changes))[part], part
  costly = fpf_found()._replace(data=make_data(10))
  assert not fpf.judge(costly)['9-FPF costs less than ER']


def test_each_part_of_refresh_can_fail():
  probe = refresh_runs.Probe(
    np.full((4, 5, 2), 0.01), np.ones((4, 5, 2)), np.zeros((4, 5))
  )
  better, same = tuned(0.9 + np.roll(NOISE, 1)), tuned(0.8 + NOISE[::-1])
  found = refresh_runs.Found(
    tuned(0.8 + NOISE), {1e-3: better, 1e-2: same}, 1e-3, probe, {}
  )
  assert all(refresh.judge(found).values())
  assert found.gain(1e-3).mean() == pytest.approx(0.1)
  part = 'refresh above DER++'
  assert not refresh.judge(found._replace(best=1e-2))[part]
  falls = probe._replace(rise=-probe.rise)
  part = 'unlearning raises the loss'
  assert not refresh.judge(found._replace(probe=falls))[part]
  wrong = probe._replace(distance=1.01 * probe.distance)
  part = 'tensors move by delta'
  assert not refresh.judge(found._replace(probe=wrong))[part]
