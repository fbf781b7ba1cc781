"""Parity of ever more bits, with one head and with a head for every N.

  python -m experiments.papers.parity_curricula

takes about 5 minutes of CPU time.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.papers import claims, parity
from experiments.papers.parity_runs import (
  CLIP,
  MASTERED,
  MOMENTUM,
  TEST_ROWS,
  TIMESCALE,
  WARMUP,
  Contender,
  Run,
  Runner,
  Size,
)
from lrcl import protocols

CLAIM = claims.Claim(
  name='parity_curricula',
  title='Curricula on parity: many heads remember, and one forgets',
  paper='Khajehabdollahi et al., 2024, Emergent mechanisms for long timescales '
  'depend on training curriculum and affect performance in memory tasks, '
  'https://arxiv.org/abs/2309.12927',
  says='Trained on the parity of the last N bits, N one more at each mastery, '
  'a recurrent network with one head lengthens the timescales of its neurons '
  'and forgets the smaller N; with a head for each N so far it keeps them, '
  'does so by its recurrent weights at short timescales, and learns faster '
  '(abstract; task, network and curricula as in the public code).',
)

TUNING_SEEDS = (100, 101)
RATES = (0.2, 0.4, 0.8, 1.6)
KEPT = 0.95

_ALL = 99  # a window that leaves nothing out
CONTENDERS = {
  'single-head': Contender(1, shared=True),
  'single-head, decaying': Contender(1, shared=True, decays=True),
  'single-head, re-warmed': Contender(
    1, shared=True, decays=True, rewarms=True
  ),
  'one N at a time, heads kept (naive)': Contender(1),
  'the last three N': Contender(3),
  'multi-head': Contender(_ALL),
  'multi-head, decaying': Contender(_ALL, decays=True),
  'multi-head, re-warmed': Contender(_ALL, decays=True, rewarms=True),
  'all N from the start (joint)': Contender(_ALL, joint=True),
}


class _Scale(NamedTuple):
  size: Size
  seeds: Sequence[int]
  rates: Sequence[float]


_SCALES = {
  'smoke': _Scale(Size(2, 300, units=24, batch=32), range(3), RATES[1:3]),
  'default': _Scale(Size(7, 2500), range(5), RATES),
  'full': _Scale(Size(11, 10_000, units=128, batch=128), range(5), RATES),
}


class Found(NamedTuple):
  """A contender at its tuned rate.

  Attributes:
    about: the rate, in words.
    runs: one for each seed.
    limit: steps of a run that never ends.
  """

  about: str
  runs: Sequence[Run]
  limit: int

  @property
  def mastered(self) -> np.ndarray:
    """Steps until each N was mastered `[seeds, levels]`; the limit if never."""
    steps = np.stack([run.mastered for run in self.runs])
    return np.nan_to_num(steps.astype(np.float64), nan=self.limit)

  @property
  def old(self) -> np.ndarray:
    """Accuracy on smaller N when the last one was mastered `[seeds]`."""
    return np.array([run.accuracy[n][:n].mean() for run, n in self._last()])

  @property
  def readable(self) -> np.ndarray:
    """The same of a linear readout that is fitted at the end `[seeds]`."""
    return np.array([run.probe[:n].mean() for run, n in self._last()])

  @property
  def tau(self) -> np.ndarray:
    """Mean timescales when each N was mastered `[seeds, levels]`, or NaN."""
    return np.stack([run.tau for run in self.runs]).astype(np.float64)

  @property
  def last_tau(self) -> np.ndarray:
    """When the last N was mastered `[seeds]`."""
    return np.array([run.tau[n] for run, n in self._last()], np.float64)

  def _last(self) -> list[tuple[Run, int]]:
    """Runs and the last level of each; those that never passed the first."""
    return [(run, max(run.level, 1)) for run in self.runs]


def measure(runner: Runner, contender: Contender, scale: _Scale) -> Found:
  """Tunes the rate for the mean of the steps until each N is mastered."""
  limit = scale.size.steps
  axes = {'rate': scale.rates}
  found = lambda rate, seeds: Found(
    '', [runner(contender, rate, seed) for seed in seeds], limit
  )
  tried = [found(rate, TUNING_SEEDS).mastered.mean(1) for rate in scale.rates]
  setting, edges = protocols.choose(axes, np.stack(tried))
  tuned = found(setting['rate'], scale.seeds)
  about = protocols.Tuned(setting, edges, tuned.mastered)
  return tuned._replace(about=protocols.format_setting(about))


def judge(found: Mapping[str, Found]) -> dict[str, bool]:
  """The parts of the claim, each by more than chance."""
  one, many = found['single-head'], found['multi-head']
  kept = found['one N at a time, heads kept (naive)']
  level = [KEPT] * len(one.runs)
  tau, steps = _common_tau(one, many), lambda x: x.mastered.mean(1).tolist()
  return {
    f'multi-head keeps {KEPT:g} on smaller N': claims.is_below(
      level, many.old.tolist()
    ),
    'single-head training does not, heads kept': claims.is_below(
      kept.old.tolist(), level
    ),
    'multi-head is faster': claims.is_below(steps(many), steps(one)),
    'timescales grow under single-head': claims.is_below(
      one.tau[:, 0].tolist(), one.last_tau.tolist()
    ),
    'and are longer than under multi-head': claims.is_below(
      tau[1].tolist(), tau[0].tolist()
    ),
  }


def run(size: claims.Size) -> claims.Outcome:
  """Measures all curricula, and what re-warming the rate adds to two."""
  scale = _SCALES[size]
  runner = Runner(scale.size)
  found = {
    name: measure(runner, contender, scale)
    for name, contender in CONTENDERS.items()
  }
  parts = judge(found)
  rows = [_row(name, one, scale) for name, one in found.items()]
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'{claims.format_parts(parts)}. {_words(found)}',
    table=[*rows, _chance(rows[0], scale)],
    setting=_describe(scale),
  )


def _common_tau(one: Found, other: Found) -> np.ndarray:
  """Timescales `[2, seeds]` of both at the last N that both mastered."""
  pair = np.stack([one.tau, other.tau])
  both = np.isfinite(pair).all(axis=0)
  last = np.maximum(both.sum(axis=1) - 1, 0)  # levels are mastered in turn
  return pair[:, np.arange(len(last)), last]


def _interval(values: np.ndarray, digits: int = 3) -> str:
  return claims.format_interval(values.tolist(), digits)


def _words(found: Mapping[str, Found]) -> str:
  naive, joint = (
    found['one N at a time, heads kept (naive)'],
    found['all N from the start (joint)'],
  )
  tau = _common_tau(found['single-head'], found['multi-head'])
  return (
    'Accuracy on smaller N when the last one was mastered: multi-head '
    f'{_interval(found["multi-head"].old)}, one N at a time with heads kept '
    f'{_interval(naive.old)} (a readout fitted anew '
    f'{_interval(naive.readable)}). Mean timescale at the last N that both '
    f'mastered: single-head {_interval(tau[0])}, multi-head '
    f'{_interval(tau[1])}. Multi-head minus all N from the start, steps to '
    f'each N: {_faster(found["multi-head"], joint)}. Re-warming (no '
    'part of the claim), steps to each N against a constant rate and against '
    f'a decay that goes on: {_rewarming("single-head", found)}; '
    f'{_rewarming("multi-head", found)}.'
  )


def _rewarming(name: str, found: Mapping[str, Found]) -> str:
  ours = found[f'{name}, re-warmed']
  over = lambda other: _faster(ours, found[other])
  return f'{name} {over(name)} and {over(f"{name}, decaying")}'


def _faster(ours: Found, theirs: Found) -> str:
  """The difference of the steps until an N is mastered, mean over all N."""
  difference = ours.mastered.mean(1) - theirs.mastered.mean(1)
  return _interval(difference, 0)


def _row(name: str, found: Found, scale: _Scale) -> dict[str, str]:
  levels = range(scale.size.levels)
  shown = {parity.FIRST + i: found.mastered[:, i] for i in levels}
  done = [sum(run.level >= i for run in found.runs) for i in levels]
  missing = lambda i: (
    '' if done[i] == len(found.runs) else f' ({done[i]} of {len(found.runs)})'
  )
  every = max(1, (scale.size.levels - 1) // 3)
  picked = [n for i, n in enumerate(shown) if i % every == 0]
  return {
    'curriculum': name,
    'tuned': found.about,
    **{
      f'steps to N = {n}': _interval(shown[n], 0) + missing(n - parity.FIRST)
      for n in picked
    },
    'smaller N': _interval(found.old),
    'readout fitted anew': _interval(found.readable),
    f'tau at N = {parity.FIRST}': _interval(found.tau[:, 0], 2),
    'tau at the last N': _interval(found.last_tau, 2),
  }


def _chance(like: Mapping[str, str], scale: _Scale) -> dict[str, str]:
  """What the more frequent answer gives on the smaller N."""
  last = parity.FIRST + scale.size.levels - 1
  shares = [parity.majority(n) for n in range(parity.FIRST, last)]
  empty = dict.fromkeys(like, '-')
  named = {'curriculum': 'chance', 'smaller N': f'{np.mean(shares):.3f}'}
  return empty | named


def _describe(scale: _Scale) -> str:
  size = scale.size
  last = parity.FIRST + size.levels - 1
  rates = ', '.join(f'{rate:g}' for rate in scale.rates)
  return (
    f'Parity of the last N bits, N from {parity.FIRST} to {last}; N + 2 to '
    '4 N + 1 bits, the same number in a batch, the rate of ones uniform for '
    f'each sequence. {size.units} units (the paper: 500), timescales from 1 to '
    f'2 at first and at least 1, batch {size.batch} (256), SGD with Nesterov '
    f'momentum {MOMENTUM:g} and clipping at {CLIP:g}; the next N once the '
    'accuracy on the current N, and on those that are trained, is above '
    f'{MASTERED:g} on {TEST_ROWS} new sequences, asked every {size.every} '
    f'steps; at most {size.steps} steps, which count where an N was not '
    'mastered. One head that is shared can answer the current N alone, so it '
    'is at chance on smaller ones; that heads are kept tells what the network '
    'forgets, and the readout fitted anew (ridge on the state at the end) what '
    f'the heads do. Constant rates rise over {WARMUP} steps; decaying ones '
    f'rest until step {TIMESCALE} and then fall as the inverse square root, '
    f're-warmed ones start anew at each N. Rates {rates}, tuned on seeds '
    f'{TUNING_SEEDS[0]} and {TUNING_SEEDS[-1]} for the mean of the steps to '
    f'each N; reported on seeds {scale.seeds[0]} to {scale.seeds[-1]}. A '
    'nearest class mean has no meaning for parity.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
