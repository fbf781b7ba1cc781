"""Runs of the curricula on parity: one program, whose settings are arrays."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import parity
from lrcl import methods, models, schedules

MASTERED = 0.98
CLIP, MOMENTUM = 2.0, 0.1
WARMUP, TIMESCALE = 50, 200
TEST_ROWS = 1000


class Size(NamedTuple):
  """Of the network and of a run.

  Attributes:
    levels: how many N.
    steps: of a run that never masters the last one.
    units: of the network.
    batch: rows of a step.
    every: steps between two evaluations.
  """

  levels: int
  steps: int
  units: int = 64
  batch: int = 64
  every: int = 25


class Contender(NamedTuple):
  """A curriculum, and how the rate goes with it.

  Attributes:
    window: how many N are trained at a time, the current and those before.
    shared: whether all N have one head, which is asked for the current one.
    joint: whether the last N is the current one from the first step on.
    decays: whether the rate falls with the inverse square root of the step.
    rewarms: whether it starts anew at every N.
  """

  window: int | jax.Array
  shared: bool | jax.Array = False
  joint: bool | jax.Array = False
  decays: bool | jax.Array = False
  rewarms: bool | jax.Array = False


class Run(NamedTuple):
  """What came of a run; NaN where an N was not mastered.

  Attributes:
    mastered: `[levels]` float32, steps until each N was.
    accuracy: `[levels, levels]`, that on each N (a column) when another (the
      row) was mastered.
    tau: `[levels]`, the mean timescale then.
    final: `[levels]`, accuracy on each N at the end.
    probe: `[levels]`, that of a linear readout of the state at the end, fitted
      to each N.
    steps: int32 scalar, steps that were made.
  """

  mastered: jax.Array
  accuracy: jax.Array
  tau: jax.Array
  final: jax.Array
  probe: jax.Array
  steps: jax.Array

  @property
  def level(self) -> int:
    """The last level that was mastered, -1 if none was."""
    return int(np.isfinite(self.mastered).sum()) - 1


class _Carry(NamedTuple):
  params: parity.Params
  opt_state: Any
  stair: schedules.MasteryState
  run: Run


class Runner:
  """Trains contenders; all of them are one compiled program."""

  def __init__(self, size: Size):
    self.size = size
    # One value more: to reach it is to have mastered the last N.
    self._stair = schedules.mastery_staircase(range(size.levels + 1), MASTERED)
    self._draw = functools.partial(
      parity.draw_bits, num_levels=size.levels, units=size.units
    )
    self._run = jax.jit(self._train)

  def __call__(self, contender: Contender, rate: float, seed: int) -> Run:
    """Trains one contender, until it masters the last N or steps run out."""
    traced = Contender(*map(jnp.asarray, contender))
    return jax.device_get(
      self._run(traced, jnp.float32(rate), jax.random.key(seed))
    )

  def _train(self, contender: Contender, rate: jax.Array, key: Any) -> Run:
    size = self.size
    init_key, probe_key, key = jax.random.split(key, 3)
    params = parity.init_params(
      init_key, units=size.units, num_levels=size.levels
    )
    tx = _make_tx(contender, rate)
    goes_on = lambda carry: (
      (carry.run.steps < size.steps) & (carry.stair.index < size.levels)
    )

    def body(carry: _Carry) -> _Carry:
      train_key, test_key = jax.random.split(
        jax.random.fold_in(key, carry.run.steps)
      )
      carry = self._steps(contender, tx, carry, train_key)
      return self._promote(contender, carry, test_key)

    first = jnp.where(contender.joint, size.levels - 1, 0)
    stair = self._stair.init()._replace(index=first)
    none = jnp.full(size.levels, jnp.nan)
    table = jnp.full((size.levels, size.levels), jnp.nan)
    run = Run(none, table, none, none, none, jnp.int32(0))
    start = _Carry(params, tx.init(params), stair, run)
    end = jax.lax.while_loop(goes_on, body, start)
    return end.run._replace(probe=self._probe(end, probe_key))

  def _steps(
    self, contender: Contender, tx: Any, carry: _Carry, key: jax.Array
  ) -> _Carry:
    """Some training on the current N and on those that go with it."""
    level, size = carry.stair.index, self.size
    weights = trained(contender, level, size.levels)

    def loss_fn(params: parity.Params, key: jax.Array) -> jax.Array:
      logits, labels, _ = self._answer(contender, params, level, key)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses.mean(0) @ weights

    def step(i: jax.Array, state: Any) -> Any:
      params, opt_state = state
      gradient = jax.grad(loss_fn)(params, jax.random.fold_in(key, i))
      task_id = jnp.where(contender.rewarms, level, 0)
      updates, opt_state = tx.update(
        gradient, opt_state, params, task_id=task_id
      )
      return optax.apply_updates(params, updates), opt_state

    state = carry.params, carry.opt_state
    params, opt_state = jax.lax.fori_loop(0, size.every, step, state)
    return carry._replace(params=params, opt_state=opt_state)

  def _promote(
    self, contender: Contender, carry: _Carry, key: jax.Array
  ) -> _Carry:
    """Evaluates, and moves on to the next N where this one is mastered."""
    level, run = carry.stair.index, carry.run
    logits, labels, _ = self._answer(
      contender, carry.params, level, key, TEST_ROWS
    )
    accuracy = (logits.argmax(-1) == labels).mean(0)
    weights = trained(contender, level, self.size.levels)
    mean = accuracy @ weights / weights.sum()
    stair = self._stair.update(
      carry.stair, metric=jnp.minimum(mean, accuracy[level])
    )
    moved, steps = stair.index > level, run.steps + self.size.every
    tau = jnp.maximum(carry.params.tau, 1).mean()
    here = (jnp.arange(self.size.levels) == level) | contender.joint
    noted = moved & here
    run = run._replace(
      mastered=jnp.where(noted, steps.astype(jnp.float32), run.mastered),
      accuracy=jnp.where(noted[:, None], accuracy, run.accuracy),
      tau=jnp.where(noted, tau, run.tau),
      final=accuracy,
      steps=steps,
    )
    return carry._replace(stair=stair, run=run)

  def _answer(
    self,
    contender: Contender,
    params: parity.Params,
    level: jax.Array,
    key: jax.Array,
    rows: int | None = None,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of every N, the right answers, and the state."""
    drawn = self._draw(key, level, batch=rows or self.size.batch)
    state = parity.run_network(params, drawn)
    first = lambda x: jnp.where(contender.shared, x[:1], x)
    params = params._replace(
      heads=first(params.heads), head_biases=first(params.head_biases)
    )
    labels = parity.parities(drawn.bits, self.size.levels)
    return parity.read_out(params, state), labels, state

  def _probe(self, carry: _Carry, key: jax.Array) -> jax.Array:
    """How well each N can still be read from the state, linearly."""
    level = jnp.minimum(carry.stair.index, self.size.levels - 1)
    rows, labels = [], []
    for part in jax.random.split(key):
      drawn = self._draw(part, level, batch=2 * TEST_ROWS)
      state = parity.run_network(carry.params, drawn)
      rows.append(jnp.pad(state, ((0, 0), (0, 1)), constant_values=1.0))
      labels.append(parity.parities(drawn.bits, self.size.levels))
    head = models.analytic_ridge(self.size.units + 1, 2, 1e-2)

    def accuracy(known: jax.Array, asked: jax.Array) -> jax.Array:
      fitted = head.update(head.init(), rows[0], known)
      return (head.predict(fitted, rows[1]) == asked).mean()

    return jax.lax.map(lambda y: accuracy(*y), (labels[0].T, labels[1].T))


def trained(contender: Contender, level: Any, levels: int) -> jax.Array:
  """`[levels]` float32: 1 for each N that is trained at a level.

  Example:
    >>> trained(Contender(window=2), 2, 4).tolist()
    [0.0, 1.0, 1.0, 0.0]
  """
  which = jnp.arange(levels)
  inside = (which <= level) & (which > level - contender.window)
  return inside.astype(jnp.float32)


def _make_tx(
  contender: Contender, rate: jax.Array
) -> optax.GradientTransformationExtraArgs:
  decaying = schedules.inverse_sqrt_schedule(rate, WARMUP, timescale=TIMESCALE)
  resting = optax.schedules.linear_schedule(0.0, rate, WARMUP)
  schedule = lambda count: jnp.where(
    contender.decays, decaying(count), resting(count)
  )
  return optax.chain(
    optax.clip_by_global_norm(CLIP),
    optax.trace(MOMENTUM, nesterov=True),
    methods.scale_by_schedule_value(schedules.per_task(schedule)),
  )
