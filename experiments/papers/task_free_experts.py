"""Experts that find the boundaries of tasks by themselves (TAME).

  python -m experiments.papers.task_free_experts --data_dir=DIR

takes about 3 minutes of CPU time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import claims, images, sequences
from lrcl import losses, methods, models, protocols, streams, training, tree

CLAIM = claims.Claim(
  name='task_free_experts',
  title='TAME: experts for tasks that nobody names',
  paper='Zhu et al., 2022, TAME: Task Agnostic Continual Learning using '
  'Multiple Experts, https://arxiv.org/abs/2210.03869',
  says='A significant deviation of the loss marks the onset of each task; '
  'switching between experts there, and between their predictions by a '
  'selector that is trained on a small random subset, does as well as methods '
  'that are told the task (abstract; window, thresholds and sizes are our '
  'choice).',
)

TASKS, EXPERTS, BATCH = 6, 8, 16
FEATURES, SELECTOR = (100,), (64,)
RATES = (0.02, 0.05, 0.1, 0.2, 0.5)
TUNING_SEEDS = (100, 101)
SOON = 60  # steps within which a detection counts
NO_GATE = 1e9  # a ratio that no rate reaches


class _Cell(NamedTuple):
  name: images.Name
  steps: int  # of a task
  rows: int | None = None  # to train on
  test_rows: int | None = None


class _Scale(NamedTuple):
  cells: Sequence[_Cell]
  seeds: Sequence[int]
  rates: Sequence[float]


_CELLS = (_Cell('digits', 300), _Cell('mnist', 300, 6_000, 2_000))
_SCALES = {
  'smoke': _Scale((_Cell('digits', 120),), range(3), RATES[2:4]),
  'default': _Scale(_CELLS, range(5), RATES),
  'full': _Scale(
    (_Cell('digits', 1000), _Cell('mnist', 1000, 6_000)), range(10), RATES
  ),
}

_CLOCK = optax.schedules.InjectStatefulHyperparamsState


class Seen(NamedTuple):
  """What a detector made of the boundaries of runs.

  Attributes:
    missed: boundaries without a detection, `[seeds]`.
    false: detections without a boundary, `[seeds]`.
    delays: steps from a boundary to its detection, where there was just one.
  """

  missed: np.ndarray
  false: np.ndarray
  delays: np.ndarray


def read_shifts(state: training.TrainState) -> tuple[jax.Array, jax.Array]:
  """How many shifts were seen so far, and when the last."""
  experts = tree.get_states(state.opt_state, methods.ExpertsState)[0]
  return experts.shifts, experts.last_shift


def count_shifts(read: Any, steps: int) -> Seen:
  """Compares detections with boundaries.

  Args:
    read: of `read_shifts` at the ends of tasks, each `[seeds, tasks, 1]`.
    steps: of a task.
  """
  shifts, last = (np.asarray(x)[..., 0] for x in read)
  new = np.diff(shifts, axis=-1, prepend=0)
  delay = last - steps * np.arange(shifts.shape[-1])
  due = np.arange(shifts.shape[-1]) > 0
  late = (new == 1) & (delay >= SOON)
  found = due & (new > 0) & ~late
  return Seen(
    (due & ~found).sum(-1),
    (new - found).sum(-1),
    delay[found & (new == 1)],
  )


def restarting(setting: protocols.Setting, steps: int) -> optax.Schedule:
  """A rate that falls to a part of itself and restarts amid a task.

  `floor` is that part; 1 makes a constant rate.
  """
  cycle = round((TASKS / 2 + 0.5) * steps)

  def schedule(count):
    phase = jnp.asarray(count % cycle, jnp.float32) / cycle
    bend = 0.5 * (1.0 + jnp.cos(jnp.pi * phase))
    floor = setting['floor']
    return setting['rate'] * (floor + (1.0 - floor) * bend)

  return schedule


def make_task_free(
  stream: streams.Stream, apply_fn: Any, steps: int
) -> protocols.MakeLearner:
  """TAME, by its rate, the gate of its detector and the floor of its rate.

  With `routes` 1 the accuracy is that of the selector: the share of rows that
  it sends to the expert with the task's number.
  """
  spec = stream.batch_spec
  select_init, select_apply = models.from_module(
    models.MLP(SELECTOR, EXPERTS), spec['inputs']
  )
  selector, _ = select_init(jax.random.key(0))

  def select(selector, inputs):
    return select_apply(
      selector, inputs, rng=None, model_state={}, train=False
    )[0]

  routed = models.route_experts(apply_fn, select)

  def predict_apply(params, inputs, *, train, **kwargs):
    logits, state = routed(params, inputs, train=train, **kwargs)
    if train:
      return logits, state
    exists = jnp.arange(EXPERTS) < params['count']
    scores = jnp.where(exists, select(params['selector'], inputs), -jnp.inf)
    return jnp.concatenate([logits, scores], -1), state

  def make_learner(setting):
    detector = methods.restart_on_rate(methods.window_shift(), setting['gate'])
    rate = methods.scale_by_schedule_value(restarting(setting, steps))
    experts = methods.with_experts(
      rate, EXPERTS, detector=detector, keep=_CLOCK
    )
    tx = methods.with_selector(experts, select, selector, spec)

    def predict(outputs, batch):
      right = jnp.argmax(outputs[:, 10:], -1) == batch['task']
      routes = jnp.where(right, batch['labels'], -1)
      label = jnp.argmax(outputs[:, :10], -1)
      return jnp.where(setting['routes'] > 0, routes, label)

    return training.Learner(
      tx,
      predict_apply,
      predict=predict,
      eval_params=lambda state, task_id: methods.expert_params(
        state.opt_state, state.params
      ),
    )

  return make_learner


def make_told(apply_fn: Any) -> protocols.MakeLearner:
  """Experts that are told the task, in training and in testing."""

  def eval_params(state, task_id):
    found = methods.expert_params(state.opt_state, state.params)
    return jax.tree.map(lambda x: x[task_id], found['experts'])

  def make_learner(setting):
    rate = methods.scale_by_schedule_value(setting['rate'])
    tx = methods.with_task_experts(rate, TASKS)
    return training.Learner(
      tx, apply_fn, losses.cross_entropy, eval_params=eval_params
    )

  return make_learner


class _Measured(NamedTuple):
  table: list[dict[str, Any]]
  parts: dict[str, bool]
  finding: str


def measure(cell: _Cell, scale: _Scale, data_dir: str | None) -> _Measured:
  """Measures all contenders on one set of images."""
  pictures = images.load_images(
    cell.name, data_dir, train_rows=cell.rows, test_rows=cell.test_rows
  )
  every = [*TUNING_SEEDS, *scale.seeds]
  options: dict[str, Any] = {
    'steps_per_task': cell.steps,
    'num_tasks': TASKS,
    'batch_size': BATCH,
  }
  stream = sequences.permuted_stream(pictures, every, **options)
  init_fn, apply_fn = sequences.make_mlp(stream, FEATURES)
  seeds: dict[str, Any] = {'tuning_seeds': TUNING_SEEDS, 'seeds': scale.seeds}
  rates = {'rate': scale.rates}

  free = protocols.Trials(
    stream,
    every,
    init_fn,
    make_task_free(stream, apply_fn, cell.steps),
    read=read_shifts,
  )
  fixed = {'gate': [2.0], 'floor': [1.0], 'routes': [0.0]}
  tuned, found = free.tune(rates | fixed, **seeds)
  best = tuned.setting['rate']
  others = free.sweep(
    {
      'rate': np.full(3, best, np.float32),
      'gate': np.array([2.0, 2.0, NO_GATE], np.float32),
      'floor': np.array([1.0, 0.02, 0.02], np.float32),
      'routes': np.array([1.0, 0.0, 0.0], np.float32),
    },
    scale.seeds,
  )
  told_trials = protocols.Trials(stream, every, init_fn, make_told(apply_fn))
  told_tuned, told = told_trials.tune(rates, **seeds)
  references = sequences.reference_rows(
    pictures,
    FEATURES,
    rates=scale.rates,
    make_stream=sequences.permuted_stream,
    **seeds,
    **options,
  )

  seen = count_shifts(found.read, cell.steps)
  gated, open_ = (count_shifts(others.pick(i).read, cell.steps) for i in (1, 2))
  row = _row_of(cell.name)
  setting = f'rate {best:.3g}'
  table = [
    row('TAME', found.final, setting, seen),
    row('TAME, rate restarts', others.final[1], setting, gated),
    row('TAME, rate restarts, no gate', others.final[2], setting, open_),
    row(
      'experts that are told', told.final, protocols.format_setting(told_tuned)
    ),
    *(row(n, r.accuracy, r.setting) for n, r in references.items()),
  ]
  router = others.final[0]
  parts = {
    f'{cell.name}: all boundaries seen': not seen.missed.any(),
    f'{cell.name}: no false alarm': not seen.false.any(),
    f'{cell.name}: within 0.02 of experts that are told': claims.is_below(
      told.final - 0.02, found.final
    ),
  }
  finding = (
    f'On {cell.name} {_count(seen, TASKS)}, {seen.delays.mean():.1f} steps '
    f'after them on average, with {seen.false.sum()} false alarms; the '
    f'selector sends {claims.format_interval(router)} of the rows to the right '
    f'expert. With a rate that restarts amid a task there were '
    f'{gated.false.sum()} false alarms and {gated.missed.sum()} misses with '
    f'the gate, {open_.false.sum()} and {open_.missed.sum()} without.'
  )
  return _Measured(table, parts, finding)


def _count(seen: Seen, tasks: int) -> str:
  due = len(seen.missed) * (tasks - 1)
  return f'{due - seen.missed.sum()} of {due} boundaries were seen'


def _row_of(name: str) -> Any:
  """Makes rows of the table."""

  def row(method, accuracy, setting, seen: Seen | None = None):
    count = lambda x: '' if seen is None else int(x(seen).sum())
    delay = '' if seen is None else f'{seen.delays.mean():.1f}'
    return {
      'images': name,
      'method': method,
      'accuracy': claims.format_interval(accuracy),
      'missed': count(lambda s: s.missed),
      'false alarms': count(lambda s: s.false),
      'delay': delay,
      'tuned': setting,
    }

  return row


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Measures every set of images.

  The claim has three parts for each: no boundary is missed, there is no false
  alarm, and accuracy is less than 0.02 below that of experts that are told the
  task, by more than chance. Rates that restart are no part of it.
  """
  scale = _SCALES[size]
  found = [measure(cell, scale, data_dir) for cell in scale.cells]
  parts = {k: v for one in found for k, v in one.parts.items()}
  steps = ', '.join(f'{c.steps} on {c.name}' for c in scale.cells)
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'{claims.format_parts(parts)}. '
    + ' '.join(one.finding for one in found),
    table=[row for one in found for row in one.table],
    setting=f'{TASKS} tasks of permuted pixels, each once; steps of a task: '
    f'{steps}; 6,000 of the MNIST images to train on; batch {BATCH}; '
    f'a perceptron with {FEATURES[0]} hidden units for '
    f'each expert, SGD, at most {EXPERTS} experts; window 10, history 50, '
    'threshold 3, tests on 2 batches; selector with '
    f'{SELECTOR[0]} hidden units on 200 stored rows; the restart is from 0.02 '
    'of the rate, in the middle of the fourth task; rates tuned on seeds '
    f'{TUNING_SEEDS[0]} and {TUNING_SEEDS[1]}, {len(scale.seeds)} seeds '
    'reported.',
  )


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
