"""The search of one stage: trials, their forecasts, and the best of them."""

from collections.abc import Callable
import time
from typing import Any

import jax
import numpy as np

from lrcl.methods import applied_rate
from lrcl.streams import RESIDENT_BYTES, Stream
from lrcl.training import _chunk
from lrcl.training._auto_lrs_forecast import forecast
from lrcl.training._auto_lrs_proposals import DIVERGED, propose_rates
from lrcl.training._auto_lrs_stages import Settings, Stage, plan_stage
from lrcl.training._auto_lrs_trials import Trials
from lrcl.training._state import Learner, TrainState


class Search:
  """Finds the rate of a stage.

  Args:
    learner: a learner whose `tx` is a function of `hyperparams`.
    stream: a single stream.
    settings: see `auto_lrs`.
    hyperparams: makes the argument of `learner.tx` of a rate.
    validate: see `auto_lrs`.
    options: those of `train_stream`, of which the trials heed some.
  """

  def __init__(
    self,
    learner: Learner,
    stream: Stream,
    settings: Settings,
    *,
    hyperparams: Callable[[Any], Any],
    validate: Callable[[TrainState], Any] | None,
    options: dict[str, Any],
  ):
    self._learner, self._stream, self._settings = learner, stream, settings
    self._hyperparams, self._validate = hyperparams, validate
    self._options = options

  def stage(self, state: TrainState, step: int, before: list[Stage]) -> Stage:
    """Runs the trials of the stage that begins with `state`, at `step`.

    Args:
      state: where the trials begin; it stays as it is.
      step: its step.
      before: the stages before this one.

    Raises:
      FloatingPointError: if every forecast is that of a diverged trial.
    """
    began = time.perf_counter()
    stage = plan_stage(
      self._settings, len(before), step, self._stream.num_steps
    )
    by_validation = self._validate is not None and stage['after_longest']
    stage['uses'] = 'validation' if by_validation else 'training'
    stage['count'] = _clock(state, step)
    stage['initial_loss'] = before[0]['initial_loss'] if before else None
    self._try_rates(state, stage)
    best = int(np.argmin(stage['forecasts']))
    if stage['forecasts'][best] >= DIVERGED:
      raise FloatingPointError(
        f'auto_lrs: from step {step} on the loss diverges at every rate that '
        f'was tried, {stage["rates"]}; lower min_rate or warm up.'
      )
    return dict(
      **stage,
      rate=stage['rates'][best],
      search_steps=len(stage['rates']) * stage['trial_steps'],
      search_seconds=time.perf_counter() - began,
    )

  def _try_rates(self, state: TrainState, stage: Stage) -> None:
    """Adds `rates` and `forecasts` to the stage."""
    settings = self._settings
    trials = self._make_trials(state)
    every = validate_every(stage) if stage['uses'] == 'validation' else None
    sequence = np.random.SeedSequence([settings.seed, stage['stage']])
    rates, forecasts = stage.setdefault('rates', []), []
    stage['forecasts'] = forecasts
    while len(rates) < settings.candidates:
      proposed = propose_rates(
        settings.parallel,
        rates,
        forecasts,
        min_rate=settings.min_rate,
        max_rate=settings.max_rate,
        kappa=settings.kappa,
        seed=int(sequence.generate_state(1)[0]),
      )
      losses = trials.run(
        state, proposed, stage['step'], stage['trial_steps'], every
      )
      if stage['initial_loss'] is None:
        stage['initial_loss'] = float(losses[0, 0])
      rates += proposed
      forecasts += [self._forecast(one, stage) for one in losses]

  def _make_trials(self, state: TrainState) -> Trials:
    """Anew in each stage: what lies on the device for it goes with it."""
    length = self._options.get('chunk_steps')
    return Trials(
      self._learner,
      self._stream,
      length=length or _chunk.choose_length(state.params, self._stream),
      hyperparams=self._hyperparams,
      validate=self._validate,
      together=self._settings.parallel > 1,
      mesh=self._options.get('mesh'),
      resident_bytes=self._options.get('resident_bytes', RESIDENT_BYTES),
    )

  def _forecast(self, losses: np.ndarray, stage: Stage) -> float:
    """The loss at the end of the stage, or what stands for a diverged one."""
    validation = stage['uses'] == 'validation'
    horizon = stage['steps']
    if validation:
      horizon //= validate_every(stage)
    if not np.isfinite(losses).all():
      return DIVERGED
    if validation and losses.max() >= stage['initial_loss']:
      return float(losses[-1])
    found = forecast(
      losses,
      horizon,
      smoothing=self._settings.smoothing,
      validation=validation,
    )
    return found if np.isfinite(found) else DIVERGED


def validate_every(stage: Stage) -> int:
  return max(1, stage['trial_steps'] // 16)


def _clock(state: TrainState, step: int) -> int:
  """The count of the link that applies the rate; the step where it has none."""
  count = int(jax.device_get(applied_rate(state.opt_state)[1]))
  return step if count < 0 else count
