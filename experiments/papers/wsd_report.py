"""What came of WSD, WSD-S and the cosines, in words and in a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.papers import claims, wsd_family
from lrcl import protocols


def differences(found: Mapping[str, protocols.Tuned], digits: int) -> str:
  """The others minus WSD-S, means over the checkpoints, in words."""
  ours = found['WSD-S'].losses.mean(1)
  parts = [
    f'{name} {claims.format_interval(tuned.losses.mean(1) - ours, digits)}'
    for name, tuned in found.items()
    if name != 'WSD-S'
  ]
  return '; '.join(parts)


def describe(
  axes: protocols.Axes,
  ends: Sequence[int],
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
) -> str:
  """What it takes to judge the numbers, but for the problem itself."""
  peaks, lows = axes['peak'], axes['end']
  share = wsd_family.DECAY
  return (
    f'{len(seeds)} seeds. Grid: {len(peaks)} peaks from {peaks[0]:g} to '
    f'{peaks[-1]:g}, {len(lows)} ends of decays from {lows[0]:.2g} to '
    f'{lows[-1]:.2g} of the peak; the best mean over the checkpoints on '
    f'{len(tuning_seeds)} other seeds is taken. Decays of WSD take '
    f'{share:.0%} of the run, those of WSD-S {share:.0%} of the cycle, the '
    f'longer ones {2 * share:.0%}. WSD of equal steps pays for its decays: '
    f'its checkpoints stand at {wsd_family.affordable_ends(ends)}.'
  )


def rows(
  found: Mapping[str, protocols.Tuned], ends: Sequence[int], digits: int = 3
) -> list[dict[str, Any]]:
  """The table: steps, losses at the checkpoints, and the tuned setting."""
  rows = []
  for contender in wsd_family.CONTENDERS:
    tuned = found[contender.name]
    about, steps = protocols.format_setting(tuned), contender.steps(ends)
    rows.append(row(contender.name, steps, tuned.losses, ends, about, digits))
  return rows


def row(
  name: str,
  steps: int,
  losses: Any,
  ends: Sequence[int],
  about: str,
  digits: int,
) -> dict[str, Any]:
  """One row of the table, of losses `[seeds, checkpoints]`."""
  columns = zip(ends, np.asarray(losses).T, strict=True)
  format_column = lambda x: claims.format_interval(x, digits)
  return {
    'schedule': name,
    'steps': steps,
    **{f'after {end}': format_column(column) for end, column in columns},
    'tuned': about,
  }
