"""One training step: the gradient, and the extra args every method may use."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import optax

from lrcl import base
from lrcl.methods import applied_rate
from lrcl.training._state import TrainState


class StepInfo(NamedTuple):
  """What a step reports: scalars.

  Attributes:
    loss: float32, the loss of the batch before the step.
    learning_rate: float32, the rate that the step applied; NaN where the chain
      has no `scale_by_schedule_value`.
    count: int32, that link's count, the schedule's clock; -1 where absent.
  """

  loss: jax.Array
  learning_rate: jax.Array
  count: jax.Array


TrainStep = Callable[
  [TrainState, base.Batch, jax.Array], tuple[TrainState, StepInfo]
]


def make_train_step(
  apply_fn: Any,
  loss_fn: base.LossFn,
  tx: optax.GradientTransformation,
  *,
  mesh: Mesh | None = None,
  axis_name: str | None = None,
) -> TrainStep:
  """Makes `step(state, batch, task_id) -> (state, info)`.

  The step computes the gradient of the weighted mean of `loss_fn` and hands
  the whole vocabulary of `lrcl.base.EXTRA_ARGS` to `tx`.

  Args:
    apply_fn: the model, see `lrcl.base.ApplyFn`.
    loss_fn: `loss_fn(logits, batch) -> losses[batch]`.
    tx: the chain of transformations.
    mesh: under `jit`, shards the batch over the mesh's first axis.
    axis_name: under `pmap`, the mapped axis. The step then takes its device's
      slice of the batch; what it passes to `tx` is of the global batch, so
      that no transformation knows of devices.

  Returns:
    A pure function, to be jitted (or mapped) by the caller.

  Example:
    >>> apply_fn = lambda p, x, **_: (x @ p, ())
    >>> loss_fn = lambda logits, batch: (logits - batch['labels']) ** 2
    >>> tx = optax.sgd(0.5)
    >>> step = make_train_step(apply_fn, loss_fn, tx)
    >>> params = jnp.zeros(2)
    >>> state = TrainState(
    ...   jnp.int32(0), params, tx.init(params), jax.random.key(0)
    ... )
    >>> batch = dict(
    ...   inputs=jnp.eye(2), labels=jnp.ones(2), weight=jnp.ones(2)
    ... )
    >>> state, info = step(state, batch, jnp.int32(0))
    >>> state.params.tolist(), float(info.loss)
    ([0.5, 0.5], 1.0)
  """
  tx = optax.with_extra_args_support(tx)
  split = _Split(mesh, axis_name)

  def step(state, batch, task_id):
    rng = jax.random.fold_in(state.rng, state.step)

    def losses_of(params, batch):
      logits, model_state = apply_fn(
        params,
        batch['inputs'],
        rng=rng,
        model_state=state.model_state,
        train=True,
      )
      return loss_fn(logits, batch), (logits, model_state)

    value_and_grad = split.value_and_grad(losses_of)
    batch = split.gather(batch)
    (value, aux), grads = value_and_grad(state.params, batch)
    logits, model_state = aux
    extra = dict(
      value=value,
      grad_fn=lambda params, batch: value_and_grad(params, batch)[1],
      value_fn=split.value_fn(losses_of),
      batch=batch,
      task_id=task_id,
      logits=split.gather(logits),
    )
    state = state._replace(model_state=split.mean(model_state))
    return _apply(tx, state, grads, extra)

  return step


def make_train_step_from_loss(
  loss_fn: Callable[[base.Params, base.Batch], jax.Array],
  tx: optax.GradientTransformation,
  *,
  mesh: Mesh | None = None,
) -> TrainStep:
  """Makes a step from a scalar loss of one's own, `loss_fn(params, batch)`.

  `value`, `grad_fn`, `batch` and `task_id` are passed to `tx`; `logits` and
  `value_fn` do not exist here, so a transformation that names one of them
  raises its `TypeError`. Weights and masks are the loss's business.

  Args:
    loss_fn: the scalar loss.
    tx: the chain of transformations.
    mesh: shards the batch over the mesh's first axis.

  Example:
    >>> tx = optax.sgd(0.5)
    >>> step = make_train_step_from_loss(lambda p, batch: p**2, tx)
    >>> p = jnp.float32(1.0)
    >>> state = TrainState(jnp.int32(0), p, tx.init(p), jax.random.key(0))
    >>> state, info = step(state, {}, jnp.int32(0))
    >>> float(state.params), float(info.loss)
    (0.0, 1.0)
  """
  tx = optax.with_extra_args_support(tx)
  split = _Split(mesh, None)
  grad_fn = jax.grad(loss_fn)

  def step(state, batch, task_id):
    batch = split.constrain(batch)
    value, grads = jax.value_and_grad(loss_fn)(state.params, batch)
    extra = dict(value=value, grad_fn=grad_fn, batch=batch, task_id=task_id)
    return _apply(tx, state, grads, extra)

  return step


def _apply(tx, state, grads, extra):
  """Updates the parameters and reads the rate that was applied."""
  updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
  params = optax.apply_updates(state.params, updates)
  rate, count = applied_rate(opt_state)
  state = state._replace(
    step=state.step + 1, params=params, opt_state=opt_state
  )
  return state, StepInfo(extra['value'], rate, count)


class _Split:
  """How a global batch is spread over devices: a mesh, a mapped axis, or not.

  Under a mapped axis gradients are taken of the device's own sum and summed
  afterwards; a sum inside the gradient would be transposed once too often.
  """

  def __init__(self, mesh: Mesh | None, axis_name: str | None):
    if mesh is not None and axis_name is not None:
      raise ValueError(
        'make_train_step: mesh and axis_name exclude one another; pass mesh '
        'under jit and axis_name under pmap.'
      )
    self.mesh, self.axis_name = mesh, axis_name

  def constrain(self, batch):
    if self.mesh is None:
      return batch
    spec = PartitionSpec(self.mesh.axis_names[0])
    sharding = NamedSharding(self.mesh, spec)
    return jax.lax.with_sharding_constraint(batch, sharding)

  def gather(self, local):
    """The global batch, from what each device holds of it."""
    if self.axis_name is None:
      return self.constrain(local)
    gather = lambda x: jax.lax.all_gather(x, self.axis_name, tiled=True)
    return jax.tree.map(gather, local)

  def mean(self, model_state):
    if self.axis_name is None:
      return model_state
    return jax.lax.pmean(model_state, self.axis_name)

  def _local(self, batch):
    """This device's rows; all of them where they do not divide."""
    if self.axis_name is None:
      return self.constrain(batch), False
    devices = jax.lax.axis_size(self.axis_name)
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % devices:
      return batch, False
    start = jax.lax.axis_index(self.axis_name) * (size // devices)
    take = lambda x: jax.lax.dynamic_slice_in_dim(x, start, size // devices)
    return jax.tree.map(take, batch), True

  def value_and_grad(self, losses_of):
    """Value, (logits, model_state) and gradient, for a global batch."""

    def objective(params, batch, total):
      losses, aux = losses_of(params, batch)
      weighted = jnp.sum(losses * batch['weight'])
      return jnp.where(total > 0, weighted / jnp.maximum(total, 1e-12), 0), aux

    def value_and_grad(params, batch):
      total = jnp.sum(batch['weight'])
      rows, is_split = self._local(batch)
      differentiate = jax.value_and_grad(objective, has_aux=True)
      (value, aux), grads = differentiate(params, rows, total)
      if is_split:
        value, grads = jax.lax.psum((value, grads), self.axis_name)
      return (value, aux), grads

    return value_and_grad

  def value_fn(self, losses_of):
    """Per-example losses for a global batch."""

    def value_fn(params, batch):
      rows, is_split = self._local(batch)
      losses, _ = losses_of(params, rows)
      return self.gather(losses) if is_split else losses

    return value_fn
