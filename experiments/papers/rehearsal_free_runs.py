"""Rehearsal-free learners: penalties and distillation, with a local loss."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import backbone, teachers
from experiments.papers.images import Images
from lrcl import losses, methods, models, protocols, streams, training, tree

NORM_EPSILON = 1e-3  # of EfficientNet-Lite


class Perceptron(nn.Module):
  """A perceptron that returns `(logits, features)`.

  Attributes:
    widths: of the hidden layers; the last one gives the features.
    num_classes: width of the head.
  """

  widths: Sequence[int]
  num_classes: int

  @nn.compact
  def __call__(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps inputs `[batch, ...]` to logits and features."""
    x = inputs.reshape(len(inputs), -1)
    for width in self.widths:
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(self.num_classes, name='head')(x), x


class LastLayer(nn.Module):
  """The last convolution of the backbone, and a head.

  Attributes:
    kernel: `[320, 1280]`, where the convolution starts from.
    bias: `[1280]`, likewise.
    num_classes: width of the head.
  """

  kernel: Any
  bias: Any
  num_classes: int

  @nn.compact
  def __call__(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps a trunk `[batch, rows, columns, 320]` to logits and features."""
    start: dict[str, Any] = {
      'kernel_init': lambda *_: jnp.asarray(self.kernel),
      'bias_init': lambda *_: jnp.asarray(self.bias),
    }
    x = nn.Dense(len(self.bias), **start, name='last')(inputs.astype('f4'))
    x = nn.relu6(x).mean((1, 2))
    return nn.Dense(self.num_classes, name='head')(x), x


def fold(network: backbone.Backbone) -> tuple[np.ndarray, np.ndarray]:
  """Kernel and bias of the last convolution, its normalisation included."""
  params, stats = backbone.last_layers(network)
  norm, moments = params['last_norm'], stats['last_norm']
  scale = norm['scale'] / np.sqrt(moments['var'] + NORM_EPSILON)
  kernel = params['last']['kernel'] * scale
  return kernel, norm['bias'] - moments['mean'] * scale


def embed(network: backbone.Backbone, images: Images, size: int) -> Images:
  """Images whose inputs are the trunk in front of the last convolution."""

  def trunk(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    side = round(images.num_pixels**0.5)
    square = rows['inputs'].reshape(-1, side, side)
    made = backbone.embed(network, square, size=size).trunk
    return {'inputs': made, 'labels': rows['labels']}

  return Images(trunk(images.train), trunk(images.test))


class Contender(NamedTuple):
  """A method, and the grid of its strength.

  Attributes:
    kind: which one.
    strengths: to choose from, each ten times the one before.
  """

  kind: str
  strengths: Sequence[float]


_tenfold = lambda low: tuple(low * 10.0**i for i in range(5))

CONTENDERS = {
  'none': Contender('none', (0.0,)),
  'L2': Contender('l2', _tenfold(0.01)),
  'EWC': Contender('ewc', _tenfold(10.0)),
  'PredKD': Contender('predictions', _tenfold(0.001)),
  'FeatKD': Contender('features', _tenfold(0.0001)),
}


def make_method(
  contender: Contender, module: nn.Module, stream: streams.Stream
) -> tuple[models.InitFn, protocols.MakeLearner]:
  """`(init_fn, make_learner)` of a contender.

  All of them have SGD and the cross-entropy among the classes of the batch.
  Penalties hold all but the head to the last task's end, by proximal steps;
  distillation has the model of that time for a teacher.
  """
  inner = models.from_module(module, stream.batch_spec['inputs'])
  model = teachers.with_teacher(*inner, stream.num_classes)
  predict = lambda outputs, batch: losses.argmax(outputs[0], batch)

  def taught(setting: protocols.Setting) -> training.Learner:
    loss_fn = _TAUGHT[contender.kind](setting['strength'])
    return training.Learner(
      methods.scale_by_schedule_value(setting['rate']),
      model.apply_fn,
      teachers.hear(loss_fn, features=True),
      on_task_end=model.on_task_end,
      predict=predict,
    )

  def penalized(setting: protocols.Setting) -> training.Learner:
    sgd = methods.scale_by_schedule_value(setting['rate'])
    penalize = _PENALIZED[contender.kind]
    return training.Learner(
      penalize(sgd, setting['strength'], mask=tree.path_mask('^(?!head)')),
      inner[1],
      _plain,
      on_task_end=_consolidate(inner[1], stream.num_classes, contender.kind),
      predict=predict,
    )

  if contender.kind in _TAUGHT:
    return model.init_fn, taught
  return inner[0], penalized


def _plain(outputs: Any, batch: Any) -> jax.Array:
  return losses.local_cross_entropy(outputs[0], batch)


def _predictions(weight: Any) -> Any:
  loss_fn = losses.distill_predictions(losses.local_cross_entropy, weight)
  return lambda outputs, batch: loss_fn(outputs[0], batch)


def _features(weight: Any) -> Any:
  return losses.distill_features(losses.local_cross_entropy, weight)


_TAUGHT = {'predictions': _predictions, 'features': _features}
_PENALIZED = {
  'none': lambda sgd, strength, mask: sgd,
  'l2': methods.with_l2_anchor,
  'ewc': methods.with_ewc_penalty,
}


def _consolidate(apply_fn: Any, num_classes: int, kind: str) -> Any:
  """The end of a task for penalties; the Fisher is that of the local loss."""
  logits_fn = only_logits(apply_fn)

  def on_task_end(state, task_data, key):
    fisher = None
    if kind == 'ewc':
      fisher = methods.fisher_diagonal(
        logits_fn,
        state.params,
        task_data | {'class_mask': _present(task_data, num_classes)},
        estimator='sampled',
        key=key,
      )
    kept = methods.consolidate(state.opt_state, state.params, fisher=fisher)
    return state._replace(opt_state=kept)

  return on_task_end


def only_logits(apply_fn: Any) -> Any:
  """The model without its features."""

  def apply(*arguments: Any, **options: Any) -> tuple[jax.Array, Any]:
    outputs, model_state = apply_fn(*arguments, **options)
    return outputs[0], model_state

  return apply


def _present(task_data: Mapping[str, jax.Array], num_classes: int) -> jax.Array:
  """The classes of a task, as a mask for each of its rows."""
  labels = task_data['labels']
  used = jnp.where(task_data['weight'] > 0, labels, num_classes)
  mask = jnp.zeros([num_classes], bool).at[used].set(True, mode='drop')
  return jnp.broadcast_to(mask, (*labels.shape, num_classes))
