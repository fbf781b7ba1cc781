"""Does the best learning rate of a narrow network serve a wide one? With muP?

Perceptrons of two hidden layers are trained on scikit-learn's digits, in the
standard parametrisation and in muP, over one grid of rates, factor 2. At the
smallest width both are the same network.

  python -m experiments.papers.mup_transfer

takes about 5 minutes of CPU time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import claims, sweeps
from lrcl import methods, models, streams, tree

CLAIM = claims.Claim(
  name='mup_transfer',
  title='The best learning rate across widths, with and without muP',
  paper='Yang et al., 2022, Tensor Programs V: Tuning Large Neural Networks '
  'via Zero-Shot Hyperparameter Transfer, https://arxiv.org/abs/2203.03466',
  says='In the standard parametrisation the best rate changes with the width; '
  'in muP it stays, so that a rate tuned on a narrow network serves a wide '
  'one (the second half is in the abstract, the first from memory and not '
  'confirmed against the paper; no figure was read off).',
)


class Task(NamedTuple):
  """An optimizer, a loss, and the exponents of 2 that are its grid."""

  optimizer: Literal['adam', 'sgd']
  loss: Literal['cross-entropy', 'squared error']
  exponents: Sequence[int]


class Found(NamedTuple):
  """What a task gave.

  Attributes:
    standard: final training losses `[widths, rates, seeds]`.
    mup: the same in muP.
    tuned: index of the rate that is best at the smallest width, on seeds
      apart from those of the losses.
  """

  standard: np.ndarray
  mup: np.ndarray
  tuned: int


class _Scale(NamedTuple):
  widths: tuple[int, ...]
  steps: int
  seeds: Sequence[int]


_SCALES = {
  'smoke': _Scale((16, 32), 10, range(10, 13)),
  'default': _Scale((64, 256, 1024), 100, range(10, 14)),
  'full': _Scale((64, 128, 256, 512, 1024, 2048), 100, range(10, 18)),
}
_TASKS = (
  Task('adam', 'cross-entropy', range(-11, -2)),
  Task('adam', 'squared error', range(-12, -3)),
  Task('sgd', 'cross-entropy', range(-6, 3)),
  Task('sgd', 'squared error', range(-8, 1)),
)
_TUNING_SEEDS = range(100, 104)
_BATCH_SIZE = 64


def make_setup(
  task: Task, width: int, base: int, steps: int, *, mup: bool
) -> sweeps.Setup:
  """The network of one width, and what stands before its learning rate."""
  source, _ = streams.digits()
  inputs = (source['inputs'] - source['inputs'].mean()) / source['inputs'].std()
  network = lambda width, multiplier: models.from_module(
    models.MLP((width, width), 10, readout_multiplier=multiplier), inputs[:1]
  )
  init_fn, apply_fn = network(width, base / width if mup else 1.0)
  narrow, _ = network(base if mup else width, 1.0)
  shapes = jax.eval_shape(narrow, jax.random.key(0))[0]
  is_readout = tree.path_mask('head/kernel$')  # from 0 in both

  def measure_fn(params: Any, data: sweeps.Data) -> dict[str, jax.Array]:
    logits, _ = apply_fn(params, data[0], rng=None, model_state={}, train=True)
    return {'loss': _loss(task, logits, data[1])}

  links = [optax.scale_by_adam()] if task.optimizer == 'adam' else []
  links.append(methods.scale_by_mup(shapes, kind=task.optimizer))
  return sweeps.Setup(
    sweeps.Problem(
      lambda key: methods.mup_init(init_fn(key)[0], shapes, zero=is_readout),
      measure_fn,
      (inputs, source['labels']),
    ),
    optax.chain(*links),
    _BATCH_SIZE,
    steps,
  )


def _loss(task: Task, logits: jax.Array, labels: jax.Array) -> jax.Array:
  targets = jax.nn.one_hot(labels, 10)
  if task.loss == 'squared error':
    return jnp.square(logits - targets).sum(-1).mean()
  return optax.softmax_cross_entropy(logits, targets).mean()


def start_loss(task: Task) -> float:
  """The loss of a network whose readout is 0, at which every run begins."""
  return 1.0 if task.loss == 'squared error' else float(np.log(10))


def measure(task: Task, scale: _Scale) -> Found:
  """Trains both parametrisations at every width, rate and seed."""
  base, *wider = scale.widths
  narrow = _sweep(task, base, scale, scale.seeds, mup=False)
  tuning = _sweep(task, base, scale, _TUNING_SEEDS, mup=False)

  def all_widths(mup: bool) -> np.ndarray:
    others = (_sweep(task, n, scale, scale.seeds, mup=mup) for n in wider)
    return np.stack([narrow, *others])

  tuned = int(np.log(tuning).mean(1).argmin())
  return Found(all_widths(False), all_widths(True), tuned)


def _sweep(
  task: Task, width: int, scale: _Scale, seeds: Sequence[int], *, mup: bool
) -> np.ndarray:
  """Final training losses `[rates, seeds]`; no run is worse than its start."""
  setup = make_setup(task, width, scale.widths[0], scale.steps, mup=mup)
  decay = {'linear': optax.linear_schedule(1.0, 0.0, scale.steps)}
  rates = np.exp2(np.asarray([task.exponents], np.float32))
  losses = sweeps.run_all(setup, decay, rates, seeds)['train_loss'][0]
  return np.fmin(losses, start_loss(task))  # of NaN, the start


def best(losses: np.ndarray) -> np.ndarray:
  """Index of the best rate, `[widths, seeds]`."""
  return losses.argmin(1)


def judge(found: Found) -> dict[str, bool]:
  """The parts of the claim, from the smallest to the largest width.

  The standard optimum drifts: by more than one step of the grid on average,
  with an interval that leaves out 0. That of muP stays: at no width and for no
  seed is it more than one step away. At the largest width the rate tuned at
  the smallest gives a lower loss in muP, seed by seed, on a log scale.
  """
  narrow, *_, wide = best(found.standard)
  drifts = claims.is_below(wide, narrow) or claims.is_below(narrow, wide)
  moved = best(found.mup) - best(found.mup)[:1]
  ours, theirs = (
    np.log(x[-1, found.tuned]) for x in (found.mup, found.standard)
  )
  return {
    'the standard optimum drifts': drifts and abs(np.mean(wide - narrow)) > 1,
    'that of muP stays': bool(np.abs(moved).max() <= 1),
    'the transferred rate is better in muP': claims.is_below(ours, theirs),
  }


def run(size: claims.Size) -> claims.Outcome:
  """Measures every task."""
  scale = _SCALES[size]
  found = {task: measure(task, scale) for task in _TASKS}
  parts = {task: judge(f) for task, f in found.items()}
  lower = [name(t) for t, f in found.items() if is_lower_when_tuned(f)]
  edges = [name(t) for t, f in found.items() if is_at_edge(f)]
  return claims.Outcome(
    verdict=claims.decide([x for p in parts.values() for x in p.values()]),
    measured=f'{format_parts(parts)}. At width {scale.widths[-1]} and the '
    'best rate of each there, the standard network ends lower than muP for: '
    f'{", ".join(lower) or "none"}. Optima at an edge of the grid: '
    f'{", ".join(edges) or "none"}.',
    table=[
      row for task in _TASKS for row in _rows(task, found[task], scale.widths)
    ],
    setting='1,402 digits, MLP of two hidden layers (ReLU, readout from 0), '
    f'{scale.steps} steps of {_BATCH_SIZE} rows, rate decayed linearly to 0, '
    f'grid of {len(_TASKS[0].exponents)} rates by factors of 2 for each task; '
    'final loss on all rows, at most that of the start; seeds '
    f'{scale.seeds[0]} to {scale.seeds[-1]}, rates for transfer tuned at width '
    f'{scale.widths[0]} on seeds {_TUNING_SEEDS[0]} to {_TUNING_SEEDS[-1]}.',
  )


def name(task: Task) -> str:
  """The task in words."""
  return f'{task.optimizer} with {task.loss}'


def is_lower_when_tuned(found: Found) -> bool:
  """Whether the widest standard network at its own best rate beats muP's."""
  return claims.is_below(*(np.log(x[-1].min(0)) for x in found[:2]))


def is_at_edge(found: Found) -> bool:
  """Whether an optimum is the first or the last of the grid."""
  ends = (0, found.mup.shape[1] - 1)
  return any(np.isin(best(x), ends).any() for x in found[:2])


def format_parts(parts: Mapping[Task, Mapping[str, bool]]) -> str:
  """Each part of the claim, and the tasks for which it fails."""
  words = []
  for part in next(iter(parts.values())):
    failed = [name(task) for task, holds in parts.items() if not holds[part]]
    count = len(parts) - len(failed)
    but = f' (not {", ".join(failed)})' if failed else ''
    words.append(f'{part}: in {count} of {len(parts)}{but}')
  return '; '.join(words)


def _rows(
  task: Task, found: Found, widths: Sequence[int]
) -> list[dict[str, Any]]:
  """Two rows of the table."""
  exponents = np.asarray(task.exponents)
  show = claims.format_interval
  return [
    {
      'task': name(task),
      'weights': weights,
      **{
        f'best at {width} (log2)': show(exponents[b].tolist(), 1)
        for width, b in zip(widths, best(losses), strict=True)
      },
      'steps moved': show(best(losses)[-1] - best(losses)[0], 2),
      f'loss at {widths[-1]}, rate of {widths[0]} (log10)': show(
        np.log10(losses[-1, found.tuned]), 2
      ),
      'at its best rate (log10)': show(np.log10(losses[-1].min(0)), 2),
    }
    for weights, losses in (('standard', found.standard), ('muP', found.mup))
  ]


if __name__ == '__main__':
  claims.main(CLAIM, run)
