"""The pretrained backbone: names, cache and, where it is there, its eyes."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _weights
from experiments.papers import backbone
from lrcl import models

SMALL = models.EfficientNetLite(
  3, (models.Stage(1, 3, 1, 1, 4), models.Stage(1, 3, 2, 2, 6)), 4, 10
)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 6), np.uint8)


def _package(module):
  """Random weights in the names and the layout of the package."""
  rng = np.random.default_rng(1)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  made = {}

  def norm(name, width):
    for leaf in ('weight', 'bias', 'running_mean'):
      made[f'{name}.{leaf}'] = normal(width)
    made[f'{name}.running_var'] = np.exp(normal(width))

  made['_conv_stem.weight'] = normal(module.stem_features, 3, 3, 3)
  norm('_bn0', module.stem_features)
  width = module.stem_features
  for i, stage in enumerate(module.stages):
    block, inside = f'_blocks.{i}.', width * stage.expand
    if stage.expand != 1:
      made[f'{block}_expand_conv.weight'] = normal(inside, width, 1, 1)
      norm(f'{block}_bn0', inside)
    k = stage.kernel
    made[f'{block}_depthwise_conv.weight'] = normal(inside, 1, k, k)
    norm(f'{block}_bn1', inside)
    made[f'{block}_project_conv.weight'] = normal(stage.features, inside, 1, 1)
    norm(f'{block}_bn2', stage.features)
    width = stage.features
  made['_conv_head.weight'] = normal(module.last_features, width, 1, 1)
  norm('_bn1', module.last_features)
  made['_fc.weight'] = normal(module.num_classes, module.last_features)
  made['_fc.bias'] = normal(module.num_classes)
  return made


@pytest.fixture
def small(tmp_path, monkeypatch):
  monkeypatch.setattr(backbone, '_MODULE', SMALL)
  folder = tmp_path / backbone.NAME
  folder.mkdir()
  np.savez(folder / _weights.FILE, **_package(SMALL))
  return backbone.load_backbone(tmp_path)


def test_weights_land_where_they_belong(small):
  package = _package(SMALL)
  params = small.variables['params']
  stem = package['_conv_stem.weight']
  np.testing.assert_array_equal(
    params['stem']['kernel'][0, 2, 1, 3], stem[3, 1, 0, 2]
  )
  np.testing.assert_array_equal(
    params['blocks_1']['expand_conv']['kernel'].T,
    package['_blocks.1._expand_conv.weight'][..., 0, 0],
  )
  np.testing.assert_array_equal(
    params['blocks_1']['depthwise'][1, 2, 0, 5],
    package['_blocks.1._depthwise_conv.weight'][5, 0, 1, 2],
  )
  np.testing.assert_array_equal(
    small.variables['batch_stats']['blocks_1']['project_norm']['var'],
    package['_blocks.1._bn2.running_var'],
  )
  np.testing.assert_array_equal(params['head']['bias'], package['_fc.bias'])


def test_weights_that_do_not_fit_are_refused(monkeypatch):
  monkeypatch.setattr(backbone, '_MODULE', SMALL)
  package = _package(SMALL)
  bias = package.pop('_fc.bias')
  with pytest.raises(ValueError, match=r'have no _fc\.bias'):
    backbone.to_variables(package)
  package['_fc.bias'] = bias[:-1]
  with pytest.raises(ValueError, match=r'_fc\.bias becomes'):
    backbone.to_variables(package)


def test_missing_weights_say_what_to_run(tmp_path):
  for data_dir in (None, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'fetch_data DEST'):
      backbone.load_backbone(data_dir)


def test_embedding_is_that_of_the_module_and_is_kept(small, monkeypatch):
  embed = lambda x, n=8: backbone.embed(small, x, size=n, batch_size=2)
  made = embed(IMAGES)
  inputs = backbone.prepare(IMAGES, 8)
  trunk = SMALL.apply(small.variables, inputs, method='trunk')
  np.testing.assert_allclose(made.trunk, trunk, rtol=2e-3, atol=2e-3)
  assert made.trunk.dtype == np.float16
  features = SMALL.apply(small.variables, trunk, method='features')
  np.testing.assert_allclose(made.features, features, rtol=1e-4, atol=1e-4)
  again = backbone.apply_last(*backbone.last_layers(small), jnp.asarray(trunk))
  np.testing.assert_allclose(again, features, rtol=1e-5, atol=1e-5)

  fail = lambda *_: pytest.fail('computed again')
  with monkeypatch.context() as patch:
    patch.setattr(backbone, '_embed', fail)
    kept = embed(IMAGES)
  jax.tree.map(np.testing.assert_array_equal, kept, made)
  for other in (IMAGES[:4], IMAGES[::-1], IMAGES / np.float32(255)):
    assert len(embed(other).trunk) == len(other)
  embed(IMAGES, 10)
  kept_files = list(small.folder.glob('lrcl-*.npz'))
  assert len(kept_files) == 5  # none of these was taken for another


def test_an_interrupted_run_leaves_no_embedding(small, monkeypatch):
  def stop(file, **_):
    file.write(b'half')
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(np, 'savez', stop)
    with pytest.raises(KeyboardInterrupt):
      backbone.embed(small, IMAGES, size=8, batch_size=2)
  assert not list(small.folder.glob('lrcl-*'))
  made = backbone.embed(small, IMAGES, size=8, batch_size=2)
  assert len(made.features) == 5


def test_images_are_scaled_to_the_range_of_the_network():
  grey = np.full((1, 6, 6), 255, np.uint8)
  found = backbone.prepare(grey, 8)
  assert found.shape == (1, 8, 8, 3)
  np.testing.assert_allclose(found, 1.0, atol=1e-5)
  same = backbone.prepare(grey / np.float32(255), 8)
  np.testing.assert_allclose(same, found, atol=1e-5)


@pytest.mark.parametrize(
  'name, label',
  [('chelsea', 285), ('coffee', 967)],  # Egyptian cat, espresso
)
def test_known_pictures_are_recognised(name, label):
  data = pytest.importorskip(
    'skimage.data', reason='scikit-image, which holds the pictures, is absent'
  )
  try:
    loaded = backbone.load_backbone(os.environ.get('TFDS_DATA_DIR'))
  except FileNotFoundError as error:
    pytest.skip(f'TFDS_DATA_DIR names no folder with the weights: {error}')
  found = backbone.classify(loaded, getattr(data, name)()[None], 224)[0]
  assert jnp.argmax(found) == label and found[label] > 0.7
