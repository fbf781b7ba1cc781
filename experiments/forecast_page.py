"""Makes the pictures of docs/forecasting.md, and prints its tables.

python -m experiments.forecast_page --curves=DIR [--out=docs]

DIR holds the published curves, as for `python -m experiments.forecast`. The
curves of our own GPT are those of `python -m experiments.papers.gpt_forecast`,
which are kept beside its outcome. Time: about three minutes of CPU.
"""

import argparse
import csv
import os
import pathlib
import sys
from typing import Any

import numpy as np

from experiments import command_line, published_curves
from experiments.papers import claims, gpt_forecast
from lrcl import forecasting, schedules
from lrcl.reports import _style

PEAK, END, WARMUP = 3e-4, 3e-5, published_curves.WARMUP_STEPS
FORK, DECAY = 20_000, 4000
"""The decay that was held out: wsdld_20000_24000."""

BUDGETS = (12_000, 24_000, 48_000)


def main() -> None:
  """Prints the tables and draws; an error of the user's is one line."""
  parser = argparse.ArgumentParser(
    prog='python -m experiments.forecast_page', description=__doc__
  )
  parser.add_argument('--curves', default=os.environ.get('LRCL_CURVES', '.'))
  parser.add_argument('--out', default='docs')
  args = parser.parse_args()
  try:
    out = pathlib.Path(args.out)
    for size in ('25M', '100M'):
      decision, curves = decide(pathlib.Path(args.curves) / size)
      print_decision(size, decision, curves)
    draw_decision(decision, curves, out / 'forecasting_decision.png')
    print_plans(published_curves.LAWS['100M'])
    print_gpt_decisions()
    draw_gpt(out / 'forecasting_gpt.png')
  except (ValueError, OSError) as error:
    sys.exit(f'error: {command_line.one_line(error)}')


def _read(root: pathlib.Path, name: str) -> forecasting.Curve:
  return forecasting.read_curve(
    root / f'{name}.csv', schedule=published_curves.schedule_of(name)
  )


def decide(root: pathlib.Path) -> Any:
  """Whether the constant run should decay at step 20,000, and its curves.

  The laws see a cosine run and one of two rates, and the constant run up to
  that step. What its decay came to they do not see.
  """
  names = (*published_curves.FIT, 'wsdld_20000_24000')
  curves = {name: _read(root, name) for name in names}
  whole = curves['constant_24000']
  seen = whole.steps < FORK
  main_ = forecasting.Curve(
    whole.lrs[:FORK], whole.losses[seen], whole.steps[seen], 'main'
  )
  given = {'main': main_}
  given |= {name: curves[name] for name in ('cosine_24000', 'wsdcon_9')}
  decision = forecasting.should_decay_now(
    given, [1000, 2000, DECAY], worth=0.01, end_value=END
  )
  return decision, curves


def print_decision(size: str, decision: Any, curves: Any) -> None:
  """Predicted ends of the decays, and the two that were measured."""
  print(f'\n{size}: {decision.decay}')
  print('\n'.join(decision.reasons))
  for outlook in decision.outlooks:
    print(
      f'| {size} | {outlook.decay_steps} | {outlook.loss:.4f} '
      f'({outlook.interval[0]:.4f} to {outlook.interval[1]:.4f}) '
      f'| {outlook.trunk_loss:.4f} | {outlook.later_loss:.4f} |'
    )
  decayed, on = curves['wsdld_20000_24000'], curves['constant_24000']
  last = lambda curve: np.mean(curve.losses[-4:])
  print(
    f'measured at the end: decay {decayed.losses[-1]:.4f} (mean of the last '
    f'four readings {last(decayed):.4f}), going on {on.losses[-1]:.4f} (mean '
    f'{last(on):.4f})'
  )


def print_plans(law: Any) -> None:
  """WSD and WSD-S for three budgets, and the schedule that a law likes best."""
  trunk = schedules.wsd_schedule(PEAK, WARMUP, 1, 1, end_value=PEAK)
  for after in ('trunk', 'decayed'):
    plan = forecasting.plan_branches(
      law, BUDGETS, trunk, after_decay=after, first_fork=WARMUP, every=100
    )
    for b in plan.branches:
      print(
        f'| {after} | {b.budget} | {b.source} at {b.fork_step} | '
        f'{b.start_step} | {b.decay_steps} | {b.decay} | {b.loss:.4f} | '
        f'{b.trunk_loss:.4f} |'
      )
    print(f'steps in all: {plan.total_steps}')
  best = forecasting.optimize_schedule(law, 24_000, PEAK, warmup_steps=WARMUP)
  print(f'optimised for 24,000 steps: {best.loss:.4f}')
  for name in ('linear', 'one_minus_sqrt', 'cosine'):
    plan = forecasting.plan_branches(
      law, [24_000], trunk, decays=[name], first_fork=WARMUP, every=100
    )
    (b,) = plan.branches
    print(f'best {name} decay: {b.loss:.4f}, {b.decay_steps} steps')


def draw_decision(decision: Any, curves: Any, path: pathlib.Path) -> None:
  """The run up to the decision, what was predicted, and what was measured."""
  fig = _style.new_figure('forecast_page', 7.2, 3.0)
  left, right = fig.subplots(1, 2)
  shown = {
    'going on': (curves['constant_24000'], 'sky'),
    'decay': (curves['wsdld_20000_24000'], 'orange'),
  }
  for name, (curve, color) in shown.items():
    tail = curve.steps >= 16_000
    color = _style.LIGHT[color]
    right.plot(
      curve.steps[tail], curve.losses[tail], 'o', color=color, markersize=2.4,
      label=f'measured, {name}',
    )  # fmt: skip
    left.plot(1e4 * curve.lrs[:24_000], color=color, linewidth=1.4)
  ink = _style.LIGHT['ink']
  for outlook in decision.outlooks:
    low, high = outlook.interval
    at = FORK + outlook.decay_steps
    right.errorbar(
      at, outlook.loss, [[outlook.loss - low], [high - outlook.loss]],
      color=ink, fmt='_', markersize=9, linewidth=1.2,
      label='predicted ends' if outlook is decision.outlooks[-1] else None,
    )  # fmt: skip
  left.axvline(FORK, color=_style.LIGHT['muted'], linewidth=0.8, ls=':')
  right.axvline(FORK, color=_style.LIGHT['muted'], linewidth=0.8, ls=':')
  for ax in (left, right):
    _style.dress(ax)
  _style.label(left, x='step', y='rate, 1e-4', title='the two schedules')
  _style.label(right, x='step', y='loss', title='100M, decide at step 20,000')
  right.legend(frameon=False, fontsize=7.5, labelcolor=ink, loc='lower left')
  fig.savefig(path, dpi=160)


def _gpt_rows() -> list[dict[str, str]]:
  with (claims.RESULTS / 'gpt_forecast.csv').open() as file:
    return list(csv.DictReader(file))


def print_gpt_decisions() -> None:
  """Our WSD run at the start of its decay: is its end forecast then?

  Unlike the claim's, these laws have seen the long constant stretch.
  """
  rows = _gpt_rows()
  rates = gpt_forecast.make_rates(
    max(float(row['lr']) for row in rows), gpt_forecast.SCALES['default']
  )
  fork = len(rates['WSD']) - len(rates['WSD']) // 5
  for seed in dict.fromkeys(row['seed'] for row in rows):
    curves, end = {}, 0.0
    for name in ('WSD', 'cosine', 'two rates'):
      own = [r for r in rows if (r['seed'], r['run']) == (seed, name)]
      losses = np.array([float(row['loss']) for row in own])
      steps = np.array([int(row['step']) for row in own])
      if name == 'WSD':
        end, seen = losses[-1], steps < fork
        losses, steps, name = losses[seen], steps[seen], 'main'
      row = rates['WSD' if name == 'main' else name]
      curves[name] = forecasting.Curve(
        row[: steps[-1] + 1], losses, steps, name
      )
    decay = len(rates['WSD']) - fork
    found = forecasting.should_decay_now(curves, decay, worth=0.01)
    (outlook,) = found.outlooks
    print(
      f'| {seed} | {outlook.loss:.4f} ({outlook.interval[0]:.4f} to '
      f'{outlook.interval[1]:.4f}) | {end:.4f} | {outlook.trunk_loss:.4f} | '
      f'{outlook.later_loss:.4f} |'
    )


def _gpt() -> dict[str, dict[str, np.ndarray]]:
  """The curves of the GPT, means over seeds: columns by run."""
  rows = _gpt_rows()
  runs: dict[str, dict[str, np.ndarray]] = {}
  for name in dict.fromkeys(row['run'] for row in rows):
    own = [row for row in rows if row['run'] == name]
    seeds = len({row['seed'] for row in own})
    columns = [key for key in own[0] if key not in ('seed', 'run')]
    runs[name] = {
      key: np.reshape([float(r[key]) for r in own], (seeds, -1)).mean(0)
      for key in columns
    }
  return runs


def draw_gpt(path: pathlib.Path) -> None:
  """The three long runs of the GPT, measured and forecast."""
  runs = _gpt()
  laws = {
    'multi-power, 3 curves': 'blue',
    'annealing, 2 curves': 'green',
    'area alone': 'purple',
  }
  fig = _style.new_figure('forecast_page', 9.0, 2.9)
  axes = fig.subplots(1, 3, sharey=True)
  names = ('WSD', 'WSD-S', 'infinite')
  for ax, name in zip(axes, names, strict=True):
    run = runs[name]
    kept = run['step'] >= 500
    ax.plot(
      run['step'][kept], run['loss'][kept], 'o', markersize=2.4,
      color=_style.LIGHT['orange'], label='measured',
    )  # fmt: skip
    for law, color in laws.items():
      ax.plot(
        run['step'][kept], run[law][kept], color=_style.LIGHT[color],
        linewidth=1.3, label=law,
      )  # fmt: skip
    _style.dress(ax)
    y = 'nats per byte' if name == names[0] else ''
    _style.label(ax, x='step', y=y, title=name)
  axes[0].legend(
    frameon=False,
    fontsize=7.5,
    labelcolor=_style.LIGHT['ink'],
    loc='lower left',
  )
  fig.savefig(path, dpi=160)


if __name__ == '__main__':
  main()
