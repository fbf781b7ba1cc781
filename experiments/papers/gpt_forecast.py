"""Whether laws that are fitted to short runs forecast three long ones.

A small GPT learns bytes of real text. The annealing law is fitted to a constant
and a cosine run, as by its authors, and the multi-power law to these and a run
of two rates, as by its own; WSD, WSD-S and infinite runs, three times as long,
are forecast from their rates alone and then trained.

  python -m experiments.papers.gpt_forecast

takes 8 minutes of CPU time. It also keeps every curve, in
`experiments/papers/results/gpt_forecast.csv`.
"""

from collections.abc import Mapping
import csv
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import claims, gpt_fits, gpt_runs, texts
from lrcl import protocols, schedules
from lrcl.forecasting import Curve

CLAIM = claims.Claim(
  name='gpt_forecast',
  title='Forecasts of longer runs under other schedules',
  paper='Tissue et al., 2024, Scaling Law with Learning Rate Annealing, '
  'https://arxiv.org/abs/2408.11029; Luo et al., 2025, A Multi-Power Law for '
  'Loss Curve Prediction Across Learning Rate Schedules, '
  'https://arxiv.org/abs/2503.12811',
  says='A law of the rates, fitted to the loss curves of two or three short '
  'runs, predicts the curves of unseen schedules and of longer runs (language '
  'models of 25M parameters and more; the annealing law was fitted to a '
  'constant and a cosine run, the multi-power law to these and a run of two '
  'rates).',
)

_MARGIN = 0.01
"""A forecast of an end is good if it is off by less than this part of it."""


class _Scale(NamedTuple):
  short: int
  every: int
  seeds: int
  peaks: list[float]
  tuning_steps: int
  warmup: int = 100
  max_bytes: int | None = None

  @property
  def long(self) -> int:
    return 3 * self.short


_PEAKS = protocols.geometric(0.0025, 0.04, 2)
SCALES = {
  'smoke': _Scale(60, 5, 2, [0.01], 5, 5, 50_000),
  'default': _Scale(2000, 100, 3, _PEAKS, 1000),
  'full': _Scale(10_000, 100, 5, _PEAKS, 5000),
}
_TUNING_SEED = 100


def run(size: claims.Size) -> claims.Outcome:
  """Trains, fits and forecasts, seed by seed."""
  scale = SCALES[size]
  tokens = texts.read_sources('sklearn', scale.max_bytes)
  trainer = gpt_runs.Trainer(tokens)
  peak, edge = _tune(trainer, scale)
  rates = make_rates(peak, scale)
  read = [
    gpt_runs.train_runs(trainer, rates, seed, scale.every)
    for seed in range(scale.seeds)
  ]
  found = [_forecast(rates, losses, scale) for losses in read]
  if size == 'default':
    _keep(rates, read, found, scale)
  text = texts.describe_sources('sklearn', 'scikit-learn', tokens)
  about = _describe(scale, trainer, rates, peak, edge, text)
  return _outcome(scale, read, found, about)


def make_rates(peak: float, scale: _Scale) -> dict[str, np.ndarray]:
  """The rates of every step, of the runs to fit and of those to forecast."""
  short, long, warmup = scale.short, scale.long, scale.warmup
  low, decay = peak / 10, long // 5
  wsd = lambda stable, *args, **kwargs: schedules.wsd_schedule(
    peak, warmup, stable - warmup, *args, **kwargs
  )
  made = {
    'constant': (wsd(short, 1), short),
    'cosine': (
      wsd(warmup, short - warmup, end_value=low, decay='cosine'),
      short,
    ),
    'two rates': (
      schedules.decay_branch(
        wsd(short, 1), short // 2, 1, end_value=0.3 * peak
      ),
      short,
    ),
    'WSD': (wsd(long - decay, decay), long),
    'WSD-S': (schedules.wsd_s_schedule(peak, warmup, [short, long]), long),
    'infinite': (
      schedules.infinite_schedule(
        peak,
        peak / 2,
        warmup,
        short,
        anneal_start=long - decay,
        anneal_steps=decay,
      ),
      long,
    ),
  }
  over = lambda fn, steps: np.asarray(jax.vmap(fn)(jnp.arange(steps)))
  return {name: over(fn, steps) for name, (fn, steps) in made.items()}


def _tune(trainer: gpt_runs.Trainer, scale: _Scale) -> tuple[float, bool]:
  """The peak with the best short WSD run, and whether it is at an edge."""
  steps = scale.tuning_steps
  ends = []
  for peak in scale.peaks:
    warmup = min(scale.warmup, steps // 5)
    wsd = schedules.wsd_schedule(
      peak, warmup, steps - warmup - steps // 5, steps // 5
    )
    row = {'tried': np.asarray(jax.vmap(wsd)(jnp.arange(steps)))}
    losses = gpt_runs.train_runs(trainer, row, _TUNING_SEED, scale.every)
    ends.append(losses['tried'][-1])
  best = int(np.argmin(ends))
  return scale.peaks[best], best in (0, len(ends) - 1)


def _curve(name: str, rates: Any, losses: Any, scale: _Scale) -> Curve:
  """A curve without the readings of the warm-up."""
  steps = scale.every * np.arange(1, len(losses) + 1) - 1
  good = steps >= 2 * scale.warmup
  return Curve(rates, losses[good], steps[good], name)


def _forecast(
  rates: Mapping[str, np.ndarray],
  losses: Mapping[str, np.ndarray],
  scale: _Scale,
) -> dict[str, dict[str, np.ndarray]]:
  """What each law, fitted to this seed, predicts at the readings."""
  curve = lambda name: _curve(name, rates[name], losses[name], scale)
  found: dict[str, dict[str, np.ndarray]] = {}
  for name, fit in gpt_fits.make_fits().items():
    law = fit([curve(short) for short in gpt_fits.FITTED])
    found[name] = {
      each: np.asarray(law.predict(rates[each], curve(each).steps), np.float64)
      for each in (*gpt_fits.FITTED, *gpt_fits.FORECAST)
    }
  return found


def _outcome(
  scale: _Scale,
  read: list[dict[str, np.ndarray]],
  found: list[dict[str, dict[str, np.ndarray]]],
  about: str,
) -> claims.Outcome:
  ends = {run: np.array([x[run][-1] for x in read]) for run in read[0]}
  spread = {run: float(ends[run].std(ddof=1)) for run in ends}
  errors = {
    (law, run): gpt_fits.measure_errors(law, run, read, found)
    for law in gpt_fits.make_fits()
    for run in read[0]
  }
  parts = _parts(ends, spread, errors)
  worst = lambda law: max(
    abs(float(errors[law, run].end.mean())) for run in gpt_fits.FORECAST
  )
  told = '; '.join(
    f'{law}: {worst(law):.4f}, '
    f'{gpt_fits.mean_error(law, errors).mean():.4f} over the curves'
    for law in gpt_fits.make_fits()
  )
  average = float(np.mean([spread[run] for run in gpt_fits.FORECAST]))
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured='Nats per byte that the ends of the three long runs are off by '
    f'at worst, in the mean over seeds: {told}. The seeds differ by '
    f'{average:.4f} (standard deviation of the ends). '
    f'{claims.format_parts(parts)}.',
    table=[
      _row(law, run, ends[run], spread[run], errors[law, run])
      for run in (*gpt_fits.FORECAST, *gpt_fits.FITTED)
      for law in gpt_fits.make_fits()
    ],
    setting=about,
  )


def _parts(
  ends: Mapping[str, np.ndarray],
  spread: Mapping[str, float],
  errors: Mapping[tuple[str, str], gpt_fits.Errors],
) -> dict[str, bool]:
  parts = {}
  for law in gpt_fits.JUDGED:
    off = {
      run: abs(float(errors[law, run].end.mean())) for run in gpt_fits.FORECAST
    }
    parts[f'{law}: every end within {_MARGIN:.0%}'] = all(
      off[run] < _MARGIN * ends[run].mean() for run in gpt_fits.FORECAST
    )
    parts[f'{law}: within the spread of the seeds'] = all(
      off[run] < spread[run] for run in gpt_fits.FORECAST
    )
    parts[f'{law}: closer than the area alone'] = claims.is_below(
      gpt_fits.mean_error(law, errors).tolist(),
      gpt_fits.mean_error('area alone', errors).tolist(),
    )
    parts[f'{law}: the order of the ends'] = gpt_fits.same_order(
      law, ends, errors
    )
  return parts


def _row(
  law: str, run: str, ends: np.ndarray, spread: float, errors: gpt_fits.Errors
) -> dict[str, Any]:
  return {
    'run': run + (' (fitted)' if run in gpt_fits.FITTED else ''),
    'law': law,
    'end': claims.format_interval(ends.tolist(), 4),
    'error at the end': claims.format_interval(errors.end.tolist(), 4),
    'mean error of the curve': claims.format_interval(errors.mean.tolist(), 4),
    'spread of the seeds': f'{spread:.4f}',
  }


def _keep(
  rates: Mapping[str, np.ndarray],
  read: list[dict[str, np.ndarray]],
  found: list[dict[str, dict[str, np.ndarray]]],
  scale: _Scale,
) -> None:
  """Writes the curves and forecasts beside the outcome."""
  claims.RESULTS.mkdir(exist_ok=True)
  with (claims.RESULTS / f'{CLAIM.name}.csv').open('w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(
      ['seed', 'run', 'step', 'lr', 'loss', *gpt_fits.make_fits()]
    )
    for seed, (losses, of) in enumerate(zip(read, found, strict=True)):
      for run, row in rates.items():
        curve = _curve(run, row, losses[run], scale)
        told = [of[law][run] for law in gpt_fits.make_fits()]
        for step, loss, *rest in zip(
          curve.steps, curve.losses, *told, strict=True
        ):
          values = [f'{x:.6g}' for x in (row[step], loss, *rest)]
          writer.writerow([seed, run, step, *values])


def _describe(
  scale: _Scale,
  trainer: gpt_runs.Trainer,
  rates: Mapping[str, np.ndarray],
  peak: float,
  edge: bool,
  text: str,
) -> str:
  plan = gpt_runs.plan_forks(rates, scale.every)
  all_steps = sum(map(len, rates.values()))
  trained = all_steps - sum(fork for _, fork in plan.values())
  return (
    f'{text}; a GPT of {trainer.num_params} parameters, {gpt_runs.BATCH} '
    f'windows of {gpt_runs.LENGTH} bytes a step, Adam, peak {peak:g}'
    f'{" (an edge of the grid)" if edge else ""} by WSD over '
    f'{scale.tuning_steps} steps on seed {_TUNING_SEED}, warm-up '
    f'{scale.warmup}. Fitted, for each of {scale.seeds} seeds, to the test '
    f'losses every {scale.every} steps of a constant run, a cosine run and one '
    f'at the peak and then at 0.3 of it, {scale.short} steps each; the verdict '
    'is on each law with the curves that its authors took, the decay of the '
    'annealing law fitted too. Forecast are WSD (linear to 0 over the last '
    f'fifth), WSD-S (cycles to {scale.short} and {scale.long}) and an infinite '
    f'run (annealed over the last fifth), {scale.long} steps each. Runs fork '
    f'where their rates part: {trained} of {all_steps} steps are trained.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
