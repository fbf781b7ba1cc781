"""The exponent of the Power schedule, and whether one law serves all budgets.

A language model of bytes is trained by Adam for four budgets of tokens. The
best rate of WSD at each gives the law, rate = a * tokens ** b. Power, with one
a and one b for all budgets, then stands against WSD with one rate for all.

  python -m experiments.papers.power_transfer

takes 5 minutes of CPU time.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import claims, power_law, texts
from experiments.papers.ngrams import BATCH, CONTEXT, NGrams
from lrcl import metrics, protocols

CLAIM = claims.Claim(
  name='power_transfer',
  title='The best rate as a power of the tokens, and one law for all budgets',
  paper='Shen et al., 2024, Power Scheduler: A Batch Size and Token Number '
  'Agnostic Learning Rate Scheduler, https://arxiv.org/abs/2408.13359',
  says='The best rate of WSD falls as a power of the number of tokens, with an '
  'exponent of -0.51 (not confirmed against the paper), and a schedule that '
  'follows this law needs no new rate when the budget changes.',
)

PAPERS_EXPONENT = -0.51


class _Scale(NamedTuple):
  steps: tuple[int, ...]
  rates: list[float]
  seeds: int
  warmup: int = 25
  max_bytes: int | None = None

  @property
  def tokens(self) -> list[int]:
    return [BATCH * steps for steps in self.steps]


_RATES = protocols.geometric(0.003, 0.048, 2)
_SCALES = {
  'smoke': _Scale((6, 10, 15, 20), [0.01, 0.02, 0.04], 2, 2, 50_000),
  'default': _Scale((200, 600, 1800, 5400), _RATES, 5),
  'full': _Scale((1000, 4000, 16000, 64000), _RATES, 5, 100),
}
_TUNING_SEEDS = range(100, 103)

Make = Callable[[jax.Array, int], optax.Schedule]
"""`make(rate, steps)`: the schedule of one budget."""


def measure(model: NGrams, make: Make, budgets: Sequence[int]) -> Any:
  """The test loss of a run, for a setting of `rate` and of `budget`."""
  longest = max(budgets)

  def loss(setting: protocols.Setting, key: jax.Array) -> jax.Array:
    steps = jnp.arange(longest)
    table = [make(setting['rate'], budget)(steps) for budget in budgets]
    which = jnp.asarray(setting['budget'], jnp.int32)
    params = model.train(
      jnp.stack(table)[which], jnp.asarray(budgets)[which], key
    )
    return model.test_loss(params)

  return loss


def run(size: claims.Size) -> claims.Outcome:
  """Fits the law, then measures what it is good for."""
  scale = _SCALES[size]
  tokens = texts.read_sources('sklearn', scale.max_bytes)
  model = NGrams(tokens)
  fixed = functools.partial(power_law.wsd, warmup=scale.warmup)
  swept = {'WSD': _sweep(model, fixed, scale)}
  law = power_law.fit(scale.rates, scale.tokens, swept['WSD'])
  makes: dict[str, Make] = {'WSD': fixed}
  for name, exponent in _exponents(law).items():
    makes[name] = functools.partial(
      power_law.power,
      warmup=scale.warmup,
      batch_size=BATCH,
      exponent=exponent,
      reference=law.reference,
      peak=scale.rates[-1],
    )
    swept[name] = _sweep(model, makes[name], scale)
  found = {
    name: _report(model, makes[name], swept[name], scale) for name in makes
  }
  text = texts.describe_sources('sklearn', 'scikit-learn', tokens)
  about = _describe(scale, law, model, text)
  return _outcome(scale, law, found, about)


def _exponents(law: power_law.Law) -> dict[str, float]:
  """The Power schedules that are tried."""
  return {
    'Power, fitted b': min(law.smaller, -1e-3),
    "Power, the paper's b": PAPERS_EXPONENT,
  }


def _sweep(model: NGrams, make: Make, scale: _Scale) -> np.ndarray:
  """Losses `[rates, budgets, tuning seeds]`."""
  axes = {'rate': scale.rates, 'budget': range(len(scale.steps))}
  losses = protocols.sweep(
    measure(model, make, scale.steps),
    protocols.grid(axes),
    _TUNING_SEEDS,
    batch_size=1,
  )
  return losses.reshape(len(scale.rates), len(scale.steps), -1)


class _Report(NamedTuple):
  """What one rate gives, on the seeds that are reported.

  Attributes:
    everywhere: losses `[seeds, budgets]` of the rate with the best mean.
    largest: losses `[seeds]` at the largest budget, of the rate with the best
      mean over the others.
    about: both rates in words.
  """

  everywhere: np.ndarray
  largest: np.ndarray
  about: str


def _report(
  model: NGrams, make: Make, swept: np.ndarray, scale: _Scale
) -> _Report:
  budgets = range(len(scale.steps))
  everywhere, smaller = (
    protocols.choose({'rate': scale.rates}, losses)
    for losses in (swept, swept[:, :-1])
  )
  settings = protocols.grid(
    {'rate': [everywhere[0]['rate']], 'budget': budgets}
  )
  held_out = protocols.grid(
    {'rate': [smaller[0]['rate']], 'budget': budgets[-1:]}
  )
  settings = {k: np.append(v, held_out[k]) for k, v in settings.items()}
  losses = protocols.sweep(
    measure(model, make, scale.steps),
    settings,
    range(scale.seeds),
    batch_size=1,
  )
  about = '; '.join(
    protocols.format_setting(protocols.Tuned(setting, edges, losses))
    for setting, edges in (everywhere, smaller)
  )
  return _Report(losses[:-1].T, losses[-1], about)


def _outcome(
  scale: _Scale, law: power_law.Law, found: dict[str, _Report], about: str
) -> claims.Outcome:
  wsd, power = found['WSD'], found['Power, fitted b']
  b, width = metrics.mean_interval(law.exponents)
  everywhere = (power.everywhere - wsd.everywhere).mean(1).tolist()
  largest = (power.largest - wsd.largest).tolist()
  zeros = [0.0] * scale.seeds
  parts = {
    'b is below 0': b + width < 0,
    f'it agrees with {PAPERS_EXPONENT}': abs(b - PAPERS_EXPONENT) <= width,
    'Power is better in the mean': claims.is_below(everywhere, zeros),
    'and at a budget not tuned on': claims.is_below(largest, zeros),
  }
  return claims.Outcome(
    verdict=claims.decide([bool(part) for part in parts.values()]),
    measured=f'b is {b:.3f} +- {width:.3f}. Power minus WSD, nats per byte, '
    f'each with one law or rate: {claims.format_interval(everywhere, 4)} in '
    f'the mean over the budgets; {claims.format_interval(largest, 4)} at the '
    'largest, with what was best at the others. '
    f'{claims.format_parts(parts)}.',
    table=_rows(scale, law, found),
    setting=about,
  )


def _rows(
  scale: _Scale, law: power_law.Law, found: dict[str, _Report]
) -> list[dict[str, str]]:
  heads = [f'{tokens / 1000:.0f}k tokens' for tokens in scale.tokens]
  rates = dict(
    zip(heads, map(claims.format_interval, law.rates.tolist()), strict=True)
  )
  rows = [
    {'what': 'best rate of WSD', **rates, 'chosen before': '', 'rate': ''}
  ]
  for name, report in found.items():
    columns = zip(heads, report.everywhere.T, strict=True)
    rows.append(
      {
        'what': f'loss, {name}',
        **{head: claims.format_interval(x.tolist()) for head, x in columns},
        'chosen before': claims.format_interval(report.largest.tolist()),
        'rate': report.about,
      }
    )
  return rows


def _describe(
  scale: _Scale, law: power_law.Law, model: NGrams, text: str
) -> str:
  return (
    f'{text}; every 20th block of 1000 bytes is for testing. A network of '
    f'{model.num_params} parameters predicts a byte from {CONTEXT} before it; '
    f'Adam, {BATCH} bytes a step, warm-up of {scale.warmup} steps, linear '
    f'decay to 0 in the last fifth. {len(scale.rates)} rates from '
    f'{scale.rates[0]:g} to {scale.rates[-1]:g}, on {len(_TUNING_SEEDS)} '
    f'seeds, which give b; for Power the rate is that at {law.reference:.0f} '
    f'tokens, at most {scale.rates[-1]:g}, and b = {law.smaller:.3f} is fitted '
    f'on all budgets but the largest. Losses on {scale.seeds} other seeds. '
    '"Chosen before": the loss at the largest budget with the rate that was '
    'best at the others.'
  )


if __name__ == '__main__':
  claims.main(CLAIM, run)
