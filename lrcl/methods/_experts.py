"""Several copies of the parameters, one of which is trained at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _expert_bank, _quadratic, _rate, _shift
from lrcl.methods._expert_bank import ExpertsState


def with_experts(
  inner: optax.GradientTransformation,
  max_experts: int,
  *,
  detector: _shift.ShiftDetector | None = None,
  probe_steps: int = 2,
  tolerance: float | jax.Array = 3.0,
  keep: type | tuple[type, ...] = (),
) -> optax.GradientTransformationExtraArgs:
  r"""Trains another expert where the stream has shifted (TAME).

  No task is told. A detector watches the loss of the batches. Where it says
  that the stream has shifted, training rests for `probe_steps` batches, on
  which every expert is tested. Of those whose mean loss there is at most
  :math:`\mu_k + c \sigma_k`, what the detector said of expert k when it was
  last trained, the best goes on. If there is none, a new expert begins, at the
  first parameters of all; where there are `max_experts` already, the best does.
  A false alarm costs no more than the test, as the expert that was active is
  tested like the others.

  An expert is the parameters and the state of `inner`, momenta and a
  schedule's clock included. The parameters change hands by the update of the
  step that decides: `expert - params`, exact up to rounding.

  Place in the chain: around all of it, the rate included. Cost: `max_experts`
  copies of the parameters and of the state of `inner`; a step computes nothing
  on them but at a shift, where one is copied and each is run forward on
  `probe_steps` batches. `model_state` belongs to all experts.

  The published rule tests on the last window; here it is the window after the
  detection, since the one before holds rows of the finished task. Neither the
  tolerance nor the new expert's parameters are given in what was available of
  the paper [R], and its pruning of experts is left out. Which expert predicts
  is up to `with_selector`.

  Args:
    inner: the optimizer of one expert. It keeps no random keys.
    max_experts: how many experts there may be.
    detector: by default `restart_on_rate(window_shift())`. It is given the rate
      that `inner` keeps, NaN if none.
    probe_steps: batches on which experts are tested.
    tolerance: c, at least 0; may be traced.
    keep: classes of states in `inner` that all experts have together, such as
      `optax.schedules.InjectStatefulHyperparamsState` for one clock.

  Returns:
    A transformation with the state `ExpertsState`. It needs `params`, the extra
    args `value`, `value_fn` and `batch`, and what `inner` needs.

  Raises:
    TypeError: if `keep` is not a class or a tuple of classes.
    ValueError: if a number is impossible, or `params` are missing.

  Example:
    >>> from lrcl import methods
    >>> tx = with_experts(optax.sgd(0.5), 2, probe_steps=1,
    ...   detector=methods.window_shift(window=1, history=2))
    >>> value_fn = lambda params, batch: (params - batch['inputs']) ** 2
    >>> params = jnp.zeros(())
    >>> state, active = tx.init(params), []
    >>> for x in (1.0,) * 6 + (9.0,) * 6 + (1.0,):
    ...   batch = {'inputs': jnp.full(1, x)}
    ...   value, grad = jax.value_and_grad(
    ...     lambda p: value_fn(p, batch).mean())(params)
    ...   updates, state = tx.update(grad, state, params,
    ...     value=value, value_fn=value_fn, batch=batch)
    ...   params = params + updates
    ...   active.append(int(state.active))
    >>> active
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0]
    >>> print(params)
    1.0

  References:
    Zhu et al., `TAME: task agnostic continual learning using multiple experts
    <https://arxiv.org/abs/2210.03869>`_, 2022
  """
  where = 'with_experts'
  probe_steps = base.check_steps(where, 'probe_steps', probe_steps, 1)
  base.check_value(where, 'tolerance', tolerance, minimum=0)
  detector = detector or _shift.restart_on_rate(_shift.window_shift())
  inner, init, swap = _expert_bank.make_bank(where, inner, max_experts, keep)

  def init_fn(params: base.Params) -> ExpertsState:
    return init(params, detector.init())

  def experts_update(
    updates, state, params=None, *, value, value_fn, batch, **extra_args
  ):
    _quadratic.check_params(params, where)
    extra_args |= dict(value=value, value_fn=value_fn, batch=batch)
    state = _watch(detector, probe_steps, state, value)
    probing = state.probe > 0
    losses = _losses(value_fn, state, params, batch, probing)
    state = state._replace(
      probe=jnp.maximum(state.probe - 1, 0), losses=state.losses + losses
    )

    def learn() -> tuple[Any, Any]:
      return inner.update(updates, state.inner_state, params, **extra_args)

    def rest() -> tuple[Any, Any]:
      return jax.tree.map(jnp.zeros_like, updates), state.inner_state

    updates, inner_state = jax.lax.cond(probing, rest, learn)
    state = state._replace(inner_state=inner_state, step=state.step + 1)
    target, count = _choose(state, probe_steps, tolerance)
    decided = probing & (state.probe == 0)
    return swap(decided, target, count, updates, state, params)

  update_fn: Any = experts_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _watch(detector, probe_steps, state, value) -> ExpertsState:
  """Hands the loss to the detector; at a shift, begins a test."""
  training = state.probe == 0
  rate, _ = _rate.applied_rate(state.inner_state)
  mean, std = detector.baseline(state.watch)
  watch, shifted = detector.update(state.watch, value, rate)
  hold = lambda new, old: jnp.where(training, new, old)
  shifted = shifted & training
  note = lambda kept, x: kept.at[state.active].set(
    jnp.where(shifted, x, kept[state.active])
  )
  return state._replace(
    watch=jax.tree.map(hold, watch, state.watch),
    mean=note(state.mean, mean),
    std=note(state.std, std),
    probe=jnp.where(shifted, probe_steps, state.probe),
    losses=jnp.where(shifted, 0.0, state.losses),
    shifts=state.shifts + shifted.astype(jnp.int32),
    last_shift=jnp.where(shifted, state.step, state.last_shift),
  )


def _losses(
  value_fn: Callable[..., jax.Array],
  state: ExpertsState,
  params: base.Params,
  batch: base.Batch,
  probing: jax.Array,
) -> jax.Array:
  """Mean loss of each expert on the batch, `[max_experts]`; 0 in training."""

  def mean(params):
    losses = value_fn(params, batch)
    weight = batch.get('weight', jnp.ones_like(losses))
    return base.weighted_mean(losses.astype(jnp.float32), weight)

  def test():
    stored = jax.lax.map(mean, state.experts)
    return stored.at[state.active].set(mean(params))

  none = jnp.zeros_like(state.losses)
  return jax.lax.cond(probing, test, lambda: none)


def _choose(
  state: ExpertsState, probe_steps: int, tolerance: Any
) -> tuple[jax.Array, jax.Array]:
  """Who goes on after a test, and how many experts there are then."""
  size = state.losses.size
  exists = jnp.arange(size) < state.count
  losses = jnp.where(exists, state.losses / probe_steps, jnp.inf)
  fits = exists & (losses <= state.mean + tolerance * state.std)
  best = jnp.argmin(jnp.where(fits, losses, jnp.inf))
  begins = ~jnp.any(fits) & (state.count < size)
  stored = jnp.where(jnp.any(fits), best, jnp.argmin(losses))
  target = jnp.where(begins, state.count, stored).astype(jnp.int32)
  return target, state.count + begins.astype(jnp.int32)
