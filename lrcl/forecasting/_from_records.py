"""Loss curves out of the records of a run."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lrcl.forecasting._curves import Curve

Record = Mapping[str, Any]
"""One evaluation, as a line of a records file holds it."""


def read_loss(record: Record) -> float:
  """The mean evaluated loss of a record; else that of its training steps.

  The evaluated one is the mean over all tasks, and over seeds where there are
  several.
  """
  losses = (record.get('metrics') or {}).get('loss')
  if losses is None:
    losses = record['trace']['loss']
  values = np.array(losses, np.float64)
  return float(np.nanmean(values)) if values.size else float('nan')


def curves_from_records(
  records: Iterable[Record],
  *,
  row: str | None = None,
  read: Callable[[Record], float] = read_loss,
) -> dict[str, Curve]:
  """The loss curve of every branch, its rates from step 0 on.

  A branch has the rates of its parents up to its fork, and the losses that were
  read after it. A branch without a usable loss is left out. The laws know one
  stream of data: give them the records of one task, or of a stream whose mix
  does not change.

  Args:
    records: of one run and its branches: what `train_stream` returns, or
      `lrcl.reports.read_records` reads, in any order.
    row: take this row alone; None expects a single one.
    read: a record to the loss that it counts for; NaN leaves it out.

  Returns:
    The curves by the names of the branches.

  Raises:
    ValueError: if there are several rows and `row` is None, or the traces of a
      branch and its parents do not give the rate of every step.

  Example:
    >>> trace = {'start': 0, 'loss': [3.0, 2.0], 'learning_rate': [0.1, 0.1]}
    >>> record = {'step': 2, 'branch': 'main', 'parent': None, 'trace': trace}
    >>> curve = curves_from_records([record])['main']
    >>> curve.lrs.tolist(), curve.steps.tolist(), curve.losses.tolist()
    ([0.1, 0.1], [1], [2.5])
  """
  where = 'curves_from_records'
  branches: dict[str, list[Record]] = {}
  records = [r for r in records if row is None or r.get('row') == row]
  rows = sorted({str(record.get('row')) for record in records})
  if len(rows) != 1:
    raise ValueError(
      f'{where}: there are the rows {rows}; row= must name the one to read.'
    )
  for record in sorted(records, key=lambda record: record['step']):
    branches.setdefault(record['branch'], []).append(record)
  curves = {}
  for name, own in branches.items():
    lrs = _rates(where, branches, name, own[-1]['step'])
    losses = np.array([read(record) for record in own])
    good = np.isfinite(losses)
    if good.any():
      steps = np.array([record['step'] - 1 for record in own])[good]
      curves[name] = Curve(lrs, losses[good], steps, name)
  return curves


def _rates(
  where: str, branches: Mapping[str, list[Record]], name: str, steps: int
) -> np.ndarray:
  """The rates of the first `steps` steps of a branch, along its lineage."""
  own, begin = branches[name], 0
  rates = np.full(steps, np.nan)
  parent = own[0].get('parent')
  if parent is not None:
    source, begin = parent[0], int(parent[1])
    if source not in branches:
      raise ValueError(
        f'{where}: branch {name!r} forked from {source!r}, of which there is '
        'no record; give those of all its parents.'
      )
    rates[:begin] = _rates(where, branches, source, begin)
  for record in own:
    trace = record['trace']
    part = np.asarray(trace['learning_rate'], np.float64)
    if part.ndim > 1:  # replicas
      if not np.all(part == part[:1]):
        raise ValueError(
          f'{where}: the replicas of branch {name!r} have different rates; a '
          'curve has one rate for every step.'
        )
      part = part[0]
    first = int(trace['start'])
    part = part[: max(steps - first, 0)]
    rates[first : first + part.size] = part
  missing = np.flatnonzero(np.isnan(rates))
  if missing.size:
    raise ValueError(
      f'{where}: no record of branch {name!r} or of its parents has the rate '
      f'of step {missing[0]}; give all of them.'
    )
  return rates
