import os
import sys

import numpy as np
import pytest

from experiments.fetch_data import prepare
from lrcl.streams import ItemSource, from_tfds, split


def _images(rows, seed):
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (rows, 5, 6)).astype(np.uint8)
  return images, np.arange(rows) % 10


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('tfds')
  prepare('lrcl_tiny', {'train': _images(40, 0), 'test': _images(20, 1)}, path)
  return path


def _sorted(images):
  return sorted(image.tobytes() for image in images)


def test_reads_arrays_without_tensorflow(data_dir):
  train = from_tfds('lrcl_tiny', 'train', data_dir=data_dir, cache=False)
  assert isinstance(train, dict)
  assert train['inputs'].shape == (40, 5, 6, 1)
  assert train['inputs'].dtype == np.uint8 and train['labels'].dtype == np.int32
  images, labels = _images(40, 0)
  assert _sorted(train['inputs']) == _sorted(images)
  by_image = {i.tobytes(): y for i, y in zip(images, labels, strict=True)}
  pairs = zip(train['inputs'], train['labels'], strict=True)
  assert all(by_image[image.tobytes()] == label for image, label in pairs)
  assert 'tensorflow' not in sys.modules


def test_host_source_is_bit_identical(data_dir):
  read = lambda split_, size: from_tfds(
    'lrcl_tiny', split_, data_dir=data_dir, resident_bytes=size
  )
  host, test = read('train', 100), read('test', 100)
  assert isinstance(host, ItemSource) and isinstance(test, ItemSource)
  make = lambda *data: split(data[0], num_tasks=2, batch_size=8, test=data[1])
  a, b = make(host, test), make(read('train', 10**9), read('test', 10**9))
  assert a.plan.digest == b.plan.digest and b.resident and not a.resident
  indices = a.chunk(1, 4).indices
  for name, column in a.rows(indices).items():
    wanted = b.rows(indices)[name]
    assert column.dtype == wanted.dtype
    np.testing.assert_array_equal(column, wanted)
  assert a.evaluation is not None and b.evaluation is not None
  np.testing.assert_array_equal(a.evaluation.indices, b.evaluation.indices)
  assert 'lrcl_tiny/3.0.1 train' in host.describe()


def test_decoded_arrays_are_kept(data_dir, monkeypatch):
  read = lambda: from_tfds('lrcl_tiny', 'test', data_dir=data_dir)
  folder = data_dir / 'lrcl_tiny' / '3.0.1'
  for path in folder.glob('lrcl-*.npz'):
    path.unlink()
  first = read()
  (kept,) = folder.glob('lrcl-*.npz')
  with monkeypatch.context() as patch:
    patch.setattr(ItemSource, 'arrays', None)
    again = read()
  for name in first:
    np.testing.assert_array_equal(first[name], again[name])
  content = kept.read_bytes()
  kept.write_bytes(content[: len(content) // 2])
  np.testing.assert_array_equal(read()['inputs'], first['inputs'])
  assert kept.read_bytes() == content
  assert not list(folder.glob('*.part'))


def test_read_only_folder_is_no_error(data_dir, monkeypatch):
  folder = data_dir / 'lrcl_tiny' / '3.0.1'
  for path in folder.glob('lrcl-*.npz'):
    path.unlink()

  def refuse(scratch, path):  # as a folder would: root may write anywhere
    raise PermissionError(f'{path} cannot be written')

  monkeypatch.setattr(os, 'replace', refuse)
  found = from_tfds('lrcl_tiny', 'train', data_dir=data_dir)
  assert isinstance(found, dict) and len(found['labels']) == 40
  assert not list(folder.glob('lrcl-*')), 'nothing half-written is left'


def test_example_fn(data_dir):
  crop = lambda e: {'inputs': e['image'][:2], 'labels': e['label']}
  test = from_tfds('lrcl_tiny', 'test', data_dir=data_dir, example_fn=crop)
  assert isinstance(test, dict) and test['inputs'].shape == (20, 2, 6, 1)


def _write_flowers(data_dir):
  """A data set with configs, and names of features that are its own."""
  import PIL.Image
  import tensorflow_datasets as tfds

  class Flowers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('2.1.0')
    BUILDER_CONFIGS = tuple(
      tfds.core.BuilderConfig(name=n) for n in ('small', 'large')
    )

    def _info(self):
      features = {
        'photo': tfds.features.Image(shape=(4, 4, 3)),
        'kind': tfds.features.ClassLabel(num_classes=3),
        'colour': tfds.features.ClassLabel(num_classes=2),
      }
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features)
      )

    def _split_generators(self, dl_manager):
      return {'validation': self._generate_examples()}

    def _generate_examples(self):
      for i in range(6):
        photo = PIL.Image.fromarray(np.full((4, 4, 3), i, np.uint8))
        yield i, {'photo': photo, 'kind': i % 3, 'colour': i % 2}

  Flowers.name = 'lrcl_flowers'
  tfds.disable_progress_bar()
  config = tfds.download.DownloadConfig(try_download_gcs=False)
  Flowers(
    config='small', data_dir=data_dir, file_format='array_record'
  ).download_and_prepare(download_config=config)


@pytest.mark.parametrize('resident_bytes', [10, 2**20])
@pytest.mark.parametrize('name', ['/small', '/small:2.1.0'])
def test_any_features_of_any_config(tmp_path, name, resident_bytes):
  _write_flowers(tmp_path)
  read = lambda labels: from_tfds(
    f'lrcl_flowers{name}',
    'validation',
    data_dir=tmp_path,
    inputs='photo',
    labels=labels,
    resident_bytes=resident_bytes,
  )
  for labels, classes in (('kind', 3), ('colour', 2)):
    found = read(labels)
    rows = found if isinstance(found, dict) else found.rows(np.arange(6))
    assert isinstance(found, dict) == (resident_bytes > 10)
    assert rows['inputs'].shape == (6, 4, 4, 3)
    number = rows['inputs'][:, 0, 0, 0]
    assert sorted(number) == list(range(6))
    np.testing.assert_array_equal(rows['labels'], number % classes)
  assert 'tensorflow' not in sys.modules


def test_sub_splits(data_dir):
  half = from_tfds('lrcl_tiny', 'train[:50%]', data_dir=data_dir, cache=False)
  assert isinstance(half, dict) and len(half['labels']) == 20


@pytest.mark.parametrize('name', ['mnist', 'no_such_data_set'])
def test_missing_data_names_both_ways(tmp_path, name):
  with pytest.raises(FileNotFoundError) as error:
    from_tfds(name, 'train', data_dir=tmp_path)
  message = str(error.value)
  assert f'python -m experiments.fetch_data {tmp_path} {name}' in message
  assert 'download_and_prepare' in message and '\n' not in message


def test_wrong_split_or_feature(data_dir):
  with pytest.raises(ValueError, match=r"no split 'val'.*'test', 'train'"):
    from_tfds('lrcl_tiny', 'val', data_dir=data_dir)
  with pytest.raises(ValueError, match=r"no feature 'x'.*'image', 'label'"):
    from_tfds('lrcl_tiny', 'test', data_dir=data_dir, inputs='x')
