"""Text that drifts: documents with dates, one period after another."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lrcl.base import check_steps, check_value
from lrcl.streams._periods import Period, date_periods
from lrcl.streams._prepare import PrepareTokens
from lrcl.streams._stream import EvalSet, Stream
from lrcl.streams._tasks import consecutive_plan, make_eval_set
from lrcl.streams._tokenizers import Tokenizer, byte_tokenizer, check_texts
from lrcl.streams._windows import token_windows

_WHERE = 'dated_text'


def dated_text(
  texts: Iterable[str],
  dates: Sequence[Any],
  *,
  length: int,
  batch_size: int,
  num_tasks: int | None = None,
  period: str | int | None = None,
  tokenizer: Tokenizer | None = None,
  epochs: int = 1,
  steps_per_task: int | None = None,
  test_fraction: float = 0.1,
  test_windows: int | None = None,
  seed: int = 0,
  split_seed: int = 0,
) -> Stream:
  """Documents with dates, period after period: language as it drifts.

  A task is a period, see `date_periods`; they come in the order of time. Rows
  are windows of `length` tokens, see `token_windows`: of one period and of
  either training or test documents, never of both. A model reads `inputs` and
  predicts `labels`, both `[batch, length]` int32 on the device. The loss of a
  row is the mean over `length` (`lrcl.losses.cross_entropy`), in nats per
  token; its exponential is the perplexity.

  Args:
    texts: documents, in any order.
    dates: one for each, as in `date_periods`.
    length: tokens in a window.
    batch_size: windows in a batch.
    num_tasks: how many periods, with equally many documents each; or
    period: how long one is: `'month'`, `'quarter'`, `'year'`, or a number of
      years.
    tokenizer: what `train_tokenizer` or `load_tokenizer` makes; None: bytes.
    epochs: passes over the windows of a period.
    steps_per_task: steps in a period, instead of `epochs`.
    test_fraction: share of the documents of each period that are held out, at
      least one of them; 0: none, and no `evaluation`.
    test_windows: at most so many of their windows in each period, at equal
      distances; None: all. It bounds what an evaluation costs, which for all
      periods is that of the one with the most windows.
    seed: shuffles the windows of each epoch.
    split_seed: draws the held-out documents, apart from `seed`.

  Returns:
    The stream. Its `num_classes` is the tokenizer's `vocab_size`, and
    `evaluation` has the held-out documents of each period.

  Raises:
    ImportError: if the tokenizer needs a package that is missing.
    TypeError: if a text is not a string, or a date not a date.
    ValueError: if there is not one date for each text, a period is empty or has
      fewer windows than a batch, has nothing to hold out or to train on; and as
      `date_periods`.

  Example:
    >>> texts = ['thou art', 'ye olde', 'u r', 'lol ok']
    >>> stream = dated_text(texts, [1611, 1687, '2009-05', 2012], num_tasks=2,
    ...                     length=3, batch_size=1, test_fraction=0.5)
    >>> stream.num_steps, stream.boundaries, stream.evaluation.num_tasks
    (4, (2,), 2)

  References:
    Lazaridou et al., `Mind the Gap: Assessing Temporal Generalization in Neural
    Language Models <https://arxiv.org/abs/2102.01951>`_, 2021

    Jang et al., `TemporalWiki: A Lifelong Benchmark for Training and Evaluating
    Ever-Evolving Language Models <https://arxiv.org/abs/2204.14211>`_, 2022
  """
  texts, dates = check_texts(_WHERE, texts), list(dates)
  if len(texts) != len(dates):
    raise ValueError(
      f'{_WHERE}: there are {len(texts)} texts and {len(dates)} dates; there '
      'must be one date for each text.'
    )
  tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
  periods = date_periods(dates, num_tasks=num_tasks, period=period)
  check_value(_WHERE, 'test_fraction', test_fraction, minimum=0.0, maximum=1.0)
  rng = np.random.default_rng(split_seed)
  halves = [_part(i, p, test_fraction, rng) for i, p in enumerate(periods)]
  train, test = zip(*halves, strict=True)
  source, pools = _windows(texts, train, tokenizer, length)
  prepare = PrepareTokens()
  evaluation: EvalSet | None = None
  if test_fraction:
    held_out, rows = _windows(texts, test, tokenizer, length)
    if test_windows is not None:
      most = check_steps(_WHERE, 'test_windows', test_windows, 1)
      rows = [_spread(row, most) for row in rows]
    evaluation = make_eval_set(_WHERE, held_out, rows, {}, prepare)
  plan = consecutive_plan(
    _WHERE, pools, batch_size, epochs, steps_per_task, seed
  )
  return Stream(
    source, plan, {}, prepare, evaluation, tokenizer.vocab_size, len(periods)
  )


def _part(
  task: int, period: Period, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """The documents of a period for training and for testing, by their dates."""
  size = len(period.members)
  count = max(round(fraction * size), 1) if fraction else 0
  if count >= size:
    raise ValueError(
      f'{_WHERE}: period {task}, from {period.start} to {period.end}, has '
      f'{size} documents, and test_fraction {fraction} holds out {count} of '
      'them; none is left to train on. Take longer or fewer periods.'
    )
  held = np.zeros(size, bool)
  held[rng.permutation(size)[:count]] = True
  return period.members[~held], period.members[held]


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
  """At most so many of the rows, at equal distances from the first one on."""
  count = min(most, len(rows))
  return rows[np.arange(count) * len(rows) // max(count, 1)]


def _windows(
  texts: list[str],
  documents: Sequence[np.ndarray],
  tokenizer: Tokenizer,
  length: int,
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
  """The windows of all periods with their tasks, and the rows of each."""
  parts = []
  for task, members in enumerate(documents):
    part = token_windows([texts[i] for i in members], tokenizer, length)
    part['task'] = np.full(len(part['labels']), task, np.int32)
    parts.append(part)
  source = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
  tasks = range(len(parts))
  return source, [np.flatnonzero(source['task'] == task) for task in tasks]
