"""AutoLRS against tuned constant and cosine rates: steps to a target.

A perceptron learns scikit-learn's digits under noise on its inputs, in a tenth
of the stages and trials of the authors' code. The target is what the better of
the two tuned schedules reaches with the whole budget; looser ones stand beside
it.

  python -m experiments.papers.auto_lrs

takes about 2 minutes of CPU time.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.papers import auto_lrs_runs as runs
from experiments.papers import claims

CLAIM = claims.Claim(
  name='auto_lrs',
  title='AutoLRS: fewer steps than with tuned schedules',
  paper='Jin et al., 2021, AutoLRS: Automatic Learning-Rate Schedule by '
  'Bayesian Optimization on the Fly, https://arxiv.org/abs/2105.10762',
  says='Rates found on the fly train 1.22 (ResNet-50), 1.43 (Transformer) and '
  '1.5 (BERT) times faster than the schedules of the original papers, and on '
  'average 1.31 times faster than heavily tuned ones (from the abstract; the '
  'paper was not read). The search takes as many steps as the training (README '
  'of the authors).',
)

_SCALES = {
  'smoke': runs.Scale(40, 80, 120, 10, 3, range(3)),
  'default': runs.Scale(100, 800, 2300, 20, 10, range(8)),
  'full': runs.Scale(1000, 8000, 23_000, 100, 10, range(8)),
}
_AUTO = {'AutoLRS': 'official', 'AutoLRS, no smoothing': 'none'}


def run(size: claims.Size) -> claims.Outcome:
  """Tunes the schedules, runs every contender, compares steps to a target."""
  scale = _SCALES[size]
  tuned, targets = runs.tune_schedules(scale)
  found = {
    name: runs.measure_schedule(scale, name, rates, targets)
    for name, rates in tuned.items()
  }
  for name, smoothing in _AUTO.items():
    found[name] = runs.measure_auto_lrs(scale, smoothing, targets)
  # The claim is about the end of training: the first, strictest target.
  ours = found['AutoLRS'].steps[0]
  parts = {
    f'fewer steps than a tuned {name}': claims.is_below(
      ours, found[name].steps[0]
    )
    for name in tuned
  }
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=_in_words(found, list(tuned), parts),
    table=_table(found, scale),
    setting=_setting(scale, targets),
  )


def _speed(
  found: Mapping[str, runs.Found], name: str, target: int, counted: bool
) -> str:
  """How many times fewer steps AutoLRS takes than a schedule."""
  ours = found['AutoLRS']
  steps = ours.steps[target] + counted * ours.search[target]
  return claims.format_interval(found[name].steps[target] / steps, 2)


def _in_words(
  found: Mapping[str, runs.Found],
  schedules: Sequence[str],
  parts: Mapping[str, bool],
) -> str:
  ratios = lambda n, counted: ' and '.join(
    f'{_speed(found, name, n, counted)} (against {name})' for name in schedules
  )
  ours, last = found['AutoLRS'], len(runs.TARGETS) - 1
  seeds = len(ours.final)
  return (
    f'To {runs.TARGETS[0]:g} times the final loss of the better schedule '
    f'AutoLRS is {ratios(0, False)} times as fast, without the search, which '
    f'doubles its steps; it gets there in {ours.reached[0].sum()} of {seeds} '
    f'runs. To {runs.TARGETS[last]:g} times that loss it is '
    f'{ratios(last, False)} times as fast, and {ratios(last, True)} with the '
    f'search. In parts: {claims.format_parts(parts)}.'
  )


def _table(
  found: Mapping[str, runs.Found], scale: runs.Scale
) -> list[dict[str, str]]:
  rows = []
  for name, one in found.items():
    counts = {name: one.steps}
    if one.search.any():
      counts[f'{name}, with its search'] = one.steps + one.search
    for label, steps in counts.items():
      rows.append({'contender': label})
      for factor, of_target, reached in zip(
        runs.TARGETS, steps, one.reached, strict=True
      ):
        rows[-1][f'steps to x{factor:g}'] = (
          f'{claims.format_interval(of_target.tolist(), 0)} '
          f'({reached.sum()} of {len(scale.seeds)})'
        )
      rows[-1]['final loss'] = claims.format_interval(one.final.tolist())
      rows[-1]['rates'] = one.note
  return rows


def _setting(scale: runs.Scale, targets: np.ndarray) -> str:
  train, validation, test = (len(rows['labels']) for rows in runs.load())
  return (
    f"scikit-learn's digits, {train} rows to train on, {validation} to choose "
    f'with and {test} to report on, noise {runs.NOISE} on the inputs; MLP '
    f'64-64, SGD with momentum 0.9, batch {runs.BATCH}, {scale.steps} steps, '
    f'seeds {scale.seeds[0]} to {scale.seeds[-1]}. Targets: test losses of '
    f'{", ".join(f"{t:.3f}" for t in targets)}, that is '
    f'{", ".join(f"{t:g}" for t in runs.TARGETS)} times the least mean that a '
    f'schedule ends with on seeds {runs.TUNING_SEEDS[0]} to '
    f'{runs.TUNING_SEEDS[-1]}, where each schedule gets the best of '
    f'{scale.candidates} rates from {runs.LOW:g} to {runs.HIGH:g}, for each '
    'target anew; cosines end with the budget. AutoLRS has the same range, '
    f'{scale.candidates} candidates a stage, stages of {scale.stage} to '
    f'{scale.longest} steps, trials of a tenth, forecasts from the validation '
    'loss in the end. A target that is not reached counts as '
    f'{scale.steps} steps; in brackets, runs that reach it. The '
    'verdict is on the first target, without the search.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
