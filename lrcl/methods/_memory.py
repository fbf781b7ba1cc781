"""A memory of past examples, kept in the optimizer's state."""

from collections.abc import Callable, Mapping
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import optax

from lrcl import base
from lrcl.methods import _policy, _random, _rows, _slots
from lrcl.methods._class_balanced import class_balanced_policy
from lrcl.methods._gradient_diversity import gss_policy
from lrcl.methods._importance import importance_policy
from lrcl.methods._policy import MemoryOffer, MemoryPolicy, MemoryState
from lrcl.methods._reservoir import reservoir_policy
from lrcl.methods._ring import ring_policy


class WithMemoryState(NamedTuple):
  """State of `with_memory`: the memory and the state of what it wraps."""

  memory: MemoryState
  inner_state: Any


def with_memory(
  inner: optax.GradientTransformation,
  capacity: int,
  example: Mapping[str, Any],
  batch_size: int,
  *,
  policy: str | MemoryPolicy = 'reservoir',
  store: tuple[str, ...] = (),
  seed: int | jax.Array = 0,
  sharding: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Keeps a memory of past examples and shows rows of it to `inner`.

  An item is one row of `batch`, plus one row of each extra arg named in
  `store`. Every step draws `batch_size` rows, uniformly and with replacement,
  from what was stored *before* this step, passes them to `inner` and to it
  alone as `memory`, with `memory_ready` (a bool scalar, False while nothing is
  stored), and then inserts the batch. `memory` is a batch like any other, with
  the `weight` and `task` of its rows, plus the stored extra args under their
  names. While it is empty its rows are zeros, of weight 0.

  Which rows stay is the policy's business. Under each of them every row is
  stored while there is room, and rows of weight 0 are padding, neither stored
  nor counted. Counting stops near 2**31 examples.

  * `'reservoir'` is algorithm R: at any time every example offered so far is in
    the memory with the same probability.
  * `'ring'` keeps the newest rows.
  * `'class_balanced'` gives each class its share: `class_balanced_policy`.
  * `'gss'` keeps rows whose gradients differ: `gss_policy`.
  * `'importance'` drops the rows that help least: `importance_policy`.

  Place in the chain: around all of it, outside `accumulate`. Cost: the bytes of
  the items, and per step some small operations on rows, not on the whole
  memory, when the state is donated or carried by a loop.

  The key comes from `seed`, which may be traced. To give an existing state, or
  each of a stack of states, a key of its own, replace it:
  `map_states(lambda s: s._replace(key=key), opt_state, MemoryState)`.

  Args:
    inner: what uses the memory, for example
      `chain(add_memory_gradient(), ...)`.
    capacity: how many items the memory holds.
    example: a batch with the fields of `store` added, arrays or
      `jax.ShapeDtypeStruct`s `[batch, ...]`. Only shapes and dtypes are read.
    batch_size: how many rows are drawn at each step.
    policy: which items stay: a name from the list above, or a `MemoryPolicy`.
    store: extra args to keep with each row, such as `('logits',)`; they need
      the same leading axis as the batch.
    seed: seed of the memory's own random numbers.
    sharding: how to lay the capacity axis out on a mesh, such as
      `NamedSharding(mesh, PartitionSpec('data'))`. A memory that is replicated
      without being told so may cost a reduction of all of it at each step.

  Returns:
    A transformation that needs the extra arg `batch`, those in `store`, those
    of the policy, and those that `inner` needs besides `memory` and
    `memory_ready`.

  Raises:
    ValueError: if a size is below 1, the policy is unknown or needs a field
      that `example` does not have, a field of `store` is missing from
      `example`, or, when a step is traced, the batch does not look like it.

  Example:
    >>> batch = {'inputs': jnp.ones((2, 3)), 'weight': jnp.ones(2)}
    >>> tx = with_memory(optax.identity(), 10, batch, 4)
    >>> state = tx.init(None)
    >>> _, state = tx.update(None, state, batch=batch)
    >>> int(state.memory.seen), state.memory.items['inputs'].shape
    (2, (10, 3))

  References:
    Vitter, Random sampling with a reservoir, 1985,
    https://doi.org/10.1145/3147.3165
    Buzzega et al., Dark experience for general continual learning, 2020,
    https://arxiv.org/abs/2004.07211 (stored logits)
  """
  _check_size('capacity', capacity)
  _check_size('batch_size', batch_size)
  rule = _find_policy(policy)
  specs = _rows.specs(example, store)
  jax.eval_shape(lambda: rule.init(specs, capacity, batch_size))  # raises now
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: Any) -> WithMemoryState:
    empty = lambda spec: jnp.zeros((capacity, *spec.shape), spec.dtype)
    items = _slots.place(jax.tree.map(empty, specs), sharding)
    seen = jnp.zeros([], jnp.int32)
    aux = rule.init(specs, capacity, batch_size)
    memory = MemoryState(items, seen, jax.random.key(seed), aux)
    return WithMemoryState(memory, inner.init(params))

  def with_memory_update(
    updates: Any,
    state: WithMemoryState,
    params: Any = None,
    *,
    batch: base.Batch,
    **extra_args: Any,
  ) -> tuple[Any, WithMemoryState]:
    rows = _rows.collect(specs, batch, extra_args, store)
    valid = _rows.valid(batch)
    memory = state.memory
    count = batch_size + rule.words(capacity, valid.size)
    key, bits = _random.random_bits(memory.key, count)
    drawn = _policy.draw_slots(bits[:batch_size], memory.seen, capacity)
    shown = jax.lax.optimization_barrier(_policy.take(memory.items, drawn))
    extra_args['batch'] = batch
    offer = MemoryOffer(
      rows, valid, drawn, bits[batch_size:], params, extra_args
    )
    slots, seen, aux = rule.choose(memory, offer)
    ready = memory.seen > 0
    inner_args = extra_args | dict(memory=shown, memory_ready=ready)
    updates, inner_state = inner.update(
      updates, state.inner_state, params, **inner_args
    )
    slots = _slots.after(shown, slots)
    items = _slots.put(memory.items, slots, rows, sharding)
    return updates, WithMemoryState(
      MemoryState(items, seen, key, aux), inner_state
    )

  update_fn: Any = with_memory_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


_POLICIES: dict[str, Callable[[], MemoryPolicy]] = {
  'reservoir': reservoir_policy,
  'ring': ring_policy,
  'class_balanced': class_balanced_policy,
  'gss': gss_policy,
  'importance': importance_policy,
}


def _find_policy(policy: str | MemoryPolicy) -> MemoryPolicy:
  if isinstance(policy, MemoryPolicy):
    return policy
  if policy not in _POLICIES:
    raise ValueError(
      f'with_memory: policy is {policy!r}; it must be a MemoryPolicy or one of '
      f'{", ".join(map(repr, _POLICIES))}.'
    )
  return _POLICIES[policy]()


def _check_size(name: str, value: Any) -> None:
  if not isinstance(value, numbers.Integral) or int(value) < 1:
    raise ValueError(
      f'with_memory: {name} is {value!r}; it must be a whole number >= 1.'
    )
