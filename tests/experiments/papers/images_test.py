import numpy as np
import pytest

from experiments import fetch_data
from experiments.papers import claims, images


def test_digits_are_all_there_once():
  data = images.load_images('digits', seed=3)
  assert len(data.train['labels']) == 1400
  assert len(data.test['labels']) == 397
  assert data.num_pixels == 64
  from sklearn import datasets

  wanted = datasets.load_digits(return_X_y=True)[0] / 16
  found = np.concatenate([data.train['inputs'], data.test['inputs']])
  order = lambda rows: rows[np.lexsort(rows.T)]
  np.testing.assert_allclose(order(found), order(wanted))


def test_images_on_disk_are_flat_and_in_the_unit_interval(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {
    split: (rng.integers(0, 256, (30, 4, 4), np.uint8), np.arange(30) % 10)
    for split in ('train', 'test')
  }
  fetch_data.prepare('mnist', arrays, tmp_path)
  data = images.load_images('mnist', tmp_path, train_rows=20, seed=1)
  assert data.train['inputs'].shape == (20, 16)
  assert data.test['inputs'].shape == (30, 16)
  assert data.train['inputs'].dtype == np.float32
  assert data.train['labels'].dtype == np.int32
  wanted = {bytes(x): label for x, label in zip(*arrays['train'], strict=True)}
  rows = np.round(data.train['inputs'] * 255).astype(np.uint8)
  labels = data.train['labels']
  assert [wanted[bytes(row)] for row in rows] == labels.tolist()
  assert len({bytes(row) for row in rows}) == 20


def test_what_is_missing_is_said_in_a_line(tmp_path):
  with pytest.raises(ValueError, match='one of digits, mnist, fashion_mnist'):
    images.load_images('cifar')
  with pytest.raises(ValueError, match='train_rows is 1401'):
    images.load_images('digits', train_rows=1401)
  for where in (None, tmp_path):
    with pytest.raises(FileNotFoundError, match='fetch_data') as caught:
      images.load_images('mnist', where)
    assert '\n' not in str(caught.value)
    assert claims.FETCH in str(caught.value)


def test_a_smaller_image_is_means_of_blocks():
  data = images.load_images('digits', train_rows=3)
  found = images.shrink(data, 4).test['inputs']
  picture = data.test['inputs'][5].reshape(8, 8)
  wanted = [picture[:4, :4], picture[:4, 4:], picture[4:, :4], picture[4:, 4:]]
  np.testing.assert_allclose(found[5], [block.mean() for block in wanted])
  assert images.shrink(data, 2).num_pixels == 16
  with pytest.raises(ValueError, match='factor is 3; it must divide'):
    images.shrink(data, 3)
