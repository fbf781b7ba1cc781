import jax
import numpy as np
import optax
import pytest

from experiments.papers import mup_transfer
from lrcl import tree

_TASK = mup_transfer.Task('adam', 'cross-entropy', range(-4, 1))


def _losses(*optima):
  """Bowls `[widths, rates, seeds]` around the given grid points."""
  rates = np.arange(9)[:, None]
  bowl = lambda best: 0.1 * np.exp((rates - np.asarray(best)[None]) ** 2 / 9)
  return np.stack([bowl(best) for best in optima])


@pytest.mark.parametrize(
  ('standard', 'mup', 'want'),
  [
    ([2, 2, 2], [6, 6, 5], (True, True, True)),
    ([5, 5, 5], [6, 6, 5], (False, True, False)),  # one step is no drift
    ([2, 2, 2], [6, 6, 4], (True, False, True)),
    ([9, 2, 7], [6, 6, 6], (False, True, False)),  # in no one direction
  ],
)
def test_the_verdict_follows_from_the_optima(standard, mup, want):
  start = [6, 6, 6]
  found = mup_transfer.Found(
    _losses(start, standard), _losses(start, mup), tuned=6
  )
  assert tuple(mup_transfer.judge(found).values()) == want


@pytest.mark.parametrize('loss', ['cross-entropy', 'squared error'])
def test_all_widths_begin_as_one_function(loss):
  task = _TASK._replace(loss=loss)
  for width, mup in ((8, False), (16, False), (16, True)):
    problem = mup_transfer.make_setup(task, width, 8, 1, mup=mup).problem
    params = problem.init_fn(jax.random.key(0))
    got = problem.measure_fn(params, problem.pool)['loss']
    np.testing.assert_allclose(got, mup_transfer.start_loss(task), rtol=1e-5)


def test_both_are_one_network_at_the_smallest_width():
  key, ends = jax.random.key(0), []
  for mup in (False, True):
    task = _TASK._replace(optimizer='sgd')
    setup = mup_transfer.make_setup(task, 8, 8, 1, mup=mup)
    params = setup.problem.init_fn(key)
    ones = jax.tree.map(lambda p: 0 * p + 1, params)
    updates, _ = setup.optimizer.update(ones, setup.optimizer.init(params))
    ends.append(optax.apply_updates(params, updates))
  assert tree.digest(ends[0]) == tree.digest(ends[1])
