"""A frozen network with a few parameters of each task between its layers."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.base import ApplyFn, Params
from lrcl.models import _reprogramming_layers as _layers
from lrcl.models._bridge import InitFn, train_flags


def reprogram(
  module: nn.Module,
  anchor: Params,
  example_inputs: Any,
  num_tasks: int,
  *,
  kernel_size: int = 3,
  head: str = 'head',
  model_state: Any = None,
) -> tuple[InitFn, ApplyFn]:
  """Fits a trained network to each task by a few parameters (CLR).

  The network, the anchor, is frozen. Each task has of its own

  * behind each convolution (`Conv`, `nn.Conv`) a depthwise convolution without
    bias, which passes its input on at first;
  * behind each other `nn.Dense`, and behind each normalisation that has
    parameters, a factor and an offset for each channel;
  * the head, which begins as a copy of the anchor's.

  So a new model gives the anchor's outputs for every task. What one task
  learns cannot touch another; the price is that the task of each input must be
  known in testing, too. The paper has convolutions and batch normalisation; the
  affine maps behind dense layers are this library's analogue for perceptrons.

  The parameters are `{'anchor': ..., 'tasks': ...}`. Leaves of `tasks` have a
  leading axis of tasks; no gradient reaches those of `anchor`. For optimizers
  with decay or momenta there are `reprogrammed_labels` and
  `lrcl.methods.update_task_rows`.

  Cost: for each output of a convolution `kernel_size**2` more products, and the
  head's kernel once for each row, as rows may be of different tasks.

  Args:
    module: a flax.linen module that maps inputs to logits.
    anchor: its trained parameters.
    example_inputs: one batch of inputs, or a `jax.ShapeDtypeStruct`; only the
      shape and the dtype are used.
    num_tasks: how many tasks there may be.
    kernel_size: height and width of the depthwise convolutions, odd.
    head: the name of the output layer, an `nn.Dense`.
    model_state: other collections of `module`. They stay as they are, and the
      module is told that it does not train.

  Returns:
    `(init_fn, apply_fn)`. Inputs of `apply_fn` are a dict of `inputs` `[batch,
    ...]` and `task`, int32 `[batch]`, such as `inputs_with_task` makes.

  Raises:
    ValueError: if a number is impossible, or `module` has no such head.

  Example:
    >>> from lrcl import models
    >>> module = models.MLP((8,), 3)
    >>> x = jax.random.normal(jax.random.key(0), (2, 5))
    >>> anchor = module.init(jax.random.key(1), x)['params']
    >>> init_fn, apply_fn = reprogram(module, anchor, x, num_tasks=4)
    >>> params, state = init_fn(jax.random.key(2))
    >>> jax.tree.map(jnp.shape, params['tasks']['Dense_0'])
    {'offset': (4, 8), 'scale': (4, 8)}
    >>> logits, _ = apply_fn(params, {'inputs': x, 'task': jnp.array([0, 3])},
    ...   rng=None, model_state=state, train=True)
    >>> bool(jnp.allclose(logits, module.apply({'params': anchor}, x)))
    True

  References:
    Ge et al., `CLR: channel-wise lightweight reprogramming for continual
    learning <https://arxiv.org/abs/2307.11386>`_, 2023

    Code: https://github.com/gyhandy/Channel-wise-Lightweight-Reprogramming
  """
  where = 'reprogram'
  num_tasks = base.check_steps(where, 'num_tasks', num_tasks, 1)
  kernel_size = base.check_steps(where, 'kernel_size', kernel_size, 1)
  if kernel_size % 2 == 0:
    raise ValueError(f'{where}: kernel_size is {kernel_size}; it must be odd.')
  kept = dict(model_state or {})
  flags = train_flags(module)(False)

  def run(anchor: Params, inputs: Any, after: Any) -> jax.Array:
    def intercept(next_fn, args, kwargs, context):
      outputs = next_fn(*args, **kwargs)
      if context.method_name != '__call__':
        return outputs
      return after(context.module, args, outputs)

    with nn.intercept_methods(intercept):
      logits: Any = module.apply({'params': anchor, **kept}, inputs, **flags)
    return logits

  layers = _layers.find_layers(run, anchor, example_inputs, head)

  def init_fn(key: jax.Array) -> tuple[Params, Any]:
    del key
    tasks = {
      name: _layers.first_params(name, layer, anchor, num_tasks, kernel_size)
      for name, layer in layers.items()
    }
    return {'anchor': jax.tree.map(jnp.array, anchor), 'tasks': tasks}, {}

  def apply_fn(
    params: Params,
    inputs: Any,
    *,
    rng: jax.Array | None,
    model_state: Any,
    train: bool,
  ) -> tuple[jax.Array, Any]:
    del rng, train
    tasks = jax.tree.map(lambda x: x[inputs['task']], params['tasks'])

    def after(layer, args, outputs):
      name = '/'.join(layer.path)
      if name not in layers:
        return outputs
      return _layers.ADAPT[layers[name].kind](tasks[name], args[0], outputs)

    frozen = jax.lax.stop_gradient(params['anchor'])
    return run(frozen, inputs['inputs'], after), model_state

  return init_fn, apply_fn


def inputs_with_task(prepare: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a stream's `prepare` put the task of each row beside its inputs.

  The models of `reprogram` take it there:
  `dataclasses.replace(stream, prepare=inputs_with_task(stream.prepare))`, and
  the same for `stream.evaluation`.

  Args:
    prepare: `prepare(rows, tables, task_id) -> batch`.

  Returns:
    A function like it, whose batches have a dict for `inputs`.

  Example:
    >>> prepare = inputs_with_task(lambda rows, tables, task_id: rows)
    >>> prepare({'inputs': jnp.ones((2, 3))}, (), 5)['inputs']['task'].tolist()
    [5, 5]
  """

  def prepare_with_task(rows: Any, tables: Any, task_id: Any) -> Any:
    batch = dict(prepare(rows, tables, task_id))
    size = jax.tree.leaves(batch['inputs'])[0].shape[0]
    task = batch.get('task', jnp.full(size, task_id, jnp.int32))
    return {**batch, 'inputs': {'inputs': batch['inputs'], 'task': task}}

  return prepare_with_task


def reprogrammed_labels(params: Params) -> Params:
  """Labels `'anchor'` and `'tasks'`, for `optax.partition`.

  Example:
    >>> reprogrammed_labels({'anchor': {'w': 1.0}, 'tasks': {'w': 2.0}})
    {'anchor': {'w': 'anchor'}, 'tasks': {'w': 'tasks'}}
  """
  label = lambda name: jax.tree.map(lambda _: name, params[name])
  return {name: label(name) for name in params}


def reprogrammed_ratio(
  params: Params, *, head: str = 'head', with_head: bool = False
) -> float:
  """Parameters that one more task takes, over those of the anchor.

  Args:
    params: of a model made by `reprogram`.
    head: the name of the output layer.
    with_head: whether to count the task's head, too.

  Example:
    >>> params = {'anchor': {'kernel': jnp.ones((9, 10))},
    ...   'tasks': {'Conv_0': {'kernel': jnp.ones((4, 3, 3, 1))}}}
    >>> reprogrammed_ratio(params)
    0.1
  """
  size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  tasks = params['tasks']
  counted = {
    n: x for n, x in tasks.items() if with_head or not _layers.is_head(n, head)
  }
  num_tasks = jax.tree.leaves(tasks)[0].shape[0]
  return size(counted) / num_tasks / size(params['anchor'])
