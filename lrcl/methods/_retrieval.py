"""Which of the drawn rows a link sees."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _quadratic, _rate

_WHERE = 'retrieve_interfered'


class MapMemoryState(NamedTuple):
  """State of `map_memory` with a seed: the key, and the state inside."""

  key: jax.Array
  inner_state: Any


def map_memory(
  inner: optax.GradientTransformation,
  fn: Callable[..., Mapping[str, Any]],
  *,
  seed: int | jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Shows `fn(memory)` to `inner` in place of the rows that were drawn.

  Rows are drawn independently, so parts of one draw are independent draws. With
  a memory's batch of 64 rows, DER++ as published is

      first = lambda memory: jax.tree.map(lambda x: x[:32], memory)
      second = lambda memory: jax.tree.map(lambda x: x[32:], memory)
      chain(map_memory(add_distillation_on_memory(apply_fn, alpha), first),
            map_memory(add_memory_gradient(beta), second))

  ER-ACE lets the batch compete among its own classes and the memory among all:
  with `lrcl.losses.local_cross_entropy` as the loss,

      everything = jnp.ones((32, classes), bool)
      map_memory(add_memory_gradient(), lambda memory: {
        **memory, 'class_mask': everything})

  What depends on the model, or on chance, takes more: with a `seed`, the call
  is `fn(memory, params, key)`, with a new key at each step. OnPro's feedback is

      def feedback(memory, params, key):
        prototypes = losses.class_prototypes(
          project(params, memory['inputs']), memory['labels'], classes)
        return losses.prototypical_feedback(memory, prototypes, key)

      map_memory(add_memory_gradient(), feedback, seed=0)

  Place in the chain: inside `with_memory`, around what uses the memory. Cost:
  none of its own.

  Args:
    inner: a transformation.
    fn: a pure function from one batch to another.
    seed: of the keys that `fn` is given; None if it takes the rows alone. May
      be traced.

  Returns:
    A transformation with the state of `inner`, or `MapMemoryState` where there
    is a seed. It needs the extra arg `memory`, with a seed `params`, and what
    `inner` needs.

  Raises:
    ValueError: if `params` are missing where there is a seed.

  Example:
    >>> from lrcl import methods
    >>> grad_fn = lambda params, batch: params - batch['inputs'].mean()
    >>> half = lambda memory: jax.tree.map(lambda x: x[:1], memory)
    >>> tx = map_memory(methods.add_memory_gradient(), half)
    >>> updates, _ = tx.update(jnp.zeros(1), tx.init(None), jnp.zeros(1),
    ...   grad_fn=grad_fn, memory={'inputs': jnp.array([1.0, 5.0])},
    ...   memory_ready=True)
    >>> print(updates)
    [-1.]

  References:
    Buzzega et al., `Dark experience for general continual learning: a strong,
    simple baseline <https://arxiv.org/abs/2004.07211>`_, 2020 (DER++)

    Caccia et al., `New insights on reducing abrupt representation change in
    online continual learning <https://arxiv.org/abs/2104.05025>`_, 2022
    (ER-ACE)
  """
  inner = optax.with_extra_args_support(inner)
  if seed is not None:
    return _map_with_key(inner, fn, seed)

  def map_memory_update(
    updates: Any,
    state: Any,
    params: Any = None,
    *,
    memory: base.Batch,
    **extra_args: Any,
  ) -> tuple[Any, Any]:
    extra_args['memory'] = fn(dict(memory))
    return inner.update(updates, state, params, **extra_args)

  update_fn: Any = map_memory_update
  return optax.GradientTransformationExtraArgs(inner.init, update_fn)


def _map_with_key(
  inner: optax.GradientTransformationExtraArgs, fn: Any, seed: Any
) -> optax.GradientTransformationExtraArgs:
  """`map_memory` for a function of rows, parameters and a key."""

  def init_fn(params: base.Params) -> MapMemoryState:
    return MapMemoryState(jax.random.key(seed), inner.init(params))

  def map_memory_update(
    updates, state, params=None, *, memory, **extra_args
  ) -> tuple[Any, MapMemoryState]:
    _quadratic.check_params(params, 'map_memory')
    key, own = jax.random.split(state.key)
    extra_args['memory'] = fn(dict(memory), params, own)
    updates, inner_state = inner.update(
      updates, state.inner_state, params, **extra_args
    )
    return updates, MapMemoryState(key, inner_state)

  update_fn: Any = map_memory_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def retrieve_interfered(
  inner: optax.GradientTransformation,
  size: int,
  *,
  learning_rate: Any = None,
) -> optax.GradientTransformationExtraArgs:
  """Shows `inner` the rows whose loss the batch would raise most (MIR).

  The rows that `with_memory` draws are candidates. A virtual step of plain SGD
  along the updates that come in, `params - learning_rate * updates`, is taken
  and forgotten; the `size` candidates whose loss rises most by it become the
  memory that `inner` sees:

      with_memory(
        retrieve_interfered(chain(add_memory_gradient(), adam, rate), size=10),
        capacity, example, batch_size=50)

  Candidates are drawn with replacement, so copies of a row may be chosen, which
  matters as long as fewer rows than candidates are stored. Published code draws
  without. Rows of weight 0 are chosen last.

  Place in the chain: first inside `with_memory`, where the updates are the
  gradient of the batch; the published code computes this gradient once more.
  Cost: two passes forward over the candidates, besides what `inner` does. Not
  inside `optax.masked`, which hides parameters from `value_fn`.

  Args:
    inner: what uses the memory.
    size: how many rows it sees; the authors take 10 of 50.
    learning_rate: of the virtual step, greater than 0; may be traced. None for
      the rate that `inner` applied last, before its first update the one that
      it starts with.

  Returns:
    A transformation with the state of `inner`. It needs `params`, the extra
    args `value_fn` and `memory`, and what `inner` needs.

  Raises:
    ValueError: if a number is impossible, there is no rate in `inner` to read
      or, when a step is traced, `params` are missing or there are fewer
      candidates than `size`.

  Example:
    >>> from lrcl import methods
    >>> value_fn = lambda params, batch: batch['inputs'] * params
    >>> grad_fn = lambda params, batch: batch['inputs'].mean()[None]
    >>> tx = retrieve_interfered(
    ...   methods.add_memory_gradient(), 1, learning_rate=0.1)
    >>> updates, _ = tx.update(jnp.array([-1.0]), tx.init(None), jnp.zeros(1),
    ...   value_fn=value_fn, grad_fn=grad_fn, memory_ready=True,
    ...   memory={'inputs': jnp.array([1.0, 5.0, 3.0])})
    >>> print(updates)
    [4.]

  References:
    Aljundi et al., `Online continual learning with maximally interfered
    retrieval <https://arxiv.org/abs/1908.04742>`_, 2019

    Code: https://github.com/RaptorMai/online-continual-learning
  """
  size = base.check_steps(_WHERE, 'size', size, minimum=1)
  if learning_rate is not None:
    base.check_value(_WHERE, 'learning_rate', learning_rate, above=0)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> Any:
    state = inner.init(params)
    if learning_rate is None and not any(True for _ in _rate._links(state)):
      raise ValueError(
        f'{_WHERE}: learning_rate is None and inner keeps none; pass one, or '
        'let inner end with scale_by_schedule_value(schedule).'
      )
    return state

  def retrieve_update(
    updates: Any,
    state: Any,
    params: Any = None,
    *,
    value_fn: Any,
    memory: base.Batch,
    **extra_args: Any,
  ) -> tuple[Any, Any]:
    _quadratic.check_params(params, _WHERE)
    rate = learning_rate
    if rate is None:
      rate, _ = _rate.applied_rate(state)
    step = _rate.apply_rate(updates, jnp.asarray(rate, jnp.float32))
    moved: Any = optax.apply_updates(params, step)
    scores = _scores(value_fn, params, moved, memory)
    chosen = jax.lax.top_k(scores, size)[1]
    take = lambda x: x.at[chosen].get(mode='promise_in_bounds')
    extra_args |= dict(value_fn=value_fn, memory=jax.tree.map(take, memory))
    return inner.update(updates, state, params, **extra_args)

  def _scores(value_fn, params, moved, memory):
    before, after = value_fn(params, memory), value_fn(moved, memory)
    if before.size < size:
      raise ValueError(
        f'{_WHERE}: size is {size}, but the memory shows {before.size} rows; '
        'let with_memory draw more.'
      )
    rise = _quadratic.wide(after) - _quadratic.wide(before)
    weight = memory.get('weight', jnp.ones_like(rise))
    return jnp.where(weight > 0, rise, -jnp.inf)

  update_fn: Any = retrieve_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)
