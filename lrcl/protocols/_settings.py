"""Grids of settings times seeds, measured in one compiled program."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Setting = Mapping[str, Any]
"""Hyper-parameters by name, float32 scalars that may be traced."""

Measure = Callable[[Setting, jax.Array], jax.Array]
"""`measure(setting, key) -> losses`, pure; lower is better."""

Axes = Mapping[str, Sequence[float]]
"""The values that each hyper-parameter of a grid takes, in order."""


class Tuned(NamedTuple):
  """The best setting of a grid, and what it gives on seeds of its own.

  Attributes:
    setting: the best values by name.
    edges: the names of those that stand at an end of their axis, so that a
      better one may lie outside of the grid.
    losses: `[seeds, ...]`, float64, on the seeds that are reported.
  """

  setting: dict[str, float]
  edges: tuple[str, ...]
  losses: np.ndarray


def tune(
  measure: Measure,
  axes: Axes,
  *,
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
  batch_size: int | None = None,
) -> Tuned:
  """Chooses a setting on some seeds and measures it on others.

  Every contender of a claim goes through here with the same seeds, and with
  grids of the same width.

  Args:
    measure: what to do with a setting; the mean of what it returns decides.
    axes: the grid.
    tuning_seeds: seeds on which to choose.
    seeds: seeds to report; none of them is a tuning seed.
    batch_size: see `sweep`.

  Raises:
    ValueError: if a seed is both tuned on and reported.

  Example:
    >>> measure = lambda setting, key: (setting['rate'] - 2.0) ** 2
    >>> found = tune(
    ...   measure, {'rate': [1.0, 2.0, 4.0]}, tuning_seeds=(0, 1), seeds=(2, 3))
    >>> found.setting, found.losses.tolist()
    ({'rate': 2.0}, [0.0, 0.0])
  """
  if set(tuning_seeds) & set(seeds):
    raise ValueError(
      f'tune: tuning_seeds is {list(tuning_seeds)} and seeds {list(seeds)}; '
      'they must have no seed in common.'
    )
  found = sweep(measure, grid(axes), tuning_seeds, batch_size=batch_size)
  setting, edges = choose(axes, found)
  alone = {name: [value] for name, value in setting.items()}
  losses = sweep(measure, grid(alone), seeds, batch_size=batch_size)[0]
  return Tuned(setting, edges, losses)


def grid(axes: Axes) -> dict[str, np.ndarray]:
  """Every point of a grid: per name an array of one length, the last fastest.

  Example:
    >>> {k: v.tolist() for k, v in grid({'a': [1, 2], 'b': [3, 4]}).items()}
    {'a': [1.0, 1.0, 2.0, 2.0], 'b': [3.0, 4.0, 3.0, 4.0]}
  """
  columns = np.meshgrid(*axes.values(), indexing='ij')
  flat = (np.asarray(column, np.float32).ravel() for column in columns)
  return dict(zip(axes, flat, strict=True))


def sweep(
  measure: Measure,
  settings: Mapping[str, np.ndarray],
  seeds: Sequence[int],
  *,
  batch_size: int | None = None,
) -> np.ndarray:
  """Measures every setting with every seed.

  Args:
    measure: a pure function of one setting and one key.
    settings: arrays of one length by name, such as `grid` makes.
    seeds: a key is made of each.
    batch_size: how many of these runs are vmapped at a time; None is all.
      What is best depends on the size of a run: small arrays gain from
      company, large ones fall out of the cache.

  Returns:
    `[settings, seeds, ...]`, float64.

  Example:
    >>> measure = lambda setting, key: (setting['rate'] - 2.0) ** 2
    >>> sweep(measure, {'rate': np.array([1.0, 2.0, 4.0])}, (0, 1)).tolist()
    [[1.0, 1.0], [0.0, 0.0], [4.0, 4.0]]
  """
  count = len(next(iter(settings.values())))
  keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
  which = np.repeat(np.arange(count), len(seeds))
  rows = {name: np.asarray(column)[which] for name, column in settings.items()}
  rows = (rows, jnp.tile(keys, count))
  run = functools.partial(
    jax.lax.map, lambda row: measure(*row), batch_size=batch_size or len(which)
  )
  found = np.asarray(jax.jit(run)(rows), np.float64)
  return found.reshape(count, len(seeds), *found.shape[1:])


def choose(
  axes: Axes, losses: np.ndarray
) -> tuple[dict[str, float], tuple[str, ...]]:
  """The setting with the least mean loss, and which of it lies at an edge.

  Args:
    axes: the grid.
    losses: `[settings, ...]`, in the order of `grid(axes)`. A setting with a
      loss that is not finite is never chosen.

  Raises:
    FloatingPointError: if there is no setting without such a loss.

  Example:
    >>> choose({'a': [1.0, 2.0, 3.0]}, np.array([[3.0], [1.0], [2.0]]))
    ({'a': 2.0}, ())
  """
  mean = losses.reshape(len(losses), -1).mean(1)
  if not np.isfinite(mean).any():
    raise FloatingPointError('choose: no setting has finite losses only.')
  best = int(np.argmin(np.where(np.isfinite(mean), mean, np.inf)))
  places = np.unravel_index(best, [len(values) for values in axes.values()])
  return setting_at(axes, places), edges_at(axes, places)


def setting_at(axes: Axes, places: Sequence[Any]) -> dict[str, float]:
  """The setting at a place of each axis."""
  items = zip(axes.items(), places, strict=True)
  return {name: float(values[int(place)]) for (name, values), place in items}


def edges_at(axes: Axes, places: Sequence[Any]) -> tuple[str, ...]:
  """The axes that a place is at an end of; one value alone has no ends."""
  items = zip(axes.items(), places, strict=True)
  return tuple(
    name
    for (name, values), place in items
    if len(values) > 1 and place in (0, len(values) - 1)
  )


def geometric(low: float, high: float, per_octave: float = 1) -> list[float]:
  """Values from `low` up to `high`, each a power of two, or a root, higher.

  Example:
    >>> geometric(0.5, 4.0)
    [0.5, 1.0, 2.0, 4.0]
  """
  count = round(np.log2(high / low) * per_octave) + 1
  return [float(low * 2 ** (i / per_octave)) for i in range(count)]


def format_setting(tuned: Tuned) -> str:
  """The setting in a line; values at an edge of the grid are marked so.

  Example:
    >>> format_setting(Tuned({'rate': 0.5}, ('rate',), np.zeros(1)))
    'rate 0.5 (edge of the grid)'
  """
  mark = lambda name: ' (edge of the grid)' if name in tuned.edges else ''
  parts = (f'{k} {v:.3g}{mark(k)}' for k, v in tuned.setting.items())
  return ', '.join(parts)
