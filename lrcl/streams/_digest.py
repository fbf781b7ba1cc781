"""One sha256 for nested data, arrays and functions."""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np


def describe(value: Any) -> str:
  """sha256 (hex) of nested containers, arrays, numbers and functions.

  Arrays count by their bytes, memory-mapped ones by file, dtype and shape;
  functions by module, name, default and enclosed values (not by their code);
  other objects by their fields (dataclasses) or by what their method
  `describe()` returns.
  """
  sha = hashlib.sha256()
  _update(sha, value)
  return sha.hexdigest()


def _update(sha: Any, value: Any) -> None:
  sha.update(f'<{type(value).__name__}>'.encode())
  if isinstance(value, np.memmap):
    sha.update(f'{value.filename}|{value.dtype}|{value.shape}'.encode())
  elif isinstance(value, np.ndarray | np.generic) or hasattr(value, 'sharding'):
    value = np.asarray(value)
    sha.update(f'{value.dtype}|{value.shape}|'.encode())
    sha.update(np.ascontiguousarray(value).data)
  elif isinstance(value, str | int | float | bytes | bool | None):
    sha.update(repr(value).encode())
  else:
    for part in _parts(value):
      _update(sha, part)
  sha.update(b'</>')


def _parts(value: Any) -> Any:
  if hasattr(value, 'describe'):
    return [value.describe()]
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = dataclasses.fields(value)
    return [(f.name, getattr(value, f.name)) for f in fields]
  if isinstance(value, Mapping):
    return sorted(value.items())
  if isinstance(value, tuple | list):
    return value
  if isinstance(value, functools.partial):
    return (value.func, value.args, value.keywords)
  named = value if hasattr(value, '__qualname__') else type(value)
  bound = [
    cell.cell_contents for cell in getattr(value, '__closure__', None) or ()
  ]
  defaults = getattr(value, '__defaults__', None)
  return [named.__module__, named.__qualname__, bound, defaults]
