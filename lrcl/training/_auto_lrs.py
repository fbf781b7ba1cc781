"""AutoLRS: a learning rate found on the fly, stage by stage."""

from collections.abc import Callable
from typing import Any, NamedTuple

from lrcl import schedules
from lrcl.streams import Stream
from lrcl.training._auto_lrs_forecast import Smoothing
from lrcl.training._auto_lrs_search import Search
from lrcl.training._auto_lrs_stages import (
  Notes,
  Settings,
  Stage,
  check_stream,
  find_schedule,
)
from lrcl.training._auto_lrs_warmup import take_rate
from lrcl.training._book import Record
from lrcl.training._branches import Branches
from lrcl.training._loop import train_stream
from lrcl.training._run_checks import first_step
from lrcl.training._state import Learner, TrainState


class AutoLrs(NamedTuple):
  """What a search by `auto_lrs` leaves.

  Attributes:
    state: the trained state.
    stages: one dict per stage, see `auto_lrs`.
    schedule: the rates that were found as a schedule in the recordable form,
      a function of the count of the link that applies the rate: pieces of
      constants, after the warm-up. None where no step was taken.
    records: those of `train_stream`, of the training without the trials.
  """

  state: TrainState
  stages: list[Stage]
  schedule: dict[str, Any] | None
  records: list[Record]


def auto_lrs(
  learner: Learner,
  state: TrainState,
  stream: Stream,
  *,
  min_rate: float,
  max_rate: float,
  steps: int | None = None,
  stage_steps: int = 1000,
  max_stage_steps: int = 8000,
  trial_steps: int = 100,
  candidates: int = 10,
  parallel: int = 1,
  kappa: float = 1e6,
  seed: int = 0,
  smoothing: Smoothing = 'official',
  validate: Callable[[TrainState], Any] | None = None,
  warmup: Any = None,
  warmup_steps: int = 0,
  branches: Branches | None = None,
  branch: str = 'main',
  **options: Any,
) -> AutoLrs:
  """Trains on a stream, and searches the learning rate of each stage.

  A stage begins with trials: from one and the same state, each of
  `candidates` rates is trained with for `trial_steps`, an exponential is put
  through the losses, and the loss at the end of the stage is forecast. The
  rate with the lowest forecast trains the whole stage, from the state in which
  the trials began. The next rate to try comes from a Gaussian process, a fresh
  one in each stage (`propose_rate`). Stages and trials double until a stage
  has `max_stage_steps`; the stages after that one are forecast from `validate`
  where it is given, called about 16 times in a trial. With the defaults the
  trials take as many steps as the training: **the search doubles the cost**.

  All of it is one compiled program, since the rate is an argument of it. The
  trials of a stage see the batches that the stage will train on; in the
  authors' code the data run on. A rest of the stream shorter than
  `trial_steps` joins the last stage.

  With `parallel` > 1 as many candidates are proposed at once and run side by
  side under `jax.vmap`, which takes as many states in memory and pays on
  accelerators. A Gaussian process proposes one by one, so these are other
  candidates: the first batch is evenly spaced in the logarithm, and in the
  next ones each is proposed as if those before it had the median loss.

  With `branches` the search can be stopped anywhere and started again by the
  same call: each stage is noted in `<branch>/auto_lrs.jsonl`, and it goes on
  from the newest checkpoint, which wins over `state`. A stopped search of one
  stage is done again. The result is bit-identical. As ever, the file of
  `on_record` is the caller's to truncate.

  A stage is a dict: `stage`, `step` and `count` (where it begins, in batches
  and on the schedule's clock), `steps`, `trial_steps`, `after_longest`,
  `uses` ('training' or 'validation'), `rates` and `forecasts` of the
  candidates, `rate`, `initial_loss` (with which the search began),
  `search_steps` and `search_seconds` (what the trials cost, compilation
  included), `settings`. A forecast of 1e6 stands for a trial that diverged.

  Args:
    learner: `learner.tx` is a function of the rate, which it hands to
      `scale_by_schedule_value`: a traced float32, or a schedule with `warmup`.
    state: where to begin; it is never donated.
    stream: a single stream.
    min_rate: the lower end of the range of rates, > 0.
    max_rate: the upper end.
    steps: the step at which to stop; by default the stream's end. It decides
      nothing else, so a later call may go on.
    stage_steps: steps of the first stage (tau).
    max_stage_steps: steps of the longest stages.
    trial_steps: steps of a trial in the first stage (tau').
    candidates: rates tried in each stage.
    parallel: how many are tried side by side; a divisor of `candidates`.
    kappa: see `propose_rate`.
    seed: decides the proposals.
    smoothing: see `fit_exponential`.
    validate: `validate(state) -> loss`, a scalar. A forecast from validation
      losses is replaced by the last of them where one is not below the loss
      with which the search began.
    warmup: the schedule, in its recordable form, of the steps before
      `warmup_steps`, which are not searched.
    warmup_steps: where the search begins.
    branches: where to save; nothing is saved by default.
    branch: the branch that this run writes.
    **options: `evaluate`, `evaluate_every`, `save_every`, `on_record`, `about`,
      `mesh`, `chunk_steps`, `resident_bytes` and `progress` of `train_stream`.

  Returns:
    An `AutoLrs`: the state, the stages, the schedule and the records.

  Raises:
    TypeError: if `learner.tx` is not a function of the rate.
    ValueError: for settings that do not go together, a replicated stream, one
      that ends before the first trial does, or a branch of other settings.
    FloatingPointError: if a stage diverges at every candidate; and as
      `train_stream`.
    ImportError: if scikit-learn is missing.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from lrcl import methods, streams
    >>> train = {'inputs': np.eye(8, dtype=np.float32),
    ...          'labels': np.arange(8) % 4}
    >>> stream = streams.split(
    ...   train, num_tasks=1, batch_size=4, steps_per_task=60
    ... )
    >>> learner = Learner(
    ...   methods.scale_by_schedule_value, lambda p, x, **_: (x @ p, ())
    ... )
    >>> params = jnp.zeros((8, 4))
    >>> state = TrainState(
    ...   jnp.int32(0), params, learner.tx(0.0).init(params), jax.random.key(0)
    ... )
    >>> found = auto_lrs(
    ...   learner, state, stream, min_rate=1e-2, max_rate=10.0,
    ...   stage_steps=20, max_stage_steps=40, trial_steps=5, candidates=3,
    ... )
    >>> [(s['step'], s['steps'], s['search_steps']) for s in found.stages]
    [(0, 20, 15), (20, 40, 30)]
    >>> found.schedule['name'], found.schedule['kwargs']['boundaries']
    ('join_schedules', [20])

  References:
    Jin et al, `AutoLRS: Automatic Learning-Rate Schedule by Bayesian
    Optimization on the Fly <https://arxiv.org/abs/2105.10762>`_, 2021; the
    authors' code, YuchenJin/autolrs.
  """
  settings = Settings(
    min_rate=float(min_rate),
    max_rate=float(max_rate),
    stage_steps=stage_steps,
    max_stage_steps=max_stage_steps,
    trial_steps=trial_steps,
    candidates=candidates,
    parallel=parallel,
    kappa=float(kappa),
    seed=seed,
    smoothing=smoothing,
    warmup=None if warmup is None else schedules.describe_schedule(warmup),
    warmup_steps=warmup_steps,
  )
  if 'axis_name' in options:
    raise ValueError(
      'auto_lrs: axis_name is given; trials do not run under pmap. Spread the '
      'batches with mesh.'
    )
  start = first_step(state)
  check_stream(settings, stream, start)
  learner, hyperparams = take_rate(learner, settings.warmup)
  notes = Notes(branches, branch, settings)
  restored = notes.resume(state, start)
  search = Search(
    learner,
    stream,
    settings,
    hyperparams=hyperparams,
    validate=validate,
    options=options,
  )
  run = _Run(learner, stream, settings, notes, search, hyperparams)
  options |= dict(branches=branches, branch=branch)
  return run.train(restored, _check_end(steps, restored.step, stream), options)


def _check_end(steps: int | None, step: int, stream: Stream) -> int:
  """The step at which to stop."""
  end = stream.num_steps if steps is None else steps
  if not step <= end <= stream.num_steps:
    raise ValueError(
      f'auto_lrs: steps is {end}; it must lie between the step from which the '
      f'run goes on, {step}, and the end of the stream, {stream.num_steps}.'
    )
  return end


class _Run:
  """One call of `auto_lrs`."""

  def __init__(self, learner, stream, settings, notes, search, hyperparams):
    self._learner, self._stream, self._settings = learner, stream, settings
    self._notes, self._search = notes, search
    self._hyperparams = hyperparams

  def train(self, restored, steps, options) -> AutoLrs:
    """Warms up, then searches and trains stage after stage."""
    state, step, extra = restored
    records, trace = [], extra.get('trace')
    while step < steps:
      rate, end, warming = self._next(state, step)
      step = min(end, steps)
      state, found = train_stream(
        self._learner,
        state,
        self._stream,
        steps=step,
        hyperparams=self._hyperparams(rate, warming),
        trace=trace,
        **options,
      )
      records += found
      trace = None
    schedule = find_schedule(self._notes.stages, self._settings)
    return AutoLrs(state, self._notes.stages, schedule, records)

  def _next(self, state, step) -> tuple[float, int, bool]:
    """With which rate to train until when, and whether that is a warm-up."""
    if step < self._settings.warmup_steps:
      return 0.0, self._settings.warmup_steps, True
    stages = self._notes.stages
    if not stages or stages[-1]['step'] + stages[-1]['steps'] <= step:
      self._notes.add(self._search.stage(state, step, stages))
    return stages[-1]['rate'], stages[-1]['step'] + stages[-1]['steps'], False
