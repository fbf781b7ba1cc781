"""What networks show of their hidden units, and who reads them."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import models

INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8)), 'f')
BATCH = {'inputs': INPUTS}


def params_of(module):
  return jax.jit(module.init)(jax.random.key(0), INPUTS)['params']


@pytest.mark.parametrize('normalize', [False, True])
def test_an_mlp_computed_by_hand(normalize):
  module = models.MLP((6, 5), 3, normalize=normalize)
  params = params_of(module)
  hidden = jax.jit(models.activations_from_module(module))(params, BATCH)
  x = INPUTS.reshape(3, -1)
  for layer in models.unit_graph(module):
    weights = params[layer.name]
    x = x @ weights['kernel']
    x = models.standardize(x) if normalize else x + weights['bias'][None]
    x = nn.relu(x)
    np.testing.assert_allclose(hidden[layer.activation], x, atol=1e-5)
  head = params['head']
  logits = x @ head['kernel'] + head['bias'][None]
  np.testing.assert_allclose(
    module.apply({'params': params}, INPUTS), logits, atol=1e-5
  )


def test_a_cnn_shows_channels_before_pooling():
  module = models.CNN((3, 4), hidden=6, num_classes=3)
  activations = jax.jit(models.activations_from_module(module))
  hidden = activations(params_of(module), BATCH)
  shapes = {name: h.shape for name, h in hidden.items()}
  assert shapes == {
    'hidden_0': (3, 8, 8, 3),
    'hidden_1': (3, 4, 4, 4),
    'hidden_2': (3, 6),
  }
  graph = models.unit_graph(module)
  assert [(x.name, x.activation, x.readers) for x in graph] == [
    ('Conv_0', 'hidden_0', ('Conv_1',)),
    ('Conv_1', 'hidden_1', ('Dense_0',)),
    ('Dense_0', 'hidden_2', ('head',)),
  ]


@pytest.mark.parametrize('kind', ['lecun', 'uniform'])
def test_the_initializer_of_the_graph_is_that_of_the_network(kind):
  module = models.MLP((300,), 3, initializer=kind)
  drawn = params_of(module)['Dense_0']['kernel']
  again = models.unit_graph(module)[0].initializer(
    jax.random.key(1), drawn.shape, jnp.float32
  )
  for measure in (np.std, np.max, np.min):
    np.testing.assert_allclose(measure(drawn), measure(again), rtol=0.2)
  spread = np.std(drawn) * 8  # of fan-in 64
  np.testing.assert_allclose(
    spread, 1 if kind == 'lecun' else 3**-0.5, rtol=0.05
  )


def test_other_modules_sow_for_themselves():
  class Inner(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
      self.sow('intermediates', 'hidden', x)
      return x

  class Outer(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      x = Inner(name='block')(x.reshape(x.shape[0], -1), train)
      return nn.Dense(2, name='head')(x)

  module = Outer()
  variables = module.init(jax.random.key(0), INPUTS, train=False)
  state = {'batch_stats': variables['batch_stats']}
  activations = models.activations_from_module(module, model_state=state)
  hidden = jax.jit(activations)(variables['params'], BATCH)
  assert hidden['block/hidden'].shape == (3, 4)


def test_errors():
  with pytest.raises(TypeError, match='module is a Dense'):
    models.unit_graph(nn.Dense(3))  # pyright: ignore
  module = nn.Dense(3)
  activations = models.activations_from_module(module)
  with pytest.raises(ValueError, match='Dense sows nothing'):
    activations(params_of(module), BATCH)
