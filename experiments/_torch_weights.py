"""Reads tensors out of a legacy .pth file, without torch.

Such a file is a pickle, which may run anything. Here only the four names that
a dictionary of tensors needs can be unpickled.
"""

import collections
import io
import pickle
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_STORAGES = {'FloatStorage': '<f4', 'LongStorage': '<i8'}


class _View(NamedTuple):
  """A tensor: which storage it reads, from where and how (in elements)."""

  key: str
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _rebuild(storage, offset, shape, strides, *_) -> _View:
  return _View(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
  """Knows dictionaries of tensors, and nothing else."""

  def __init__(self, file: BinaryIO):
    super().__init__(file)
    self.dtypes: dict[str, np.dtype] = {}

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _rebuild
    if module == 'torch' and name in _STORAGES:
      return np.dtype(_STORAGES[name])
    raise pickle.UnpicklingError(f'{module}.{name} is not allowed here')

  def persistent_load(self, pid: Any) -> str:
    kind, dtype, key, _, _, view = pid
    if kind != 'storage' or view is not None or not isinstance(key, str):
      raise pickle.UnpicklingError('a storage of an unknown form')
    self.dtypes[key] = dtype
    return key


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
  """The tensors of a legacy .pth file by name, in their own layout.

  Args:
    content: of the file: magic number, version, system, the dictionary, the
      keys of the storages, and each storage as a length and its elements.

  Returns:
    Arrays of their own, float32 or int64.

  Raises:
    ValueError: if the file has another form, names something that a
      dictionary of tensors does not need, or ends early.
  """
  file = io.BytesIO(content)
  try:
    magic, version, _ = (_Unpickler(file).load() for _ in range(3))
    if magic != _MAGIC or version != _VERSION:
      raise ValueError('not a legacy .pth file.')
    unpickler = _Unpickler(file)
    views = unpickler.load()
    keys = _Unpickler(file).load()
    storages = {k: _read_storage(file, unpickler.dtypes[k]) for k in keys}
    return {name: _materialize(view, storages) for name, view in views.items()}
  except (pickle.UnpicklingError, EOFError, KeyError, AttributeError) as error:
    raise ValueError(f'the .pth file cannot be read: {error}.') from error


def _read_storage(file: BinaryIO, dtype: np.dtype) -> np.ndarray:
  size = int.from_bytes(file.read(8), 'little')
  content = file.read(size * dtype.itemsize)
  if len(content) != size * dtype.itemsize:
    raise EOFError('it ends inside of a storage')
  return np.frombuffer(content, dtype)


def _materialize(view: _View, storages: dict[str, np.ndarray]) -> np.ndarray:
  data = storages[view.key]
  last = view.offset + sum(
    (n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)
  )
  if min(view.strides, default=0) < 0 or not 0 <= last < len(data):
    raise ValueError('a tensor of the .pth file lies outside of its storage.')
  strides = [s * data.itemsize for s in view.strides]
  return np.lib.stride_tricks.as_strided(
    data[view.offset :], view.shape, strides, writeable=False
  ).copy()
