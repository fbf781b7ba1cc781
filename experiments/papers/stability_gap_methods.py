"""The methods whose stability gap is measured, each as a learner."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optax

from experiments.papers import sequences, teachers
from lrcl import losses, methods, models, protocols, streams, training

MEMORY = 100
"""Rows that replay and GEM may keep."""

Chain = optax.GradientTransformation


class Method(NamedTuple):
  """How a method is built, and what of it is tuned besides the rate.

  Attributes:
    build: `build(stream, features, rates) -> (init_fn, make_learner)`, where
      `rates(setting)` is the schedule of a setting.
    strengths: the grid of `setting['strength']`.
  """

  build: Callable[..., tuple[models.InitFn, protocols.MakeLearner]]
  strengths: Sequence[float]


def _replay(stream: streams.Stream, features: Sequence[int], rates: Any):
  init_fn, apply_fn = sequences.make_mlp(stream, features)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    chain = optax.chain(
      methods.add_memory_gradient(setting['strength']),
      methods.scale_by_schedule_value(rates(setting)),
    )
    spec = stream.batch_spec
    tx = methods.with_memory(chain, MEMORY, spec, stream.batch_size)
    return training.Learner(tx, apply_fn, loss_fn=losses.cross_entropy)

  return init_fn, make_learner


def _ewc(stream: streams.Stream, features: Sequence[int], rates: Any):
  init_fn, apply_fn = sequences.make_mlp(stream, features)

  def on_task_end(state, task_data, key):
    del key
    fisher = methods.fisher_diagonal(apply_fn, state.params, task_data)
    kept = methods.consolidate(state.opt_state, state.params, fisher=fisher)
    return state._replace(opt_state=kept)

  def make_learner(setting: protocols.Setting) -> training.Learner:
    sgd = methods.scale_by_schedule_value(rates(setting))
    tx = methods.with_ewc_penalty(sgd, setting['strength'], form='implicit')
    return training.Learner(tx, apply_fn, on_task_end=on_task_end)

  return init_fn, make_learner


def _lwf(stream: streams.Stream, features: Sequence[int], rates: Any):
  model = teachers.with_teacher(
    *sequences.make_mlp(stream, features), stream.num_classes
  )

  def make_learner(setting: protocols.Setting) -> training.Learner:
    loss_fn = losses.distill_predictions(weight=setting['strength'])
    return training.Learner(
      methods.scale_by_schedule_value(rates(setting)),
      model.apply_fn,
      loss_fn=teachers.hear(loss_fn),
      on_task_end=model.on_task_end,
    )

  return model.init_fn, make_learner


def _gem(stream: streams.Stream, features: Sequence[int], rates: Any):
  init_fn, apply_fn = sequences.make_mlp(stream, features)
  tasks = stream.num_tasks

  def make_learner(setting: protocols.Setting) -> training.Learner:
    tx = optax.chain(
      methods.project_on_memories(
        tasks,
        MEMORY // tasks,
        stream.batch_spec,
        margin=setting['strength'],
        iterations=50,
      ),
      methods.scale_by_schedule_value(rates(setting)),
    )
    return training.Learner(tx, apply_fn)

  return init_fn, make_learner


METHODS = {
  'ER': Method(_replay, (1.0,)),
  'EWC': Method(_ewc, (1.0, 10.0, 100.0, 1000.0)),
  'LwF': Method(_lwf, (0.1, 0.3, 1.0, 3.0)),
  'GEM': Method(_gem, (0.0, 0.5, 1.0)),
}
"""The methods by name; the strength is a factor of the memory's loss, of the
penalty, of the distillation, and the margin."""
