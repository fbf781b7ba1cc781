"""Fine-tuning on a memory what forgets most, against replay.

  python -m experiments.papers.fpf --data_dir=DIR

takes about 4 minutes of CPU time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import claims, fpf_runs, replay_cells
from experiments.papers.replay_cells import Cell
from lrcl import protocols

CLAIM = claims.Claim(
  name='fpf',
  title='FPF: fine-tuning a head on stored rows, and replay',
  paper='Zhao et al., 2023, Does Continual Learning Equally Forget All '
  'Parameters?, https://arxiv.org/abs/2304.04158',
  says='Few modules forget: they move most where a task begins. Fine-tuning '
  'them on a small buffer after training improves any method, and plain SGD '
  'with k of these (k-FPF) matches or beats the best replay methods at a much '
  'lower cost (abstract; 10 to 30 points and a third of the cost are from '
  'memory).',
)

CELLS = (Cell('digits', 5, 100), Cell('fashion_mnist', 1, 100))
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SECONDS = {
  'fine-tuning rate': (0.05, 0.2, 0.8, 3.2),
  'memory weight': (0.5, 1.0, 2.0, 4.0),
}


class _Scale(NamedTuple):
  cells: Sequence[Cell]
  seeds: Sequence[int]
  rates: Sequence[float]
  seconds: Mapping[str, Sequence[float]]


_SCALES = {
  'smoke': _Scale(
    (Cell('digits', 5, 50),),
    range(3),
    RATES[2:4],
    {name: values[1:2] for name, values in SECONDS.items()},
  ),
  'default': _Scale(CELLS, range(10), RATES, SECONDS),
  'full': _Scale(CELLS, range(20), RATES, SECONDS),
}


class Found(NamedTuple):
  """What came of one cell.

  Attributes:
    tuned: of each contender.
    references: the rows of every comparison.
    jumps: of each module, how much more it moves where a task begins.
    data: the images.
  """

  tuned: Mapping[str, protocols.Tuned]
  references: Mapping[str, Any]
  jumps: Mapping[str, np.ndarray]
  data: replay_cells.Data

  def accuracy(self, name: str) -> Any:
    """Final accuracies of a contender, or of a row of reference, `[seeds]`."""
    if name in self.tuned:
      return 1 - self.tuned[name].losses
    return self.references[name].accuracy


def measure(cell: Cell, data_dir: str | None, scale: _Scale) -> Found:
  """Tunes and runs all contenders in one cell."""
  data = replay_cells.load(cell, data_dir)
  runs = fpf_runs.Runs(data, cell, scale.seconds)
  tuned = {
    name: runs.tune(contender, scale.rates, scale.seeds)
    for name, contender in fpf_runs.CONTENDERS.items()
  }
  references = data.references(scale.rates, scale.seeds)
  jumps = fpf_runs.jumps(data, tuned['SGD + FPF'].setting['rate'], scale.seeds)
  return Found(tuned, references, jumps, data)


def judge(found: Found) -> dict[str, bool]:
  """The parts of the claim, for one cell.

  The head jumps more than every other module, FPF adds more than 0.1 to plain
  SGD and something to replay, and 9-FPF is not below replay, each by more than
  chance; and it costs less than replay.
  """
  accuracy, head = found.accuracy, found.jumps['head']
  others = [x for name, x in found.jumps.items() if name != 'head']
  _, work = fpf_runs.cost(found.data, fpf_runs.CONTENDERS['SGD + 9-FPF'])
  above = claims.is_below
  return {
    'the head jumps most': all(above(list(x), list(head)) for x in others),
    'FPF adds 0.1 to SGD': above(
      accuracy('naive'), accuracy('SGD + FPF'), margin=0.1
    ),
    'FPF adds to ER': above(accuracy('ER'), accuracy('ER + FPF')),
    '9-FPF is not below ER': not above(accuracy('SGD + 9-FPF'), accuracy('ER')),
    '9-FPF costs less than ER': work < 1,
  }


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Measures every cell."""
  scale = _SCALES[size]
  found = {c.label: measure(c, data_dir, scale) for c in scale.cells}
  parts = {label: judge(f) for label, f in found.items()}
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=' '.join(_words(n, f, parts[n]) for n, f in found.items()),
    table=[row for label, f in found.items() for row in _rows(label, f)],
    setting=replay_cells.describe(scale.seeds, scale.rates)
    + f'A memory of balanced classes. One fine-tuning is {fpf_runs.STEPS} '
    f'steps of {fpf_runs.ROWS} rows on the head, with a cosine, at a rate out '
    f'of {scale.seconds["fine-tuning rate"]}; replay has a weight of its rows '
    f'out of {scale.seconds["memory weight"]} instead, so that grids are of '
    'one size, except for naive and joint, which have the rate only. Work is '
    'that of training by multiplications, in units of ER.',
  )


def _words(label: str, found: Found, parts: Mapping[str, bool]) -> str:
  gain = lambda a, b: claims.format_interval(
    found.accuracy(a) - found.accuracy(b)
  )
  jumps = ', '.join(
    f'{name} {claims.format_interval(list(x), 2)}'
    for name, x in found.jumps.items()
  )
  return (
    f'{label}: FPF adds {gain("SGD + FPF", "naive")} to plain SGD and '
    f'{gain("ER + FPF", "ER")} to ER; 9-FPF minus ER is '
    f'{gain("SGD + 9-FPF", "ER")}. Modules move this many times as much in the '
    f'first fifth of a task as later: {jumps}. In parts: '
    f'{claims.format_parts(parts)}.'
  )


def _rows(label: str, found: Found) -> list[dict[str, Any]]:
  lines = []
  for name, tuned in found.tuned.items():
    gradients, work = fpf_runs.cost(found.data, fpf_runs.CONTENDERS[name])
    setting = protocols.format_setting(tuned)
    line = replay_cells.line(label, name, found.accuracy(name), setting)
    lines.append(line | {'gradients': f'{gradients:,}', 'work': f'{work:.2f}'})
  single = fpf_runs.cost(found.data, fpf_runs.Contender(False, 0))
  for line in replay_cells.reference_lines(label, found.references):
    trains = line['contender'] in ('naive', 'joint')
    lines.append(
      line
      | {
        'gradients': f'{single[0]:,}' if trains else '0',
        'work': f'{single[1]:.2f}' if trains else '-',
      }
    )
  return lines


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
