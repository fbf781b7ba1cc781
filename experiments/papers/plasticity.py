"""Digits whose labels are drawn anew a hundred times: who can still fit them?

  python -m experiments.papers.plasticity

takes about 7 minutes of CPU time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.papers import claims
from experiments.papers import plasticity_runs as runs
from lrcl import protocols

CLAIM = claims.Claim(
  name='plasticity',
  title='Normalize-and-project: a network that stays able to learn',
  paper='Lyle et al., 2024, Normalization and Effective Learning Rates in '
  'Reinforcement Learning, https://arxiv.org/abs/2407.01800',
  says='With labels that are drawn anew again and again, a network without '
  'normalisation loses the ability to fit them, layer normalisation slows that '
  'down, and with the weights projected back to their norms (NaP) it stays. On '
  'one task that does not change NaP does no harm (summaries of the paper; the '
  'figures were not checked).',
)

_TUNING_SEEDS = (100, 101)
_RATES = (1e-3, 3e-3, 1e-2)


class _Scale(NamedTuple):
  """Images, steps of a task, tasks, of those in tuning, and in one row."""

  rows: int
  steps: int
  tasks: int
  tuning_tasks: int
  still_tasks: int
  seeds: Sequence[int]
  rates: Sequence[float]


_SCALES = {
  'smoke': _Scale(128, 4, 10, 2, 2, range(3), _RATES[1:2]),
  'default': _Scale(256, 100, 100, 20, 20, range(5), _RATES),
  'full': _Scale(512, 200, 200, 200, 20, range(10), (3e-4, *_RATES)),
}


class Result(NamedTuple):
  """What a contender gave at its tuned setting.

  Attributes:
    setting: rate and strength.
    edges: which of them lie at an end of the grid.
    found: the runs that are reported, arrays `[seeds, tasks]`.
  """

  setting: Mapping[str, float]
  edges: tuple[str, ...]
  found: runs.Found

  @property
  def first(self) -> Any:
    """Accuracy over the first five tasks `[seeds]`."""
    return self.found.train[:, :5].mean(1)

  @property
  def last(self) -> Any:
    """Accuracy over the last five tasks `[seeds]`."""
    return self.found.train[:, -5:].mean(1)

  @property
  def kept(self) -> Any:
    """What is left of the first accuracy in the end `[seeds]`."""
    return self.last / self.first


def measure(run: Any, contender: runs.Contender, scale: _Scale) -> Result:
  """Tunes a contender on shorter runs, and reports on others."""
  strengths = contender.strengths[: 1 if scale.tasks <= 10 else None]
  axes = {'rate': scale.rates, 'strength': strengths}
  tried = runs.sweep(run, axes, _TUNING_SEEDS, scale.tuning_tasks)
  setting, edges = protocols.choose(axes, 1 - tried.train)
  return Result(setting, edges, _at(run, setting, scale))


def measure_still(run: Any, scale: _Scale) -> Any:
  """Test accuracy `[seeds]` on one task with true labels, the rate tuned."""
  axes = {'rate': scale.rates, 'strength': [0.0]}
  tried = runs.sweep(run, axes, _TUNING_SEEDS, scale.still_tasks, True)
  setting, _ = protocols.choose(axes, 1 - tried.test[..., -1])
  alone = {name: [value] for name, value in setting.items()}
  found = runs.sweep(run, alone, scale.seeds, scale.still_tasks, True)
  return found.test[0, :, -1]


def judge(
  results: Mapping[str, Result], still: Mapping[str, Any]
) -> dict[str, bool]:
  """The parts of the claim, those on what is kept by more than chance."""
  same = lambda name, value: [value] * len(results[name].kept)
  kept = {name: results[name].kept for name in ('plain', 'LayerNorm', 'NaP')}
  difference = still['NaP'] - still['LayerNorm']
  return {
    'NaP keeps 0.95': claims.is_below(same('NaP', 0.95), kept['NaP']),
    'LayerNorm keeps less than 0.9': claims.is_below(
      kept['LayerNorm'], same('LayerNorm', 0.9)
    ),
    'plain keeps less than 0.5': claims.is_below(
      kept['plain'], same('plain', 0.5)
    ),
    'NaP within a point on one task': bool(abs(difference.mean()) <= 0.01),
  }


def run(size: claims.Size) -> claims.Outcome:
  """Measures every contender."""
  scale = _SCALES[size]
  data = runs.load(scale.rows)
  results, still = {}, {}
  for name, contender in runs.CONTENDERS.items():
    one = runs.make_run(contender, data, scale.steps, scale.tasks)
    results[name] = measure(one, contender, scale)
    if name in ('LayerNorm', 'NaP'):
      still[name] = measure_still(one, scale)
    elif name == 'plain':
      plain = one
  rate = results['NaP'].setting['rate']
  rows = dict(results)
  if rate != results['plain'].setting['rate']:
    setting = {'rate': rate, 'strength': 0.0}
    rows['plain, rate of NaP'] = Result(setting, (), _at(plain, setting, scale))
  parts = judge(results, still)
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=_words(rows, still, parts),
    table=[_row(name, result) for name, result in rows.items()],
    setting=_describe(scale),
  )


def _at(run: Any, setting: Mapping[str, float], scale: _Scale) -> runs.Found:
  alone = {name: [value] for name, value in setting.items()}
  found = runs.sweep(run, alone, scale.seeds, scale.tasks)
  return runs.Found(*(x[0] for x in found))


def _words(
  rows: Mapping[str, Result],
  still: Mapping[str, Any],
  parts: Mapping[str, bool],
) -> str:
  kept = ', '.join(
    f'{name} {claims.format_interval(r.kept)}' for name, r in rows.items()
  )
  difference = still['NaP'] - still['LayerNorm']
  return (
    f'{claims.format_parts(parts)}. Accuracy over the last five tasks, as a '
    f'share of that over the first five: {kept}. On one task with true labels '
    f'NaP has a test accuracy of {claims.format_interval(still["NaP"])}, '
    f'LayerNorm {claims.format_interval(still["LayerNorm"])}; the difference '
    f'is {claims.format_interval(difference)}.'
  )


def _row(name: str, result: Result) -> dict[str, str]:
  mark = lambda axis: ' (edge)' if axis in result.edges else ''
  rate, strength = (result.setting[axis] for axis in ('rate', 'strength'))
  norms = result.found.norm
  return {
    'method': name,
    'rate': f'{rate:g}{mark("rate")}',
    'strength': f'{strength:g}{mark("strength")}' if strength else '-',
    'first 5 tasks': claims.format_interval(result.first),
    'last 5 tasks': claims.format_interval(result.last),
    'dormant': claims.format_interval(result.found.dormant[:, -1], 2),
    'effective rank': claims.format_interval(result.found.rank[:, -1], 1),
    'norm, first to last': f'{norms[:, 0].mean():.1f} to '
    f'{norms[:, -1].mean():.1f}',
  }


def _describe(scale: _Scale) -> str:
  widths = '-'.join(map(str, runs.WIDTHS))
  return (
    f'{scale.rows} digits, their mean removed; {scale.tasks} tasks with labels '
    f'drawn at random, {scale.steps} steps of Adam each, batch {runs.BATCH}; '
    f'MLP {widths} with ReLU, normalised without scale, offset and biases; '
    'accuracy on the images of the task at its end. Rates '
    f'{", ".join(f"{r:g}" for r in scale.rates)} and, where a method has one, '
    'three strengths (L2-init: penalty; shrink & perturb: factor, the rest a '
    'fresh network, Adam made new; ReDo: threshold, every 100 steps; CBP: '
    f'replacement rate), tuned for the mean accuracy of the first '
    f'{scale.tuning_tasks} tasks on seeds {_TUNING_SEEDS[0]} and '
    f'{_TUNING_SEEDS[-1]}; reported on seeds {scale.seeds[0]} to '
    f'{scale.seeds[-1]}. One task: the same images with their true labels, '
    f'{scale.still_tasks * scale.steps} steps, rate tuned for it, accuracy on '
    '397 other images. Dormant, rank and norm are of the last task.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
