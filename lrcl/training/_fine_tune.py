"""Fine-tunes a few parameters on the rows of a memory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.losses import cross_entropy
from lrcl.methods import MemoryState

_WHERE = 'fine_tune_on_memory'


def fine_tune_on_memory(
  apply_fn: base.ApplyFn,
  params: base.Params,
  memory: MemoryState,
  tx: optax.GradientTransformation,
  key: jax.Array,
  *,
  loss_fn: base.LossFn = cross_entropy,
  mask: Any = None,
  steps: int = 300,
  batch_size: int = 32,
  model_state: Any = None,
) -> tuple[base.Params, Any]:
  """Trains what forgets most on the rows of a memory, and nothing else (FPF).

  Forgetting-prioritised fine-tuning follows after any method that keeps a
  memory: most of a network changes little from task to task, and what changes
  much, as a head or normalisations do, is soon repaired on a few rows. Which
  parameters these are, `lrcl.metrics.parameter_sensitivity` measures; `mask`
  says which are trained. Gradients are taken of these alone, so that a head
  costs little more than the pass forward. Measured here with ten rows of each
  class, the head alone takes plain SGD from 0.2 to 0.04 and 0.06 below replay,
  at about half its work, once no worse than nine times; to replay it adds 0.01
  and 0.05.

  Each step draws its rows with replacement and balanced: a class among those
  that are stored, then a row of it. A row is the batch of its time: its
  `class_mask`, if any, restricts it still, and `logits` that were stored with
  it are there for the loss. Fine-tuning that distils as well (k-FPF-KD) is

      loss_fn=unified_loss(2 * weight / classes, half_square,
                           lambda logits, batch: batch['logits'])

  It may be jitted as a whole, and mapped over seeds. Called outside `jit`, it
  is compiled at every call. Cost: `steps * batch_size` examples forwards, and
  backwards down to the lowest parameters that are trained.

  Args:
    apply_fn: the model, called with `train=True`.
    params: its parameters.
    memory: of `with_memory`, such as
      `tree.get_states(state.opt_state, MemoryState)[0]`; its rows have whole
      numbers `labels`.
    tx: any optimizer, with its schedule over `steps`. It starts anew and sees
      the trained parameters only.
    key: typed PRNG key of the draws, and of the model's `rng`.
    loss_fn: `loss_fn(logits, rows) -> losses[batch]`.
    mask: which leaves are trained: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('head')`. The others stay as they are.
    steps: number of steps, at least 1.
    batch_size: rows of a step, at least 1.
    model_state: what `apply_fn` needs besides parameters.

  Returns:
    `(params, model_state)`. A memory whose size is traced may turn out empty:
    then both are what they were.

  Raises:
    ValueError: if the memory is empty, a number is below 1, or the mask selects
      nothing.

  Example:
    >>> from lrcl import methods
    >>> rows = {'inputs': jnp.eye(2), 'labels': jnp.arange(2),
    ...         'weight': jnp.ones(2)}
    >>> keep = methods.with_memory(optax.set_to_zero(), 4, rows, 1)
    >>> params = {'kernel': jnp.array([[0.0, 1.0], [0.0, 1.0]])}
    >>> _, kept = keep.update(params, keep.init(params), batch=rows)
    >>> apply_fn = lambda p, x, **_: (x @ p['kernel'], ())
    >>> jnp.argmax(params['kernel'], axis=1).tolist()
    [1, 1]
    >>> params, _ = fine_tune_on_memory(
    ...   apply_fn, params, kept.memory, optax.sgd(1.0), jax.random.key(0),
    ...   steps=20)
    >>> jnp.argmax(params['kernel'], axis=1).tolist()
    [0, 1]

  References:
    Zhao et al., `Does continual learning equally forget all parameters?
    <https://arxiv.org/abs/2304.04158>`_, 2023. There is no code; the number of
    steps and their rates are from memory [M], the draw is a choice [R].
  """
  base.check_steps(_WHERE, 'steps', steps, minimum=1)
  base.check_steps(_WHERE, 'batch_size', batch_size, minimum=1)
  _check_memory(memory)
  keep = tree.resolve_mask(mask, params, _WHERE)
  model_state = {} if model_state is None else model_state
  draw_key, model_key = jax.random.split(key)
  start = tree.mask_out(params, keep)
  model = _Model(apply_fn, loss_fn, params)

  def step(carry, inputs):
    (chosen, opt_state, state), (slots, number) = carry, inputs
    rows = jax.tree.map(lambda x: x[slots], memory.items)
    rng = jax.random.fold_in(model_key, number)
    gradient, state = model.grad(chosen, state, rows, rng)
    updates, opt_state = tx.update(gradient, opt_state, chosen)
    return (optax.apply_updates(chosen, updates), opt_state, state), None

  slots = draw_balanced(draw_key, memory, (steps, batch_size))
  carry = start, tx.init(start), model_state
  inputs = slots, jnp.arange(steps, dtype=jnp.int32)
  (chosen, _, new_state), _ = jax.lax.scan(step, carry, inputs)
  pick = lambda new, old: jnp.where(memory.seen > 0, new, old)
  chosen, model_state = jax.tree.map(
    pick, (chosen, new_state), (start, model_state)
  )
  return _merge(chosen, params), model_state


class _Model(NamedTuple):
  """The loss as a function of the trained leaves alone."""

  apply_fn: Any
  loss_fn: base.LossFn
  params: base.Params

  def loss(
    self, chosen: Any, model_state: Any, rows: base.Batch, rng: jax.Array
  ) -> tuple[jax.Array, Any]:
    """The weighted mean over rows, and the model's new state."""
    logits, new_state = self.apply_fn(
      _merge(chosen, self.params),
      rows['inputs'],
      rng=rng,
      model_state=model_state,
      train=True,
    )
    losses = self.loss_fn(logits, rows)
    loss = base.weighted_mean(losses, rows.get('weight', jnp.ones_like(losses)))
    # Of the structure it came in, where a bare function returns () for {}.
    structure = jax.tree.structure(model_state)
    return loss, structure.unflatten(jax.tree.leaves(new_state))

  def grad(self, *args: Any) -> tuple[Any, Any]:
    """The gradient with respect to the trained leaves, and the new state."""
    return jax.grad(self.loss, has_aux=True)(*args)


def draw_balanced(
  key: jax.Array, memory: MemoryState, shape: tuple[int, ...]
) -> jax.Array:
  """Slots in use: each class with one probability, and each row of a class."""
  labels = memory.items['labels']
  in_use = jnp.arange(labels.size) < memory.seen
  last = jnp.iinfo(labels.dtype).max
  ranked = jnp.sort(jnp.where(in_use, labels, last))
  find = lambda side: jnp.searchsorted(ranked, labels, side=side)
  count = jnp.maximum(find('right') - find('left'), 1)
  share = jnp.where(in_use, 1.0 / count.astype(jnp.float32), 0.0)
  return jax.random.choice(key, labels.size, shape, p=share)


def _merge(chosen: Any, params: base.Params) -> base.Params:
  """The trained leaves, and all others as they were."""
  pick = lambda c, p: p if tree.is_masked(c) else c
  return jax.tree.map(pick, chosen, params, is_leaf=tree.is_masked)


def _check_memory(memory: MemoryState) -> None:
  """Checks that there are rows with a class each."""
  labels = memory.items.get('labels')
  kind = None if labels is None else labels.dtype
  if labels is None or labels.ndim != 1 or kind not in _WHOLE:
    raise ValueError(
      f'{_WHERE}: the memory must hold whole numbers labels [capacity]; it has '
      f'{kind}{"" if labels is None else list(labels.shape)}.'
    )
  if base.is_concrete(memory.seen) and int(memory.seen) == 0:
    raise ValueError(
      f'{_WHERE}: the memory is empty; train a step before fine-tuning on it.'
    )


_WHOLE = tuple(jnp.dtype(f'{s}int{b}') for s in ('', 'u') for b in (8, 16, 32))
