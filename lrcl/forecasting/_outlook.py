"""What laws predict of a decay: started now, not at all, or later."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.forecasting import _decays
from lrcl.forecasting._ensemble import LawEnsemble

Interval = tuple[float, float]


class DecayOutlook(NamedTuple):
  """What is predicted of a decay of one length.

  Attributes:
    decay_steps: its length.
    loss: at the end of a decay that starts now.
    interval: of that loss: where most laws of the ensemble put it.
    trunk_loss: at the same step, without a decay.
    gain: interval of what the decay is better by at that step.
    later_loss: at the end of such a decay that starts as many steps later.
    waiting: interval of what the later one is better by.
  """

  decay_steps: int
  loss: float
  interval: Interval
  trunk_loss: float
  gain: Interval
  later_loss: float
  waiting: Interval


def look_ahead(
  laws: LawEnsemble,
  rates: np.ndarray,
  now: int,
  decay: str,
  end_value: float,
  level: float,
  length: int,
) -> DecayOutlook:
  """Three runs under every law: decay now, go on, go on and then decay."""
  predict = functools.partial(_predict, rates=rates, end_value=end_value)
  cases = ((now, now + length), (now + length, now + length))
  cases += ((now + length, now + 2 * length),)
  told = []
  with jax.enable_x64(True):
    for start, end in cases:
      told.append(
        predict(laws, start=start, end=end, length=length, decay=decay)
      )
  of_law, of_members = zip(*told, strict=True)
  soon, on, later = map(np.asarray, of_members)
  interval = functools.partial(_interval, level=level)
  return DecayOutlook(
    decay_steps=length,
    loss=float(of_law[0]),
    interval=interval(soon),
    trunk_loss=float(of_law[1]),
    gain=interval(on - soon),
    later_loss=float(of_law[2]),
    waiting=interval(soon - later),
  )


@functools.partial(jax.jit, static_argnames='decay')
def _predict(
  laws: LawEnsemble,
  rates: Any,
  end_value: Any,
  start: Any,
  end: Any,
  length: Any,
  decay: str,
) -> tuple[jax.Array, jax.Array]:
  """The loss of the last step before `end`, of the law and of its kin."""
  row = _decays.decayed(rates, start, length, end_value, decay)
  at = jnp.stack([end - 1])
  cast = lambda law: jax.tree.map(lambda x: jnp.asarray(x, row.dtype), law)
  laws = LawEnsemble(cast(laws.law), cast(laws.members))
  return laws.law.predict(row, at)[0], laws.predict(row, at)[:, 0]


def _interval(values: np.ndarray, level: float) -> Interval:
  ends = np.quantile(values, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
  return float(ends[0]), float(ends[1])
