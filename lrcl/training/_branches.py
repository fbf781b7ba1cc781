"""Branches: where a run forks, what each fork is, and how to go on from it."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any, NamedTuple

from etils import epath
import jax

from lrcl import base
from lrcl.training import _checkpoints, _lineage, _records
from lrcl.training._checkpoints import CheckpointError
from lrcl.training._lineage import Lineage


class Restored(NamedTuple):
  """A state from the disk: its step, and the plain values saved with it."""

  state: Any
  step: int
  extra: dict[str, Any]


class Branches:
  """The tree of branches below one directory.

  Each branch is a directory with its lineage, `branch.json`, and its sealed
  checkpoints. A fork copies no array: the files of the step are hard-linked
  where the file system can, and found through the lineage where it cannot.
  The fork's step is pinned in the parent against clean-up.

  A decay branch restores the fork's state under another schedule. WSD: the
  main branch goes on from its own, undecayed state. WSD-S: fork the next
  stretch from the end of the decay branch. Infinite: fork the next task from
  the step before the anneal.

  Args:
    workdir: the directory, local or any that `etils.epath` reads (`gs://`).
    like: a state of the structure that `restore` shall return; by default
      that of the state last saved or restored.
    keep_last: how many of the newest steps of a branch clean-up keeps: at
      least 2, since the newest counts only once it is sealed.
    asynchronous: write checkpoints in the background.

  Raises:
    ValueError: if `keep_last` is less than 2.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> with Branches(tempfile.mkdtemp()) as branches:
    ...   branches.save({'w': jnp.ones(2)}, step=10)
    ...   decay = {'name': 'constant_schedule', 'kwargs': {'value': 0.0}}
    ...   _ = branches.fork('main', 10, 'decay-10', schedule=decay)
    ...   restored = branches.restore('decay-10')
    ...   branches.tree()['decay-10'].parent, restored.step
    ('main', 10)

  References:
    Hagele et al, `Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations <https://arxiv.org/abs/2405.18392>`_, 2024, for decays
    that branch off one constant run.

    Wen et al, `Understanding Warmup-Stable-Decay Learning Rates: A River
    Valley Loss Landscape Perspective <https://arxiv.org/abs/2410.05192>`_,
    2024, for WSD-S.
  """

  def __init__(
    self,
    workdir: Any,
    like: Any = None,
    *,
    keep_last: int = 2,
    asynchronous: bool = False,
  ):
    base.check_steps('Branches', 'keep_last', keep_last, 2)
    self.workdir = epath.Path(
      os.path.abspath(workdir) if _lineage.is_local(workdir) else workdir
    )
    self._like = like
    self._options: dict[str, Any] = dict(
      keep_last=keep_last, asynchronous=asynchronous
    )
    self._open: dict[str, _checkpoints.Checkpoints] = {}

  def __enter__(self) -> 'Branches':
    return self

  def __exit__(self, *exc: Any) -> None:
    self.close()

  def close(self) -> None:
    """Waits for the saves under way; raises what they raised."""
    for checkpoints in self._open.values():
      checkpoints.close()
    self._open.clear()

  def directory(self, branch: str) -> epath.Path:
    """Where a branch lies.

    Raises:
      ValueError: if the name is not that of one directory.
    """
    if not branch or branch.startswith('.') or '/' in branch:
      raise ValueError(
        f'Branches: {branch!r} cannot name a branch, which is a directory: it '
        "must not be empty, begin with '.' or hold '/'."
      )
    return self.workdir / branch

  def tree(self) -> dict[str, Lineage]:
    """Every branch by its name, parents before their children."""
    if not self.workdir.exists():
      return {}
    paths = [path / _lineage.FILE for path in sorted(self.workdir.iterdir())]
    found = [_lineage.read_lineage(path) for path in paths if path.exists()]
    return {lineage.name: lineage for lineage in _lineage.in_order(found)}

  def create(
    self, branch: str = 'main', *, schedule: Any = None, config: Any = None
  ) -> Lineage:
    """Begins a trunk, or returns it where it exists with the same lineage.

    Raises:
      ValueError: if it exists under another schedule or configuration.
    """
    schedule = _records.to_json(schedule)
    wanted = Lineage(branch, schedule=schedule, config=config)
    return self._begin(wanted)

  def _begin(self, wanted: Lineage) -> Lineage:
    path = self.directory(wanted.name) / _lineage.FILE
    if not path.exists():
      _lineage.write_lineage(path, wanted)
      return wanted
    found = _lineage.read_lineage(path)
    for field in ('parent', 'fork_step', 'schedule', 'config'):
      old, new = getattr(found, field), getattr(wanted, field)
      if old != new:
        raise ValueError(
          f'branch {wanted.name!r} exists in {self.workdir} with {field} '
          f'{old!r}, not {new!r}; take another name or another directory.'
        )
    return found

  def save(
    self,
    state: Any,
    branch: str = 'main',
    *,
    step: int | None = None,
    keep: bool = False,
    extra: Mapping[str, Any] | None = None,
  ) -> None:
    """Saves `state` as the newest checkpoint of `branch`.

    Args:
      state: a pytree of arrays.
      branch: the branch; a trunk of this name is begun where there is none.
      step: the step; by default that of `state.step`.
      keep: never clean this step up.
      extra: plain values to store with it.

    Raises:
      CheckpointError: if the branch has this step, or a newer one.
    """
    if step is None:
      step = int(jax.tree.leaves(jax.device_get(state.step))[0].flat[0])
    path = self.directory(branch) / _lineage.FILE
    lineage = (
      _lineage.read_lineage(path) if path.exists() else self.create(branch)
    )
    if keep and step not in lineage.keep:
      kept = (*lineage.keep, step)
      _lineage.write_lineage(path, dataclasses.replace(lineage, keep=kept))
    self._checkpoints(branch).save(state, step, dict(extra or {}))
    self._like = abstract(state)

  def _checkpoints(self, branch: str) -> _checkpoints.Checkpoints:
    if branch not in self._open:
      self._open[branch] = _checkpoints.Checkpoints(
        self.directory(branch) / 'checkpoints',
        pinned=lambda: self._pins(branch),
        **self._options,
      )
    return self._open[branch]

  def _pins(self, branch: str) -> set[int]:
    """The steps to keep: ends of tasks, forks from here, the own fork."""
    lineages = self.tree()
    own = lineages[branch]
    pins = {x.fork_step for x in lineages.values() if x.parent == branch}
    return {*own.keep, *pins, own.fork_step} - {None}

  def steps(self, branch: str = 'main') -> list[int]:
    """The steps of a branch that lie on the disk, the newest last."""
    return self._checkpoints(branch).steps()

  def restore(
    self,
    branch: str = 'main',
    step: int | None = None,
    schedule: Any = None,
    *,
    like: Any = None,
    under_other_schedule: bool = False,
  ) -> Restored:
    """Restores a checkpoint, by default the newest good one.

    Walking back from the newest, checkpoints that are cut short or damaged
    are named in a warning and moved to `<branch>/broken`, so that the run can
    write these steps again.

    Args:
      branch: the branch.
      step: this step and no other, looked up along the lineage.
      schedule: the schedule (in its recordable form) to go on under.
      like: see the constructor.
      under_other_schedule: accept a schedule other than the branch's own.

    Returns:
      The state, bit for bit as it was saved, its step and the plain values.

    Raises:
      ValueError: if the branch is not there, or was run under another
        schedule.
      CheckpointError: if there is no good checkpoint, or `step` is not one.
    """
    lineage = self._lineage(branch)
    if schedule is not None and not under_other_schedule:
      if _records.to_json(schedule) != lineage.schedule:
        raise ValueError(
          f'branch {branch!r} ran under the schedule {lineage.schedule}, not '
          f'{schedule}; fork it under the new one, or pass '
          'under_other_schedule=True.'
        )
    like = self._like if like is None else like
    if like is None:
      raise ValueError(
        'Branches.restore: the structure of the state is not known; pass '
        'like=state.'
      )
    if step is not None:
      path = self._find(branch, step)
      restored = _restored(path, like, step)
    else:
      restored = self._newest(branch, like)
    self._like = abstract(like)
    return restored

  def _newest(self, branch: str, like: Any) -> Restored:
    """The newest good checkpoint; sets those aside that are not good."""
    checkpoints, damaged = self._checkpoints(branch), []
    for step in reversed(checkpoints.steps()):
      path = checkpoints.directory / str(step)
      try:
        return _restored(path, like, step)
      except _checkpoints.BrokenCheckpoint as error:
        if not isinstance(error, _checkpoints.UnfinishedCheckpoint):
          damaged.append(step)
        _checkpoints.report_broken(error, checkpoints.set_aside(step))
    fork_step = self._lineage(branch).fork_step
    if fork_step is not None:
      return _restored(self._find(branch, fork_step), like, fork_step)
    if damaged:
      raise CheckpointError(
        f'no checkpoint of branch {branch!r} in {self.workdir} is good; steps '
        f'{damaged} are damaged and were moved to {branch}/broken. Started '
        'again, the run begins anew.'
      )
    raise _checkpoints.NoCheckpoint(
      f'branch {branch!r} in {self.workdir} has no checkpoint yet.'
    )

  def _lineage(self, branch: str) -> Lineage:
    path = self.directory(branch) / _lineage.FILE
    if not path.exists():
      known = ', '.join(self.tree()) or 'none'
      raise ValueError(
        f'there is no branch {branch!r} in {self.workdir}; there are: {known}.'
      )
    return _lineage.read_lineage(path)

  def _find(self, branch: str, step: int) -> epath.Path:
    """The directory of `step` as `branch` sees it: its own, or inherited."""
    name: str | None = branch
    while name is not None:
      self._checkpoints(name).wait()
      path = self._checkpoints(name).directory / str(step)
      if path.exists():
        return path
      lineage = self._lineage(name)
      if lineage.fork_step is not None and step > lineage.fork_step:
        break
      name = lineage.parent
    raise CheckpointError(
      f'no branch of the lineage of {branch!r} in {self.workdir} holds step '
      f'{step}; it has {self.steps(branch)}.'
    )

  def fork(
    self,
    source: str,
    step: int,
    name: str,
    *,
    schedule: Any = None,
    config: str | None = None,
  ) -> Lineage:
    """Begins branch `name` at `step` of branch `source`.

    A fork that exists with the same lineage is returned as it is.

    Args:
      source: the parent.
      step: the step, which must be a good checkpoint of the parent.
      name: the new branch.
      schedule: its schedule in the recordable form.
      config: digest of its configuration; by default the parent's.

    Raises:
      CheckpointError: if `step` is not a good checkpoint of `source`.
      ValueError: if `name` exists with another lineage.
    """
    if config is None:
      config = self._lineage(source).config
    schedule = _records.to_json(schedule)
    wanted = Lineage(name, source, step, schedule, config)
    if not (self.directory(name) / _lineage.FILE).exists():
      path = self._find(source, step)
      _checkpoints.verify(path)
      _lineage.link_step(path, self._checkpoints(name).directory / str(step))
    return self._begin(wanted)


def abstract(state: Any) -> Any:
  """Shapes, dtypes and shardings of a state: what `restore` needs of it."""
  struct = lambda x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=getattr(x, 'sharding', None)
  )
  return jax.tree.map(struct, state)


def _restored(path: epath.Path, like: Any, step: int) -> Restored:
  state, extra = _checkpoints.restore(path, like)
  return Restored(state, step, extra)
