"""Sweeps over schedules, rates and seeds, each one compiled program.

Every schedule is trained at every rate of one grid on the tuning seeds, and
then at the rate that was best for it on other seeds, which are reported:

  setup = Setup(problem, optax.trace(0.9), batch_size=32, max_steps=1000)
  tuned = tune(setup, schedules, rates, TUNING_SEEDS, by='validation_error')
  results = report(setup, schedules, tuned, REPORTED_SEEDS)

Schedules are given with the peak 1; the rates of the grid multiply them. Their
values are data of the program, so schedules and budgets cost no compilation.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import methods

Data = tuple[Any, Any]
"""Inputs `[rows, ...]` and targets `[rows, ...]`."""

Schedules = Mapping[str, optax.Schedule]
"""Contenders by name, each with the peak 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
  """What is trained, and what is measured of it.

  Attributes:
    init_fn: from a key to parameters.
    measure_fn: from parameters and data to scalars, means over the rows;
      'loss' is among them and is what is trained.
    pool: the rows to train on, of which every seed sets some aside.
    validation: how many; they are for tuning alone.
    test: rows that no tuning sees; None where the loss on the pool is meant.
  """

  init_fn: Callable[[jax.Array], Any]
  measure_fn: Callable[[Any, Data], dict[str, jax.Array]]
  pool: Data
  validation: int = 0
  test: Data | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
  """A problem, and how it is trained.

  Attributes:
    problem: what is trained.
    optimizer: everything that stands before the learning rate.
    batch_size: rows of a step, drawn without replacement within an epoch.
    max_steps: of the longest run.
    at_once: runs that are vectorised together. None, one after the other, is
      best for networks on a CPU; many are for problems whose step costs less
      than its dispatch.
  """

  problem: Problem
  optimizer: optax.GradientTransformation
  batch_size: int
  max_steps: int
  at_once: int | None = None


class Tuned(NamedTuple):
  """The rate that was best for each schedule.

  Attributes:
    rates: by schedule.
    at_edge: schedules whose rate is the first or the last of the grid, so
      that a better one may lie outside.
    scores: `[schedules, rates]`, means over the tuning seeds; infinite where
      a run diverged.
  """

  rates: dict[str, float]
  at_edge: tuple[str, ...]
  scores: np.ndarray


def tune(
  setup: Setup,
  schedules: Schedules,
  rates: Sequence[float],
  seeds: Sequence[int],
  *,
  by: str,
  steps: int | None = None,
) -> Tuned:
  """Trains every schedule at every rate, and picks the best rate for each.

  Args:
    setup: problem and optimizer.
    schedules: with the peak 1.
    rates: one grid for all, increasing.
    seeds: apart from those that are reported.
    by: the measure to minimise, such as 'validation_error'.
    steps: length of the runs; None is `setup.max_steps`.
  """
  grid = np.tile(np.asarray(rates, np.float32), (len(schedules), 1))
  scores = run_all(setup, schedules, grid, seeds, steps)[by].mean(-1)
  scores = np.where(np.isfinite(scores), scores, np.inf)
  best = scores.argmin(-1)
  edges = (0, len(rates) - 1)
  return Tuned(
    {name: float(rates[b]) for name, b in zip(schedules, best, strict=True)},
    tuple(n for n, b in zip(schedules, best, strict=True) if b in edges),
    scores,
  )


def report(
  setup: Setup,
  schedules: Schedules,
  tuned: Tuned,
  seeds: Sequence[int],
  *,
  steps: int | None = None,
) -> dict[str, dict[str, np.ndarray]]:
  """Trains every schedule at its own rate.

  Returns:
    Measures by schedule: `[seeds]` each, and `gradient_norms[seeds, steps]`.
  """
  grid = np.asarray([[tuned.rates[name]] for name in schedules], np.float32)
  measured = run_all(setup, schedules, grid, seeds, steps)
  return {
    name: {key: value[n, 0] for key, value in measured.items()}
    for n, name in enumerate(schedules)
  }


def run_all(
  setup: Setup,
  schedules: Schedules,
  rates: np.ndarray,
  seeds: Sequence[int],
  steps: int | None = None,
) -> dict[str, np.ndarray]:
  """Trains every schedule at its rates `[schedules, rates]` on every seed.

  Returns:
    Measures `[schedules, rates, seeds]`: those of the problem, with the rows
    they were taken on in front (`train_loss`, `validation_loss`, ...), and
    the norm of the gradient before every step, `gradient_norms[..., steps]`.
  """
  steps = setup.max_steps if steps is None else steps
  values = np.zeros((len(schedules), setup.max_steps), np.float32)
  for n, schedule in enumerate(schedules.values()):
    values[n, :steps] = jax.vmap(schedule)(jnp.arange(steps))
  shape = (*rates.shape, len(seeds))
  which, rate, seed = np.meshgrid(*(np.arange(n) for n in shape), indexing='ij')
  measured = _run_rows(
    setup,
    jnp.asarray(values),
    jnp.int32(steps),
    which.ravel(),
    rates[which, rate].ravel(),
    np.asarray(seeds, np.int32)[seed].ravel(),
  )
  measured = {k: np.asarray(v) for k, v in measured.items()}
  norms = measured['gradient_norms'][:, :steps]
  measured['gradient_norms'] = norms
  return {k: v.reshape(*shape, *v.shape[1:]) for k, v in measured.items()}


def rank(values: np.ndarray) -> np.ndarray:
  """Ranks of the contenders, from 1, averaged over the cells.

  Args:
    values: `[contenders, cells, seeds]`, lower is better. Equal ones share
      the mean of their ranks.

  Returns:
    `[contenders, seeds]`.

  Example:
    >>> print(rank(np.array([[[1.0], [2.0]], [[3.0], [2.0]]])))
    [[1.25]
     [1.75]]
  """
  from scipy import stats

  values = np.where(np.isfinite(values), values, np.inf)
  return stats.rankdata(values, axis=0).mean(1)


@functools.partial(jax.jit, static_argnums=0)
def _run_rows(
  setup: Setup,
  values: jax.Array,
  steps: jax.Array,
  which: jax.Array,
  rates: jax.Array,
  seeds: jax.Array,
) -> dict[str, jax.Array]:
  """One run per row of the last three, one after the other."""

  def run(row: Any) -> dict[str, jax.Array]:
    n, rate, seed = row
    return _run(setup, values[n] * rate, steps, jax.random.key(seed))

  return jax.lax.map(run, (which, rates, seeds), batch_size=setup.at_once)


def _run(
  setup: Setup, rates: jax.Array, steps: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
  """Trains for `steps` steps of the rates `[max_steps]`, and measures."""
  problem = setup.problem
  init_key, split_key, order_key = jax.random.split(key, 3)
  train, validation = _split(problem, split_key)
  order = _order(setup, order_key, train[0].shape[0])
  tx = optax.chain(
    setup.optimizer, methods.scale_by_schedule_value(lambda n: rates[n])
  )
  loss_fn = lambda params, data: problem.measure_fn(params, data)['loss']

  def step(n: jax.Array, carry: Any) -> Any:
    params, state, norms = carry
    batch = jax.tree.map(lambda x: x[order[n]], train)
    grads = jax.grad(loss_fn)(params, batch)
    norms = norms.at[n].set(optax.tree.norm(grads))
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, norms

  params = problem.init_fn(init_key)
  start = params, tx.init(params), jnp.zeros(setup.max_steps)
  params, _, norms = jax.lax.fori_loop(0, steps, step, start)
  rows = {'train': train, 'validation': validation, 'test': problem.test}
  return {'gradient_norms': norms} | {
    f'{name}_{key}': value
    for name, data in rows.items()
    if data is not None and data[0].shape[0]
    for key, value in problem.measure_fn(params, data).items()
  }


def _split(problem: Problem, key: jax.Array) -> tuple[Data, Data]:
  """The pool without and with what this seed sets aside."""
  rows = jax.random.permutation(key, problem.pool[0].shape[0])
  pick = lambda rows: jax.tree.map(lambda x: jnp.asarray(x)[rows], problem.pool)
  return pick(rows[problem.validation :]), pick(rows[: problem.validation])


def _order(setup: Setup, key: jax.Array, rows: int) -> jax.Array:
  """Indices `[max_steps, batch_size]`: whole epochs, each in a new order."""
  epochs = -(-setup.max_steps * setup.batch_size // rows)
  keys = jax.random.split(key, epochs)
  order = jax.vmap(lambda key: jax.random.permutation(key, rows))(keys)
  needed = setup.max_steps * setup.batch_size
  return order.ravel()[:needed].reshape(setup.max_steps, setup.batch_size)
