"""The rate as an argument of one program, for warm-up and search alike."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from lrcl import schedules
from lrcl.training._state import Learner


def take_rate(
  learner: Learner, warmup: Any
) -> tuple[Learner, Callable[..., Any]]:
  """The learner whose `hyperparams` are made by the function beside it.

  The warm-up and the search are one program: whether it warms up is an array.
  """
  make_tx = learner.tx
  if not callable(make_tx):
    raise TypeError(
      'auto_lrs: learner.tx is a chain; it must be a function of the rate, '
      'such as `lambda rate: scale_by_schedule_value(rate)`.'
    )
  if warmup is None:
    return learner, lambda rates, warming=False: np.asarray(rates, np.float32)
  before = schedules.build_schedule(warmup)

  def tx(hyperparams):
    rate, warming = hyperparams
    return make_tx(lambda count: jnp.where(warming, before(count), rate))

  def make_hyperparams(rates, warming=False):
    rates = np.asarray(rates, np.float32)
    return rates, np.full(rates.shape, warming)

  return dataclasses.replace(learner, tx=tx), make_hyperparams
