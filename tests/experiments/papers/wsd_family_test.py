import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import wsd_family
from lrcl import protocols

_ENDS = [20, 40, 80]
_SETTING = {'peak': 0.5, 'end': 0.1}
_BY_NAME = {c.name: c for c in wsd_family.CONTENDERS}


def _rates(name):
  contender = _BY_NAME[name]
  own = contender.ends(_ENDS)
  made = contender.make(_SETTING, own)
  return [np.broadcast_to(s(jnp.arange(own[-1])), (own[-1],)) for s in made]


@pytest.mark.parametrize('name', _BY_NAME)
def test_no_rate_is_above_the_peak(name):
  for rates in _rates(name):
    assert rates[0] == 0.5
    assert rates.max() == 0.5


@pytest.mark.parametrize('name', [n for n in _BY_NAME if n != 'constant'])
def test_every_checkpoint_stands_at_the_end_of_a_decay(name):
  own = _BY_NAME[name].ends(_ENDS)
  for rates, end in zip(_rates(name), own, strict=True):
    before = rates[: end - 1]
    assert rates[end - 1] < 0.3 * 0.5
    assert rates[end - 1] == rates[max(0, end - 3) : end].min()
    assert before[0] == 0.5


def test_branches_leave_one_trunk():
  rates = _rates('WSD, a branch each')
  for row, start in zip(rates, (18, 36, 72), strict=True):
    np.testing.assert_array_equal(row[: start + 1], 0.5)
    assert row[start + 1] < 0.5


def test_steps_are_those_that_are_run():
  steps = {c.name: c.steps(_ENDS) for c in wsd_family.CONTENDERS}
  assert steps == {
    'WSD, a branch each': 72 + 2 + 4 + 8,
    'WSD, equal steps': 80,
    'WSD-S': 80,
    'WSD-S, longer decays': 80,
    'cyclic cosine': 80,
    'cosine, a run each': 140,
    'constant': 80,
  }
  own = wsd_family.affordable_ends(_ENDS)
  assert wsd_family.wsd_steps(own) == 80
  assert wsd_family.wsd_steps(own[:2]) == 40


def test_a_contender_is_measured_at_its_own_checkpoints():
  def simulate(rates, key, at):
    del key
    return jnp.cumsum(rates)[jnp.asarray(at) - 1]

  for name in ('WSD, equal steps', 'WSD-S'):
    contender = _BY_NAME[name]
    measure = wsd_family.measure(contender, _ENDS, simulate)
    found = measure(_SETTING, jax.random.key(0))
    ends = zip(_rates(name), contender.ends(_ENDS), strict=True)
    wanted = [rates[:end].sum() for rates, end in ends]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
  'losses,parts',
  [
    ((1, 2, 3, 4), [True, True, True]),
    ((2, 2, 3, 4), [False, True, True]),
    ((4, 3, 2, 1), [False, False, False]),
  ],
)
def test_what_holds_follows_from_the_losses(losses, parts):
  names = ('WSD-S', 'WSD, equal steps', 'cyclic cosine', 'constant')
  noise = np.random.default_rng(0).normal(0, 0.01, (5, 3))
  found = {
    name: protocols.Tuned({}, (), loss + noise)
    for name, loss in zip(names, losses, strict=True)
  }
  assert list(wsd_family.holds(found).values()) == parts
