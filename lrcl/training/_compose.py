"""Methods side by side: one learner out of several."""

import dataclasses
from typing import Any

import jax
import optax

from lrcl import base
from lrcl.methods import applied_rate
from lrcl.training._state import Learner, TaskEnd, TrainState, identity

_WHERE = 'compose'


def compose(*learners: Learner) -> Learner:
  """Makes one learner of several, each of which brings a part of a method.

  Fields are put together one by one:

  * `tx`: `optax.chain` of all, in order. The order is part of the method:
    terms of the objective come before the optimizer, whatever is behind the
    rate after it. Where one of them is a function of hyper-parameters, so is
    the result, and all such functions are given the same ones.
  * `on_task_end`: all of them in order, each on the state that the one before
    left, with a key of its own.
  * `apply_fn`: all must have the same one.
  * every other field (`loss_fn`, `predict`, `eval_params` ...) is one function
    that cannot be done twice: one learner at most may set it.

  What wraps, such as a loss that takes another loss, or a memory around a whole
  chain, is not a part beside others but a function of a learner:
  `dataclasses.replace(learner, loss_fn=distill_predictions(learner.loss_fn))`.

  The empty learner, `Learner(optax.identity(), apply_fn)`, changes nothing on
  either side, and how learners are grouped does not matter: the trajectories
  are the same to the bit.

  Args:
    *learners: at least one.

  Returns:
    The learner; of one learner, itself.

  Raises:
    TypeError: if an argument is not a learner.
    ValueError: if there is none, or they do not go together: two set the same
      field, the models differ, or more than one applies a learning rate. All
      conflicts are named at once. A rate is seen where `applied_rate` sees it;
      that of a plain `optax.sgd` is not. Of a function of hyper-parameters
      rates are looked for when it is called.

  Example:
    >>> from lrcl import methods
    >>> apply_fn = lambda p, x, **_: (x @ p, ())
    >>> ewc = Learner(methods.add_ewc_penalty(1.0), apply_fn)
    >>> sgd = Learner(methods.scale_by_schedule_value(0.1), apply_fn)
    >>> learner = compose(ewc, sgd)
    >>> compose(sgd, ewc, sgd)
    Traceback (most recent call last):
      ...
    ValueError: compose: learners 0, 2 each apply a learning rate; keep one.
  """
  if not learners:
    raise ValueError(f'{_WHERE}: no learner; pass at least one.')
  for learner in learners:
    if not isinstance(learner, Learner):
      raise TypeError(f'{_WHERE}: {learner!r} is not a Learner.')
  if len(learners) == 1:
    return learners[0]
  single, conflicts = _single_fields(learners)
  parts: tuple[Any, ...] = tuple(learner.tx for learner in learners)
  traced = any(callable(tx) for tx in parts)
  conflicts += [] if traced else _rate_conflicts(parts)
  _raise_if_any(conflicts)
  return Learner(
    tx=_chain_of(parts) if traced else optax.chain(*parts),
    on_task_end=_in_order([learner.on_task_end for learner in learners]),
    **single,
  )


def _single_fields(
  learners: tuple[Learner, ...],
) -> tuple[dict[str, Any], list[str]]:
  """The fields that one learner sets at most, and who else sets them."""
  chosen, conflicts = {}, []
  for field in dataclasses.fields(Learner):
    if field.name in ('tx', 'on_task_end'):
      continue
    values = [getattr(learner, field.name) for learner in learners]
    setters = [i for i, x in enumerate(values) if x is not field.default]
    chosen[field.name] = values[setters[0]] if setters else field.default
    if field.default is dataclasses.MISSING:
      if any(x is not values[0] for x in values):
        conflicts.append(f'{field.name} differs; pass the same one to all')
    elif len(setters) > 1:
      who = ', '.join(map(str, setters))
      conflicts.append(f'learners {who} each set {field.name}; keep one')
  return chosen, conflicts


def _rate_conflicts(parts: tuple[Any, ...]) -> list[str]:
  """Which of the transformations apply a learning rate, if more than one."""

  def has_rate(tx):
    # Without parameters: only the structure of the state is looked at.
    return bool(applied_rate(tx.init({}))[1] >= 0)

  with jax.ensure_compile_time_eval():
    found = [str(i) for i, tx in enumerate(parts) if has_rate(tx)]
  if len(found) < 2:
    return []
  return [f'learners {", ".join(found)} each apply a learning rate; keep one']


def _raise_if_any(conflicts: list[str]) -> None:
  if conflicts:
    raise ValueError(f'{_WHERE}: {"; ".join(conflicts)}.')


def _chain_of(parts: tuple[Any, ...]) -> Any:
  """The chain, as a function of hyper-parameters."""

  def make_tx(hyperparams: Any) -> optax.GradientTransformation:
    made: list[Any] = [tx(hyperparams) if callable(tx) else tx for tx in parts]
    _raise_if_any(_rate_conflicts(tuple(made)))
    return optax.chain(*made)

  return make_tx


@dataclasses.dataclass(frozen=True)
class _InOrder:
  """Several ends of a task, one after another.

  A class, so that a composition of compositions has its hooks in one row:
  otherwise keys would depend on the grouping.
  """

  hooks: tuple[TaskEnd, ...]

  def __call__(
    self, state: TrainState, task_data: base.Batch, key: jax.Array
  ) -> TrainState:
    for i, hook in enumerate(self.hooks):
      state = hook(state, task_data, jax.random.fold_in(key, i))
    return state


def _in_order(hooks: list[TaskEnd]) -> TaskEnd:
  """The hooks that do something as one; that one itself, or the identity."""
  flat: list[TaskEnd] = []
  for hook in hooks:
    flat += hook.hooks if isinstance(hook, _InOrder) else [hook]
  flat = [hook for hook in flat if hook is not identity]
  if len(flat) > 1:
    return _InOrder(tuple(flat))
  return flat[0] if flat else identity
