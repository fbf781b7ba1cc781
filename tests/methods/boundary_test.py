"""What is done only where it is needed, alone and over seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl.methods import _boundary


@pytest.mark.parametrize('flag', [False, True])
def test_a_flag_alone_is_itself(flag):
  assert bool(jax.jit(_boundary.any_replica)(jnp.array(flag))) is flag


@pytest.mark.parametrize(
  'flags', [[[0, 0], [0, 0]], [[0, 1], [0, 0]], [[1, 1], [1, 1]]]
)
def test_over_seeds_it_is_the_same_for_all(flags):
  flags = jnp.array(flags, bool)
  got = jax.vmap(jax.vmap(_boundary.any_replica))(flags)
  assert got.tolist() == [[bool(flags.any())] * 2] * 2
  # What is not mapped over stays as it is.
  got = jax.vmap(lambda x, flag: (_boundary.any_replica(flag), x), (0, None))
  assert got(jnp.zeros(3), flags[0, 1])[0].tolist() == [bool(flags[0, 1])] * 3


def test_a_loop_over_seeds_selects_nothing():
  """The carry of such a loop is neither read nor written by a selection."""

  def put(flag, rows):
    write = lambda rows: rows.at[0].set(jnp.where(flag, 1.0, rows[0]))
    return _boundary.run_if(_boundary.any_replica(flag), write, rows)

  flags, rows = jnp.array([True, False]), jnp.zeros((2, 5, 3))
  got = jax.vmap(put)(flags, rows)
  np.testing.assert_array_equal(got, rows.at[0, 0].set(1.0))
  text = str(jax.make_jaxpr(jax.vmap(put))(flags, rows))
  wide = [x for x in text.splitlines() if 'select_n' in x and '[2,5,3]' in x]
  assert not wide
  np.testing.assert_array_equal(jax.vmap(put)(~flags & False, rows), rows)


def test_derivatives_pass():
  act = lambda x: _boundary.run_if(
    _boundary.any_replica(x[0] > 0), lambda c: c * x, x
  )
  x = jnp.array([2.0, 3.0])
  _, tangent = jax.jvp(act, (x,), (jnp.ones(2),))
  np.testing.assert_array_equal(tangent, 2 * x)
