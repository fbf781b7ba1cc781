"""Whether parameters can still be trained, against parameters that are new."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.losses import cross_entropy
from lrcl.training._state import TrainState
from lrcl.training._step import make_train_step

_WHERE = 'trainability'


class Trainability(NamedTuple):
  """Losses on a fresh task, float32 scalars.

  Attributes:
    gap: `current - fresh`: how much worse the current parameters learn; about
      0 where nothing is lost, below 0 where training has helped.
    current: the loss from the current parameters.
    fresh: the loss from new ones.
  """

  gap: jax.Array
  current: jax.Array
  fresh: jax.Array


def trainability(
  init_fn: Callable[[jax.Array], tuple[base.Params, Any]],
  apply_fn: Any,
  tx: optax.GradientTransformation,
  params: base.Params,
  inputs: jax.Array,
  key: jax.Array,
  *,
  steps: int,
  batch_size: int,
  num_classes: int,
  model_state: Any = None,
  loss_fn: base.LossFn = cross_entropy,
  measure: Literal['final', 'area'] = 'final',
) -> Trainability:
  """Trains on random labels, from current parameters and from new ones.

  Every row of `inputs` gets a label at random: a task that nothing learnt
  before can help with. Current and new parameters are trained on it by the
  same chain, from its beginning, on the same batches; the difference of their
  losses is what the run has lost of its ability to learn. Unlike dormant units
  or ranks this is the thing itself, not a sign of it.

  A pure function of its arguments, which may be jitted and mapped over keys or
  over a stack of parameters. One key is one draw of labels, batches and new
  parameters, and one network differs from another by luck: take several keys,
  and the interval over runs. The state of the learner is neither read nor
  changed: a preconditioner that has gone stale is not what is measured. Cost:
  `2 * steps` gradients, and for `'final'` two forward passes over `inputs`.

  Args:
    init_fn: `init_fn(key) -> (params, model_state)`, as for `create_state`.
    apply_fn: the model, see `lrcl.base.ApplyFn`.
    tx: the chain that trains both, the rate included. It may use `value`,
      `grad_fn` and what else a step of the loop passes; `task_id` is 0.
    params: the current parameters.
    inputs: `[rows, ...]`, at least `batch_size` of them.
    key: typed PRNG key.
    steps: of training, at least 1.
    batch_size: rows of a batch, drawn without replacement.
    num_classes: labels are drawn from `0 .. num_classes - 1`.
    model_state: the current state of the model; None: that of a new one.
    loss_fn: `loss_fn(logits, batch) -> losses[batch]`.
    measure: `'final'`: the mean loss over all rows after training, in training
      mode; `'area'`: the mean over the steps of the loss of each batch before
      its step.

  Returns:
    A `Trainability`.

  Raises:
    ValueError: if a number is impossible, there are fewer rows than a batch
      has, or `measure` is unknown.

  Example:
    >>> init_fn = lambda key: (jax.random.normal(key, (4, 2)), ())
    >>> apply_fn = lambda p, x, **_: (jax.nn.relu(x @ p), ())
    >>> dead = jnp.full((4, 2), -1.0)  # no row of positive inputs passes
    >>> inputs = jax.random.uniform(jax.random.key(0), (16, 4))
    >>> found = trainability(init_fn, apply_fn, optax.sgd(0.5), dead, inputs,
    ...   jax.random.key(1), steps=20, batch_size=8, num_classes=2)
    >>> print(f'{found.current:.3f}', bool(found.gap > 0))
    0.693 True

  References:
    Lyle et al., `Understanding plasticity in neural networks
    <https://arxiv.org/abs/2303.01486>`_, 2023, train on random targets to see
    what is left of it; that the difference is taken to new parameters under
    the same draws is this library's definition.
  """
  _check(inputs, steps, batch_size, num_classes, measure)
  init_key, key = jax.random.split(key)
  fresh, fresh_state = init_fn(init_key)
  state = fresh_state if model_state is None else model_state
  task = _draw(inputs, key, steps, batch_size, num_classes)
  run = _final if measure == 'final' else _area
  train = lambda params, state: run(apply_fn, loss_fn, tx, params, state, task)
  current, new = train(params, state), train(fresh, fresh_state)
  return Trainability(current - new, current, new)


class _Task(NamedTuple):
  """Rows with labels, the rows of every batch, and the key of the steps."""

  batch: dict[str, jax.Array]
  order: jax.Array  # [steps, batch]
  key: jax.Array


def _draw(
  inputs: jax.Array, key: jax.Array, steps: int, size: int, classes: int
) -> _Task:
  label_key, order_key, rng = jax.random.split(key, 3)
  rows = inputs.shape[0]
  labels = jax.random.randint(label_key, (rows,), 0, classes, jnp.int32)
  draw = lambda k: jax.random.permutation(k, rows)[:size]
  order = jax.lax.map(draw, jax.random.split(order_key, steps))
  ones, zeros = jnp.ones(rows, jnp.float32), jnp.zeros(rows, jnp.int32)
  batch = dict(inputs=inputs, labels=labels, weight=ones, task=zeros)
  return _Task(batch, order, rng)


def _area(*args: Any) -> jax.Array:
  return jnp.mean(_train(*args)[1])


def _final(apply_fn: Any, loss_fn: Any, *args: Any) -> jax.Array:
  end, _ = _train(apply_fn, loss_fn, *args)
  batch, rng = args[-1].batch, args[-1].key
  logits, _ = apply_fn(
    end.params,
    batch['inputs'],
    rng=rng,
    model_state=end.model_state,
    train=True,
  )
  return jnp.mean(loss_fn(logits, batch).astype(jnp.float32))


def _train(
  apply_fn: base.ApplyFn,
  loss_fn: base.LossFn,
  tx: optax.GradientTransformation,
  params: base.Params,
  model_state: Any,
  task: _Task,
) -> tuple[TrainState, jax.Array]:
  """The state after training, and the loss of each batch before its step."""
  step = make_train_step(apply_fn, loss_fn, tx)
  opt_state = tx.init(params)
  state = TrainState(jnp.int32(0), params, opt_state, task.key, model_state)

  def body(state: TrainState, rows: jax.Array) -> tuple[TrainState, jax.Array]:
    batch = {name: column[rows] for name, column in task.batch.items()}
    state, info = step(state, batch, jnp.int32(0))
    return state, info.loss.astype(jnp.float32)

  return jax.lax.scan(body, state, task.order)


def _check(
  inputs: jax.Array, steps: int, size: int, classes: int, measure: str
) -> None:
  base.check_steps(_WHERE, 'steps', steps, 1)
  base.check_steps(_WHERE, 'batch_size', size, 1)
  base.check_steps(_WHERE, 'num_classes', classes, 2)
  if size > inputs.shape[0]:
    raise ValueError(
      f'{_WHERE}: batch_size is {size}; it must be at most the number of '
      f'inputs, {inputs.shape[0]}.'
    )
  if measure not in ('final', 'area'):
    raise ValueError(
      f"{_WHERE}: measure is {measure!r}; it must be 'final' or 'area'."
    )
