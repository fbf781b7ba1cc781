import jax
import jax.numpy as jnp
import numpy as np

from lrcl import schedules

TRUNK = schedules.infinite_schedule(1.0, 0.5, 3, 6)


def test_a_traced_fork_gives_the_bits_of_a_static_one():
  steps = jnp.arange(40)

  @jax.jit
  def branch(start):
    return schedules.decay_branch(TRUNK, start, 8, decay='cosine')(steps)

  for start in (0, 2, 7, 20):
    want = schedules.decay_branch(TRUNK, start, 8, decay='cosine')(steps)
    np.testing.assert_array_equal(branch(jnp.int32(start)), want)


def test_a_fork_that_is_never_reached_is_the_trunk():
  branch = jax.jit(
    lambda start, step: schedules.decay_branch(TRUNK, start, 8)(step)
  )
  steps = jnp.arange(40)
  got = branch(jnp.int32(2**30), steps)
  np.testing.assert_array_equal(got, TRUNK(steps))
