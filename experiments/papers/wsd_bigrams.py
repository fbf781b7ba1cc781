"""WSD, WSD-S and cyclic cosine on a bigram language model of real text.

A table of logits, one row per byte, learns from stochastic gradients which
byte follows which. The loss is exact, over all pairs of the text, so the only
noise is that of the training. Every schedule owes checkpoints after 1000, 2000
and 4000 steps. The last two rows are trees of branches on the disk: decays
forked from checkpoints of one trunk, and WSD-S going on from decayed states.

  python -m experiments.papers.wsd_bigrams

takes 2 minutes of CPU time.
"""

from collections.abc import Callable, Sequence
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import claims, texts, wsd_family, wsd_forks, wsd_report
from lrcl import protocols
from lrcl.training import Branches, TrainState

CLAIM = claims.Claim(
  name='wsd_bigrams',
  title='WSD and WSD-S against cyclic cosine on bigrams',
  paper='Wen et al., 2024, Understanding Warmup-Stable-Decay Learning Rates: A '
  'River Valley Loss Landscape Perspective, https://arxiv.org/abs/2410.05192',
  says='For several checkpoints of one run, WSD-S is better than WSD, and WSD '
  'than cyclic cosine (from the abstract, about language models of 0.1B to '
  '1.2B parameters; their numbers were not read).',
)

BATCH = 128


class _Scale(NamedTuple):
  ends: tuple[int, ...]
  seeds: int
  axes: protocols.Axes
  max_bytes: int | None = None


_AXES = {
  'peak': protocols.geometric(8.0, 512.0),
  'end': protocols.geometric(0.000625, 0.16, 0.5),
}
_SCALES = {
  'smoke': _Scale((20, 40, 80), 2, {'peak': [16.0], 'end': [0.1]}, 20_000),
  'default': _Scale((1000, 2000, 4000), 5, _AXES),
  'full': _Scale((4000, 8000, 16000), 10, _AXES),
}
_TUNING_SEEDS = range(100, 102)


class Bigrams:
  """A table of logits and the text that it learns.

  Args:
    tokens: `[bytes]`, each below `texts.VOCABULARY`.
  """

  def __init__(self, tokens: np.ndarray):
    shape = (texts.VOCABULARY, texts.VOCABULARY)
    counts = np.zeros(shape)
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1.0)
    self._tokens = jnp.asarray(tokens)
    self._share = jnp.asarray(counts / counts.sum(), jnp.float32)
    rows = counts.sum(1, keepdims=True)
    likely = np.where(counts > 0, counts / np.maximum(rows, 1.0), 1.0)
    self.floor = float(-np.sum(counts * np.log(likely)) / counts.sum())

  def init(self) -> jax.Array:
    """A table under which all bytes are equally likely."""
    return jnp.zeros((texts.VOCABULARY, texts.VOCABULARY))

  def loss(self, table: jax.Array) -> jax.Array:
    """Nats per byte over all pairs of the text; at best `floor`."""
    return -jnp.sum(self._share * jax.nn.log_softmax(table))

  def step(
    self, table: jax.Array, rate: jax.Array, key: jax.Array, n: jax.Array
  ) -> jax.Array:
    """One step on `BATCH` pairs, drawn by `key` and the number of the step."""
    shape, last = (BATCH,), self._tokens.shape[0] - 1
    at = jax.random.randint(jax.random.fold_in(key, n), shape, 0, last)
    here, following = (self._tokens[at + i].astype(jnp.int32) for i in (0, 1))
    wanted = jax.nn.one_hot(following, texts.VOCABULARY)
    gradients = jax.nn.softmax(table[here]) - wanted
    return table.at[here].add(-rate / BATCH * gradients)

  def simulate(
    self, rates: jax.Array, key: jax.Array, at: Sequence[int]
  ) -> jax.Array:
    """Trains by `rates[steps]`; the losses after `at` steps."""

    def step(table, inputs):
      rate, n = inputs
      return self.step(table, rate, key, n), None

    table, losses = self.init(), []
    for begin, end in zip([0, *at], at, strict=False):
      steps = jnp.arange(begin, end)
      table, _ = jax.lax.scan(step, table, (rates[begin:end], steps))
      losses.append(self.loss(table))
    return jnp.stack(losses)

  def advance(
    self, state: TrainState, rates: jax.Array, stop: Any
  ) -> TrainState:
    """Trains a state on, up to step `stop`, which may be traced."""
    step = lambda n, table: self.step(table, rates[n], state.rng, n)
    table = jax.lax.fori_loop(state.step, stop, step, state.params)
    return state._replace(step=jnp.int32(stop), params=table)


def run(size: claims.Size) -> claims.Outcome:
  """Tunes and measures every schedule, then forks two of them."""
  scale = _SCALES[size]
  tokens = texts.read_sources('sklearn', scale.max_bytes)
  bigrams, seeds = Bigrams(tokens), range(scale.seeds)
  found = wsd_family.compare(
    bigrams.simulate,
    scale.axes,
    scale.ends,
    tuning_seeds=_TUNING_SEEDS,
    seeds=seeds,
    batch_size=1,
  )
  forked, gap = _fork(bigrams, found, scale)
  about = wsd_report.describe(scale.axes, scale.ends, _TUNING_SEEDS, seeds)
  text = texts.describe_sources('sklearn', 'scikit-learn', tokens)
  parts = wsd_family.holds(found)
  return claims.Outcome(
    # That a decay is better than none is a control here, not the claim.
    verdict=claims.decide(list(parts.values())[:2]),
    measured=f'{claims.format_parts(parts)}. Nats per byte minus those of '
    'WSD-S, mean over the checkpoints: '
    f'{wsd_report.differences(found, 4)}. The branches on the disk give the '
    f'losses of the uninterrupted runs to within {gap:.1g}.',
    table=wsd_report.rows(found, scale.ends, 4) + forked,
    setting=f'{text}; bytes as tokens, {BATCH} pairs a step, plain gradient '
    f'steps, exact loss over all pairs, at best {bigrams.floor:.4f}; {about}',
  )


_FORKS: dict[str, tuple[str, Callable[..., wsd_forks.Forked]]] = {
  'WSD, forked on the disk': ('WSD, a branch each', wsd_forks.fork_wsd),
  'WSD-S, forked on the disk': ('WSD-S', wsd_forks.fork_wsd_s),
}


def _fork(
  bigrams: Bigrams, found: dict[str, protocols.Tuned], scale: _Scale
) -> tuple[list[dict[str, Any]], float]:
  """Rows of the trees of branches, and their greatest deviation."""
  advance, loss = jax.jit(bigrams.advance), jax.jit(bigrams.loss)
  rows, gap = [], 0.0
  for name, (twin, fork) in _FORKS.items():
    tuned, losses, steps = found[twin], [], 0
    for seed in range(scale.seeds):
      key, table = jax.random.key(seed), bigrams.init()
      state = TrainState(jnp.int32(0), table, (), key)
      with tempfile.TemporaryDirectory() as folder, Branches(folder) as tree:
        states, steps = fork(tree, advance, state, tuned.setting, scale.ends)
      losses.append([float(loss(state.params)) for state in states])
    rows.append(wsd_report.row(name, steps, losses, scale.ends, twin, 4))
    gap = max(gap, float(np.abs(np.asarray(losses) - tuned.losses).max()))
  return rows, gap


if __name__ == '__main__':
  claims.main(CLAIM, run)
