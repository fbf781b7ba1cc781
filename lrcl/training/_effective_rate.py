"""The effective learning rates of a state, for the records."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from lrcl import tree
from lrcl.methods import applied_rate
from lrcl.training._state import EffectiveRate, TrainState

ReadRates = Callable[[TrainState], dict[str, jax.Array]]


@functools.lru_cache(maxsize=32)
def make_read_rates(
  effective_rate: EffectiveRate | None, replicas: int | None = None
) -> ReadRates | None:
  """Makes `read(state) -> {leaf: rate}`, compiled once for all branches.

  Args:
    effective_rate: the learner's.
    replicas: the number of replicas of the state, or None. They are read one
      after another, so that each has the bits of a single run.

  Returns:
    A function to a dict of scalars (`[replicas]` of a replicated state), by
    the names of the leaves that `effective_rate` does not leave out. NaN
    where the chain has no link that tells the rate. None for a learner without
    normalised layers.
  """
  if effective_rate is None:
    return None
  one = lambda args: effective_rate(*args)
  run = one if replicas is None else lambda args: jax.lax.map(one, args)
  compiled = jax.jit(run)

  def read(state: TrainState) -> dict[str, jax.Array]:
    rate, _ = applied_rate(state.opt_state)
    if replicas is not None:
      rate = jnp.broadcast_to(rate, replicas)
    rates = compiled((state.params, rate))
    leaves: Any = jax.tree_util.tree_leaves_with_path(rates)
    return {tree.leaf_name(path): value for path, value in leaves}

  return read
