"""Plain SGD and replay, fine-tuned on their memory or not, for the claim."""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import replay_cells, sequences
from experiments.papers.replay_cells import BATCH, Cell
from lrcl import methods, metrics, protocols, streams, training, tree

STEPS, ROWS = 100, 16
"""Of one fine-tuning."""


class Contender(NamedTuple):
  """A method, and how often it is fine-tuned.

  Attributes:
    replays: whether rows of the memory are replayed, or only stored.
    times: how many fine-tunings, the end included.
    second: what is tuned besides the rate: `'fine-tuning rate'`, or the
      `'memory weight'` where nothing is fine-tuned.
  """

  replays: bool
  times: int
  second: str = 'fine-tuning rate'


CONTENDERS = {
  'ER': Contender(True, 0, 'memory weight'),
  'SGD + FPF': Contender(False, 1),
  'SGD + 3-FPF': Contender(False, 3),
  'SGD + 9-FPF': Contender(False, 9),
  'ER + FPF': Contender(True, 1),
}


class Runs:
  """All contenders in one cell.

  Programs are compiled once for all contenders: rates are arguments of the
  chunk, and a fine-tuning is one program for each of its rates.

  Args:
    data: the images.
    cell: the setting.
    seconds: values of what is tuned besides the rate, by name.
  """

  def __init__(
    self,
    data: replay_cells.Data,
    cell: Cell,
    seconds: Mapping[str, Sequence[float]],
  ):
    self._data, self._cell, self.seconds = data, cell, seconds
    stream = data.stream([0])
    self._init_fn, apply_fn = sequences.make_mlp(stream, replay_cells.FEATURES)
    make = lambda replays: training.Learner(
      lambda setting: self._make_tx(stream, replays, setting), apply_fn
    )
    self._learners = {replays: make(replays) for replays in (False, True)}
    self._tunings = {
      rate: training.FineTuning(
        apply_fn,
        optax.sgd(optax.cosine_decay_schedule(rate, STEPS)),
        mask=tree.path_mask('^head/'),
        steps=STEPS,
        batch_size=ROWS,
      )
      for rate in seconds['fine-tuning rate']
    }
    self._made: dict[Any, Any] = {}

  def _make_tx(self, stream: streams.Stream, replays: bool, setting: Any):
    rate = methods.scale_by_schedule_value(setting['rate'])
    if replays:
      replay = methods.add_memory_gradient(setting['memory weight'])
      rate = optax.chain(replay, rate)
    return methods.with_memory(
      rate,
      self._cell.capacity,
      stream.batch_spec,
      BATCH if replays else 1,
      policy='class_balanced',
    )

  def tune(
    self, contender: Contender, rates: Sequence[float], seeds: Sequence[int]
  ) -> protocols.Tuned:
    """Chooses both numbers on the tuning seeds; errors on the others."""
    axes = {'rate': rates, contender.second: self.seconds[contender.second]}
    points = itertools.product(*axes.values())  # the order of protocols.grid
    settings = [dict(zip(axes, point, strict=True)) for point in points]
    tried = np.stack(
      [self.errors(contender, s, replay_cells.TUNING_SEEDS) for s in settings]
    )
    setting, edges = protocols.choose(axes, tried)
    found = self.errors(contender, setting, seeds)
    return protocols.Tuned(setting, edges, found)

  def errors(
    self, contender: Contender, setting: Any, seeds: Sequence[int]
  ) -> np.ndarray:
    """1 - final accuracy, `[seeds]`; NaN where a run was lost."""
    stream, evaluate, start = self._start(contender.replays, tuple(seeds))
    learner = self._learners[contender.replays]
    options: dict[str, Any] = {
      'hyperparams': {
        'rate': jnp.float32(setting['rate']),
        'memory weight': jnp.float32(setting.get('memory weight', 1.0)),
      },
      'progress': False,
    }
    try:
      if contender.times:
        fine_tuning = self._tunings[setting['fine-tuning rate']]
        state, _ = training.train_and_fine_tune(
          learner, start, stream, fine_tuning, contender.times, **options
        )
      else:
        state, _ = training.train_stream(learner, start, stream, **options)
    except FloatingPointError:
      return np.full(len(seeds), np.nan)
    return 1 - evaluate(state)['accuracy'].astype(np.float64).mean(-1)

  def _start(self, replays: bool, seeds: tuple[int, ...]) -> Any:
    """Stream, evaluation and first states of some seeds."""
    key = replays, seeds
    if key not in self._made:
      stream, learner = self._data.stream(seeds), self._learners[replays]
      evaluate = training.make_evaluator(learner, stream)
      any_setting = {'rate': 0.1, 'memory weight': 1.0}
      tx = self._make_tx(stream, replays, any_setting)
      states = training.create_states(self._init_fn, tx, seeds)
      self._made[key] = stream, evaluate, states
    return self._made[key]


def cost(data: replay_cells.Data, contender: Contender) -> tuple[int, float]:
  """Gradients of single rows, and multiplications relative to those of ER.

  A row costs a pass forward and two backwards through every weight; in a
  fine-tuning it goes backwards through those of the head only.
  """
  sizes = [data.images.num_pixels, *replay_cells.FEATURES, 10]
  weights = [a * b for a, b in itertools.pairwise(sizes)]
  steps = replay_cells.NUM_TASKS * data.steps_per_task
  trained = steps * BATCH * (1 + contender.replays)
  tuned = contender.times * STEPS * ROWS
  whole, head = sum(weights), weights[-1]
  work = 3 * whole * trained + (whole + 2 * head) * tuned
  return trained + tuned, work / (3 * whole * 2 * steps * BATCH)


def jumps(
  data: replay_cells.Data, rate: float, seeds: Sequence[int]
) -> dict[str, np.ndarray]:
  """How much more each module moves where a task begins, `[seeds]`.

  Of plain SGD; an epoch is a fifth of a task.
  """
  stream = data.stream(seeds)
  init_fn, apply_fn = sequences.make_mlp(stream, replay_cells.FEATURES)
  epochs = 5
  trials = protocols.Trials(
    stream,
    seeds,
    init_fn,
    lambda setting: training.Learner(optax.sgd(setting['rate']), apply_fn),
    evaluate_every=data.steps_per_task // epochs,
    read=lambda state: state.params,
  )
  read = trials.sweep(protocols.grid({'rate': [rate]}), seeds).read
  points = jax.tree.map(
    lambda x: x[0].reshape(len(seeds), -1, *x.shape[4:]), read
  )
  before = jax.tree.map(lambda x: x[:, :-1], points)
  after = jax.tree.map(lambda x: x[:, 1:], points)
  each = jax.vmap(jax.vmap(metrics.parameter_sensitivity))
  traces = jax.device_get(jax.jit(each)(before, after))
  # Entry i is the move in epoch i + 1.
  switches = [epochs * task - 1 for task in range(1, replay_cells.NUM_TASKS)]
  per_seed = [
    metrics.sensitivity_jumps({k: v[i] for k, v in traces.items()}, switches)
    for i in range(len(seeds))
  ]
  return {name: np.array([j[name] for j in per_seed]) for name in traces}
