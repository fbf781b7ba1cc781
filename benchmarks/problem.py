"""The one specification that the loop's benchmarks share.

Split-Fashion-MNIST (MNIST where it is not there), class-incremental, five
tasks of two classes, one epoch each, pixels `(x / 255 - 0.2860) / 0.3530`.

std: MLP 784-400-400-10, batch 128, rate 0.1.
online: MLP 784-100-100-10, batch 10, rate 0.05.

Both: SGD without momentum, PyTorch's linear initialisation; 500 stored
examples, as many drawn as the batch has; EWC of strength 100 with the
per-example empirical Fisher.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import losses, methods, models, streams, training

CAPACITY, STRENGTH, TASKS = 500, 100.0, 5
METHODS = ('naive', 'replay', 'ewc')


@dataclasses.dataclass(frozen=True)
class Setting:
  """A size of network and batch."""

  name: str
  width: int
  batch_size: int
  rate: float


SETTINGS = (Setting('std', 400, 128, 0.1), Setting('online', 100, 10, 0.05))


def load(data_dir: str | None) -> tuple[str, Any, Any]:
  """`(name, train, test)`: Fashion-MNIST, or MNIST where it is not there."""
  for name in ('fashion_mnist', 'mnist'):
    try:
      train = streams.from_tfds(name, 'train', data_dir=data_dir)
      return name, train, streams.from_tfds(name, 'test', data_dir=data_dir)
    except FileNotFoundError as error:
      missing = error
  sys.exit(f'error: {missing}')


def normalize(inputs: jax.Array) -> jax.Array:
  """uint8 images to standardised float32 vectors."""
  flat = inputs.reshape(*inputs.shape[:-3], -1).astype(jnp.float32)
  return (flat / 255 - 0.2860) / 0.3530


def make_stream(setting: Setting, train: Any, test: Any) -> streams.Stream:
  """Five tasks of two classes, in their order, one epoch each."""
  return streams.split(
    train,
    num_tasks=TASKS,
    batch_size=setting.batch_size,
    epochs=1,
    seed=0,
    test=test,
    transform=normalize,
  )


def make_learner(
  setting: Setting, method: str, stream: streams.Stream
) -> tuple[Any, training.Learner]:
  """`(init_fn, learner)` of one method."""
  widths = (setting.width, setting.width)
  module = models.MLP(widths, 10, initializer='uniform')
  init_fn, apply_fn = models.from_module(module, jnp.zeros((1, 784)))
  rate = methods.scale_by_schedule_value(optax.constant_schedule(setting.rate))
  if method == 'naive':
    return init_fn, training.Learner(rate, apply_fn)
  if method == 'replay':
    chain = optax.chain(methods.add_memory_gradient(), rate)
    tx = methods.with_memory(
      chain, CAPACITY, stream.batch_spec, setting.batch_size
    )
    return init_fn, training.Learner(tx, apply_fn)
  tx = optax.chain(methods.add_ewc_penalty(STRENGTH), rate)

  def on_task_end(state, task_data, key):
    fisher = methods.fisher_diagonal(
      apply_fn, state.params, task_data, estimator='empirical', key=key
    )
    opt_state = methods.consolidate(
      state.opt_state, state.params, fisher=fisher
    )
    return state._replace(opt_state=opt_state)

  learner = training.Learner(
    tx, apply_fn, losses.cross_entropy, on_task_end=on_task_end
  )
  return init_fn, learner
