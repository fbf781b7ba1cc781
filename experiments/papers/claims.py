"""What a measured claim is, and how one is run, printed and kept.

A file `experiments/papers/NAME.py` holds a `CLAIM` and a function
`run(size) -> Outcome`, and ends in `claims.main(CLAIM, run)`:

  python -m experiments.papers.NAME [--size=smoke|default|full]

prints the outcome. The default size also keeps it, as
`experiments/papers/results/NAME.json`, from which
`python -m experiments.papers.table` makes docs/claims.md.

A claim on images has a function `run(size, data_dir)`, ends in
`claims.main(CLAIM, run, takes_data=True)` and takes `--data_dir`, where
`python -m experiments.fetch_data` leaves MNIST and Fashion-MNIST. Its smoke
size has to do with scikit-learn's digits alone, so that it needs no data.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import pathlib
import time
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lrcl import metrics

Size = Literal['smoke', 'default', 'full']
Verdict = Literal['reproduced', 'partly reproduced', 'not reproduced']

RESULTS = pathlib.Path(__file__).parent / 'results'

FETCH = 'python -m experiments.fetch_data DEST mnist fashion_mnist'
"""The command that makes a `--data_dir`."""


@dataclasses.dataclass(frozen=True)
class Claim:
  """A claim, as its authors make it.

  Attributes:
    name: of the file, without its ending.
    title: a few words for the table.
    paper: authors, year, title and address.
    says: what the paper says, in our words; what is not confirmed against the
      paper is marked so.
  """

  name: str
  title: str
  paper: str
  says: str


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of measuring a claim.

  Attributes:
    verdict: decided by the numbers, in code, by a rule that stands in the
      file.
    measured: the finding in one or two sentences, with its numbers and
      intervals.
    table: rows of a table, dicts of printable values with the same keys.
    setting: data, model, budget, tuned rates, seeds: what it takes to judge
      the numbers.
  """

  verdict: Verdict
  measured: str
  table: Sequence[Mapping[str, Any]]
  setting: str


def decide(parts: Sequence[bool]) -> Verdict:
  """The verdict on a claim of several parts, each of which holds or not.

  Example:
    >>> decide([True, True]), decide([True, False]), decide([False])
    ('reproduced', 'partly reproduced', 'not reproduced')
  """
  if all(parts):
    return 'reproduced'
  return 'partly reproduced' if any(parts) else 'not reproduced'


def format_parts(parts: Mapping[str, bool]) -> str:
  """The parts of a claim and whether they hold, in words.

  Example:
    >>> format_parts({'a below b': True, 'b below c': False})
    'a below b: yes; b below c: no'
  """
  return '; '.join(f'{k}: {"yes" if v else "no"}' for k, v in parts.items())


def format_interval(values: npt.ArrayLike, digits: int = 3) -> str:
  """Mean over seeds, and half the width of its 95% interval.

  Example:
    >>> format_interval([0.8, 0.9, 1.0], 2)
    '0.90 +- 0.25'
  """
  mean, half = metrics.mean_interval(np.asarray(values, np.float64))
  return f'{mean:.{digits}f} +- {half:.{digits}f}'


def is_below(
  ours: npt.ArrayLike, theirs: npt.ArrayLike, margin: float = 0.0
) -> bool:
  """Whether `ours` lies below `theirs` by more than chance, seed by seed.

  The 95% interval of the mean of the paired differences must lie below
  `-margin`.

  Example:
    >>> is_below([1.0, 1.1, 0.9], [2.0, 2.1, 2.0])
    True
    >>> is_below([1.0, 3.0, 2.0], [2.0, 2.1, 2.0])
    False
  """
  difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
  mean, half = metrics.mean_interval(difference)
  return bool(mean + half < -margin)


def main(
  claim: Claim, run: Callable[..., Outcome], *, takes_data: bool = False
) -> None:
  """Measures the claim, prints the outcome, keeps that of the default size.

  Args:
    claim: what is measured.
    run: `run(size) -> outcome`.
    takes_data: whether it is `run(size, data_dir) -> outcome` instead, with
      None for `data_dir` in the smoke size only.

  Raises:
    SystemExit: with a line that says what to do, if there is no `--data_dir`
      and the size is not smoke.
  """
  parser = argparse.ArgumentParser(
    prog=f'python -m experiments.papers.{claim.name}', description=claim.says
  )
  parser.add_argument('--size', choices=get_args(Size), default='default')
  if takes_data:
    parser.add_argument('--data_dir', help='of TFDS, with the images')
  options = parser.parse_args()
  size, data = options.size, ()
  if takes_data:
    data = (options.data_dir,)
    if size != 'smoke' and options.data_dir is None:
      parser.error(f'--size={size} needs --data_dir=DEST; run: {FETCH}')
  began = time.process_time()
  outcome = run(size, *data)
  seconds = time.process_time() - began
  print(format_outcome(claim, outcome, seconds))
  if size == 'default':
    keep(claim, outcome, seconds)


def keep(claim: Claim, outcome: Outcome, cpu_seconds: float) -> None:
  """Writes the outcome where the table of claims finds it."""
  result = {
    **dataclasses.asdict(claim),
    **dataclasses.asdict(outcome),
    'cpu_seconds': round(cpu_seconds),
  }
  RESULTS.mkdir(exist_ok=True)
  path = RESULTS / f'{claim.name}.json'
  path.write_text(json.dumps(result, indent=1) + '\n')


def format_outcome(claim: Claim, outcome: Outcome, cpu_seconds: float) -> str:
  """The outcome as text for a terminal."""
  return '\n'.join(
    [
      claim.title,
      f'Paper:    {claim.paper}',
      f'It says:  {claim.says}',
      f'Setting:  {outcome.setting}',
      '',
      format_table(outcome.table),
      '',
      f'Measured: {outcome.measured}',
      f'Verdict:  {outcome.verdict} ({cpu_seconds:.0f} CPU s)',
    ]
  )


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Rows as columns of equal width.

  Example:
    >>> print(format_table([{'rate': 0.1, 'loss': '2.0 +- 0.1'}]))
    rate  loss
    0.1   2.0 +- 0.1
  """
  if not rows:
    return ''
  lines = [list(rows[0]), *([str(v) for v in row.values()] for row in rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  pad = lambda line: '  '.join(
    cell.ljust(width) for cell, width in zip(line, widths, strict=True)
  )
  return '\n'.join(pad(line).rstrip() for line in lines)
