"""WSD and WSD-S as trees of branches on the disk, forked from checkpoints.

A decay branch restores a checkpoint and goes on under another schedule. WSD's
trunk goes on from its own, undecayed state, so the steps of the decay are
paid on top; WSD-S goes on from the decayed state and throws none away.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.papers import wsd_family
from lrcl import protocols, schedules
from lrcl.training import Branches, TrainState

Advance = Callable[[TrainState, jax.Array, int], TrainState]
"""`advance(state, rates, stop)` trains from `state.step` to step `stop`, with
`rates[n]` at step `n`."""


class Forked(NamedTuple):
  """The decayed states, one per checkpoint, and the steps run for them."""

  states: list[TrainState]
  steps: int


class _Runner:
  """Trains branches and counts the steps."""

  def __init__(self, branches: Branches, advance: Advance, last: int):
    self.branches, self.steps = branches, 0
    self._advance, self._last = advance, last

  def run(self, state: TrainState, branch: str, stop: int) -> TrainState:
    """Trains a branch under its own schedule up to `stop`, and saves it."""
    record = self.branches.tree()[branch].schedule
    schedule = schedules.build_schedule(record)
    rates = jax.vmap(schedule)(jnp.arange(self._last))
    self.steps += stop - int(state.step)
    state = self._advance(state, jnp.asarray(rates, jnp.float32), stop)
    self.branches.save(state, branch)
    return state

  def decay(
    self, source: str, end: int, steps: int, setting: protocols.Setting
  ) -> TrainState:
    """Forks `source` at its newest step, `end - steps`, and decays to `end`."""
    name, start = f'decay-{end}', end - steps
    record = _decay(setting, start, steps)
    self.branches.fork(source, start, name, schedule=record)
    return self.run(self.branches.restore(name).state, name, end)


def fork_wsd(
  branches: Branches,
  advance: Advance,
  state: TrainState,
  setting: protocols.Setting,
  ends: Sequence[int],
) -> Forked:
  """One trunk at the peak, and a decay branch that leaves it for every end.

  Args:
    branches: an empty tree.
    advance: the training.
    state: where to begin.
    setting: `peak`, and `end`, the fraction of it at which a decay ends.
    ends: the steps of the checkpoints, increasing.
  """
  runner = _Runner(branches, advance, ends[-1])
  branches.create('main', schedule=_trunk(setting))
  found = []
  for end, steps in zip(ends, wsd_family.decay_lengths(ends), strict=True):
    state = runner.run(state, 'main', end - steps)
    found.append(runner.decay('main', end, steps, setting))
  return Forked(found, runner.steps)


def fork_wsd_s(
  branches: Branches,
  advance: Advance,
  state: TrainState,
  setting: protocols.Setting,
  ends: Sequence[int],
) -> Forked:
  """A chain of branches: each decay leaves a stretch, and the next goes on.

  The arguments are those of `fork_wsd`.
  """
  runner = _Runner(branches, advance, ends[-1])
  branch, found = 'main', []
  branches.create(branch, schedule=_trunk(setting))
  for begin, end in zip([0, *ends], ends, strict=False):
    steps = wsd_family.decay_lengths([end - begin])[0]
    runner.run(state, branch, end - steps)
    found.append(runner.decay(branch, end, steps, setting))
    branch = f'stretch-{end}'
    branches.fork(f'decay-{end}', end, branch, schedule=_trunk(setting))
    state = branches.restore(branch).state
  return Forked(found, runner.steps)


def _trunk(setting: protocols.Setting) -> dict[str, Any]:
  kwargs = {'value': float(setting['peak'])}
  return {'name': 'constant_schedule', 'kwargs': kwargs}


def _decay(
  setting: protocols.Setting, start: int, steps: int
) -> dict[str, Any]:
  return {
    'name': 'decay_branch',
    'kwargs': {
      'schedule': _trunk(setting),
      'start_step': start,
      'decay_steps': steps,
      'end_value': float(setting['peak'] * setting['end']),
      'decay': 'inverse',
    },
  }
