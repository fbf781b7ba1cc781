"""Lineage: what a branch is, and the files that say so."""

from collections.abc import Iterable
import dataclasses
import json
import os
import shutil
from typing import Any

from etils import epath

FILE = 'branch.json'


@dataclasses.dataclass(frozen=True)
class Lineage:
  """Where a branch comes from.

  Attributes:
    name: the branch's name.
    parent: the branch that it forked from; None for a trunk.
    fork_step: the step that it forked at; None for a trunk.
    schedule: its schedule in the recordable form of
      `lrcl.schedules.build_schedule`, or None.
    config: digest of the run's configuration, or None.
    keep: its own steps that clean-up keeps: ends of tasks, say.
  """

  name: str
  parent: str | None = None
  fork_step: int | None = None
  schedule: Any = None
  config: str | None = None
  keep: tuple[int, ...] = ()


def is_local(path: Any) -> bool:
  """Whether `path` is one of the operating system's."""
  return '://' not in os.fspath(path)


def link_step(source: epath.Path, target: epath.Path) -> None:
  """Hard-links a step's files; leaves nothing where that is not possible.

  Checkpoint files are never changed in place, and clean-up unlinks them, so a
  link stays good when the parent's step goes.
  """
  if not is_local(source):
    return
  part = os.fspath(target) + '.part'
  shutil.rmtree(part, ignore_errors=True)
  shutil.rmtree(target, ignore_errors=True)
  os.makedirs(os.path.dirname(part), exist_ok=True)
  try:
    shutil.copytree(source, part, copy_function=os.link)
    os.replace(part, target)
  except OSError:  # no hard links here: the lineage finds the parent's step
    shutil.rmtree(part, ignore_errors=True)


def in_order(lineages: Iterable[Lineage]) -> list[Lineage]:
  """Sorts by the step of the fork, and parents before their children."""
  named = {lineage.name: lineage for lineage in lineages}

  def depth(lineage: Lineage | None) -> int:
    if lineage is None or lineage.parent is None:
      return 0
    return 1 + depth(named.get(lineage.parent))

  order = lambda x: (x.fork_step or -1, depth(x), x.name)
  return sorted(named.values(), key=order)


def read_lineage(path: epath.Path) -> Lineage:
  """Reads a branch's `branch.json`."""
  fields = json.loads(path.read_text())
  return Lineage(**{**fields, 'keep': tuple(fields['keep'])})


def write_lineage(path: epath.Path, lineage: Lineage) -> None:
  """Writes a branch's `branch.json` in one piece."""
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.parent / (FILE + '.part')
  part.write_text(json.dumps(dataclasses.asdict(lineage), indent=1))
  part.replace(path)
