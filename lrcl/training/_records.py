"""Records: one JSON line per evaluation, none lost and none double."""

from collections.abc import Mapping
import functools
import hashlib
import importlib.metadata
import json
import math
import os
from typing import Any

from etils import epath
import numpy as np


def digest_config(config: Any) -> str:
  """sha256 (hex) of a configuration of plain values.

  Example:
    >>> digest_config({'rate': 0.1, 'seed': 0})[:8]
    'b5331af9'
    >>> digest_config({'seed': 0, 'rate': 0.1})[:8]  # in whatever order
    'b5331af9'
  """
  text = json.dumps(config, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def versions() -> dict[str, str]:
  """The versions of LRCL and of the libraries that decide its numbers."""
  names = (
    'lrcl',
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'numpy',
  )
  return {name: importlib.metadata.version(name) for name in names}


def to_json(value: Any) -> Any:
  """Arrays and scalars as plain numbers; float32 exactly, in few digits.

  Numbers that are not finite become None: JSON has no word for them.
  """
  if isinstance(value, Mapping):
    return {str(k): to_json(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_json(v) for v in value]
  if hasattr(value, 'dtype'):
    value = _array_to_json(np.asarray(value))
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _array_to_json(array: np.ndarray) -> Any:
  """Nested lists; a whole vector at once, since traces are long."""
  if array.ndim > 1:
    return [_array_to_json(row) for row in array]
  values = array.tolist()
  if not np.issubdtype(array.dtype, np.floating):
    return values
  shorten = lambda x: float(f'{x:.9g}') if math.isfinite(x) else None
  return shorten(values) if array.ndim == 0 else [shorten(x) for x in values]


class RecordFile:
  """An append-only file of JSON lines that survives a kill.

  Args:
    path: the file; its directory is made on the first append.

  Example:
    >>> import tempfile
    >>> file = RecordFile(tempfile.mkdtemp() + '/records.jsonl')
    >>> for step in (10, 20, 30):
    ...   file.append({'step': step})
    >>> file.truncate(20)
    >>> [record['step'] for record in file.read()]
    [10, 20]
  """

  def __init__(self, path: Any):
    self.path = epath.Path(path)

  def append(self, record: Mapping[str, Any]) -> None:
    """Writes one line and has it on the disk before it returns."""
    self.path.parent.mkdir(parents=True, exist_ok=True)
    with self.path.open('a') as file:
      file.write(json.dumps(to_json(record)) + '\n')
      _sync(file)

  def read(self) -> list[dict[str, Any]]:
    """All whole lines; a last one that a kill cut short is left out."""
    if not self.path.exists():
      return []
    lines = self.path.read_text().split('\n')
    return [json.loads(line) for line in lines[:-1] if line]

  def truncate(self, step: int) -> None:
    """Drops the lines past `step`, which will be written again."""
    if not self.path.exists():
      return
    kept = [json.dumps(r) for r in self.read() if r['step'] <= step]
    part = self.path.parent / (self.path.name + '.part')
    with part.open('w') as file:
      file.write(''.join(line + '\n' for line in kept))
      _sync(file)
    part.replace(self.path)


def _sync(file: Any) -> None:
  """Flushes to the disk, where the file is one of the operating system's."""
  file.flush()
  try:
    os.fsync(file.fileno())
  except (AttributeError, OSError):
    pass  # an object store commits when the file is closed
