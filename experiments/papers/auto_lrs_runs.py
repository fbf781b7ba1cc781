"""The runs of the claim on AutoLRS: a small problem and its contenders."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import methods, models, streams, training

TUNING_SEEDS = range(100, 103)
LOW, HIGH = 1e-3, 1e-1  # the range of the authors' example
BATCH, NOISE = 32, 0.3
TARGETS = (1.1, 1.5, 2.0)  # times the final loss of the better schedule
SHAPES: Mapping[str, Callable[[Any], Any]] = {
  'constant': lambda u: 1.0,
  'cosine': lambda u: 0.5 * (1 + jnp.cos(jnp.pi * u)),
}


class Scale(NamedTuple):
  """Stages of `stage` up to `longest` steps, in a run of `steps`.

  `every` divides all of them: losses are taken after so many steps.
  """

  stage: int
  longest: int
  steps: int
  every: int
  candidates: int
  seeds: Sequence[int]


class Data(NamedTuple):
  """Rows to train on, to choose with, and to report on."""

  train: Mapping[str, np.ndarray]
  validation: Mapping[str, np.ndarray]
  test: Mapping[str, np.ndarray]


class Found(NamedTuple):
  """The runs of one contender, by target.

  Attributes:
    steps: `[targets, seeds]`, the step at which the test loss is first at the
      target; the whole budget where it never is.
    reached: `[targets, seeds]`, whether it ever is.
    search: `[targets, seeds]`, the steps of search up to there.
    final: `[seeds]`, the test loss at the end.
    note: the rates that were tuned, or found.
  """

  steps: np.ndarray
  reached: np.ndarray
  search: np.ndarray
  final: np.ndarray
  note: str


@functools.cache
def load() -> Data:
  """1,006 rows, 395 and 396 others, the same for every seed."""
  train, rest = streams.digits(0, 0.44)
  half = len(rest['labels']) // 2
  pick = lambda rows: {name: column[rows] for name, column in rest.items()}
  return Data(train, pick(slice(half)), pick(slice(half, None)))


@functools.cache
def make_model() -> tuple[Any, Any]:
  """`(init_fn, apply_fn)`: without noise a small set is soon overfitted."""
  module = models.MLP((64, 64), 10)
  init_fn, apply_fn = models.from_module(module, load().train['inputs'][:1])

  def noisy(params, inputs, *, rng, model_state, train):
    if train:
      inputs += NOISE * jax.random.normal(rng, inputs.shape)
    return apply_fn(
      params, inputs, rng=rng, model_state=model_state, train=train
    )

  return init_fn, noisy


def make_tx(rate: Any) -> optax.GradientTransformation:
  """SGD with momentum."""
  return optax.chain(optax.trace(0.9), methods.scale_by_schedule_value(rate))


def make_stream(seed: int, steps: int, test: Any) -> streams.Stream:
  """One task of all classes."""
  return streams.split(
    load().train,
    num_tasks=1,
    batch_size=BATCH,
    steps_per_task=steps,
    seed=seed,
    test=test,
  )


def make_evaluate(learner: training.Learner, make: Callable) -> Callable:
  """Losses on the rows to choose with and to report on; `make(rows)`."""
  rows = {'validation': load().validation, 'test': load().test}
  evaluators = {
    name: training.make_evaluator(learner, make(one))
    for name, one in rows.items()
  }
  return lambda state: {n: e(state)['loss'] for n, e in evaluators.items()}


def read_losses(records: Sequence[Any], rows: str) -> np.ndarray:
  """Losses `[..., points]`; no number counts as infinite."""
  losses = np.array([r['metrics'][rows] for r in records], np.float64)
  losses = np.moveaxis(losses[..., 0], 0, -1)
  return np.where(np.isfinite(losses), losses, np.inf)


def run_schedule(scale: Scale, name: str, seeds: Sequence[int]) -> Callable:
  """Makes `run(rate) -> records` of a schedule, compiled once."""
  shape, steps = SHAPES[name], scale.steps
  init_fn, apply_fn = make_model()
  tx = lambda peak: make_tx(lambda n: peak * shape(n / steps))
  learner = training.Learner(tx, apply_fn)
  stack = lambda rows: streams.replicate(
    [make_stream(seed, steps, rows) for seed in seeds]
  )
  evaluate = make_evaluate(learner, stack)
  stream = stack(None)
  start = training.create_states(init_fn, make_tx(0.0), seeds)
  return lambda rate: training.train_stream(
    learner,
    start,
    stream,
    evaluate=evaluate,
    evaluate_every=scale.every,
    hyperparams=jnp.float32(rate),
  )[1]


def steps_to(
  losses: np.ndarray, target: float, scale: Scale
) -> tuple[np.ndarray, np.ndarray]:
  """The first step at which `losses[..., points]` are at the target.

  Returns:
    `(steps, reached)`: the whole budget where the target is not reached.
  """
  at_target = losses <= target
  first = (np.argmax(at_target, -1) + 1) * scale.every
  reached = np.asarray(at_target.any(-1))
  return np.where(reached, first, scale.steps), reached


def tune_schedules(scale: Scale) -> tuple[dict[str, list[float]], np.ndarray]:
  """The best rate of each schedule for each target, and the test targets.

  A target on either set of rows is a multiple of the least mean loss, on these
  rows, that a schedule ends with. The rates are chosen on the rows to choose
  with.
  """
  rates = np.geomspace(LOW, HIGH, scale.candidates)
  losses = {}
  for name in SHAPES:
    run = run_schedule(scale, name, TUNING_SEEDS)
    records = [run(rate) for rate in rates]
    for rows in ('validation', 'test'):
      losses[name, rows] = np.stack([read_losses(r, rows) for r in records])
  best = lambda rows: min(
    losses[name, rows][..., -1].mean(1).min() for name in SHAPES
  )
  tuned = {name: [] for name in SHAPES}
  for name in SHAPES:
    of_name = losses[name, 'validation']
    for factor in TARGETS:
      steps = steps_to(of_name, factor * best('validation'), scale)[0].mean(1)
      # Of rates that need the same steps, the one with the lower losses.
      ties = np.nan_to_num(of_name.mean((1, 2)), posinf=1e9) * 1e-9
      tuned[name].append(float(rates[np.argmin(steps + ties)]))
  return tuned, np.array(TARGETS) * best('test')


def measure_schedule(
  scale: Scale, name: str, rates: Sequence[float], targets: np.ndarray
) -> Found:
  """A schedule at the rate that was best for each target."""
  run = run_schedule(scale, name, scale.seeds)
  losses = {rate: read_losses(run(rate), 'test') for rate in set(rates)}
  found = [
    steps_to(losses[rate], target, scale)
    for rate, target in zip(rates, targets, strict=True)
  ]
  steps, reached = map(np.stack, zip(*found, strict=True))
  edge = lambda rate: ' (edge)' if rate in (LOW, HIGH) else ''
  note = ', '.join(f'{rate:.3g}{edge(rate)}' for rate in rates)
  none = np.zeros_like(steps)
  return Found(steps, reached, none, losses[rates[0]][:, -1], note)


def measure_auto_lrs(
  scale: Scale, smoothing: Any, targets: np.ndarray
) -> Found:
  """AutoLRS on every seed: one run serves all targets."""
  init_fn, apply_fn = make_model()
  learner = training.Learner(make_tx, apply_fn)
  evaluate = make_evaluate(
    learner, lambda rows: make_stream(0, scale.steps, rows)
  )
  run = lambda seed: training.auto_lrs(
    learner,
    training.create_state(init_fn, make_tx(0.0), jax.random.key(seed)),
    make_stream(seed, scale.steps, None),
    min_rate=LOW,
    max_rate=HIGH,
    stage_steps=scale.stage,
    max_stage_steps=scale.longest,
    trial_steps=scale.stage // 10,
    candidates=scale.candidates,
    seed=seed,
    smoothing=smoothing,
    validate=lambda state: evaluate(state)['validation'][0],
    evaluate=evaluate,
    evaluate_every=scale.every,
  )
  runs = [run(seed) for seed in scale.seeds]
  losses = np.stack([read_losses(one.records, 'test') for one in runs])
  found = [steps_to(losses, target, scale) for target in targets]
  steps, reached = map(np.stack, zip(*found, strict=True))
  search = [
    [
      _search_until(one.stages, step)
      for one, step in zip(runs, row, strict=True)
    ]
    for row in steps
  ]
  rates = np.median([[s['rate'] for s in one.stages] for one in runs], 0)
  note = 'median of stages ' + ', '.join(f'{rate:.2g}' for rate in rates)
  return Found(steps, reached, np.array(search), losses[:, -1], note)


def _search_until(stages: Sequence[Mapping[str, Any]], step: int) -> int:
  return sum(s['search_steps'] for s in stages if s['step'] < step)
