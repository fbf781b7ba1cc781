"""What a run is made of: its state, and the learner that moves it."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.losses import argmax, cross_entropy


class TrainState(NamedTuple):
  """Everything that the next step depends on, and a checkpoint holds.

  Attributes:
    step: int32 scalar, the number of batches taken.
    params: the parameters.
    opt_state: the state of the transformation: moments, memory, importance,
      counts and keys included.
    rng: typed PRNG key; step `n` draws from `fold_in(rng, n)`.
    model_state: what the model keeps besides parameters (running averages).
    stream_state: the state of a sampler that learns; empty for a plan.
  """

  step: jax.Array
  params: base.Params
  opt_state: Any
  rng: jax.Array
  model_state: Any = ()
  stream_state: Any = ()


TaskEnd = Callable[[TrainState, base.Batch, jax.Array], TrainState]


def identity(state: TrainState, task_data: Any, key: Any) -> TrainState:
  """Does nothing at the end of a task."""
  del task_data, key
  return state


def current_params(state: TrainState, task_id: Any) -> base.Params:
  """The parameters that are trained, whatever the task."""
  del task_id
  return state.params


EffectiveRate = Callable[[base.Params, jax.Array], Any]
"""`effective_rate(params, learning_rate) -> scalars`, a tree of them."""


@dataclasses.dataclass(frozen=True)
class Learner:
  """What a method needs together; every default is the naive learner's.

  Attributes:
    tx: the one chain of optax transformations, or a function
      `hyperparams -> chain` of a pytree of arrays, so that one compiled
      program serves a whole sweep, or every branch.
    apply_fn: the model, see `lrcl.base.ApplyFn`.
    loss_fn: `loss_fn(logits, batch) -> losses[batch]`.
    on_task_end: `on_task_end(state, task_data, key) -> state`, traced under
      jit and run when the stream enters the next task: `task_data` is a batch
      dict of the finished task with one more leading axis, `[n, rows, ...]`.
      A checkpoint at a task's end holds the state before it, so that a branch
      from there goes on as if the task had not ended.
    predict: `predict(logits, batch) -> labels[batch]`.
    eval_params: `eval_params(state, task_id) -> params`, traced: what is
      evaluated on a task. Methods that keep an average, or a part of the
      network for each task, have a function to read it from `state.opt_state`.
    effective_rate: for a model with normalised layers, whose records are then
      to hold `effective_learning_rate`: `effective_rate(params, rate)` gives a
      scalar per leaf, such as `functools.partial(
      lrcl.metrics.effective_learning_rate, kind='adam', mask=nap_mask)`.

  Example:
    >>> apply_fn = lambda p, x, **_: (x @ p, ())
    >>> learner = Learner(optax.sgd(0.1), apply_fn)
    >>> learner.loss_fn.__name__, learner.predict.__name__
    ('cross_entropy', 'argmax')
  """

  tx: optax.GradientTransformation | Callable[[Any], Any]
  apply_fn: Any
  loss_fn: base.LossFn = cross_entropy
  on_task_end: TaskEnd = identity
  predict: Callable[[jax.Array, base.Batch], jax.Array] = argmax
  eval_params: Callable[[TrainState, jax.Array], base.Params] = current_params
  effective_rate: EffectiveRate | None = None


def create_state(
  init_fn: Callable[[jax.Array], tuple[base.Params, Any]],
  tx: optax.GradientTransformation,
  key: jax.Array,
) -> TrainState:
  """Creates the state of a new run, as one compiled program.

  It may be called under `jit`, or mapped over keys.

  Args:
    init_fn: `init_fn(key) -> (params, model_state)`.
    tx: the chain of transformations.
    key: typed PRNG key. Parameters, dropout and every key inside the
      transformation's state (a memory's, say) are derived from it, so that
      runs with different keys share no draw.

  Example:
    >>> init_fn = lambda key: ({'w': jax.random.normal(key, (2,))}, ())
    >>> state = create_state(init_fn, optax.sgd(0.1), jax.random.key(0))
    >>> int(state.step), state.params['w'].shape
    (0, (2,))
  """
  return _creator(init_fn, tx, at_once=base.is_concrete(key))(key)


def create_states(
  init_fn: Callable[[jax.Array], tuple[base.Params, Any]],
  tx: optax.GradientTransformation,
  seeds: Sequence[int],
) -> TrainState:
  """Creates one state per seed, stacked along a new leading axis.

  Each slice is bit-identical to `create_state(init_fn, tx, key(seed))`.

  Args:
    init_fn: `init_fn(key) -> (params, model_state)`.
    tx: the chain of transformations.
    seeds: one int per replica.

  Example:
    >>> init_fn = lambda key: ({'w': jax.random.normal(key, (2,))}, ())
    >>> states = create_states(init_fn, optax.sgd(0.1), (0, 1, 2))
    >>> states.step.tolist(), states.params['w'].shape
    ([0, 0, 0], (3, 2))
  """
  create = _creator(init_fn, tx, at_once=True)
  states = [create(jax.random.key(seed)) for seed in seeds]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _creator(
  init_fn: Any, tx: Any, *, at_once: bool
) -> Callable[[jax.Array], TrainState]:
  """Compiles the creation of a state; `at_once`: outside other programs."""

  def create(key):
    init_key, rng, tx_key = jax.random.split(key, 3)
    params, model_state = init_fn(init_key)
    opt_state = _fold_keys(tx.init(params), tx_key)
    return TrainState(jnp.int32(0), params, opt_state, rng, model_state)

  # Op by op, each initialiser would be compiled on its own. As one program it
  # runs once, so on a CPU the compiler's full effort would not pay. Inside
  # another program the options are that program's.
  quick = at_once and jax.default_backend() == 'cpu'
  options = {'xla_backend_optimization_level': 1} if quick else None
  return jax.jit(create, compiler_options=options)


def _fold_keys(opt_state: Any, key: jax.Array) -> Any:
  """Replaces each PRNG key in `opt_state` by one that depends on `key`."""
  salt = jax.random.bits(key)
  fold = lambda leaf: (
    jax.random.fold_in(leaf, salt) if tree.is_key(leaf) else leaf
  )
  return jax.tree.map(fold, opt_state)
