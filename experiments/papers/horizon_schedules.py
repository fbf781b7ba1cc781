"""A schedule learned by evolution, with the horizon in sight and without.

The rate is `exp(f(n / N, log N, running mean of the loss))`. Evolution
strategies learn `f` over whole lifetimes of three tasks and 16 to 128 steps;
then it is tried on new lifetimes of such lengths, and on longer ones. Beside
it stand a constant and a cosine, tuned on lifetimes of the same lengths.

  python -m experiments.papers.horizon_schedules

takes 3 minutes of CPU time.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.papers import claims
from experiments.papers.horizon_training import (
  LEARNING_RATE,
  RATES,
  SIGMA,
  TRAINED,
  Make,
  Scale,
  Trainer,
  constant,
  cosine,
  learned,
)
from experiments.papers.learned_schedule import LearnedSchedule
from experiments.papers.lifetimes import BATCH, HIDDEN, TASKS
from lrcl import protocols

CLAIM = claims.Claim(
  name='horizon_schedules',
  title='A learned schedule that knows its horizon',
  paper='Jackson et al., 2024, Discovering Temporally-Aware Reinforcement '
  'Learning Algorithms, https://arxiv.org/abs/2402.05828',
  says='Learned update rules that see n / N and log N do better than the same '
  'rules without, on lengths they were trained on and on others; found by '
  'evolution, they anneal their updates over the lifetime. The paper is about '
  'reinforcement learning; here the rule is the rate of supervised continual '
  'learning, and that meta-gradients fail is not measured.',
)

WITHIN = (24, 48, 96)
BEYOND = (192, 384)
LENGTHS = (*WITHIN, *BEYOND)

_SCALES = {
  'smoke': Scale(2, 4, 8, 2),
  'default': Scale(400, 32, 128, 5),
  'full': Scale(2000, 128, 512, 10),
}
_FIRST_LIFETIMES = 1000


class _Row(NamedTuple):
  """What a schedule gives at all `LENGTHS`.

  Attributes:
    losses: `[lengths, seeds]`.
    rates: `[lengths, seeds, TASKS]`, means in each task.
    about: how it came about.
  """

  losses: np.ndarray
  rates: np.ndarray
  about: str


def run(size: claims.Size) -> claims.Outcome:
  """Tunes, evolves, and measures all on the same new lifetimes."""
  scale = _SCALES[size]
  trainer = Trainer(scale)
  found = {
    **_tuned(trainer, constant, scale),
    **_tuned(trainer, cosine, scale),
    'learned, sees the loss': _learned(trainer, False, scale),
    'learned, sees the horizon too': _learned(trainer, True, scale),
  }
  parts = _parts(found)
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'{claims.format_parts(parts)}. {_differences(found)}',
    table=[_format(name, row) for name, row in found.items()],
    setting=_describe(scale),
  )


def _tuned(trainer: Trainer, make: Make, scale: Scale) -> dict[str, _Row]:
  """One rate for all lengths, and one for each, the longer ones too.

  The former is tuned on lifetimes like those of the training.
  """
  for_all, *for_each = trainer.tune(make, [0, *LENGTHS])
  rows = {}
  for name, tuned in (
    (make.__name__, [for_all] * len(LENGTHS)),
    (f'{make.__name__}, a rate for each length', for_each),
  ):
    values = [[t.setting['rate']] * scale.seeds for t in tuned]
    about = [protocols.format_setting(t) for t in tuned]
    about = about[:1] if len(set(about)) == 1 else about
    rows[name] = _measure(trainer, make, values, '; '.join(about))
  return rows


def _learned(trainer: Trainer, sees_horizon: bool, scale: Scale) -> _Row:
  """One evolution per seed, none of which has seen a longer lifetime."""
  evolved = [
    (trainer.evolve(seed, sees_horizon), jnp.asarray(sees_horizon))
    for seed in range(scale.seeds)
  ]
  return _measure(trainer, learned, [evolved] * len(LENGTHS), 'evolved')


def _measure(
  trainer: Trainer, make: Make, values: list[list[Any]], about: str
) -> _Row:
  """Measures the values `[lengths][seeds]`, seed by seed."""
  lives = [
    [
      trainer.measure(make, value, length, _FIRST_LIFETIMES + seed)
      for seed, value in enumerate(row)
    ]
    for length, row in zip(LENGTHS, values, strict=True)
  ]
  losses = np.array([[life.loss for life in row] for row in lives], np.float64)
  rates = np.array([[life.rates for life in row] for row in lives])
  return _Row(losses, rates, about)


def _parts(found: dict[str, _Row]) -> dict[str, bool]:
  """The parts of the claim, seed by seed."""
  ours = found['learned, sees the horizon too']
  gain = ours.losses - found['learned, sees the loss'].losses
  within, beyond = gain[: len(WITHIN)].mean(0), gain[len(WITHIN) :].mean(0)
  fall = np.log(ours.rates[..., -1] / ours.rates[..., 0]).mean(0)
  below = lambda x: claims.is_below(x.tolist(), [0.0] * len(x))
  return {
    'the horizon helps at lengths of the training': below(within),
    'at longer ones': below(beyond),
    'the rate is annealed': below(fall),
  }


def _differences(found: dict[str, _Row]) -> str:
  """The learned schedule with the horizon minus the others, in words."""
  ours = found['learned, sees the horizon too'].losses
  words = []
  for name, row in found.items():
    if row.losses is not ours:
      gap = ours - row.losses
      parts = gap[: len(WITHIN)].mean(0), gap[len(WITHIN) :].mean(0)
      within, beyond = (claims.format_interval(x.tolist()) for x in parts)
      words.append(f'{name}: {within} and {beyond}')
  return (
    'Its loss minus that of the others, at lengths of the training and at '
    f'longer ones: {"; ".join(words)}.'
  )


def _format(name: str, row: _Row) -> dict[str, str]:
  columns = zip(LENGTHS, row.losses.tolist(), strict=True)
  in_tasks = lambda length: ', '.join(
    f'{rate:.2g}' for rate in row.rates[LENGTHS.index(length)].mean(0)
  )
  return {
    'schedule': name,
    **{f'{n} steps': claims.format_interval(x) for n, x in columns},
    'rates in 96 steps': in_tasks(96),
    'in 384': in_tasks(384),
    'tuned': row.about,
  }


def _describe(scale: Scale) -> str:
  low, high = TRAINED
  return (
    f"Lifetimes of {TASKS} tasks, each to tell one digit of scikit-learn's "
    f'from another, batches of {BATCH}, a network of {HIDDEN} hidden units, '
    'plain gradient descent; the loss is the mean over all tasks at the end. '
    f'Evolution: {LearnedSchedule.NUM_PARAMS} parameters, {scale.pairs} '
    f'antithetic pairs ranked within the pair, sigma {SIGMA:g}, Adam from '
    f'{LEARNING_RATE:g} down to 0, {scale.generations} generations, lengths '
    f'log-uniform from {low} to {high}, nothing tuned. Constant and cosine: '
    f'the best of {len(RATES)} rates from {RATES[0]:g} to {RATES[-1]:g} on '
    f'{scale.lifetimes} lifetimes of such lengths. Means over '
    f'{scale.lifetimes} other lifetimes per length, {scale.seeds} seeds of the '
    'evolution and of the lifetimes. Rates: means in each task.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
