"""The matrix of losses, out of records."""

import numpy as np
import pytest

from lrcl import reports
from tests.reports.made_records import World, make_records

SMALL = World(tasks=2, seeds=(0, 1), task_steps=40, decay_steps=20)
# Of two seeds: after each task, on each task.
LOSSES = np.array([[[1.0, 3.0], [2.0, 0.5]], [[2.0, 4.0], [3.0, 0.7]]])


@pytest.fixture(scope='module')
def records():
  """Made-up records with the losses above at ends of tasks."""
  return [
    r | {'metrics': r['metrics'] | {'loss': LOSSES[:, r['task']].tolist()}}
    for r in make_records(SMALL)
  ]


def test_loss_matrix(records):
  np.testing.assert_array_equal(reports.loss_matrix(records, 'ewc'), LOSSES)
  first = [r for r in records if r['step'] <= 40]
  half = reports.loss_matrix(first, 'ewc')
  np.testing.assert_array_equal(half[:, 0], LOSSES[:, 0])
  assert np.isnan(half[:, 1]).all()
  assert np.isnan(reports.loss_matrix(make_records(SMALL), 'ewc')).all()


def test_as_text(records):
  # Means by hand; perplexities are exp(2.5) and exp(0.6).
  assert reports.format_losses(records, 'ewc').splitlines() == [
    'ewc: after       0      1',
    '         0   1.500  3.500',
    '         1   2.500  0.600',
    'perplexity  12.182  1.822',
  ]
  first = [r for r in records if r['step'] <= 40]
  assert reports.format_losses(first, 'ewc').splitlines()[1:] == [
    '         0  1.500   3.500',
    'perplexity  4.482  33.115',
  ]


def test_a_row_that_meets_all_tasks_at_once_has_one_line(records):
  lines = reports.format_losses(records, 'joint').splitlines()
  assert [line.split()[0] for line in lines] == ['joint:', 'all', 'perplexity']


def test_without_losses(records):
  with pytest.raises(ValueError, match="'ewc' has no losses at ends of tasks"):
    reports.format_losses(make_records(SMALL), 'ewc')
  with pytest.raises(KeyError, match='nobody'):
    reports.format_losses(records, 'nobody')
  odd = [r | {'metrics': r['metrics'] | {'loss': [1.0]}} for r in records]
  with pytest.raises(ValueError, match=r"metrics\['loss'\] must be numbers"):
    reports.loss_matrix(odd, 'ewc')
