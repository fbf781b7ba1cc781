"""How sure a forecast is: the laws that other losses would have given."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrcl.base import check_steps, check_value
from lrcl.forecasting._curves import Curve

Fit = Callable[..., Any]
"""One of the fits: `fit(curves, weights=..., start=...) -> law`."""


class LawEnsemble(NamedTuple):
  """A law and its kin: a pytree.

  Attributes:
    law: the law of all losses.
    members: a law of the same type whose parameters are `[members]`.
  """

  law: Any
  members: Any

  def predict(self, lrs: Any, steps: Any = None, **kwargs: Any) -> jax.Array:
    """The losses `[members, readings]` that each of them predicts."""
    one = lambda law: law.predict(lrs, steps, **kwargs)
    members = jax.tree.map(jnp.asarray, self.members)
    return jax.lax.map(one, members)

  def interval(
    self, lrs: Any, steps: Any = None, *, level: float = 0.9, **kwargs: Any
  ) -> tuple[jax.Array, jax.Array]:
    """Where `level` of the members' predictions lie.

    It is the law's uncertainty: what a single loss scatters about the curve is
    not in it, nor is that the law itself may be wrong.

    Args:
      lrs: as for the law's `predict`.
      steps: as for the law's `predict`.
      level: in (0, 1]; 1 is the range.
      **kwargs: passed on to `predict`.

    Returns:
      The lower and the upper end, of the shape of a prediction.
    """
    check_value('LawEnsemble.interval', 'level', level, above=0.0, maximum=1.0)
    losses = self.predict(lrs, steps, **kwargs)
    low, high = 0.5 - 0.5 * level, 0.5 + 0.5 * level
    return jnp.quantile(losses, low, axis=0), jnp.quantile(losses, high, axis=0)


def bootstrap_laws(
  fit: Fit,
  curves: Curve | Sequence[Curve],
  *,
  num_laws: int = 20,
  block: int = 8,
  seed: int = 0,
  **options: Any,
) -> LawEnsemble:
  """Fits a law again and again, to losses drawn with replacement.

  Drawn are runs of `block` neighbouring losses of a curve, which share their
  noise; the blocks begin anywhere and go round from a curve's end to its start.
  Every curve keeps its number of losses. Each fit starts from the law of all
  losses, and all are one program.

  Args:
    fit: `fit_annealing_law`, `fit_multi_power_law` or one like them.
    curves: what it takes.
    num_laws: how many laws to fit; an interval of 90% wants 20 or more.
    block: how many neighbouring losses go together; at least as many as stay
      alike.
    seed: of the draws.
    **options: passed on to `fit`.

  Returns:
    A `LawEnsemble`.

  Raises:
    ValueError: if a number is out of range, or a fit is impossible.

  Example:
    >>> from lrcl.forecasting import AnnealingLaw, fit_annealing_law
    >>> true = AnnealingLaw(2.6, 0.43, 0.55, 0.41)
    >>> rates = [np.full(2000, 4e-4), np.linspace(4e-4, 0.0, 2000)]
    >>> steps = np.arange(99, 2000, 100)
    >>> curves = [Curve(lrs, true.predict(lrs, steps), steps) for lrs in rates]
    >>> laws = bootstrap_laws(fit_annealing_law, curves, num_laws=3)
    >>> laws.members.floor.round(2).tolist()  # no noise: the same from any draw
    [2.6, 2.6, 2.6]

  References:
    Politis and Romano, 1992, *A circular block-resampling procedure for
    stationary data*, in: Exploring the Limits of Bootstrap, Wiley.
  """
  where = 'bootstrap_laws'
  num_laws = check_steps(where, 'num_laws', num_laws, 2)
  block = check_steps(where, 'block', block, 1)
  curves = [curves] if isinstance(curves, Curve) else list(curves)
  law = fit(curves, **options)
  rng = np.random.default_rng(seed)
  draws = [
    [_draw(rng, len(curve.losses), block) for curve in curves]
    for _ in range(num_laws)
  ]
  return _ensemble(fit, curves, law, draws, options)


def leave_curves_out(
  fit: Fit, curves: Sequence[Curve], **options: Any
) -> LawEnsemble:
  """Fits a law once without each curve.

  How far the laws lie apart shows how much hangs on a single curve. It is no
  confidence interval: the members share most of their losses.

  Args:
    fit: `fit_annealing_law`, `fit_multi_power_law` or one like them.
    curves: at least two, and one more than the fit needs.
    **options: passed on to `fit`.

  Returns:
    A `LawEnsemble`; its n-th member did not see the n-th curve.

  Raises:
    ValueError: if without one of the curves the rest do not determine a law.

  Example:
    >>> from lrcl.forecasting import AnnealingLaw, fit_annealing_law
    >>> true = AnnealingLaw(2.6, 0.43, 0.55, 0.41)
    >>> rates = [np.full(2000, 4e-4), *np.linspace(4e-4, [0.0, 1e-4], 2000).T]
    >>> steps = np.arange(99, 2000, 100)
    >>> curves = [Curve(lrs, true.predict(lrs, steps), steps) for lrs in rates]
    >>> laws = leave_curves_out(fit_annealing_law, curves)
    >>> laws.members.floor.round(2).tolist()
    [2.6, 2.6, 2.6]

  References:
    Quenouille, 1956, `Notes on Bias in Estimation
    <https://doi.org/10.1093/biomet/43.3-4.353>`_.
  """
  curves = list(curves)
  if len(curves) < 2:
    raise ValueError(
      f'leave_curves_out: curves holds {len(curves)}; it takes at least 2.'
    )
  law = fit(curves, **options)
  draws = [
    [np.full(len(c.losses), float(c is not out)) for c in curves]
    for out in curves
  ]
  return _ensemble(fit, curves, law, draws, options)


def _draw(rng: np.random.Generator, length: int, block: int) -> np.ndarray:
  """How often each of `length` losses is drawn."""
  block = min(block, length)
  starts = rng.integers(length, size=-(-length // block))
  drawn = (starts[:, None] + np.arange(block)).reshape(-1)[:length] % length
  return np.bincount(drawn, minlength=length).astype(np.float64)


def _ensemble(
  fit: Fit, curves: list[Curve], law: Any, draws: list[Any], options: Any
) -> LawEnsemble:
  options = options | {'start': law}
  laws = [fit(curves, weights=weights, **options) for weights in draws]
  return LawEnsemble(law, jax.tree.map(lambda *x: np.array(x), *laws))
