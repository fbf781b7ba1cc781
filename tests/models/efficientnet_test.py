"""EfficientNet-Lite: sizes, the depthwise sum, statistics, the three parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import models
from lrcl.models import _efficientnet

SMALL = models.EfficientNetLite(
  3, (models.Stage(1, 3, 1, 1, 4), models.Stage(2, 5, 2, 2, 6)), 4, 10
)
IMAGES = jax.random.normal(jax.random.key(1), (2, 9, 12, 3))


def test_lite0_has_the_sizes_of_the_published_weights():
  model = models.EfficientNetLite()
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  made = jax.eval_shape(model.init, jax.random.key(0), image)
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert count(made['params']) == 4_652_008
  assert count(made['batch_stats']) == 42_016
  run = lambda v, x: model.apply(v, x, method='trunk')
  assert jax.eval_shape(run, made, image).shape == (1, 7, 7, 320)


@pytest.mark.parametrize('size', [(7, 9), (8, 6)])
@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('stride', [1, 2])
def test_depthwise_is_the_convolution(size, kernel, stride):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
  k = jnp.asarray(rng.normal(size=(kernel, kernel, 1, 3)), jnp.float32)
  wanted = jax.lax.conv_general_dilated(
    x,
    k,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=3,
  )
  got = _efficientnet.depthwise_same(x, k, stride)
  np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.fixture(scope='module')
def variables():
  made = jax.jit(SMALL.init)(jax.random.key(0), IMAGES)
  leaves, tree = jax.tree.flatten(made)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  noise = lambda k, x: x + 0.3 * jax.random.uniform(k, x.shape)
  return jax.tree.unflatten(tree, map(noise, keys, leaves))


def twin(variables, x):
  """The small network, by lax.conv and numpy."""

  def conv(x, kernel, stride=1, groups=1):
    kernel = kernel if kernel.ndim == 4 else kernel[None, None]
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )

  def norm(x, params, stats):
    x, mean, var = np.asarray(x), stats['mean'], np.asarray(stats['var'])
    x = (x - mean) / np.sqrt(var + 1e-3)
    return x * np.asarray(params['scale']) + np.asarray(params['bias'])

  relu6 = lambda x: np.clip(x, 0, 6)
  params, stats = variables['params'], variables['batch_stats']
  of = lambda p, s, name: (p[name], s[name])
  x = conv(x, params['stem']['kernel'], 2)
  x = relu6(norm(x, *of(params, stats, 'stem_norm')))
  for i, (stride, residual) in enumerate([(1, True), (2, False), (1, True)]):
    p, s, y = params[f'blocks_{i}'], stats[f'blocks_{i}'], x
    if 'expand_conv' in p:
      y = conv(y, p['expand_conv']['kernel'])
      y = relu6(norm(y, *of(p, s, 'expand_norm')))
    y = conv(y, p['depthwise'], stride, y.shape[-1])
    y = relu6(norm(y, *of(p, s, 'depthwise_norm')))
    y = norm(conv(y, p['project']['kernel']), *of(p, s, 'project_norm'))
    x = x + y if residual else y
  x = conv(x, params['last']['kernel'])
  x = relu6(norm(x, *of(params, stats, 'last_norm'))).mean((1, 2))
  return x @ params['head']['kernel'] + np.asarray(params['head']['bias'])


def test_equals_a_twin_with_convolutions(variables):
  with jax.numpy_rank_promotion('allow'):
    wanted = twin(variables, IMAGES)
  got = jax.jit(SMALL.apply)(variables, IMAGES)
  np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_the_call_is_its_three_parts_and_changes_no_statistics(variables):
  whole, changed = SMALL.apply(variables, IMAGES, mutable=['batch_stats'])
  x = IMAGES
  for part in ('trunk', 'features', 'logits'):
    x = SMALL.apply(variables, x, method=part)
  np.testing.assert_array_equal(x, whole)
  kept = {'batch_stats': variables['batch_stats']}
  jax.tree.map(np.testing.assert_array_equal, changed, kept)
