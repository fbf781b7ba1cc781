"""Refresh learning on top of dark experience replay.

  python -m experiments.papers.refresh --data_dir=DIR

takes about 5 minutes of CPU time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import claims, refresh_runs, replay_cells
from experiments.papers.refresh_runs import Found
from experiments.papers.replay_cells import Cell
from lrcl import protocols

CLAIM = claims.Claim(
  name='refresh',
  title='Refresh learning: unlearning before each step',
  paper='Wang et al., 2024, A Unified and General Framework for Continual '
  'Learning, https://arxiv.org/abs/2403.13249',
  says='Unlearning a little of the current batch before each step improves any '
  'method of continual learning (abstract); by one or two points on top of '
  'DER++ (from memory).',
)

CELLS = (
  Cell('digits', 5, 100),
  Cell('digits', 5, 50),
  Cell('fashion_mnist', 1, 100),
)
RATES = (0.02, 0.05, 0.1, 0.2, 0.5)
DELTAS = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2)


class _Scale(NamedTuple):
  cells: Sequence[Cell]
  seeds: Sequence[int]
  rates: Sequence[float]
  deltas: Sequence[float]


_SCALES = {
  'smoke': _Scale((Cell('digits', 1, 50),), range(3), RATES[2:3], DELTAS[2:4]),
  'default': _Scale(CELLS, range(5), RATES, DELTAS),
  'full': _Scale(CELLS, range(20), RATES, DELTAS),
}


def judge(found: Found) -> dict[str, bool]:
  """The parts of the claim, for one cell.

  Unlearning works as said: the loss on stored rows rises by it wherever it was
  tried, and each tensor moves by delta of its norm to a thousandth. It pays:
  with the delta of the tuning seeds, accuracy is above that of DER++ by more
  than chance.
  """
  probe, ours = found.probe, found.refreshed[found.best].losses
  exact = np.abs(probe.distance - 1).max() < 1e-3
  return {
    'unlearning raises the loss': bool((probe.rise > 0).all()),
    'tensors move by delta': bool(exact),
    'refresh above DER++': claims.is_below(
      list(ours), list(found.plain.losses)
    ),
  }


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Measures every cell; without any gain the claim is not reproduced.

  That unlearning unlearns is a condition of the claim and not the claim: the
  verdict counts the gains alone, and that it holds is printed.
  """
  scale = _SCALES[size]
  found = {
    cell.label: refresh_runs.measure(
      cell, data_dir, scale.rates, scale.deltas, scale.seeds
    )
    for cell in scale.cells
  }
  parts = {label: judge(f) for label, f in found.items()}
  return claims.Outcome(
    verdict=claims.decide([p['refresh above DER++'] for p in parts.values()]),
    measured=' '.join(_words(n, f, parts[n]) for n, f in found.items()),
    table=[row for label, f in found.items() for row in _rows(label, f)],
    setting=replay_cells.describe(scale.seeds, scale.rates)
    + f'DER++ with weights of {refresh_runs.WEIGHT} and two draws of its '
    'reservoir. Refresh learning in the form of its code, with its noise and '
    'the Fisher (sampled labels) of the last task; for each delta the rate is '
    'tuned like that of DER++, and delta on the same seeds. A refreshed step '
    'takes four gradients where DER++ takes three. The mechanism is probed on '
    'the rows in memory at each end of a task, without noise.',
  )


def _words(label: str, found: Found, parts: dict[str, bool]) -> str:
  gains = ', '.join(
    f'{delta:g}: {claims.format_interval(list(found.gain(delta)), 4)}'
    for delta in found.refreshed
  )
  rises = found.probe.rise.reshape(-1, len(found.refreshed)).mean(0)
  return (
    f'{label}: accuracy above DER++ by delta: {gains}; chosen: '
    f'{found.best:g}. Mean rise of the loss by unlearning: '
    f'{", ".join(f"{rise:.1e}" for rise in rises)}. The Fisher shortens no '
    f'move by more than {float(found.probe.held.max()):.2%}. In parts: '
    f'{claims.format_parts(parts)}.'
  )


def _rows(label: str, found: Found) -> list[dict[str, Any]]:
  contenders = {'DER++': found.plain} | {
    f'refresh {delta:g}' + (', chosen' if delta == found.best else ''): tuned
    for delta, tuned in found.refreshed.items()
  }
  lines = [
    replay_cells.line(label, n, 1 - t.losses, protocols.format_setting(t))
    for n, t in contenders.items()
  ]
  return lines + replay_cells.reference_lines(label, found.references)


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
