import jax
import numpy as np
import pytest

from lrcl import protocols

_AXES = {'rate': [0.5, 1.0, 2.0, 4.0], 'end': [0.1, 0.2]}


def _measure(setting, key):
  noise = 0.01 * jax.random.normal(key, (2,))
  return (setting['rate'] - 2.0) ** 2 + setting['end'] + noise


@pytest.mark.parametrize('batch_size', [None, 1, 3])
def test_a_sweep_measures_every_setting_with_every_seed(batch_size):
  settings = protocols.grid(_AXES)
  found = protocols.sweep(_measure, settings, [7, 3], batch_size=batch_size)
  assert found.shape == (8, 2, 2)
  for i in range(8):
    setting = {name: column[i] for name, column in settings.items()}
    for j, seed in enumerate([7, 3]):
      wanted = _measure(setting, jax.random.key(seed))
      np.testing.assert_allclose(found[i, j], wanted, rtol=1e-6)


def test_the_best_setting_is_reported_on_other_seeds():
  tuned = protocols.tune(_measure, _AXES, tuning_seeds=[0, 1], seeds=[2, 3])
  assert tuned.setting == {'rate': 2.0, 'end': 0.1}
  assert tuned.edges == ('end',)
  wanted = [_measure(tuned.setting, jax.random.key(seed)) for seed in (2, 3)]
  np.testing.assert_allclose(tuned.losses, wanted, rtol=1e-6)


def test_a_seed_is_not_tuned_on_and_reported():
  with pytest.raises(ValueError, match='no seed in common'):
    protocols.tune(_measure, _AXES, tuning_seeds=[0, 1], seeds=[1, 2])


def test_a_setting_that_diverges_once_is_not_chosen():
  losses = np.array([[[np.nan], [0.0]], [[3.0], [1.0]], [[9.0], [9.0]]])
  assert protocols.choose({'a': [1.0, 2.0, 3.0]}, losses) == ({'a': 2.0}, ())
  with pytest.raises(FloatingPointError, match='finite'):
    protocols.choose({'a': [1.0]}, np.array([[np.inf]]))
