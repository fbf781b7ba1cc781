"""Legacy .pth files: made by hand here, with no torch."""

import collections
import io
import pickle

import numpy as np
import pytest

from experiments import _torch_weights
from experiments._torch_weights import read_tensors


class _Name:
  """Pickles as the name of something that is not importable here."""

  def __init__(self, module, name):
    self.module, self.name = module, name


class _Tensor(collections.namedtuple('T', 'key kind offset shape strides')):
  """Pickles as torch writes a tensor."""


class _Pickler(pickle._Pickler):
  """The pickler in Python, in which names can be written freely."""

  def save(self, thing, save_persistent_id=True):
    if isinstance(thing, _Name):
      self.write(f'c{thing.module}\n{thing.name}\n'.encode())
    elif isinstance(thing, _Tensor):
      storage = ('storage', _Name('torch', thing.kind), thing.key, 'cpu', 0)
      self.save(_Name('torch._utils', '_rebuild_tensor_v2'))
      self.write(pickle.MARK)
      self.save((*storage, None))
      self.write(pickle.BINPERSID)
      for part in (*thing[2:], False, collections.OrderedDict()):
        self.save(part)
      self.write(pickle.TUPLE + pickle.REDUCE)
    else:
      super().save(thing, save_persistent_id)


def _file(tensors, storages, *, magic=_torch_weights._MAGIC, version=1001):
  out = io.BytesIO()
  for thing in (magic, version, {'little_endian': True}, tensors):
    _Pickler(out, 2).dump(thing)
  _Pickler(out, 2).dump(list(storages))
  for array in storages.values():
    out.write(len(array).to_bytes(8, 'little') + array.tobytes())
  return out.getvalue()


FLOATS = np.arange(10, dtype='<f4')
STORAGES = {'1': FLOATS, '2': np.array([7], '<i8')}
TENSORS = collections.OrderedDict(
  plain=_Tensor('1', 'FloatStorage', 0, (2, 3), (3, 1)),
  moved=_Tensor('1', 'FloatStorage', 4, (3, 2), (1, 3)),
  count=_Tensor('2', 'LongStorage', 0, (), ()),
)


def test_tensors_come_back():
  found = read_tensors(_file(TENSORS, STORAGES))
  assert list(found) == ['plain', 'moved', 'count']
  np.testing.assert_array_equal(found['plain'], [[0, 1, 2], [3, 4, 5]])
  np.testing.assert_array_equal(found['moved'], [[4, 7], [5, 8], [6, 9]])
  assert found['count'] == 7 and found['count'].dtype == np.int64
  assert found['plain'].dtype == np.float32 and found['plain'].flags.owndata


@pytest.mark.parametrize(
  'module, name',
  [('os', 'system'), ('builtins', 'eval'), ('torch', 'load'), ('numpy', 'f')],
)
def test_other_names_are_refused(module, name):
  content = _file({'x': _Name(module, name)}, {})
  with pytest.raises(ValueError, match=f'{module}.{name} is not allowed'):
    read_tensors(content)


def test_what_is_no_such_file_is_refused():
  good = _file(TENSORS, STORAGES)
  with pytest.raises(ValueError, match='ends inside of a storage'):
    read_tensors(good[:-1])
  with pytest.raises(ValueError, match='cannot be read'):
    read_tensors(b'')
  with pytest.raises(ValueError, match='not a legacy'):
    read_tensors(_file(TENSORS, STORAGES, magic=1))
  with pytest.raises(ValueError, match='not a legacy'):
    read_tensors(_file(TENSORS, STORAGES, version=2))
  outside = {'x': _Tensor('1', 'FloatStorage', 8, (3,), (1,))}
  with pytest.raises(ValueError, match='outside of its storage'):
    read_tensors(_file(outside, {'1': FLOATS}))
