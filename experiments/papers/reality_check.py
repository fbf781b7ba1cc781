"""Methods tuned on other classes than those they are reported on.

python -m experiments.papers.reality_check --data_dir=DEST [--size=...]

Time: 232 CPU seconds (smoke: 15).
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, NamedTuple

import numpy as np

from experiments import contenders, references
from experiments.papers import claims, images
from lrcl import protocols

CLAIM = claims.Claim(
  name='reality_check',
  title='Tuning apart from reporting: ranks and flattery',
  paper='Cha and Cho, Hyperparameters in continual learning: a reality check, '
  'TMLR 2025, https://arxiv.org/abs/2403.09066',
  says='Settings that are chosen on the scenario they are reported on '
  'overestimate what a method does, and methods change places where they are '
  'chosen on other classes of the same data.',
)

METHODS = ('naive', 'ER', 'DER++', 'EWC', 'LwF', 'SI', 'GEM')
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
BUDGET = 12
TUNING_SEEDS = (100, 101, 102)
FEATURES = (64,)


class Contest(NamedTuple):
  """What a method gave on the reported classes, arrays `[seeds]`.

  Attributes:
    apart: with the setting that was best on the other classes.
    together: with the one that was best on these, on the tuning seeds.
    best: of all tried settings, what was best on the reported seeds; above the
      others by construction.
    tuned: mean accuracy of the best setting on the other classes.
    words: the two settings.
  """

  apart: Any
  together: Any
  best: Any
  tuned: float
  words: str


class _Scale(NamedTuple):
  data: Sequence[images.Name]
  methods: Sequence[str]
  train_rows: int | None
  steps: int
  budget: int
  tuning_seeds: Sequence[int]
  seeds: Sequence[int]


_SCALES: dict[claims.Size, _Scale] = {
  'smoke': _Scale(('digits',), ('naive', 'ER'), 400, 6, 6, (100,), (0, 1)),
  'default': _Scale(
    ('digits', 'fashion_mnist'),
    METHODS,
    6000,
    60,
    BUDGET,
    TUNING_SEEDS,
    range(5),
  ),
  'full': _Scale(
    ('digits', 'mnist', 'fashion_mnist'),
    METHODS,
    None,
    300,
    30,
    TUNING_SEEDS,
    range(10),
  ),
}


class Bench:
  """A method on one half: searched on some seeds, run on others."""

  def __init__(self, name: str, half: protocols.Half, scale: _Scale):
    method = contenders.METHODS[name]
    every = [*scale.tuning_seeds, *scale.seeds]
    scenario = contenders.make_scenario('class', scale.steps, contenders.Size())
    stack = scenario.stack(half, every, scale.steps, False)
    self._scale = scale
    self.axes = {
      'rate': RATES,
      'strength': method.strengths,
      'schedule': list(map(float, range(len(contenders.SCHEDULES)))),
    }
    make = functools.partial(contenders.build, method, FEATURES)
    self._trials = protocols.Trials(stack, every, *make(stack))

  def search(self) -> protocols.Searched:
    """The best setting on the tuning seeds."""
    return self._trials.search(
      self.axes, self._scale.tuning_seeds, budget=self._scale.budget
    )

  def accuracy(self, settings: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of settings, on the seeds that are reported `[settings, seeds]`."""
    found = self._trials.sweep(settings, self._scale.seeds)
    return 1.0 - np.nan_to_num(found.errors, nan=1.0)


def contest(
  name: str, halves: protocols.Halves, scale: _Scale
) -> list[Contest]:
  """A method on both halves, each tuned on both of them."""
  benches = [Bench(name, h, scale) for h in (halves.tuning, halves.reporting)]
  found = [bench.search() for bench in benches]
  contests = []
  for here, there in ((1, 0), (0, 1)):
    own, other = found[here], found[there]
    pair = {
      n: np.array([other.setting[n], own.setting[n]]) for n in own.setting
    }
    apart, together = benches[here].accuracy(pair)
    best = benches[here].accuracy(own.tried).max(0)
    words = f'{_words(other.setting)} / {_words(own.setting)}'
    tuned = 1 - float(np.nanmin(other.losses))
    contests.append(Contest(apart, together, best, tuned, words))
  return contests


def _words(setting: Mapping[str, float]) -> str:
  schedule = contenders.SCHEDULES[int(setting['schedule'])]
  return f'{schedule} {setting["rate"]:g}, {setting["strength"]:g}'


class Verdicts(NamedTuple):
  """One half of one data set.

  Attributes:
    flattery: mean over methods of together - apart, `[seeds]`.
    transfer: Kendall's tau of the methods' order, other classes and these.
    order: the same between apart and together.
    moved: methods whose place differs between apart and together.
  """

  flattery: np.ndarray
  transfer: float
  order: float
  moved: tuple[str, ...]


def judge(found: Mapping[str, Contest]) -> Verdicts:
  """What one half says; `naive` takes part like the others."""
  names = list(found)
  means = lambda of: np.array([np.mean(of(found[n])) for n in names])
  apart, together = means(lambda c: c.apart), means(lambda c: c.together)
  places = lambda x: np.argsort(np.argsort(-x, kind='stable'))
  moved = places(apart) != places(together)
  return Verdicts(
    np.mean([found[n].together - found[n].apart for n in names], axis=0),
    protocols.rank_correlation(means(lambda c: c.tuned), apart),
    protocols.rank_correlation(apart, together),
    tuple(n for n, m in zip(names, moved, strict=True) if m),
  )


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Measures every method on both halves of every data set.

  The claim has two parts: together is above apart by more than chance, in the
  mean over methods, halves and data sets, seed by seed; and the two orders of
  the methods differ on some half.
  """
  scale = _SCALES[size]
  table, verdicts = [], {}
  for name in scale.data:
    rows = None if name == 'digits' else scale.train_rows
    data = images.load_images(name, data_dir, train_rows=rows)
    halves = protocols.halve_classes(data.train, data.test, seed=0)
    pairs = {m: contest(m, halves, scale) for m in scale.methods}
    for i, half in enumerate((halves.reporting, halves.tuning)):
      label = f'{name} {"".join(map(str, half.classes))}'
      found = {method: pair[i] for method, pair in pairs.items()}
      verdicts[label] = judge(found)
      table += [_line(label, method, c) for method, c in found.items()]
      table += _reference_lines(label, half, scale)
  return _outcome(verdicts, table, scale)


def _outcome(
  verdicts: Mapping[str, Verdicts], table: list, scale: _Scale
) -> claims.Outcome:
  flattery = np.mean([v.flattery for v in verdicts.values()], axis=0)
  parts = {
    'tuned on the reported classes flatters': claims.is_below(
      -flattery, np.zeros_like(flattery)
    ),
    'methods change places': any(v.order < 1 for v in verdicts.values()),
  }
  halves = '; '.join(f'{k}: {_describe(v)}' for k, v in verdicts.items())
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'{claims.format_parts(parts)}. Accuracy that tuning on the '
    f'reported classes adds, mean over methods: '
    f'{claims.format_interval(flattery)}. {halves}.',
    table=table,
    setting='Classes dealt out in two halves of five; five tasks of one class, '
    f'{scale.steps} steps of 16 rows each, class-incremental; MLP '
    f'{"-".join(map(str, FEATURES))}, SGD, memory of 100 rows. Each method '
    f'tries {scale.budget} settings: {len(RATES)} rates first (naive tries '
    'rates and schedules only), then strengths and the schedules '
    f'{", ".join(contenders.SCHEDULES)} near the best rate, on seeds '
    f'{list(scale.tuning_seeds)}; {len(scale.seeds)} other seeds are reported. '
    'Settings: schedule, peak rate, strength; chosen on the other classes / on '
    'these. The last column takes the best tried setting of each seed.',
  )


def _describe(verdict: Verdicts) -> str:
  moved = ', '.join(verdict.moved) or 'none'
  return (
    f'{claims.format_interval(verdict.flattery)}, tau of the order on the '
    f'other classes {verdict.transfer:.2f}, of the two ways to tune '
    f'{verdict.order:.2f} (moved: {moved})'
  )


def _line(label: str, method: str, contest: Contest) -> dict[str, Any]:
  return {
    'reported classes': label,
    'method': method,
    'tuned on others': claims.format_interval(contest.apart),
    'tuned on these': claims.format_interval(contest.together),
    'best of all tried': claims.format_interval(contest.best),
    'settings': contest.words,
  }


def _reference_lines(
  label: str, half: protocols.Half, scale: _Scale
) -> list[dict[str, Any]]:
  """Joint training at the rate that is best for it there, and no training."""
  seeds, every = scale.seeds, [*scale.tuning_seeds, *scale.seeds]
  scenario = contenders.make_scenario('class', scale.steps, contenders.Size())
  joint = scenario.stack(half, every, scale.steps, True)
  model = contenders.build(contenders.METHODS['naive'], FEATURES, joint)
  tuned, found = protocols.Trials(joint, every, *model).tune(
    {'rate': RATES, 'strength': [0.0], 'schedule': [0.0]},
    tuning_seeds=scale.tuning_seeds,
    seeds=seeds,
  )
  stack = scenario.stack(half, seeds, scale.steps, False)
  rows = {
    'joint': (found.final, f'constant {tuned.setting["rate"]:g}'),
    'nearest class mean': (references.nearest_mean(stack).mean(1), ''),
    'chance': (references.chance(stack).mean(1), ''),
  }
  return [
    {
      'reported classes': label,
      'method': name,
      'tuned on others': '',
      'tuned on these': claims.format_interval(values),
      'best of all tried': '',
      'settings': words,
    }
    for name, (values, words) in rows.items()
  ]


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
