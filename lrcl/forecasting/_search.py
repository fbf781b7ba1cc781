"""The schedule that a law likes best."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import check_steps, check_value
from lrcl.forecasting import _knots
from lrcl.forecasting._knots import Knots

_FIRST_GUESSES = (0.1, 0.3, 0.9)
"""Parts of the run, that a linear decay takes: where the search starts."""

_Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""The loss, and its gradient, of values at the knots."""

_LEVELS = (4, 2, 1)
"""The search moves every fourth knot, then every second, then all."""


class OptimizedSchedule(NamedTuple):
  """What `optimize_schedule` found.

  Attributes:
    rates: `[steps]`, float32: the rate of every step.
    loss: what the law predicts for the end of the run.
    knot_steps: `[knots]`: between these steps the rates are straight lines.
      Where the search was given a trunk they begin at the step that leaves it.
    knot_values: `[knots]`: the rates there.
  """

  rates: np.ndarray
  loss: float
  knot_steps: np.ndarray
  knot_values: np.ndarray

  def record(self, trunk: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The recordable form, of which `lrcl.schedules.build_schedule` makes it.

    Args:
      trunk: the record of the trunk, where the search was given one.

    Raises:
      ValueError: if it was given one and `trunk` is None.
    """
    first = int(self.knot_steps[0])
    kwargs = {
      'steps': (self.knot_steps - first).tolist(),
      'values': self.knot_values.tolist(),
    }
    knots = {'name': 'piecewise_linear_schedule', 'kwargs': kwargs}
    if first == 0:
      return knots
    if trunk is None:
      raise ValueError(
        'OptimizedSchedule.record: trunk is None; it must be the record of the '
        f'schedule that this one leaves at step {first}.'
      )
    parts = {'schedules': [dict(trunk), knots], 'boundaries': [first]}
    return {'name': 'join_schedules', 'kwargs': parts}


def optimize_schedule(
  law: Any,
  steps: int,
  peak_value: float,
  *,
  warmup_steps: int = 0,
  trunk: optax.Schedule | None = None,
  start_step: int | None = None,
  min_value: float = 0.0,
  end_value: float | None = None,
  non_increasing: bool = True,
  knots: int = 48,
) -> OptimizedSchedule:
  """Finds the rates under which a law predicts the least loss at the end.

  The search moves the rates at a few knots, first of few and then of all, by
  L-BFGS-B from several linear decays. It is local: that it finds the best one
  is not proven, but no linear decay that it starts from is better. A law knows
  what it was fitted to: a schedule unlike those is an extrapolation, to be
  tried before it is trusted.

  Costs a few hundred predictions of one loss, and their gradients, in float64:
  seconds for 24,000 steps, a good part of them compilation. It runs on the
  host between them, so not inside jit.

  Args:
    law: a pytree with `law.predict(lrs, steps) -> losses`, differentiable in
      `lrs`: an `AnnealingLaw`, a `MultiPowerLaw`, a `ConvexLaw`, or your own.
    steps: of the whole run, the warm-up included.
    peak_value: the rate after the warm-up, and the greatest one.
    warmup_steps: steps of a linear rise from 0.
    trunk: the rates up to `start_step`, instead of warm-up and peak: a
      schedule that runs already. The search goes on from its rate there.
    start_step: the rates up to this step, itself included, are not moved. None
      is the end of the warm-up, or step 0 of the trunk.
    min_value: no rate after `start_step` is less.
    end_value: the rate of the last step; None leaves it to the law.
    non_increasing: whether the rates after `start_step` never rise.
    knots: about how many.

  Returns:
    An `OptimizedSchedule`.

  Raises:
    ValueError: if the steps do not follow one another, or a value is out of
      range.
    TypeError: if the law predicts nothing.

  Example:
    >>> from lrcl.forecasting import ConvexLaw
    >>> best = optimize_schedule(ConvexLaw(100.0), 1000, 1.0, knots=16)
    >>> linear = ConvexLaw(100.0).predict(np.linspace(1.0, 0.001, 1000), [999])
    >>> best.rates.shape, bool(best.loss < linear[0])
    ((1000,), True)

  References:
    Luo et al., 2025, `A Multi-Power Law for Loss Curve Prediction Across
    Learning Rate Schedules <https://arxiv.org/abs/2503.12811>`_, who move
    every rate instead of knots.
  """
  where = 'optimize_schedule'
  if not callable(getattr(law, 'predict', None)):
    raise TypeError(
      f'{where}: law is {law!r}; it must have predict(lrs, steps).'
    )
  steps = check_steps(where, 'steps', steps, 2)
  knots = check_steps(where, 'knots', knots, 4)
  check_value(where, 'peak_value', peak_value, above=0.0)
  head = _head(where, steps, peak_value, warmup_steps, trunk, start_step)
  form = _form(
    where, float(head[-1]), peak_value, min_value, end_value, non_increasing
  )
  law = jax.tree.map(np.float64, law)
  at = _knots.place_knots(len(head) - 1, steps - 1, knots)
  # The optimum is flat: in float32 the search would stop far from it.
  with jax.enable_x64(True):
    values = _search(_objective(law, head[:-1], at), form, at)
  if trunk is None:
    before = np.unique(np.array([0, warmup_steps]))
    before = before[before < at[0]]
    at, values = np.append(before, at), np.append(head[before], values)
  rates = np.append(head, np.interp(np.arange(len(head), steps), at, values))
  rates = rates.astype(np.float32)
  with jax.enable_x64(True):
    loss = float(_loss(law, np.float64(rates)))
  return OptimizedSchedule(rates, loss, at, values)


def _search(
  objective: _Objective,
  form: Knots,
  at: np.ndarray,
) -> np.ndarray:
  """The best values at the knots."""
  found = []
  for part in _FIRST_GUESSES:
    left = (at[-1] - at) / (part * (at[-1] - at[0]))
    guess = form.low + (form.first - form.low) * np.clip(left, 1e-3, 1.0)
    found.append(_descend(objective, form, at, guess, _LEVELS[0]))
  best = min(found, key=lambda pair: pair[0])
  for every in _LEVELS[1:]:
    finer = _descend(objective, form, at, best[1], every)
    best = min(best, finer, key=lambda pair: pair[0])
  return best[1]


def _descend(
  objective: _Objective,
  form: Knots,
  at: np.ndarray,
  guess: np.ndarray,
  every: int,
) -> tuple[float, np.ndarray]:
  """Goes down from a guess, moving every so many knots: `(loss, values)`."""
  from scipy import optimize  # slow to import, and needed here alone

  kept = _knots.thin(len(at), every)
  # What each kept value adds to all values: the lines between them.
  spread = np.stack([np.interp(at, at[kept], row) for row in np.eye(len(kept))])

  def fn(variables: np.ndarray) -> tuple[float, np.ndarray]:
    loss, slope = objective(form.values(variables) @ spread)
    return loss, form.pull_back(variables, spread @ slope)

  begin = form.variables(guess[kept])
  unit = abs(fn(begin)[0]) or 1.0
  done = optimize.minimize(
    lambda x: tuple(part / unit for part in fn(x)),
    begin,
    jac=True,
    method='L-BFGS-B',
    bounds=form.box(len(begin)),
    options={'maxiter': 300, 'maxcor': 40, 'ftol': 1e-12, 'gtol': 1e-10},
  )
  return float(done.fun) * unit, form.values(done.x) @ spread


def _objective(law: Any, head: np.ndarray, at: np.ndarray) -> _Objective:
  """The loss at the end as a function of the values at the knots."""
  places = np.arange(at[0], at[-1] + 1)
  before = np.clip(np.searchsorted(at, places, 'right') - 1, 0, len(at) - 2)
  part = (places - at[before]) / np.diff(at)[before]
  fixed = [jnp.asarray(x) for x in (head, part, before)]

  def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
    loss, slope = _loss_and_slope(law, *fixed, values)
    return float(loss), np.asarray(slope)

  return objective


@jax.jit
def _loss_and_slope(
  law: Any, head: jax.Array, part: jax.Array, before: jax.Array, values: Any
) -> tuple[jax.Array, jax.Array]:
  def loss(values: jax.Array) -> jax.Array:
    low = values[before]
    tail = low + (values[before + 1] - low) * part
    return _loss(law, jnp.concatenate([head, tail]))

  return jax.value_and_grad(loss)(values)


@jax.jit
def _loss(law: Any, rates: jax.Array) -> jax.Array:
  """What the law predicts for the end of the run."""
  return law.predict(rates, jnp.array([rates.size - 1]))[0]


def _head(
  where: str,
  steps: int,
  peak_value: float,
  warmup_steps: int,
  trunk: optax.Schedule | None,
  start_step: int | None,
) -> np.ndarray:
  """The rates that are not moved; the last of them is the first knot."""
  warmup_steps = check_steps(where, 'warmup_steps', warmup_steps)
  if trunk is not None and warmup_steps:
    raise ValueError(
      f'{where}: warmup_steps is {warmup_steps} and trunk is given; the trunk '
      'has its own warm-up, so leave it at 0.'
    )
  start = warmup_steps if start_step is None else start_step
  start = check_steps(where, 'start_step', start, warmup_steps)
  if start > steps - 2:
    raise ValueError(
      f'{where}: the rates up to step {start} are fixed, and steps is {steps}; '
      f'at most the first {steps - 1} rates may be fixed.'
    )
  at = np.arange(start + 1)
  if trunk is not None:
    return np.asarray(jax.vmap(trunk)(jnp.asarray(at)), np.float64)
  if not warmup_steps:
    return np.full(start + 1, float(peak_value))
  return np.interp(at, [0, warmup_steps], [0.0, peak_value])


def _form(
  where: str,
  first: float,
  peak_value: float,
  min_value: float,
  end_value: float | None,
  non_increasing: bool,
) -> Knots:
  low, high = float(min_value), first if non_increasing else float(peak_value)
  check_value(where, 'min_value', min_value, minimum=0.0, maximum=high)
  if end_value is not None:
    check_value(where, 'end_value', end_value, minimum=low, maximum=high)
    low = float(end_value) if non_increasing else low
  return Knots(first, low, high, non_increasing, end_value)
