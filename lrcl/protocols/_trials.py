"""Runs of continual-learning methods over a sequence of tasks.

One method is one compiled program, from the first weights to the accuracy on
every task after every task. Seeds (data order, classes, weights) and
hyper-parameters are its arguments:

  stream = sequences.split_stream(images, seeds, steps_per_task=100)
  init_fn, apply_fn = sequences.make_mlp(stream, (100, 100))
  make_learner = lambda setting: training.Learner(
    optax.sgd(setting['rate']), apply_fn
  )
  trials = Trials(stream, seeds, init_fn, make_learner)
  tuned, found = trials.tune({'rate': rates}, tuning_seeds=(5, 6), seeds=(0, 1))
  metrics.forgetting(found.matrix)

It is made of the library's stream, step and learner, and gives what
`lrcl.training.train_stream` gives (a test compares them), without its records,
checkpoints and stops between chunks.
"""

from collections.abc import Callable, Mapping, Sequence
import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl import streams, training
from lrcl.protocols import _search as search
from lrcl.protocols import _settings as settings_lib
from lrcl.protocols import _trial_arrays as arrays
from lrcl.protocols._found import Found

MakeLearner = Callable[[settings_lib.Setting], training.Learner]
"""`make_learner(setting)`, of traced float32 scalars by name."""

Read = Callable[[training.TrainState], Any]


class Trials:
  """The runs of one method on one stream.

  Args:
    stream: a stack of streams (`lrcl.streams.replicate`), one for each seed,
      in memory, with test sets.
    seeds: of the runs, in the order of the stack. A seed also draws the first
      weights and all that is random in a run.
    init_fn: `init_fn(key) -> (params, model_state)`.
    make_learner: the method. Its `tx` is a chain, not a function.
    phases: into how many phases of one length to cut the stream; each ends
      with an evaluation, and all boundaries must be such ends. None: one more
      than there are boundaries, hence one for each task in order.
    evaluate_every: evaluate every so many steps; None: at ends of phases. It
      must divide the steps of a phase.
    read: `read(state)`, an array or a tree of them to keep at each evaluation.
    company: how many runs are vmapped. One by one is best on a CPU for all
      but the smallest models.

  Raises:
    ValueError: if stream, seeds, phases and steps do not go together.
  """

  def __init__(
    self,
    stream: streams.Stream,
    seeds: Sequence[int],
    init_fn: Callable[[jax.Array], tuple[Any, Any]],
    make_learner: MakeLearner,
    *,
    phases: int | None = None,
    evaluate_every: int | None = None,
    read: Read = lambda state: (),
    company: int = 1,
  ):
    ends = arrays.phase_ends(stream, phases)
    every = evaluate_every or ends[0]
    self._ends, self._every = ends, every
    if ends[0] % every:
      raise ValueError(
        f'Trials: evaluate_every is {every}; it must divide the {ends[0]} '
        'steps of a phase.'
      )
    if stream.replicas != len(seeds):
      raise ValueError(
        f'Trials: there are {len(seeds)} seeds and a stack of '
        f'{stream.replicas} streams; give one seed for each.'
      )
    self._stream, self._seeds = stream, list(seeds)
    self._init_fn, self._make_learner = init_fn, make_learner
    self._read, self._company = read, company
    self._data = arrays.rows_of(stream)
    self._own = arrays.own_arrays(stream, ends, every)
    starts = set(arrays.boundaries(stream))
    self._ends_task = np.array([end in starts for end in ends])
    run = jax.vmap(self._run, (0, 0, None, 0)) if company > 1 else self._run
    self._compiled = jax.jit(run)

  def on(self, stream: streams.Stream) -> 'Trials':
    """The same program on another stack of streams.

    It is compiled anew only if the sizes of tasks or test sets differ.

    Args:
      stream: a stack for the same seeds, with the same boundaries. Which rows
        come when, tables and data may differ.

    Raises:
      ValueError: naming what else differs.
    """
    arrays.check_alike(self._stream, stream)
    other = copy.copy(self)
    other._stream, other._data = stream, arrays.rows_of(stream)
    other._own = arrays.own_arrays(stream, self._ends, self._every)
    return other

  def sweep(
    self, settings: Mapping[str, np.ndarray], seeds: Sequence[int]
  ) -> Found:
    """Runs every setting with every seed.

    Args:
      settings: arrays of one length by name, such as `grid` makes.
      seeds: some of the seeds of the constructor.
    """
    count = len(next(iter(settings.values())))
    places = [self._seeds.index(seed) for seed in seeds]
    rows = [(i, place) for i in range(count) for place in places]
    together = self._company
    found = []
    for start in range(0, len(rows), together):
      some = rows[start : start + together]
      full = (some * together)[:together]  # one shape, one program
      made = self._run_some(settings, full)
      found.append(jax.tree.map(lambda x, some=some: x[: len(some)], made))
    shape = (count, len(places))
    join = lambda *x: np.concatenate(x).reshape(*shape, *x[0].shape[1:])
    return jax.tree.map(join, *found)

  def tune(
    self,
    axes: settings_lib.Axes,
    *,
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
    budget: int | None = None,
  ) -> tuple[settings_lib.Tuned, Found]:
    """Chooses the setting of the best final accuracy, and runs it.

    Args:
      axes: the grid.
      tuning_seeds: seeds on which to choose.
      seeds: seeds to report; none of them is a tuning seed.
      budget: settings to try, see `lrcl.protocols.search`; None: all.

    Returns:
      The setting, with errors (1 - accuracy) as losses, and the runs that are
      reported, `[seeds]`.

    Raises:
      ValueError: if a seed is both tuned on and reported.
    """
    if set(tuning_seeds) & set(seeds):
      raise ValueError(
        f'Trials.tune: tuning_seeds is {list(tuning_seeds)} and seeds '
        f'{list(seeds)}; they must have no seed in common.'
      )
    best = self.search(axes, tuning_seeds, budget=budget)
    alone = {name: [value] for name, value in best.setting.items()}
    found = self.sweep(settings_lib.grid(alone), seeds).pick(0)
    tuned = settings_lib.Tuned(best.setting, best.edges, found.errors)
    return tuned, found

  def search(
    self,
    axes: settings_lib.Axes,
    seeds: Sequence[int],
    *,
    budget: int | None = None,
  ) -> search.Searched:
    """Searches for the best final accuracy; see `lrcl.protocols.search`."""
    measure_all = lambda settings: self.sweep(settings, seeds).errors
    return search.search(measure_all, axes, budget=budget)

  def step_cost(self, setting: settings_lib.Setting) -> dict[str, float]:
    """What a step costs under a setting, see `lrcl.training.step_cost`."""
    learner = self._make_learner(setting)
    tx: Any = learner.tx
    make = lambda key: training.create_state(self._init_fn, tx, key)
    keys = jax.eval_shape(lambda: jax.vmap(jax.random.key)(jnp.arange(1)))
    state = jax.eval_shape(jax.vmap(make), keys)
    return training.step_cost(learner, state, self._stream)

  def _run_some(self, settings: Mapping[str, np.ndarray], rows: list) -> Found:
    """Runs `(setting, seed)` pairs by one call of the program."""
    which = [i for i, _ in rows]
    places = [place for _, place in rows]
    values = {n: np.asarray(c, np.float32)[which] for n, c in settings.items()}
    keys = jax.vmap(jax.random.key)(
      jnp.asarray([self._seeds[place] for place in places], jnp.uint32)
    )
    own = jax.tree.map(lambda x: x[np.asarray(places)], self._own)
    if self._company > 1:
      return jax.device_get(self._compiled(values, keys, self._data, own))
    values, keys, own = jax.tree.map(lambda x: x[0], (values, keys, own))
    found = jax.device_get(self._compiled(values, keys, self._data, own))
    return jax.tree.map(lambda x: x[None], found)

  def _run(
    self, setting: Any, key: jax.Array, data: Any, own: arrays.Own
  ) -> Found:
    """One run, traced."""
    learner = self._make_learner(setting)
    tx: Any = learner.tx
    step = training.make_train_step(learner.apply_fn, learner.loss_fn, tx)
    batch_of = functools.partial(
      arrays.batch_of, self._stream, data[0], own.tables
    )
    tests = arrays.test_batch(self._stream, data[1], own)
    test = _make_test(learner, tests, own.test_weights)

    def train(state, xs):
      task_id, rows, weights = xs
      state, info = step(state, batch_of(task_id, rows, weights), task_id)
      return state, info.loss

    def train_and_test(state, xs):
      state, losses = jax.lax.scan(train, state, xs)
      accuracy, loss = test(state), jnp.mean(losses)
      return state, Found(accuracy, loss, self._read(state))

    def phase(state, xs):
      steps, is_end, back = xs
      state, found = jax.lax.scan(train_and_test, state, steps)
      task_id = steps[0][-1, -1]

      def end(state):
        batches = jax.lax.map(lambda x: batch_of(task_id, *x), back)
        end_key = jax.random.fold_in(state.rng, -1 - task_id)
        return learner.on_task_end(state, batches, end_key)

      return jax.lax.cond(is_end, end, lambda state: state, state), found

    state = training.create_state(self._init_fn, tx, key)
    steps = (own.task_ids, own.indices, own.weights)
    back = (own.back_indices, own.back_weights)
    return jax.lax.scan(phase, state, (steps, self._ends_task, back))[1]


def _make_test(
  learner: training.Learner, batch: Mapping[str, jax.Array], weights: jax.Array
) -> Callable[[training.TrainState], jax.Array]:
  """Makes `test(state) -> accuracies [T]` on the rows `[T, ...]` of tasks."""

  def test_task(state, task_id, batch, weights):
    logits, _ = learner.apply_fn(
      learner.eval_params(state, task_id),
      batch['inputs'],
      rng=None,
      model_state=state.model_state,
      train=False,
    )
    right = learner.predict(logits, batch) == batch['labels']
    return jnp.average(right.astype(jnp.float32), weights=weights)

  def test(state):
    tasks = jnp.arange(len(weights), dtype=jnp.int32)
    # One product for all tasks where they have the parameters in common.
    each = jax.vmap(functools.partial(test_task, state))
    return each(tasks, batch, weights)

  return test
