"""Refresh learning: unlearn a little of the batch, then learn it again."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _anchor, _quadratic, _unlearn

_WHERE = 'refresh'


class RefreshState(NamedTuple):
  """State of `refresh`.

  Attributes:
    fisher: importance of each parameter, a float32 tree like the parameters;
      zero until the first consolidation, `optax.MaskedNode` where masked out.
    key: typed PRNG key of the noise.
    inner_state: the state of what is wrapped.
  """

  fisher: base.Params
  key: jax.Array
  inner_state: Any

  def consolidate(
    self, params: base.Params, *, fisher: base.Params = None, **kwargs: Any
  ) -> 'RefreshState':
    """Puts the Fisher of the task that has ended in place of the last one.

    Args:
      params: the parameters at the task's end; not used.
      fisher: a tree like them, as `lrcl.methods.fisher_diagonal` returns it.
      **kwargs: arguments for other states, not used.

    Returns:
      The new state; it shares no buffer with the arguments.

    Raises:
      TypeError: if `fisher` is missing.
      ValueError: if `fisher` does not fit the parameters.
    """
    del params, kwargs
    where = 'RefreshState.consolidate'
    if fisher is None:
      raise TypeError(
        f'{where}: fisher is missing; pass '
        'consolidate(opt_state, params, fisher=fisher_diagonal(...)).'
      )
    fisher = tree.mask_like(fisher, self.fisher)
    fisher = _anchor.check_fisher(where, fisher, self.fisher)
    return self._replace(fisher=_quadratic.wide_copy(fisher))


def refresh(
  inner: optax.GradientTransformation,
  delta: Any = 1e-5,
  *,
  noise: Any = None,
  fisher_scale: Any = 1e-3,
  steps: int = 1,
  form: Literal['official', 'paper'] = 'official',
  mask: Any = None,
  seed: int | jax.Array = 0,
) -> optax.GradientTransformationExtraArgs:
  r"""Climbs the loss of the batch a little before each step of an optimizer.

  Each update first unlearns: from :math:`\theta` it moves up the gradient
  :math:`g` that enters, least where the Fisher :math:`F` of the last task is
  large, by

  * `'official'`: :math:`d = \delta \, (\lVert \theta_l \rVert \,
    g_l / \lVert g_l \rVert + \sigma n) / (1 + c F)` for every tensor l;
  * `'paper'`: :math:`d = \delta \, g / (1 + c F) + \sigma \sqrt{2 \delta /
    (1 + c F)} \, n`,

  with normal noise :math:`n`, :math:`\sigma` = `noise` and :math:`c` =
  `fisher_scale`. Then it relearns: `inner` is given the gradient at
  :math:`\theta + d`, and :math:`\theta + d` as the parameters. The update that
  leaves is `d` plus that of `inner`, so that the parameters end where the
  procedure ends. With a `delta` of 0 it is `inner`, bit for bit and at no cost
  unless the 0 is traced (rounding may differ then under `jit`).

  The first form is the authors' code in its later version (the earlier one
  unlearned the batch after its step); there, without noise and Fisher, `delta`
  is the share of its norm by which every tensor moves. The second is the
  paper's as remembered, with :math:`F^{-1}` damped, since F is zero in the
  first task: unconfirmed [R]. Both units of `delta` differ. The code keeps
  1e-5 of older Fishers, here none is kept; its Fisher weighs the squared
  gradient of the true label by the label's probability, that of
  `fisher_diagonal` is a mean over labels or has no such weight. Published gains
  are of one or two points [M]. Here there was none on top of DER++, on digits
  and Split-Fashion-MNIST: nothing measurable up to a `delta` of 1e-3, and harm
  from 3e-3 or 1e-2 on.

  The Fisher comes from outside, at a task's end: `consolidate(opt_state,
  params, fisher=fisher_diagonal(...))` of `lrcl.methods`. Until then F = 0.

  Place in the chain: inside `with_memory` and around all of the rest. What
  enters is then the gradient of the incoming batch alone, and what `inner`
  replays it replays at the moved point:

      with_memory(refresh(chain(add_memory_gradient(), rate)), ...)

  Outside `accumulate` it would relearn from the last of the batches only: write
  `refresh(accumulate(...))`. `value` and `logits` are those before the move; a
  memory stores them, where the code stores those after it. Cost: `steps` more
  gradients over the batch, a float32 copy of the selected parameters, and with
  noise as many normal draws as there are parameters, which on a CPU cost more
  than the gradient of a small batch.

  Args:
    inner: the optimizer, with its replay and penalties.
    delta: how far to climb, at least 0; may be traced.
    noise: the noise's factor, at least 0; may be traced. None for the form's
      own: 1e-3 in the code, 1 in the paper. A 0 that is not traced draws none.
    fisher_scale: factor of the Fisher, at least 0; may be traced.
    steps: how many steps to climb; the code takes one.
    form: `'official'` or `'paper'`, see above.
    mask: which leaves unlearn: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`. All of them relearn.
    seed: seed of the noise.

  Returns:
    A transformation with the state `RefreshState`. It needs `params`, the
    extra args `batch` and `grad_fn`, and what `inner` needs. Updates keep
    their dtype; in bfloat16 the default `delta` is below the rounding.

  Raises:
    ValueError: if a number is out of range, the form is unknown, or the mask
      selects nothing.

  Example:
    >>> tx = refresh(optax.sgd(0.5), 0.5, noise=0.0)
    >>> grad_fn = lambda params, batch: params  # of half the square
    >>> params = jnp.array([3.0, 4.0])
    >>> updates, _ = tx.update(
    ...   params, tx.init(params), params, batch={}, grad_fn=grad_fn
    ... )
    >>> print(params + updates)  # out to [4.5 6.], and half of that back
    [2.25 3.  ]

  References:
    Wang et al., `A unified and general framework for continual learning
    <https://arxiv.org/abs/2403.13249>`_, 2024

    Code: https://github.com/joey-wang123/CL-refresh-learning
  """
  move = _unlearn.make_move(_WHERE, form, delta, noise, fisher_scale)
  steps = base.check_steps(_WHERE, 'steps', steps, minimum=1)
  steps = 0 if _unlearn.is_zero(delta) else steps
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> RefreshState:
    fisher = _quadratic.zeros(_quadratic.select(params, mask, _WHERE))
    return RefreshState(fisher, jax.random.key(seed), inner.init(params))

  def refresh_update(
    updates: Any,
    state: RefreshState,
    params: Any = None,
    *,
    batch: base.Batch,
    grad_fn: Any,
    **extra_args: Any,
  ) -> tuple[Any, RefreshState]:
    _quadratic.check_params(params, _WHERE)
    key, point, moves = state.key, params, []
    for _ in range(steps):
      key, noises = move.draw(key, state.fisher)
      moves.append(_unlearn.unlearn(move, state.fisher, updates, point, noises))
      point = optax.apply_updates(point, moves[-1])
      updates = grad_fn(point, batch)
    extra_args |= dict(batch=batch, grad_fn=grad_fn)
    step, inner_state = inner.update(
      updates, state.inner_state, point, **extra_args
    )
    total = jax.tree.map(_add, step, *moves)
    return total, RefreshState(state.fisher, key, inner_state)

  update_fn: Any = refresh_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _add(update: jax.Array, *moves: jax.Array) -> jax.Array:
  """The sum, in float32 at least; the update's dtype is kept."""
  dtype = update.dtype if update.dtype.itemsize > 2 else jnp.float32
  total = sum((m.astype(dtype) for m in moves), update.astype(dtype))
  return jnp.asarray(total, dtype).astype(update.dtype)
