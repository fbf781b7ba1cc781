"""Where to fork the decays of a run, so that each budget gets its best."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl.base import check_steps, check_value
from lrcl.forecasting import _decays

_TRIED = 33
"""So many forks are tried at once; the search then closes in on the best."""


class PlannedBranch(NamedTuple):
  """One decay of a plan.

  Attributes:
    name: `decay-` and the budget.
    source: the branch that it forks from.
    fork_step: the step of `source` that it forks at.
    start_step: the step at which its decay starts; equal to `fork_step`, but
      for branches that go on from a decayed state.
    decay_steps: steps of the decay.
    decay: its shape, by the name that `lrcl.schedules` has for it.
    end_value: where the decay goes.
    budget: the step at which it ends.
    loss: what the law predicts there.
    trunk_loss: what it predicts there without the decay.
  """

  name: str
  source: str
  fork_step: int
  start_step: int
  decay_steps: int
  decay: str
  end_value: float
  budget: int
  loss: float
  trunk_loss: float

  def record(self, trunk: Mapping[str, Any]) -> dict[str, Any]:
    """The branch's schedule in its recordable form.

    Args:
      trunk: the record of the trunk.
    """
    kwargs = {
      'schedule': dict(trunk),
      'start_step': self.start_step,
      'decay_steps': self.decay_steps,
      'end_value': self.end_value,
      'decay': self.decay,
    }
    return {'name': 'decay_branch', 'kwargs': kwargs}


class BranchPlan(NamedTuple):
  """What `plan_branches` found.

  Attributes:
    branches: by their budgets.
    trunk_steps: how long the trunk itself has to be trained.
    total_steps: the steps of the trunk and of all branches together.
  """

  branches: tuple[PlannedBranch, ...]
  trunk_steps: int
  total_steps: int


def plan_branches(
  law: Any,
  budgets: Sequence[int],
  trunk: optax.Schedule,
  *,
  after_decay: Literal['trunk', 'decayed'] = 'trunk',
  decays: Sequence[str] = ('linear', 'one_minus_sqrt'),
  end_value: float = 0.0,
  first_fork: int = 0,
  every: int = 1,
) -> BranchPlan:
  """Chooses, for every budget, where to leave the trunk and how to decay.

  With `after_decay='trunk'` this is WSD: every branch forks from the undecayed
  trunk, the budgets do not touch each other, and the decays are extra steps.
  With 'decayed' it is WSD-S: one run, which decays at a budget and goes on from
  there at the trunk's rate; no step is extra. Earlier budgets then choose
  first, and what their decays cost the later ones is in the predicted losses.
  Both under one law are the comparison of WSD with WSD-S, as far as the law
  knows: the annealing law has no term for what a re-warming costs beyond the
  area it takes back, and neither law was fitted to such runs by its authors.

  The forks are searched from coarse to fine; the loss is taken to have one
  valley between the coarse ones. Costs about a hundred predictions of a loss
  for each budget and shape.

  Args:
    law: a pytree with `law.predict(lrs, steps)`, whose losses depend on the
      rates up to each step alone.
    budgets: steps after which a decayed state is wanted, increasing.
    trunk: the schedule of the main branch: constant, infinite, or any other.
    after_decay: what the next stretch goes on from.
    decays: the shapes to choose from: 'linear', 'one_minus_sqrt', 'cosine',
      'square'.
    end_value: where the decays go.
    first_fork: no decay starts before this step: the end of the warm-up.
    every: decays start at multiples of so many steps: where checkpoints are.

  Returns:
    A `BranchPlan`. Each of its branches names the arguments of
    `lrcl.training.Branches.fork` and of `lrcl.schedules.decay_branch`.

  Raises:
    ValueError: if the budgets do not increase, no fork is possible before one,
      or an argument is out of range.

  Example:
    >>> import optax
    >>> from lrcl.forecasting import AnnealingLaw
    >>> law = AnnealingLaw(2.0, 0.5, 0.5, 0.05, decay=0.9)
    >>> plan = plan_branches(law, [50, 100], optax.constant_schedule(0.1))
    >>> [(b.name, b.source, b.fork_step < b.budget) for b in plan.branches]
    [('decay-50', 'main', True), ('decay-100', 'main', True)]

  References:
    Hägele et al., 2024, `Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations <https://arxiv.org/abs/2405.18392>`_; Wen et al.,
    2024, `Understanding Warmup-Stable-Decay Learning Rates: A River Valley
    Loss Landscape Perspective <https://arxiv.org/abs/2410.05192>`_ (WSD-S).
  """
  where = 'plan_branches'
  budgets = _check_budgets(where, budgets, after_decay, decays)
  check_value(where, 'end_value', end_value, minimum=0.0)
  first_fork = check_steps(where, 'first_fork', first_fork)
  every = check_steps(where, 'every', every, 1)
  law = jax.tree.map(np.float64, law)
  rates = _decays.rates_of(trunk, budgets[-1])
  branches: list[PlannedBranch] = []
  for budget in budgets:
    least = first_fork
    if after_decay == 'decayed' and branches:
      least = max(first_fork, branches[-1].budget)
    forks = np.arange(-(-least // every) * every, budget, every)
    if not forks.size:
      raise ValueError(
        f'{where}: the budget {budget} leaves no multiple of {every} between '
        f'step {least} and its end to start a decay at.'
      )
    found = _best(law, rates, forks, budget, decays, float(end_value))
    source, fork = 'main', found.start_step
    if after_decay == 'decayed' and branches:
      source, fork = branches[-1].name, branches[-1].budget
    branches.append(found._replace(source=source, fork_step=fork))
    if after_decay == 'decayed':
      rates = _with_decay(rates, branches[-1])
  return _count(branches, after_decay)


def _count(branches: list[PlannedBranch], after_decay: str) -> BranchPlan:
  trunk = branches[0].fork_step
  if after_decay == 'trunk':
    trunk = max(branch.fork_step for branch in branches)
  own = sum(branch.budget - branch.fork_step for branch in branches)
  return BranchPlan(tuple(branches), trunk, trunk + own)


def _with_decay(rates: np.ndarray, branch: PlannedBranch) -> np.ndarray:
  """The rates of the run so far, and the trunk's again after the budget."""
  with jax.enable_x64(True):
    tail = _decays.decayed(
      rates,
      branch.start_step,
      branch.decay_steps,
      branch.end_value,
      branch.decay,
    )
  return np.append(np.asarray(tail)[: branch.budget], rates[branch.budget :])


def _best(
  law: Any,
  rates: np.ndarray,
  forks: np.ndarray,
  budget: int,
  decays: Sequence[str],
  end_value: float,
) -> PlannedBranch:
  """The best fork and shape for one budget."""
  with jax.enable_x64(True):
    loss = functools.partial(_losses, law, rates, budget, end_value)
    best, fork, decay = min(
      (*_descend(functools.partial(loss, decay=shape), forks), shape)
      for shape in decays
    )
    going_on = float(_trunk_loss(law, rates, budget - 1))
  return PlannedBranch(
    name=f'decay-{budget}',
    source='main',
    fork_step=fork,
    start_step=fork,
    decay_steps=budget - fork,
    decay=decay,
    end_value=end_value,
    budget=budget,
    loss=best,
    trunk_loss=going_on,
  )


def _descend(losses: Any, forks: np.ndarray) -> tuple[float, int]:
  """The least loss and its fork, closing in on the best of those tried."""
  low, high = 0, len(forks) - 1
  far = np.geomspace(1, high + 1, _TRIED)  # most of them near the budget
  if high < _TRIED:
    far = np.linspace(1, high + 1, _TRIED)
  picks = high + 1 - far.round().astype(np.int64)[::-1]
  while True:
    found = losses(forks[picks])
    best = int(np.argmin(found))
    if high - low < _TRIED and len(np.unique(picks)) >= high - low + 1:
      return float(found[best]), int(forks[picks[best]])
    low, high = picks[max(best - 1, 0)], picks[min(best + 1, _TRIED - 1)]
    picks = np.linspace(low, high, _TRIED).round().astype(np.int64)


def _losses(
  law: Any,
  rates: np.ndarray,
  budget: int,
  end_value: float,
  forks: np.ndarray,
  *,
  decay: str,
) -> np.ndarray:
  return np.asarray(
    _losses_of_forks(law, rates, budget, end_value, forks, decay)
  )


@functools.partial(jax.jit, static_argnames='decay')
def _losses_of_forks(
  law: Any, rates: Any, budget: Any, end_value: Any, forks: Any, decay: str
) -> jax.Array:
  def loss(fork: jax.Array) -> jax.Array:
    row = _decays.decayed(rates, fork, budget - fork, end_value, decay)
    return law.predict(row, jnp.stack([budget - 1]))[0]

  return jax.lax.map(loss, forks)


@jax.jit
def _trunk_loss(law: Any, rates: Any, step: Any) -> jax.Array:
  return law.predict(rates, jnp.stack([step]))[0]


def _check_budgets(
  where: str, budgets: Sequence[int], after_decay: str, decays: Sequence[str]
) -> list[int]:
  if after_decay not in ('trunk', 'decayed'):
    raise ValueError(
      f"{where}: after_decay is {after_decay!r}; it must be 'trunk' or "
      "'decayed'."
    )
  if not decays:
    raise ValueError(f'{where}: decays is empty; it must name a shape.')
  for decay in decays:
    _decays.check_shape(where, decay)
  checked: list[int] = []
  for index, budget in enumerate(budgets):
    least = checked[-1] + 1 if checked else 1
    checked.append(check_steps(where, f'budgets[{index}]', budget, least))
  if not checked:
    raise ValueError(f'{where}: budgets is empty; it must name a step.')
  return checked
