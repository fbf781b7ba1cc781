import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import (
  backbone,
  images,
  rehearsal_free,
  rehearsal_free_runs,
  sequences,
)
from experiments.papers.rehearsal_free_runs import CONTENDERS
from lrcl import protocols

SEEDS = (0, 1)


def _network(rng):
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  params = {
    'last': {'kernel': normal(320, 1280) / 18},
    'last_norm': {'scale': normal(1280), 'bias': normal(1280)},
  }
  moments = {'mean': normal(1280), 'var': np.exp(normal(1280))}
  variables = {'params': params, 'batch_stats': {'last_norm': moments}}
  return backbone.Backbone(variables, '', pathlib.Path())


def test_the_folded_layer_is_the_last_layer_of_the_backbone():
  rng = np.random.default_rng(0)
  network = _network(rng)
  trunk = jnp.asarray(rng.normal(size=(2, 2, 3, 320)), jnp.float32)
  wanted = backbone.apply_last(*backbone.last_layers(network), trunk)
  module = rehearsal_free_runs.LastLayer(
    *rehearsal_free_runs.fold(network), num_classes=10
  )
  (logits, features), variables = module.init_with_output(
    jax.random.key(0), trunk
  )
  np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)
  head = variables['params']['head']
  by_hand = features @ head['kernel'] + head['bias'][None]
  np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-4)


def _run(name, strength):
  """Kernels of the body at both ends of tasks, and mean losses, by seed."""
  data = images.load_images('digits', train_rows=200, test_rows=50)
  stream = sequences.split_stream(
    data, SEEDS, steps_per_task=8, num_tasks=2, batch_size=8
  )
  module = rehearsal_free_runs.Perceptron((12,), 10)
  method = rehearsal_free_runs.make_method(CONTENDERS[name], module, stream)
  trials = protocols.Trials(
    stream, SEEDS, *method, read=lambda state: state.params
  )
  settings = {'rate': np.array([0.2]), 'strength': np.array([strength])}
  found = trials.sweep(settings, SEEDS).pick(0)
  body, head = found.read['Dense_0']['kernel'], found.read['head']['kernel']
  return body[:, :, 0], head[:, :, 0], found.loss


def test_a_strength_of_0_is_no_method_and_a_huge_one_holds_the_body():
  body, head, loss = _run('none', 0.0)
  for name in ('EWC', 'PredKD'):
    same = _run(name, 0.0)
    np.testing.assert_allclose(same[0], body, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(same[2], loss, rtol=1e-4)
  held = _run('L2', 1e9)
  np.testing.assert_allclose(held[0][:, 0], body[:, 0], rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(held[0][:, 1], held[0][:, 0], atol=1e-6)
  assert np.abs(body[:, 1] - body[:, 0]).max() > 1e-3
  assert np.abs(held[1][:, 1] - held[1][:, 0]).max() > 1e-3
  assert head.shape == held[1].shape


def test_the_fisher_knows_the_classes_of_the_task():
  data = {
    'labels': jnp.array([[3, 1], [1, 0]]),
    'weight': jnp.array([[1.0, 1.0], [1.0, 0.0]]),
  }
  mask = rehearsal_free_runs._present(data, 5)
  assert mask.shape == (2, 2, 5)
  wanted = [False, True, False, True, False]
  assert (np.asarray(mask) == wanted).all()


def _found(final):
  accuracy = np.asarray(final, np.float64)[:, None, None, None]
  accuracy = np.broadcast_to(accuracy, (len(final), 2, 1, 2))
  found = protocols.Found(accuracy, np.zeros(len(final)), ())
  return None, found


def test_the_parts_depend_on_where_it_began():
  low, high = [0.5, 0.51, 0.49], [0.7, 0.71, 0.69]
  found = {
    'none': _found(low),
    'L2': _found(high),
    'EWC': _found(low),
    'FeatKD': _found(low),
  }
  assert rehearsal_free.judge('digits', found) == {
    'L2 above none': True,
    'EWC above none': False,
  }
  assert rehearsal_free.judge('X, pretrained', found) == {
    'L2 above EWC': True,
    'L2 above FeatKD': True,
  }
