"""Learners with a teacher: the model as it was when the last task ended.

The teacher's weights are part of the `model_state`. In training the model says
what the teacher says, too:

  model = with_teacher(init_fn, apply_fn, num_classes)
  learner = training.Learner(
    tx,
    model.apply_fn,
    loss_fn=hear(losses.distill_predictions(weight=setting['weight'])),
    on_task_end=model.on_task_end,
  )
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base, training


class Heard(NamedTuple):
  """What model and teacher say of a batch in training.

  Attributes:
    outputs: of the model.
    teacher: of the teacher.
    known: bool `[classes]`, the classes of finished tasks; none during the
      first one.
  """

  outputs: Any
  teacher: Any
  known: jax.Array


class Taught(NamedTuple):
  """A model with a teacher.

  Attributes:
    init_fn: `init_fn(key) -> (params, model_state)`.
    apply_fn: as `lrcl.base.ApplyFn`; its outputs are `Heard` in training, and
      the model's own otherwise.
    on_task_end: makes the model its own teacher, and the task's classes known.
  """

  init_fn: Callable[[jax.Array], tuple[base.Params, Any]]
  apply_fn: Any
  on_task_end: Callable[..., training.TrainState]


def with_teacher(
  init_fn: Callable[[jax.Array], tuple[base.Params, Any]],
  apply_fn: base.ApplyFn,
  num_classes: int,
) -> Taught:
  """Gives a model a teacher. A step costs one more pass forwards.

  Args:
    init_fn: of the model.
    apply_fn: of the model. The teacher is asked as in evaluation.
    num_classes: number of labels.
  """

  def init(key):
    params, inner = init_fn(key)
    known = jnp.zeros([num_classes], bool)
    return params, {'model': inner, 'teacher': (params, inner), 'known': known}

  def apply(params, inputs, *, rng, model_state, train):
    outputs, inner = apply_fn(
      params, inputs, rng=rng, model_state=model_state['model'], train=train
    )
    model_state = {**model_state, 'model': inner}
    if not train:
      return outputs, model_state
    weights, state = model_state['teacher']
    said, _ = apply_fn(
      weights, inputs, rng=None, model_state=state, train=False
    )
    said = jax.lax.stop_gradient(said)
    return Heard(outputs, said, model_state['known']), model_state

  def on_task_end(state, task_data, key):
    del key
    now = state.model_state
    labels = jnp.where(
      task_data['weight'] > 0, task_data['labels'], num_classes
    )
    known = now['known'].at[labels.reshape(-1)].set(True, mode='drop')
    teacher = jax.tree.map(jnp.copy, (state.params, now['model']))
    return state._replace(
      model_state={**now, 'teacher': teacher, 'known': known}
    )

  return Taught(init, apply, on_task_end)


def hear(loss_fn: base.LossFn, *, features: bool = False) -> base.LossFn:
  """Lets a loss hear the teacher, and classifies without one elsewhere.

  Args:
    loss_fn: reads `teacher_logits` and `teacher_mask` of a batch, as
      `lrcl.losses.distill_predictions` does, and with `features` also
      `teacher_features`, as `lrcl.losses.distill_features` does.
    features: whether outputs are pairs of logits and features. Before the
      first task has ended the teacher's features are the model's own, so that
      they teach nothing.
  """

  def heard(outputs: Any, batch: base.Batch) -> jax.Array:
    if not isinstance(outputs, Heard):
      return loss_fn(outputs, batch)
    said, own = outputs.teacher, outputs.outputs
    logits = said[0] if features else said
    mask = jnp.broadcast_to(outputs.known, logits.shape)
    more = {'teacher_logits': logits, 'teacher_mask': mask}
    if features:
      first = ~jnp.any(outputs.known)
      more['teacher_features'] = jnp.where(first, own[1], said[1])
    return loss_fn(own, {**batch, **more})

  return heard
