"""The methods whose steps `benchmarks.methods` times: one row for each."""

from collections.abc import Callable
import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from benchmarks import problem
from lrcl import methods, models, streams, tree

SETTING, ONLINE = problem.SETTINGS
PENALTY, REPLAY = 1.3, 2.2
BOTH = REPLAY + PENALTY - 1
S = 1e-3  # a strength at which no form diverges; time does not depend on it


def make_module(setting=SETTING):
  widths = (setting.width, setting.width)
  return models.MLP(widths, 10, initializer='uniform')


@functools.cache
def make_model(setting=SETTING):
  return models.from_module(make_module(setting), jnp.zeros((1, 784)))


def rate():
  return methods.scale_by_schedule_value(SETTING.rate)


def replay(stream, *links, **kwargs):
  """`links` in front of the rate, all of it with a memory."""
  return remember(stream, optax.chain(*links, rate()), **kwargs)


def remember(stream, inner, example=None, **kwargs):
  """A memory around `inner` that draws as many rows as the batch has."""
  example = stream.batch_spec if example is None else example
  size = SETTING.batch_size
  return methods.with_memory(inner, problem.CAPACITY, example, size, **kwargs)


def dark_replay(stream):
  """Replay of stored logits."""
  logits = jax.ShapeDtypeStruct((SETTING.batch_size, 10), jnp.float32)
  example = {**stream.batch_spec, 'logits': logits}
  distil = methods.add_distillation_on_memory(make_model()[1])
  return replay(stream, distil, example=example, store=('logits',))


def retrieve(stream):
  """Replay of the half that the batch would harm most."""
  inner = optax.chain(methods.add_memory_gradient(), rate())
  size = SETTING.batch_size // 2
  return remember(stream, methods.retrieve_interfered(inner, size))


def relabel(stream):
  """Replay of half as many rows, each under both of its labels."""
  inner = optax.chain(methods.add_memory_gradient(), rate())
  parents = (-1, -1, *(i % 2 for i in range(8)))  # ten nodes, two levels
  wrapped = methods.relabel_memory(inner, make_model()[1], parents)
  size = SETTING.batch_size // 2
  return methods.with_memory(wrapped, problem.CAPACITY, stream.batch_spec, size)


def diverse(stream):
  """Replay from a memory of rows whose gradients differ."""
  inner = optax.chain(methods.add_memory_gradient(), rate())
  size = ONLINE.batch_size
  return methods.with_memory(
    inner, problem.CAPACITY, stream.batch_spec, size, policy='gss'
  )


def gem(stream):
  """Four past tasks with a quarter of the batch each, on the gradient."""
  size = SETTING.batch_size // 4
  project = methods.project_on_memories(problem.TASKS, size, stream.batch_spec)
  return optax.chain(project, rate())


def sparse(stream, every):
  """A tenth of the network for each task, some of it exchanged."""
  return methods.drop_and_grow(
    rate(), 0.1, stream.num_tasks, death_rate=0.3, every=every
  )


def recycle(method, **kwargs):
  """One that needs to know the layers of the network."""
  module = make_module()
  activations_fn = models.activations_from_module(module)
  return method(rate(), models.unit_graph(module), activations_fn, **kwargs)


@dataclasses.dataclass(frozen=True)
class Row:
  """One method.

  Attributes:
    make: makes the whole chain, rate included, for a stream.
    wanted: the ratio that it should not exceed; None where there is no limit.
    bare: what it is compared with, where that is not the rate alone.
    setting: the network and the batch.
  """

  make: Callable[[streams.Stream], optax.GradientTransformation]
  wanted: float | None = PENALTY
  bare: Callable[[], optax.GradientTransformation] = rate
  setting: problem.Setting = SETTING


def adam():
  return optax.chain(optax.scale_by_adam(), rate())


ROWS = {
  'add_l2_anchor': Row(lambda _: optax.chain(methods.add_l2_anchor(S), rate())),
  'add_l2_anchor, at each task': Row(
    lambda _: optax.chain(
      methods.consolidate_at_task_change(methods.add_l2_anchor(S)), rate()
    )
  ),
  'with_l2_anchor, implicit': Row(lambda _: methods.with_l2_anchor(rate(), S)),
  'add_ewc_penalty': Row(
    lambda _: optax.chain(methods.add_ewc_penalty(S), rate())
  ),
  'add_ewc_penalty, Adam': Row(
    lambda _: optax.chain(methods.add_ewc_penalty(S), adam()), bare=adam
  ),
  'with_ewc_penalty, decoupled': Row(
    lambda _: methods.with_ewc_penalty(rate(), S, form='decoupled')
  ),
  'with_ewc_penalty, implicit': Row(
    lambda _: methods.with_ewc_penalty(rate(), S)
  ),
  'synaptic_intelligence': Row(
    lambda _: methods.synaptic_intelligence(rate(), S)
  ),
  'synaptic_intelligence, implicit': Row(
    lambda _: methods.synaptic_intelligence(rate(), S, form='implicit')
  ),
  'ewc_plus_plus': Row(lambda _: methods.ewc_plus_plus(rate(), S)),
  'riemannian_walk': Row(lambda _: methods.riemannian_walk(rate(), S)),
  'normalize_and_project': Row(
    lambda _: optax.chain(rate(), methods.normalize_and_project())
  ),
  'scale_groups': Row(
    lambda _: optax.chain(methods.scale_groups({'^Dense': 0.01}), rate())
  ),
  'metaplastic_kl': Row(
    lambda _: optax.chain(methods.metaplastic_kl(2.0, strength=S), rate())
  ),
  'params_ema': Row(lambda _: optax.chain(methods.params_ema(0.99), rate())),
  'params_window, every 10th': Row(
    lambda _: optax.chain(methods.params_window(5, every=10), rate())
  ),
  'dynamic_ema': Row(lambda _: optax.chain(methods.dynamic_ema(), rate())),
  'project_scales': Row(
    lambda _: optax.chain(
      rate(), methods.project_scales(mask=tree.path_mask('Dense_./bias'))
    )
  ),
  'shrink_and_perturb, at each task': Row(
    lambda _: optax.chain(rate(), methods.shrink_and_perturb(0.6, 0.01))
  ),
  'reset_on_task, Adam': Row(
    lambda _: optax.chain(methods.reset_on_task(optax.scale_by_adam()), rate()),
    bare=adam,
  ),
  'drop_and_grow': Row(lambda stream: sparse(stream, 400)),
  'redo, every 20': Row(lambda _: recycle(methods.redo, every=20)),
  'continual_backprop': Row(
    lambda _: recycle(methods.continual_backprop, maturity=0)
  ),
  **{
    f'orthogonal_gradient, {count}': Row(
      lambda _, count=count: optax.chain(
        rate(), methods.orthogonal_gradient(count)
      ),
      1 + (PENALTY - 1) * count / 5,
    )
    for count in (5, 20)
  },
  'add_memory_gradient': Row(
    lambda stream: replay(stream, methods.add_memory_gradient()), REPLAY
  ),
  'add_distillation_on_memory': Row(dark_replay, REPLAY),
  'retrieve_interfered': Row(retrieve, None),
  'relabel_memory': Row(relabel, None),
  'refresh, no noise': Row(lambda _: methods.refresh(rate(), noise=0.0), None),
  'refresh': Row(lambda _: methods.refresh(rate()), None),
  'project_on_memory': Row(
    lambda stream: remember(
      stream, optax.chain(rate(), methods.project_on_memory(-1))
    ),
    BOTH,
  ),
  'project_on_memories': Row(gem, BOTH),
  **{
    f'add_memory_gradient, {policy}': Row(
      lambda stream, policy=policy: replay(
        stream, methods.add_memory_gradient(), policy=policy
      ),
      wanted,
    )
    for policy, wanted in (
      ('ring', REPLAY),
      ('class_balanced', REPLAY),
      ('importance', None),
    )
  },
  'add_memory_gradient, gss': Row(diverse, None, setting=ONLINE),
}
