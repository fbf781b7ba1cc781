"""Whether to decay now: what a law makes of a run that is under way."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from lrcl.base import check_steps, check_value
from lrcl.forecasting import _decays
from lrcl.forecasting._curves import Curve
from lrcl.forecasting._ensemble import LawEnsemble, bootstrap_laws
from lrcl.forecasting._fit_multi_power import fit_multi_power_law
from lrcl.forecasting._from_records import Record, curves_from_records
from lrcl.forecasting._outlook import DecayOutlook, look_ahead


class DecayDecision(NamedTuple):
  """What `should_decay_now` concludes.

  Attributes:
    decay: whether to decay now.
    step: steps that the branch has taken.
    decay_steps: the length that decided it: the shortest that will do, or the
      longest that will not.
    outlooks: one for each length.
    reasons: sentences.
  """

  decay: bool
  step: int
  decay_steps: int
  outlooks: tuple[DecayOutlook, ...]
  reasons: tuple[str, ...]


def should_decay_now(
  records: Iterable[Record] | Mapping[str, Curve],
  decay_steps: int | Sequence[int],
  *,
  target: float | None = None,
  worth: float | None = None,
  law: Any = None,
  fit: Callable[..., Any] = fit_multi_power_law,
  branch: str = 'main',
  trunk: optax.Schedule | None = None,
  decay: str = 'linear',
  end_value: float = 0.0,
  num_laws: int = 20,
  level: float = 0.9,
  seed: int = 0,
) -> DecayDecision:
  """Weighs a decay that starts now against going on.

  With a `target`, the answer is yes if a decay of one of the lengths ends at or
  below it, with its whole interval. With `worth` it is yes if going on for as
  many steps before the decay improves its end by no more than that, with its
  whole interval. Either way it is no if the decay may be no better than the
  trunk at the same step.

  What decreases gain can be told from decreases alone. So the records must hold
  a decay, a branch of this run, say, or `law` must come from earlier runs. The
  interval is that of the laws, not of a single noisy reading, and no law knows
  a shift of the data.

  Args:
    records: of the branch and of others of the same run, as for
      `curves_from_records`; or curves by name.
    decay_steps: of the decay, or several lengths to choose from.
    target: the loss that is wanted.
    worth: what waiting must gain to be worth it.
    law: a law or a `LawEnsemble` of earlier runs. None fits an ensemble to the
      records.
    fit: how; `fit_multi_power_law` or `fit_annealing_law`.
    branch: the one that would decay.
    trunk: its schedule from here on; None goes on at its last rate.
    decay: 'linear', 'one_minus_sqrt', 'cosine' or 'square'.
    end_value: where the decay goes.
    num_laws: how many bootstrap fits the interval is made of.
    level: the part of them that it holds.
    seed: of the bootstrap.

  Returns:
    A `DecayDecision`. From a single law the intervals have no width.

  Raises:
    ValueError: if both or none of `target` and `worth` are given, the branch is
      not there, or no law is given and no rate in the records falls.

  Example:
    >>> from lrcl.forecasting import AnnealingLaw
    >>> law = AnnealingLaw(2.0, 0.5, 0.5, 0.05, decay=0.9)
    >>> lrs = np.full(500, 0.1)
    >>> main = Curve(lrs, law.predict(lrs, [99, 499]), [99, 499])
    >>> found = should_decay_now({'main': main}, [20, 80], target=2.03, law=law)
    >>> found.decay, found.decay_steps
    (True, 80)
  """
  where = 'should_decay_now'
  lengths = _check_lengths(where, decay_steps, target, worth)
  _decays.check_shape(where, decay)
  check_value(where, 'end_value', end_value, minimum=0.0)
  curves = _curves(where, records, branch)
  laws = _ensemble(where, law, fit, curves, num_laws, seed)
  rates = _going_on(curves[branch].lrs, 2 * lengths[-1], trunk)
  now = len(curves[branch].lrs)
  look = functools.partial(
    look_ahead, laws, rates, now, decay, end_value, level
  )
  outlooks = tuple(look(length) for length in lengths)
  will_do = [_will_do(outlook, target, worth) for outlook in outlooks]
  chosen = outlooks[will_do.index(True) if any(will_do) else -1]
  reasons = (*_reasons(chosen, now, target, worth), _fits(laws, curves[branch]))
  return DecayDecision(any(will_do), now, chosen.decay_steps, outlooks, reasons)


def _check_lengths(
  where: str, decay_steps: Any, target: float | None, worth: float | None
) -> list[int]:
  if (target is None) == (worth is None):
    raise ValueError(
      f'{where}: target is {target} and worth {worth}; one of them must be '
      'given: the loss that is wanted, or what waiting must gain.'
    )
  lengths = [decay_steps] if np.ndim(decay_steps) == 0 else list(decay_steps)
  checked = [check_steps(where, 'decay_steps', length, 1) for length in lengths]
  if not checked:
    raise ValueError(f'{where}: decay_steps is empty; it must name a length.')
  return sorted(set(checked))


def _curves(where: str, records: Any, branch: str) -> dict[str, Curve]:
  given = isinstance(records, Mapping)
  curves = dict(records) if given else curves_from_records(records)
  if branch not in curves:
    raise ValueError(
      f'{where}: branch is {branch!r}; there are {", ".join(curves) or "none"}.'
    )
  return curves


def _ensemble(
  where: str,
  law: Any,
  fit: Callable[..., Any],
  curves: Mapping[str, Curve],
  num_laws: int,
  seed: int,
) -> LawEnsemble:
  """The laws of the forecast; a single one is an ensemble of itself."""
  if isinstance(law, LawEnsemble):
    return law
  if law is not None:
    alone = jax.tree.map(lambda x: np.asarray(x)[None], law)
    return LawEnsemble(law, alone)
  if not any(_falls(curve) for curve in curves.values()):
    raise ValueError(
      f'{where}: no rate of {", ".join(curves)} falls before its last loss, so '
      'that what a decay gains cannot be told. Give law= from an earlier run, '
      'or the records of a run with a decay: a short branch is enough.'
    )
  return bootstrap_laws(
    fit, list(curves.values()), num_laws=num_laws, seed=seed
  )


def _falls(curve: Curve) -> bool:
  seen = curve.lrs[: curve.steps[-1] + 1]
  return bool(np.maximum(seen[:-1] - seen[1:], 0).sum() >= 0.01 * seen.max())


def _going_on(
  lrs: np.ndarray, more: int, trunk: optax.Schedule | None
) -> np.ndarray:
  """The rates so far, and `more` steps of the trunk."""
  if trunk is None:
    return np.append(lrs, np.full(more, lrs[-1]))
  return np.append(lrs, _decays.rates_of(trunk, len(lrs) + more)[len(lrs) :])


def _will_do(
  outlook: DecayOutlook, target: float | None, worth: float | None
) -> bool:
  if outlook.gain[0] <= 0:
    return False
  if target is not None:
    return outlook.interval[1] <= target
  return worth is not None and outlook.waiting[1] <= worth


def _reasons(
  outlook: DecayOutlook, now: int, target: float | None, worth: float | None
) -> list[str]:
  steps, loss = outlook.decay_steps, outlook.loss
  low, high = outlook.interval
  said = [
    f'A decay of {steps} steps from step {now} is predicted to end at '
    f'{loss:.4f} ({low:.4f} to {high:.4f}); going on, the loss there is '
    f'{outlook.trunk_loss:.4f}.'
  ]
  if outlook.gain[0] <= 0:
    said.append('It may be no better than going on.')
  if target is not None:
    where = 'at or below' if high <= target else 'not surely at or below'
    where = 'above' if low > target else where
    said.append(f'That is {where} the target {target:g}.')
  low, high = outlook.waiting
  said.append(
    f'Started {steps} steps later it is predicted to end at '
    f'{outlook.later_loss:.4f}: waiting gains {low:.4f} to {high:.4f}'
    + (f', and {worth:g} is asked.' if worth is not None else '.')
  )
  return said


def _fits(laws: LawEnsemble, curve: Curve) -> str:
  """How well the law tells the last losses of the branch."""
  last = slice(-8, None)
  told = laws.law.predict(np.asarray(curve.lrs, np.float32), curve.steps[last])
  off = float(np.mean(np.asarray(told, np.float64) - curve.losses[last]))
  return (
    f'The law is off by {off:+.4f} in the mean over the last '
    f'{len(curve.losses[last])} losses of {curve.name}.'
  )
