"""All of orbax: one directory of checkpoints, each sealed by a manifest.

Orbax writes arrays without a checksum and restores flipped bits silently, so
a step counts only once `manifest.json`, with the sha256 of every other file
of the step, has been written behind it.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
import dataclasses
import hashlib
import json
from typing import Any

from absl import logging
from etils import epath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from lrcl import tree

MANIFEST = 'manifest.json'


class CheckpointError(RuntimeError):
  """A checkpoint is missing, damaged, or of another kind of state."""


class NoCheckpoint(CheckpointError):
  """There is no checkpoint: the run has not saved one yet."""


class BrokenCheckpoint(CheckpointError):
  """A checkpoint whose files are not as they were written."""


class UnfinishedCheckpoint(BrokenCheckpoint):
  """A save that was cut short before its manifest; nothing was promised."""


@dataclasses.dataclass
class _Pinned(preservation_policy.PreservationPolicy):
  """Keeps the steps that `pinned()` names, asked anew at every decision."""

  pinned: Callable[[], Iterable[int]]

  def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
    del context
    steps = set(self.pinned())
    return [checkpoint.step in steps for checkpoint in checkpoints]


class Checkpoints:
  """The sealed checkpoints of one branch.

  Args:
    directory: where the steps lie; made when the first is saved.
    pinned: names the steps that clean-up must keep, besides the newest.
    keep_last: how many of the newest steps clean-up keeps.
    asynchronous: write in the background; a save then returns once the arrays
      are copied off the device, and the next call waits for it.
  """

  def __init__(
    self,
    directory: Any,
    *,
    pinned: Callable[[], Iterable[int]] = tuple,
    keep_last: int = 2,
    asynchronous: bool = False,
  ):
    self.directory = epath.Path(directory)
    self._asynchronous = asynchronous
    self._pool = futures.ThreadPoolExecutor(1) if asynchronous else None
    self._pending: futures.Future | None = None
    policy = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(keep_last),
        _Pinned(pinned),
      ]
    )
    self._options = ocp.CheckpointManagerOptions(
      preservation_policy=policy,
      cleanup_tmp_directories=True,
      enable_async_checkpointing=asynchronous,
    )
    self._manager: ocp.CheckpointManager | None = None

  def _open(self) -> ocp.CheckpointManager:
    if self._manager is None:
      self._manager = ocp.CheckpointManager(
        self.directory, options=self._options
      )
    return self._manager

  def save(self, state: Any, step: int, extra: dict[str, Any]) -> None:
    """Writes `state` and plain values `extra` as `step`.

    Raises:
      CheckpointError: if orbax skips the step, which it does silently for one
        that exists or that is older than the newest.
    """
    self.wait()
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra)
    )
    if not self._open().save(step, args=args):
      raise CheckpointError(
        f'step {step} was not saved in {self.directory}: the step exists or is '
        'older than the newest one there; save to another branch.'
      )
    spec = describe(state)
    if self._pool is None:
      self._seal(step, spec)
    else:
      self._pending = self._pool.submit(self._seal, step, spec)

  def _seal(self, step: int, spec: dict[str, str]) -> None:
    """Waits for orbax to commit, then writes the manifest, last."""
    self._open().wait_until_finished()
    if jax.process_index() == 0:
      seal(self.directory / str(step), spec)

  def wait(self) -> None:
    """Waits until the last save is on the disk; raises what it raised."""
    if self._pending is not None:
      pending, self._pending = self._pending, None
      pending.result()

  def close(self) -> None:
    """Waits for the last save and releases what orbax holds."""
    self.wait()
    if self._manager is not None:
      self._manager.close()
      self._manager = None
    if self._pool is not None:
      self._pool.shutdown()

  def steps(self) -> list[int]:
    """The steps that lie in the directory, good or bad, in order."""
    self.wait()
    if not self.directory.exists():
      return []
    names = [path.name for path in self.directory.iterdir()]
    return sorted(int(name) for name in names if name.isdigit())

  def set_aside(self, step: int) -> epath.Path:
    """Moves a bad step out of the way, so that it can be written again."""
    self.close()
    if self._asynchronous:
      self._pool = futures.ThreadPoolExecutor(1)
    broken = self.directory.parent / 'broken'
    broken.mkdir(parents=True, exist_ok=True)
    count = sum(1 for _ in broken.iterdir())
    return (self.directory / str(step)).rename(broken / f'{step}-{count}')


def restore(step_directory: Any, like: Any) -> tuple[Any, dict[str, Any]]:
  """Reads `(state, extra)` of a verified step.

  Args:
    step_directory: the directory of the step.
    like: a state (or its abstract form, with shardings) of the structure,
      shapes and dtypes that are wanted, placed where the result shall be.

  Raises:
    BrokenCheckpoint: if the step is damaged.
    CheckpointError: if it holds another kind of state.
  """
  path = epath.Path(step_directory)
  manifest = verify(path)
  differences = compare(manifest['tree'], describe(like))
  if differences:
    raise CheckpointError(
      f'{path} holds another state than the one asked for: {differences}. Was '
      'it written with another model, optimizer chain or memory?'
    )
  abstract = jax.tree.map(ocp.tree.to_shape_dtype_struct, like)
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    args = ocp.args.Composite(
      state=ocp.args.StandardRestore(abstract), extra=ocp.args.JsonRestore()
    )
    found = checkpointer.restore(path, args=args)
  return found['state'], found['extra']


def seal(path: epath.Path, spec: dict[str, str]) -> None:
  """Writes the manifest of a committed step: sha256 of every file of it."""
  manifest = {'files': _hash_files(path), 'tree': spec}
  part = path / (MANIFEST + '.part')
  part.write_text(json.dumps(manifest, indent=1, sort_keys=True))
  part.replace(path / MANIFEST)


def verify(path: epath.Path) -> dict[str, Any]:
  """Returns the manifest of a step whose files are all as they were written.

  Raises:
    BrokenCheckpoint: says what is missing or differs.
  """
  try:
    manifest = json.loads((path / MANIFEST).read_text())
    wanted = manifest['files']
  except FileNotFoundError:
    raise UnfinishedCheckpoint(
      f'{path} has no manifest; its save did not end.'
    ) from None
  except (ValueError, KeyError, TypeError) as error:
    raise BrokenCheckpoint(f'{path} has an unreadable manifest.') from error
  found = _hash_files(path)
  for name in sorted({*wanted, *found}):
    if name not in found:
      raise BrokenCheckpoint(f'{path} lacks its file {name}.')
    if wanted.get(name) != found[name]:
      raise BrokenCheckpoint(f'{path}: the sha256 of {name} differs.')
  return manifest


def _hash_files(path: epath.Path) -> dict[str, str]:
  """sha256 of each file below `path` but the manifest."""
  hashes = {}
  for file in _files(path):
    name = str(file.relative_to(path))
    if name.startswith(MANIFEST):
      continue
    sha = hashlib.sha256()
    with file.open('rb') as stream:
      while block := stream.read(1 << 22):
        sha.update(block)
    hashes[name] = sha.hexdigest()
  return hashes


def _files(path: epath.Path) -> Iterator[epath.Path]:
  """Every file below `path`, in a fixed order."""
  for entry in sorted(path.iterdir()):
    if entry.is_dir():
      yield from _files(entry)
    else:
      yield entry


def describe(state: Any) -> dict[str, str]:
  """`{leaf name: 'dtype[shape]'}`: orbax would cast a dtype silently."""
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {
    tree.leaf_name(path): f'{leaf.dtype}{list(leaf.shape)}'
    for path, leaf in leaves
  }


def compare(found: dict[str, str], wanted: dict[str, str]) -> str:
  """Says in words where two descriptions differ; empty where they agree."""
  names = [n for n in {**wanted, **found} if found.get(n) != wanted.get(n)]
  parts = [
    f'{n} is {found.get(n, "absent")}, wanted {wanted.get(n, "absent")}'
    for n in names[:3]
  ]
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return '; '.join(parts) + more


def report_broken(error: Exception, moved: Any) -> None:
  """Names a bad checkpoint, and where it lies now."""
  logging.error('Not a good checkpoint: %s It was moved to %s.', error, moved)
