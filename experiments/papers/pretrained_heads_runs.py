"""Heads on fixed features of a stream of classes: computed, and trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import sequences
from experiments.papers.images import Images
from lrcl import methods, models, protocols, streams, training

BATCH = 16
MEMORY = 200
TASKS = 5

Lift = Callable[[np.ndarray], jax.Array]


class Head(NamedTuple):
  """A head that is computed.

  Attributes:
    make: `make(num_features, num_classes, value) -> StreamingHead`.
    values: the grid of what is chosen of it.
    width: of a random ReLU layer in front; 0: none.
  """

  make: Callable[[int, int, Any], models.StreamingHead]
  values: Sequence[float]
  width: int = 0


def _mean(num_features: int, num_classes: int, value: Any):
  del value
  return models.nearest_class_mean(num_features, num_classes)


_RIDGES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
HEADS = {
  'nearest class mean': Head(_mean, (0.0,)),
  'streaming LDA': Head(
    models.streaming_lda, (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3)
  ),
  'ridge': Head(models.analytic_ridge, _RIDGES),
  'G-ACIL': Head(models.analytic_ridge, _RIDGES, width=2048),
}


class Spread(NamedTuple):
  """What the order of classes and rows does to a head at the end.

  Attributes:
    kernel: largest difference from the first seed, over the largest entry.
    predictions: how many test rows are told apart differently, in all seeds.
  """

  kernel: float
  predictions: int


class Found(NamedTuple):
  """What runs gave.

  Attributes:
    matrix: `A[seeds, i, j]`, accuracy on task j after task i.
    setting: what was chosen, in words.
    spread: in float64 and in float32; of computed heads.
  """

  matrix: np.ndarray
  setting: str
  spread: tuple[Spread, ...] = ()

  @property
  def final(self) -> np.ndarray:
    """Mean accuracy over all tasks at the end `[seeds]`."""
    return self.matrix[:, -1].mean(-1)


def make_stream(
  images: Images, seeds: Sequence[int], *, joint: bool = False
) -> streams.Stream:
  """One pass over the rows, in tasks of two classes."""
  steps = len(images.train['labels']) // TASKS // BATCH
  return sequences.split_stream(
    images,
    seeds,
    steps_per_task=steps,
    num_tasks=TASKS,
    batch_size=BATCH,
    joint=joint,
  )


def compute(
  head: Head, choice: Images, images: Images, seeds: Sequence[int]
) -> Found:
  """Chooses a head's value on one set of test rows and runs it on another.

  In float64; the orders of classes and rows are also compared in float32.

  Args:
    head: what is computed.
    choice: the rows to choose on.
    images: the rows to report.
    seeds: of the orders of classes and rows.
  """
  with jax.enable_x64(True):
    tried = _run_heads(head, head.values, choice, seeds[:1], every=False)[0]
    errors = 1 - tried[0, -1].mean(-1)
    setting, edges = protocols.choose({'value': head.values}, errors)
    alone = [setting['value']]
    found = _run_heads(head, alone, images, seeds, every=True)
  single = _run_heads(head, alone, images, seeds, every=False)
  words = protocols.format_setting(protocols.Tuned(setting, edges, errors))
  spread = tuple(_spread(*x[1:]) for x in (found, single))
  return Found(found[0][:, :, 0], words if len(errors) > 1 else '', spread)


def _spread(predictions: np.ndarray, kernels: np.ndarray) -> Spread:
  """How far seeds lie apart that differ in the order of what comes."""
  gap = np.abs(kernels - kernels[:1]).max() / np.abs(kernels).max()
  return Spread(float(gap), int((predictions != predictions[:1]).sum()))


def _run_heads(
  head: Head,
  values: Sequence[float],
  images: Images,
  seeds: Sequence[int],
  *,
  every: bool,
) -> tuple[np.ndarray, ...]:
  """Learns once and reads out for all values.

  Returns:
    Accuracies `[seeds, tasks or 1, values, T]`, at the end of every task or of
    the last; predictions `[seeds, values, rows]` and kernels at the end.
  """
  stream = make_stream(images, seeds)
  sets = stream.evaluation
  assert sets is not None
  indices = stream.chunk(0, stream.num_steps).indices
  rows = np.moveaxis(indices, 1, 0).reshape(len(seeds), TASKS, -1)
  rows = rows if every else rows.reshape(len(seeds), 1, -1)
  lift = _lift(head.width, images.num_pixels)
  data = (lift(images.train['inputs']), images.train['labels'])
  test = (lift(images.test['inputs']), images.test['labels'])
  run = jax.jit(_runner(head, stream.num_classes))
  each = zip(rows, sets.indices, sets.weights, strict=True)
  at = np.asarray(values, np.float64)
  found = [jax.device_get(run(at, data, test, *own)) for own in each]
  return tuple(np.stack(x) for x in zip(*found, strict=True))


def _runner(head: Head, classes: int) -> Callable[..., Any]:
  """A run of one seed; a task's rows are taken at once, which is the same."""

  def run(values, data, test, rows, test_rows, test_weights):
    make = lambda value: head.make(data[0].shape[1], classes, value)
    learner = make(1.0)

    def measure(state, value):
      said = make(value).predict(state, test[0])
      right = (said == test[1]).astype(jnp.float32)[test_rows]
      return jnp.average(right, axis=1, weights=test_weights), said

    def phase(state, rows):
      state = learner.update(state, data[0][rows], data[1][rows])
      return state, jax.lax.map(lambda v: measure(state, v), values)

    state, (matrix, said) = jax.lax.scan(phase, learner.init(), rows)
    kernels = [make(value).readout(state)['kernel'] for value in values]
    return matrix, said[-1], jnp.stack(kernels)

  return run


def _lift(width: int, features: int) -> Lift:
  """A fixed random ReLU layer, of a scale that keeps that of the rows."""
  if not width:
    return jnp.asarray
  kernel = np.random.default_rng(1).normal(size=(features, width))
  kernel = jnp.asarray(kernel * np.sqrt(2 / features), jnp.float32)
  return lambda rows: jax.nn.relu(jnp.asarray(rows) @ kernel)


def _sgd(setting: protocols.Setting, spec: Any) -> optax.GradientTransformation:
  del spec
  return methods.scale_by_schedule_value(setting['rate'])


def _replay(setting: protocols.Setting, spec: Any) -> Any:
  chain = optax.chain(methods.add_memory_gradient(), _sgd(setting, spec))
  return methods.with_memory(chain, MEMORY, spec, BATCH)


TRAINED: Mapping[str, tuple[Callable[..., Any], bool]] = {
  'naive': (_sgd, False),
  'ER': (_replay, False),
  'joint': (_sgd, True),
}
"""Linear heads that are trained: the chain, and whether all tasks are mixed."""


def train(
  name: str,
  choice: Images,
  images: Images,
  rates: Sequence[float],
  *,
  tuning_seeds: Sequence[int],
  seeds: Sequence[int],
) -> Found:
  """Chooses a rate on one set of test rows and trains with it on another."""
  make_tx, joint = TRAINED[name]

  def trials(images: Images, seeds: Sequence[int]) -> protocols.Trials:
    stream = make_stream(images, seeds, joint=joint)
    init_fn, apply_fn = sequences.make_mlp(stream, ())
    make_learner = lambda setting: training.Learner(
      make_tx(setting, stream.batch_spec), apply_fn
    )
    return protocols.Trials(stream, seeds, init_fn, make_learner, phases=TASKS)

  axes = {'rate': rates}
  found = trials(choice, tuning_seeds).search(axes, tuning_seeds)
  setting, edges = found.setting, found.edges
  alone = protocols.grid({key: [value] for key, value in setting.items()})
  found = trials(images, seeds).sweep(alone, seeds).pick(0)
  words = protocols.format_setting(protocols.Tuned(setting, edges, found.final))
  return Found(found.matrix, words)


def kept_bytes(head: Head, features: int, classes: int) -> int:
  """What a computed head keeps, in float32."""
  made = head.make(head.width or features, classes, 1.0)
  leaves = jax.tree.leaves(jax.eval_shape(made.init))
  return sum(4 * leaf.size for leaf in leaves)
