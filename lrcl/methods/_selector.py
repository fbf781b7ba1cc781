"""Which expert a row belongs to, learnt from a few rows of each."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods._expert_bank import ExpertsState
from lrcl.methods._memory import with_memory
from lrcl.methods._replay import add_memory_gradient

_WHERE = 'with_selector'


class SelectorState(NamedTuple):
  """State of `with_selector`.

  Attributes:
    selector: the parameters of the selector.
    memory_state: that of its memory and its optimizer.
    inner_state: of what is wrapped.
  """

  selector: base.Params
  memory_state: Any
  inner_state: Any


def with_selector(
  inner: optax.GradientTransformation,
  selector_fn: Callable[[base.Params, Any], jax.Array],
  selector: base.Params,
  example: Mapping[str, Any],
  *,
  capacity: int = 200,
  batch_size: int = 32,
  optimizer: optax.GradientTransformation | None = None,
  seed: int | jax.Array = 0,
) -> optax.GradientTransformationExtraArgs:
  """Trains a selector of experts beside them (TAME).

  A random subset of all inputs so far is kept, each with the number of the
  expert that was trained on it, and every step takes one step of the selector
  on rows of it: a classifier whose classes are the experts. Rows that came
  while experts were tested are left out. After training, `expert_params` has
  what `lrcl.models.route_experts` needs to predict without a task.

  That a selector is trained on a small random subset is what the paper says;
  size, network and optimizer are choices of this library [R].

  Place in the chain: around `with_experts`. Cost: `capacity` rows, and a
  gradient of the selector over `batch_size` rows a step.

  Args:
    inner: `with_experts(...)`, or what contains it.
    selector_fn: `selector_fn(selector, inputs) -> scores [batch, max_experts]`.
    selector: its first parameters.
    example: a batch of arrays or `jax.ShapeDtypeStruct`s with `inputs` and
      `weight`. Only shapes and dtypes are read.
    capacity: rows of the subset; a hundredth to a twentieth of the stream.
    batch_size: rows of a step.
    optimizer: of the selector, the rate included; `optax.adam(3e-3)` by
      default.
    seed: of the subset; may be traced.

  Returns:
    A transformation with the state `SelectorState`. It needs the extra arg
    `batch`, and what `inner` needs.

  Raises:
    ValueError: if `example` has no `inputs` or `weight`, a number is
      impossible, or, from `init`, if there are no experts in `inner`.

  Example:
    >>> from lrcl import methods
    >>> batch = {'inputs': jnp.ones((4, 2)), 'weight': jnp.ones(4)}
    >>> tx = with_selector(methods.with_experts(optax.sgd(0.1), 3),
    ...   lambda selector, inputs: inputs @ selector, jnp.zeros((2, 3)), batch)
    >>> state = tx.init(jnp.zeros(2))
    >>> found = expert_params(state, jnp.ones(2))
    >>> found['experts'].shape, found['selector'].shape, int(found['count'])
    ((3, 2), (2, 3), 1)

  References:
    Zhu et al., `TAME: task agnostic continual learning using multiple experts
    <https://arxiv.org/abs/2210.03869>`_, 2022
  """
  for name in ('inputs', 'weight'):
    if name not in example:
      raise ValueError(
        f'{_WHERE}: example has no field {name!r}; it has '
        f'{", ".join(sorted(example))}.'
      )
  spec = example['weight']
  expert = jax.ShapeDtypeStruct(spec.shape, jnp.int32)
  specs = {'inputs': example['inputs'], 'weight': spec, 'expert': expert}
  optimizer = optimizer or optax.adam(3e-3)
  remember = with_memory(
    optax.chain(add_memory_gradient(), optimizer),
    capacity,
    specs,
    batch_size,
    seed=seed,
  )
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> SelectorState:
    inner_state = inner.init(params)
    _experts(inner_state)
    own = tree.copy(jax.tree.map(jnp.asarray, selector))
    return SelectorState(own, remember.init(own), inner_state)

  def selector_update(
    updates, state, params=None, *, batch, **extra_args
  ) -> tuple[Any, SelectorState]:
    updates, inner_state = inner.update(
      updates, state.inner_state, params, batch=batch, **extra_args
    )
    experts = _experts(inner_state)
    grad_fn = jax.grad(_loss_of(selector_fn, experts.count))
    step, memory_state = remember.update(
      jax.tree.map(jnp.zeros_like, state.selector),
      state.memory_state,
      state.selector,
      batch=_rows(experts, batch),
      grad_fn=grad_fn,
    )
    own = optax.apply_updates(state.selector, step)
    return updates, SelectorState(own, memory_state, inner_state)

  update_fn: Any = selector_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def expert_params(opt_state: Any, params: base.Params) -> dict[str, Any]:
  """The parameters of all experts, and of the selector if there is one.

  It is what `Learner.eval_params` gives where `lrcl.models.route_experts` makes
  the `apply_fn`:

      eval_params = lambda state, task_id: methods.expert_params(
        state.opt_state, state.params)

  Args:
    opt_state: has the state of `with_experts` or `with_task_experts`.
    params: those that are trained, of the active expert.

  Returns:
    `experts`, each leaf `[max_experts, ...]`, the active one's row up to date;
    `count`, how many of them there are; `active`; `selector`, or None.

  Raises:
    ValueError: if there are no experts in `opt_state`.

  Example:
    >>> from lrcl import methods
    >>> tx = methods.with_task_experts(optax.sgd(1.0), 2)
    >>> params = jnp.zeros(())
    >>> found = expert_params(tx.init(params), params)
    >>> found['experts'].shape, int(found['count']), found['selector']
    ((2,), 1, None)
  """
  state = _experts(opt_state)
  put = lambda bank, x: bank.at[state.active].set(x)
  selectors = tree.get_states(opt_state, SelectorState)
  return {
    'experts': jax.tree.map(put, state.experts, params),
    'count': state.count,
    'active': state.active,
    'selector': selectors[0].selector if selectors else None,
  }


def _experts(state: Any) -> ExpertsState:
  found = tree.get_states(state, ExpertsState)
  if not found:
    raise ValueError(
      f'{_WHERE}: there are no experts in the state; put with_experts inside.'
    )
  return found[0]


def _rows(experts: ExpertsState, batch: base.Batch) -> dict[str, Any]:
  """The batch as the memory takes it; of weight 0 while experts are tested."""
  weight = batch['weight']
  return {
    'inputs': batch['inputs'],
    'weight': jnp.where(experts.probe == 0, weight, jnp.zeros_like(weight)),
    'expert': jnp.full(weight.shape, experts.active),
  }


def _loss_of(selector_fn: Any, count: jax.Array) -> Any:
  """Cross-entropy among the experts that there are."""

  def loss(selector: base.Params, rows: base.Batch) -> jax.Array:
    scores = selector_fn(selector, rows['inputs']).astype(jnp.float32)
    exists = jnp.arange(scores.shape[-1]) < count
    log_p = jax.nn.log_softmax(jnp.where(exists, scores, -1e9))
    right = jnp.take_along_axis(log_p, rows['expert'][:, None], axis=1)
    return base.weighted_mean(-right[:, 0], rows['weight'])

  return loss
