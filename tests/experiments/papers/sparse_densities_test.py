import jax
import numpy as np
import pytest

from experiments.papers import images, sequences, sparse_densities
from lrcl import metrics, protocols

SEEDS = (3, 5)
OPTIONS = {'steps_per_task': 40, 'num_tasks': 5, 'batch_size': 16}


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam and schedules mix ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def found_by(stream, make_learners, rate):
  init_fn, apply_fn = sequences.make_mlp(stream, (32, 16))
  trials = protocols.Trials(stream, SEEDS, init_fn, make_learners(apply_fn))
  return trials.sweep({'rate': np.array([rate])}, SEEDS).pick(0)


def test_sparse_networks_forget_nothing_and_dense_ones_do():
  digits = images.load_images('digits', train_rows=300, test_rows=100)
  stream = sequences.split_stream(digits, SEEDS, scenario='task', **OPTIONS)
  cell = sparse_densities.Cell(0.2, 'erk', 'gradient')
  for chosen, forgets in ((cell, False), (None, True)):
    found = found_by(
      stream,
      lambda apply_fn, c=chosen: sparse_densities.learners(apply_fn, c, 40),
      0.03,
    )
    transfer = metrics.backward_transfer(found.matrix)
    assert np.any(transfer != 0) == forgets
    assert np.diagonal(found.matrix, 0, 1, 2).mean() > 0.7


def test_verdicts_follow_from_the_seeds():
  tuned, noise = (
    protocols.Tuned({}, (), np.zeros(3)),
    np.array([0, 0.01, -0.01]),
  )
  better = lambda cell: (cell.density == 0.2) == (cell.init == 'erk')
  cells = {
    cell: sparse_densities.Run(tuned, 0.5 + 0.2 * better(cell) + noise, noise)
    for cell in sparse_densities.CELLS
  }
  assert list(sparse_densities.judge(cells).values()) == [True, True]
  same = {cell: cells[sparse_densities.CELLS[0]] for cell in cells}
  assert not any(sparse_densities.judge(same).values())
